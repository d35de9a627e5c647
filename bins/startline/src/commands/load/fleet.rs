//! Runners: they poll, take, complete and poll again, until they are stopped or something fails.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::Ledger;
use super::link::{Call, Link};
use super::scene::Runner;

pub(super) const POLL: &str = "/api/v1/runners/jobs/poll";
/// How long a poll is held. Shorter than the time after which a silent runner counts as offline.
pub(super) const POLL_SECONDS: u32 = 50;

/// How the runners go about a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Style {
    /// Take it in one step.
    pub(super) auto_acquire: bool,
    /// Renew its lease once.
    pub(super) renew: bool,
    /// How long it runs.
    pub(super) runs_for: Duration,
    /// Gets a permit for each job that is handed out.
    pub(super) queue: Option<Arc<Semaphore>>,
}

impl Style {
    /// The requests of a job's whole life, its submission among them.
    pub(super) fn requests(&self) -> u32 {
        3 + u32::from(!self.auto_acquire) + u32::from(self.renew)
    }
}

/// Runners at work.
pub(super) struct Fleet {
    style: Style,
    ledger: Arc<Ledger>,
    runners: JoinSet<()>,
}

impl Fleet {
    pub(super) fn new(style: Style, ledger: &Arc<Ledger>) -> Self {
        Self { style, ledger: Arc::clone(ledger), runners: JoinSet::new() }
    }

    /// Sets these runners to work, each on its link.
    pub(super) fn start(&mut self, runners: &[Runner], links: Vec<Link>) {
        for (runner, link) in runners.iter().zip(links) {
            let (style, ledger, runner) = (self.style.clone(), Arc::clone(&self.ledger), runner.clone());
            self.runners.spawn(work(style, ledger, runner, link));
        }
    }

    /// Stops them where they are.
    pub(super) async fn stop(mut self) {
        self.runners.shutdown().await;
    }
}

async fn work(style: Style, ledger: Arc<Ledger>, runner: Runner, mut link: Link) {
    let poll = json!({ "timeout_seconds": POLL_SECONDS, "auto_acquire": style.auto_acquire }).to_string();
    loop {
        if let Err(error) = one_poll(&style, &ledger, &runner, &mut link, &poll).await {
            return ledger.failed(format!("runner {}: {error:#}", runner.id));
        }
    }
}

async fn one_poll(style: &Style, ledger: &Ledger, runner: &Runner, link: &mut Link, poll: &str) -> anyhow::Result<()> {
    let sent = Instant::now();
    ledger.polling(runner.id, sent);
    let answer = link.post(POLL, &runner.token, poll.as_bytes()).await.context("a poll failed")?;
    let at = Instant::now();
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(());
    }
    answer.require(StatusCode::OK).context("a poll failed")?;
    let taken = Taken::of(&answer.body)?;
    let job = taken.job;
    ledger.polled(runner.id, sent, at);
    ledger.offered(job, at);
    if let Some(queue) = &style.queue {
        queue.add_permits(1);
    }
    let token = if style.auto_acquire {
        ledger.held(job, at);
        token(&answer.body)?.to_owned()
    } else {
        let path = format!("/api/v1/runners/jobs/{job}/acquire");
        let epoch = format!(r#"{{"epoch":{}}}"#, taken.epoch);
        let lease = link.post(&path, &runner.token, epoch.as_bytes()).await?;
        lease.require(StatusCode::OK).with_context(|| format!("job {job} was not acquired"))?;
        ledger.held(job, Instant::now());
        token(&lease.body)?.to_owned()
    };
    ensure!(taken.attempt == 1, "job {job} came as attempt {}", taken.attempt);
    if !style.runs_for.is_zero() {
        tokio::time::sleep(style.runs_for).await;
    }
    if style.renew {
        let path = format!("/api/v1/runners/jobs/{job}/renew");
        let answer = link.post(&path, &token, b"{}").await?;
        answer.require(StatusCode::OK).with_context(|| format!("the lease of job {job} was not renewed"))?;
    }
    complete(link, job, &token).await?;
    ledger.completed(job, Instant::now());
    Ok(())
}

