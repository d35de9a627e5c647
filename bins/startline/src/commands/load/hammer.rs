//! Closed loop: each connection sends its next request when the last one was answered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::link::{Answer, Call, Link};
use super::report::{Errors, Latency, per_second};
use super::usage::{Moment, Spent};

/// A request and the status that it should be answered with.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) bearer: String,
    pub(super) body: String,
    pub(super) expected: StatusCode,
}

impl Shot {
    /// A request that is answered with 200.
    pub(super) fn post(path: &str, bearer: &str, body: &str) -> Arc<Self> {
        let (path, bearer, body) = (path.to_owned(), bearer.to_owned(), body.to_owned());
        Arc::new(Self { method: "POST", path, bearer, body, expected: StatusCode::OK })
    }

    pub(super) async fn fire(&self, link: &mut Link) -> anyhow::Result<Answer> {
        let call = Call {
            method: self.method,
            path: &self.path,
            bearer: &self.bearer,
            body: self.body.as_bytes(),
            range_from: None,
        };
        let answer = link.insist(call).await?;
        answer.require(self.expected).with_context(|| format!("{} {}", self.method, self.path))?;
        Ok(answer)
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Volley {
    pub(super) count: u64,
    pub(super) latency: Latency,
    pub(super) spent: Spent,
    pub(super) errors: Errors,
}

impl Volley {
    pub(super) fn per_second(&self) -> f64 {
        per_second(self.count, self.spent.time)
    }

    /// Adds another turn of the same kind.
    pub(super) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.latency.add(&other.latency);
        self.spent.add(&other.spent);
        self.errors.join(other.errors);
    }

    /// The figures of one kind of request.
    pub(super) fn told(&self) -> serde_json::Value {
        serde_json::json!({
            "count": self.count,
            "per_second": self.per_second(),
            "server_cpu_us": self.spent.server_each(self.count),
            "load_cpu_us": self.spent.own_each(self.count),
            "latency_us": self.latency.summary(),
        })
    }
}

/// Fires from each gun until the time is over or it has nothing more, and gives the links back.
pub(super) async fn hammer<G>(
    guns: Vec<(Link, G)>,
    time: Option<Duration>,
    server: Option<u32>,
    seen: impl Fn(&Answer) -> anyhow::Result<()> + Clone + Send + 'static,
) -> anyhow::Result<(Volley, Vec<Link>)>
where
    G: FnMut() -> Option<Arc<Shot>> + Send + 'static,
{
    let before = Moment::now(&server)?;
    let until = time.map(|time| before.at() + time);
    let mut firing = JoinSet::new();
    for (mut link, mut next) in guns {
        let seen = seen.clone();
        firing.spawn(async move {
            let mut latency = Latency::default();
            loop {
                let sent = Instant::now();
                if until.is_some_and(|until| sent >= until) {
                    return (latency, Ok(link));
                }
                let Some(shot) = next() else { return (latency, Ok(link)) };
                match shot.fire(&mut link).await.and_then(|answer| seen(&answer)) {
                    Ok(()) => latency.record(sent.elapsed()),
                    Err(error) => return (latency, Err(error)),
                }
            }
        });
    }
    let mut links = Vec::new();
    let mut latency = Latency::default();
    let mut errors = Errors::default();
    while let Some(fired) = firing.join_next().await {
        let (of_one, link) = fired?;
        latency.add(&of_one);
        match link {
            Ok(link) => links.push(link),
            Err(error) => errors.add(format!("{error:#}")),
        }
    }
    let spent = before.until(&Moment::now(&server)?);
    Ok((Volley { count: latency.count(), latency, spent, errors }, links))
}
