//! Runners of the service, registered as any runner is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::parked::Bearer;
use crate::link::{Link, Target};

/// How many registrations are under way at once: few, so that they leave little behind in the service's memory.
const REGISTRARS: u32 = 32;

/// Registers so many; each bearer is filled up to `length` bytes.
pub(crate) async fn register(target: &Target, token: &str, count: u32, length: usize) -> anyhow::Result<Vec<Bearer>> {
    let mut link = Link::open(target).await?;
    let request = json!({ "name": "bench", "labels": ["bench", "linux", "x64"], "max_uses": count }).to_string();
    let (status, body) = link.post("/api/v1/runners/registration-token", Some(token), request).await?;
    ensure!(status == StatusCode::OK, "no registration token was minted: {}", String::from_utf8_lossy(&body));
    let token = text(&body, "token")?;
    let next = Arc::new(AtomicU32::new(0));
    let mut registrars = JoinSet::new();
    for _ in 0..REGISTRARS.min(count) {
        let mut link = Link::open(target).await?;
        let (next, token) = (Arc::clone(&next), token.clone());
        registrars.spawn(async move {
            let mut bearers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(bearers);
                }
                let request = json!({
                    "name": format!("bench-{number}"), "labels": ["bench", "linux", "x64"], "version": "bench",
                    "capabilities": { "architecture": "x64", "operating_system": "linux", "memory_gb": 16, "cpu_cores": 4 },
                });
                let (status, body) = link.post("/api/v1/runners", Some(&token), request.to_string()).await?;
                ensure!(status == StatusCode::CREATED, "a runner was refused: {}", String::from_utf8_lossy(&body));
                let token: Arc<str> = text(&body, "runner_token")?.into();
                bearers.push(Bearer { filling: length.saturating_sub(token.len()), token });
            }
        });
    }
    let mut bearers = Vec::new();
    while let Some(registered) = registrars.join_next().await {
        bearers.extend(registered??);
    }
    Ok(bearers)
}

fn text(body: &[u8], member: &str) -> anyhow::Result<String> {
    let body: Value = serde_json::from_slice(body)?;
    Ok(body[member].as_str().with_context(|| format!("an answer without {member}"))?.to_owned())
}
