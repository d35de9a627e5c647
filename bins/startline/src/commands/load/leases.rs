//! Jobs that are held, so that something can be done with their leases.

use anyhow::{Context, ensure};
use http::StatusCode;

use super::fleet::{self, POLL, Taken, token};
use super::scene::{Runner, Scene, job_request, submit};

/// A lease.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) job: i64,
    pub(super) token: String,
}

impl Held {
    /// Where one of the job's calls goes.
    pub(super) fn path(&self, call: &str) -> String {
        format!("/api/v1/runners/jobs/{}/{call}", self.job)
    }
}

/// Gives each runner of this label one job, which it takes.
pub(super) async fn hold(scene: &Scene, label: &str, runners: &[Runner]) -> anyhow::Result<Vec<Held>> {
    let mut link = scene.connect().await?;
    let body = job_request(label, 100);
    let mut held = Vec::with_capacity(runners.len());
    for runner in runners {
        submit(&mut link, &scene.token, &body).await?;
        let answer = link.post(POLL, &runner.token, br#"{"timeout_seconds":30,"auto_acquire":true}"#).await?;
        answer.require(StatusCode::OK).context("a runner got no job")?;
        held.push(Held { job: Taken::of(&answer.body)?.job, token: token(&answer.body)?.to_owned() });
    }
    let mut jobs: Vec<_> = held.iter().map(|held| held.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    ensure!(jobs.len() == runners.len(), "a job was handed out twice");
    Ok(held)
}

/// Completes them.
pub(super) async fn complete(scene: &Scene, held: &[Held]) -> anyhow::Result<()> {
    let mut link = scene.connect().await?;
    for held in held {
        fleet::complete(&mut link, held.job, &held.token).await?;
    }
    Ok(())
}
