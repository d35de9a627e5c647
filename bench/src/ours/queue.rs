//! The service as a queue like any peer, so that one generator drives them all: `POST /jobs`, a poll that acquires,
//! `complete`.
//!
//! Throughput and latency of the goals are measured by `startline load`; this is for what varies here and not there.

use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::{Context as _, ensure};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Ours;
use crate::generator::{PAYLOAD, Payload, Put, Queue, Take};
use crate::link::{Link, Target};
use crate::polls::runners;

/// What stands in front of a payload in a job's definition.
const MARK: &[u8] = b"payload ";
/// Most jobs of a run.
const RUN: u64 = 256;
/// Sets of labels among jobs that nobody can take.
const LABEL_SETS: u64 = 64;
const POLL: &str = r#"{"timeout_seconds":50,"auto_acquire":true}"#;

/// A fleet of runners that are registered, and who submits to them.
pub(crate) struct Fleet {
    target: Target,
    token: String,
    runners: Vec<String>,
    /// Those who poll take them in turn.
    polling: Mutex<usize>,
    repositories: u32,
    submitting: Mutex<u32>,
}

impl Fleet {
    /// Registers so many runners.
    pub(crate) async fn register(ours: &Ours, runners: u32) -> anyhow::Result<Self> {
        let target = ours.target(false)?;
        let bearers = runners::register(&target, ours.token(), runners, 0).await?;
        Ok(Self {
            target,
            token: ours.token().to_owned(),
            runners: bearers.into_iter().map(|bearer| bearer.token.to_string()).collect(),
            polling: Mutex::new(0),
            repositories: 1,
            submitting: Mutex::new(0),
        })
    }

    /// Begins anew with jobs of so many repositories.
    pub(crate) fn of_repositories(&mut self, repositories: u32) {
        self.repositories = repositories;
        self.polling = Mutex::new(0);
    }

    /// Queues jobs for labels that no runner has, in front of all that come later.
    pub(crate) async fn bury(&self, jobs: u64) -> anyhow::Result<()> {
        let mut link = Link::open(&self.target).await?;
        let mut left = jobs;
        while left > 0 {
            let count = left.min(RUN);
            left -= count;
            let label = left / RUN % LABEL_SETS;
            let numbers = (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
            let workflow = format!(
                "on: push\njobs:\n  deep:\n    runs-on: nobody-{label}\n    strategy:\n      matrix:\n        number: \
                 [{numbers}]\n    steps:\n      - run: 'true'\n"
            );
            let request = json!({ "workflow": workflow, "path": "deep.yml" }).to_string();
            let (status, body) = link.post("/api/v1/runs", Some(&self.token), request).await?;
            ensure!(status == StatusCode::CREATED, "a run was refused: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }
}

fn next<Number: Copy>(counter: &Mutex<Number>, following: impl Fn(Number) -> Number) -> Number {
    let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
    let now = *counter;
    *counter = following(now);
    now
}

impl Queue for Fleet {
    type Producer = Producer;
    type Consumer = Consumer;

    async fn producer(&self) -> anyhow::Result<Producer> {
        let first = next(&self.submitting, |number| number + 1);
        let link = Link::open(&self.target).await?;
        Ok(Producer { link, token: self.token.clone(), repositories: self.repositories, submitted: first })
    }

    async fn consumer(&self) -> anyhow::Result<Consumer> {
        let number = next(&self.polling, |number| (number + 1) % self.runners.len().max(1));
        let token = self.runners.get(number).context("no runner is registered")?.clone();
        Ok(Consumer { link: Link::open(&self.target).await?, token })
    }
}

pub(crate) struct Producer {
    link: Link,
    token: String,
    repositories: u32,
    submitted: u32,
}

impl Put for Producer {
    async fn put(&mut self, payload: Payload) -> anyhow::Result<()> {
        // A large step, so that several producers do not go through the repositories side by side.
        self.submitted = self.submitted.wrapping_add(7919);
        let script = [MARK, payload.bytes()].concat();
        let request = json!({
            "name": "bench",
            "repository": format!("tenant-{}/demo", self.submitted % self.repositories),
            "requirements": { "labels": ["bench"] },
            "job_definition": { "steps": [{
                "type": "action",
                "id": "a0000000-0000-4000-8000-000000000004",
                "condition": "success()",
                "reference": { "type": "script" },
                "inputs": { "type": 2, "map": [{ "Key": "script", "Value": String::from_utf8_lossy(&script) }] },
            }] },
        });
        let (status, body) = self.link.post("/api/v1/jobs", Some(&self.token), request.to_string()).await?;
        ensure!(status == StatusCode::CREATED, "a job was refused: {}", String::from_utf8_lossy(&body));
        Ok(())
    }
}

/// What is needed of a lease.
#[derive(Deserialize)]
struct Lease {
    job_id: i64,
    job_token: String,
}

pub(crate) struct Consumer {
    link: Link,
    token: String,
}

impl Take for Consumer {
    type Job = (i64, String);

    async fn take(&mut self) -> anyhow::Result<((i64, String), Vec<u8>)> {
        loop {
            let (status, body) = self.link.post("/api/v1/runners/jobs/poll", Some(&self.token), POLL).await?;
            if status == StatusCode::NO_CONTENT {
                continue;
            }
            ensure!(status == StatusCode::OK, "a poll was refused: {}", String::from_utf8_lossy(&body));
            let lease: Lease = serde_json::from_slice(&body).context("a lease that is none")?;
            let payload = find(&body).context("a lease without the job's payload")?;
            return Ok(((lease.job_id, lease.job_token), payload.to_vec()));
        }
    }

    async fn finish(&mut self, (job, token): (i64, String)) -> anyhow::Result<()> {
        let path = format!("/api/v1/runners/jobs/{job}/complete");
        let (status, body) = self.link.post(&path, Some(&token), r#"{"conclusion":"success"}"#).await?;
        ensure!(status == StatusCode::OK, "a job was not completed: {}", String::from_utf8_lossy(&body));
        Ok(())
    }
}

/// The payload within an answer.
fn find(body: &[u8]) -> Option<&[u8]> {
    let from = body.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    body.get(from..from + PAYLOAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_found_whole_or_not_at_all() {
        let body = [b"{\"Value\":\"payload ".to_vec(), vec![b'x'; PAYLOAD], b"\"}".to_vec()].concat();
        assert_eq!(find(&body).unwrap(), [b'x'; PAYLOAD]);
        assert_eq!(find(&body[..300]), None);
        assert_eq!(find(b"nothing"), None);
    }
}
