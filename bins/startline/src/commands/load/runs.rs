//! Jobs submitted many at once, as the combinations of a matrix, and their account afterwards.

use std::time::Duration;

use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::Timestamp;
use startline_protocol::runs_api::{RunDetail, SubmitRequest};
use startline_protocol::state::{Conclusion, RunStatus};
use tokio::time::Instant;

use super::ledger::{Entry, Ledger};
use super::link::Link;
use super::report::Latency;
use super::scene::Scene;

/// Most jobs that one run has from a matrix.
pub(super) const MOST_JOBS: u32 = 256;
/// How long a run may take to be concluded after its last job.
const CONCLUDED: Duration = Duration::from_secs(30);

/// Submits a run of so many jobs for this label.
pub(super) async fn submit(link: &mut Link, token: &str, label: &str, jobs: u32) -> anyhow::Result<RunDetail> {
    let numbers = (0..jobs).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let workflow = format!(
        "on: push\njobs:\n  load:\n    runs-on: {label}\n    strategy:\n      matrix:\n        number: [{numbers}]\n    \
         steps:\n      - run: 'true'\n"
    );
    let request = SubmitRequest { workflow, path: Some("load.yml".to_owned()), ..SubmitRequest::default() };
    let answer = link.post("/api/v1/runs", token, &serde_json::to_vec(&request)?).await?;
    answer.expect(StatusCode::CREATED).context("a run was not taken")
}

/// Submits so many jobs in as few runs as possible, as fast as they are taken.
pub(super) async fn submit_all(scene: &Scene, ledger: &Ledger, jobs: u32) -> anyhow::Result<Vec<RunDetail>> {
    let mut link = scene.connect().await?;
    let mut runs = Vec::new();
    let mut submitted = 0;
    while submitted < jobs {
        let next = MOST_JOBS.min(jobs - submitted);
        let run = submit(&mut link, &scene.token, &scene.label, next).await;
        runs.push(run.map_err(|error| ledger.explain(error))?);
        submitted += next;
    }
    Ok(runs)
}

/// The run once it is concluded, or as it is when that takes too long.
async fn concluded(link: &mut Link, token: &str, run: i64) -> anyhow::Result<RunDetail> {
    let until = Instant::now() + CONCLUDED;
    loop {
        let answer = link.get(&format!("/api/v1/runs/{run}"), token).await?;
        let detail: RunDetail = answer.expect(StatusCode::OK)?;
        if detail.run.status == RunStatus::Completed || Instant::now() >= until {
            return Ok(detail);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until all jobs of a run are queued.
pub(super) async fn await_jobs(link: &mut Link, token: &str, run: i64) -> anyhow::Result<()> {
    let until = Instant::now() + CONCLUDED;
    loop {
        let answer = link.get(&format!("/api/v1/runs/{run}"), token).await?;
        let detail: RunDetail = answer.expect(StatusCode::OK)?;
        if detail.pending.is_empty() && !detail.jobs.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the jobs of run {run} were not made in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A job on its way: since when it was queued, as the service says, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wait {
    pub(super) queued: Instant,
    pub(super) offered: Instant,
}

/// What came of all jobs.
#[derive(Default)]
pub(super) struct Account {
    /// Jobs that were completed exactly once.
    pub(super) completed: u64,
    /// From queued, as the service says, to the answer of a poll, read to its end.
    pub(super) latency: Latency,
    pub(super) waits: Vec<Wait>,
}

/// Compares what the runners saw with what the service says.
///
/// The service's clock is believed to be this machine's.
pub(super) async fn account(
    scene: &Scene,
    ledger: &Ledger,
    runs: Vec<RunDetail>,
    jobs: u32,
) -> anyhow::Result<Account> {
    let mut link = scene.connect().await?;
    let mut account = Account::default();
    let mut known = 0_u32;
    let (instant, now) = (Instant::now(), Timestamp::now());
    for run in runs {
        let detail = concluded(&mut link, &scene.token, run.run.id.0).await?;
        if detail.run.conclusion != Some(Conclusion::Success) {
            ledger.failed(format!("run {} ended as {:?}", detail.run.id, detail.run.conclusion));
        }
        for job in detail.jobs {
            known += 1;
            let entry = ledger.take(job.id.0).unwrap_or_default();
            if let (Entry { offered: Some(offered), completed: Some(_), .. }, 1, Some(Conclusion::Success)) =
                (entry, job.attempt, job.conclusion)
            {
                account.completed += 1;
                let since_queued = Duration::try_from(now.duration_since(job.queued_at)).unwrap_or_default();
                let queued = instant.checked_sub(since_queued).unwrap_or(instant).min(offered);
                account.latency.record(offered - queued);
                account.waits.push(Wait { queued, offered });
            } else {
                ledger.failed(format!(
                    "job {} is {:?} to the service in attempt {}, and to its runner {entry:?}",
                    job.id, job.conclusion, job.attempt
                ));
            }
        }
    }
    if known != jobs {
        ledger.failed(format!("{jobs} jobs were submitted and {known} exist"));
    }
    Ok(account)
}