/// Says that a job has ended.
pub(super) async fn complete(link: &mut Link, job: i64, token: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/runners/jobs/{job}/complete");
    let body = br#"{"conclusion":"success"}"#;
    let answer = link.insist(Call { method: "POST", path: &path, bearer: token, body, range_from: None }).await?;
    answer.require(StatusCode::OK).with_context(|| format!("job {job} was not completed"))
}

/// What the load needs of an offer or a lease: it stands before anything that a job's author writes.
#[derive(Debug, PartialEq)]
pub(super) struct Taken {
    pub(super) job: i64,
    attempt: i64,
    pub(super) epoch: i64,
}

impl Taken {
    pub(super) fn of(body: &[u8]) -> anyhow::Result<Self> {
        let number = |name| number(body, name);
        Ok(Self { job: number("job_id")?, attempt: number("attempt")?, epoch: number("epoch")? })
    }
}

/// The first number that a member of this name has.
///
/// Reading the whole of an answer would cost the load as much as writing it costs the service.
pub(super) fn number(body: &[u8], name: &str) -> anyhow::Result<i64> {
    let from = position(body, name).with_context(|| format!("an answer without `{name}`"))?;
    let digits = body[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = std::str::from_utf8(&body[from..from + digits])?;
    digits.parse().with_context(|| format!("an answer whose `{name}` is no number"))
}

/// The bearer of a lease's calls, which stands behind all that a job's author writes.
pub(super) fn token(body: &[u8]) -> anyhow::Result<&str> {
    let name = br#""job_token":""#;
    let from = body.windows(name.len()).rposition(|part| part == name).context("a lease without a job token")?;
    let rest = &body[from + name.len()..];
    let end = rest.iter().position(|byte| *byte == b'"').context("a job token without an end")?;
    Ok(std::str::from_utf8(&rest[..end])?)
}

/// Where the value of the first member of this name begins.
fn position(body: &[u8], name: &str) -> Option<usize> {
    let quoted = body.windows(name.len() + 3).position(|part| {
        part[0] == b'"' && &part[1..=name.len()] == name.as_bytes() && &part[name.len() + 1..] == b"\":"
    })?;
    Some(quoted + name.len() + 3)
}

#[cfg(test)]
mod tests {
    use startline_protocol::ids::{Epoch, JobId, RunId};
    use startline_protocol::runner_api::{JobAssignment, JobUrls};

    use super::*;

    #[test]
    fn what_is_needed_of_an_assignment_is_found_as_it_is_written() {
        let url = || "http://127.0.0.1/".to_owned();
        let urls = JobUrls { acquire: url(), renew: url(), status: url(), logs: url(), complete: url() };
        let mut assignment = JobAssignment {
            job_assigned: true,
            job_id: JobId(71),
            workflow_run_id: RunId(8),
            attempt: 1,
            epoch: Epoch(3),
            job_definition: None,
            secrets: [("S".to_owned(), r#""job_token":"no""#.to_owned())].into(),
            timeout_minutes: 360,
            offer_expires_at: None,
            lease_expires_at: None,
            renew_interval_seconds: 30,
            job_token: None,
            urls,
        };
        let text = serde_json::to_vec(&assignment).unwrap();
        assert_eq!(Taken::of(&text).unwrap(), Taken { job: 71, attempt: 1, epoch: 3 });
        assert!(token(&text).is_err());
        assignment.job_token = Some(serde_json::from_str(r#""eyJ.a.b""#).unwrap());
        let text = serde_json::to_vec(&assignment).unwrap();
        assert_eq!(token(&text).unwrap(), "eyJ.a.b");
        assert!(number(b"{}", "id").is_err() && number(br#"{"id":null}"#, "id").is_err());
        assert_eq!(number(br#"{"id":12,"run_id":9}"#, "run_id").unwrap(), 9);
    }
}
