//! Jobs at a steady rate, for the scenarios that measure how long they take to a waiting runner.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::Ledger;
use super::lifecycle::submit;
use super::pacing::{Alarm, Pool, Schedule, open_loop};
use super::scene::{Scene, job_request};
use super::usage::Moment;

/// How long everything runs before it is measured.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// Most connections for submissions, and those that are open from the beginning.
pub(super) const SENDERS: u32 = 256;
const READY: usize = 16;

/// The measured time.
pub(super) struct Steady {
    pub(super) before: Moment,
    pub(super) after: anyhow::Result<Moment>,
    /// How many connections it took.
    pub(super) senders: usize,
}

/// Submits so many jobs a second, and waits until they are done; the ledger measures all but the first second.
pub(super) async fn submit_jobs(
    scene: &Scene,
    ledger: &Arc<Ledger>,
    (rate, time): (u32, Duration),
    payload: u32,
) -> anyhow::Result<Steady> {
    let pool = Pool::new(scene.target.clone(), scene.tasks.clone(), SENDERS);
    pool.fill(READY).await?;
    let mut alarm = Alarm::new()?;
    let warming = Schedule { start: Instant::now(), per_second: rate };
    let measured = Schedule { start: warming.start + WARM_UP, ..warming };
    ledger.measure(measured.start, measured.start + time);
    let submission = Arc::new((scene.token.clone(), job_request(&scene.label, payload)));
    let mut send = |_, intended| {
        let (pool, ledger, submission) = (Arc::clone(&pool), Arc::clone(ledger), Arc::clone(&submission));
        scene.tasks.spawn(async move {
            match pool.with(async |link| submit(link, &submission.0, &submission.1).await).await {
                Ok(job) => ledger.submitted(job, intended),
                Err(error) => ledger.failed(format!("a job was not taken: {error:#}")),
            }
        });
    };
    open_loop(warming, warming.count(WARM_UP), &mut alarm, &mut send).await?;
    let before = Moment::now(scene.pid)?;
    open_loop(measured, measured.count(time), &mut alarm, &mut send).await?;
    let after = Moment::now(scene.pid);
    ledger.until_completed(warming.count(WARM_UP) + measured.count(time)).await;
    Ok(Steady { before, after, senders: pool.opened() })
}
