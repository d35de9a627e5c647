//! Jobs at a steady rate, for the scenarios that measure how long they take to a waiting runner.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::ledger::Ledger;
use super::pacing::{Alarm, Pool, Schedule, open_loop};
use super::scene::{Scene, job_request, submit};
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

/// Who submits jobs without waiting for any.
pub(super) struct Sender {
    tasks: TaskTracker,
    pool: Arc<Pool>,
    ledger: Arc<Ledger>,
    token: Arc<str>,
    body: Arc<str>,
}

impl Sender {
    pub(super) async fn new(scene: &Scene, ledger: &Arc<Ledger>, payload: u32) -> anyhow::Result<Self> {
        let pool = Pool::new(scene.target.clone(), scene.tasks.clone(), SENDERS);
        pool.fill(READY).await?;
        let body = job_request(&scene.label, payload).into();
        let (tasks, token) = (scene.tasks.clone(), scene.token.as_str().into());
        Ok(Self { tasks, pool, ledger: Arc::clone(ledger), token, body })
    }

    /// Submits a job that should be sent at this time, and enters it.
    pub(super) fn send(&self, intended: Instant) {
        let (pool, ledger) = (Arc::clone(&self.pool), Arc::clone(&self.ledger));
        let (token, body) = (Arc::clone(&self.token), Arc::clone(&self.body));
        self.tasks.spawn(async move {
            match pool.with(async |link| submit(link, &token, &body).await).await {
                Ok(job) => ledger.submitted(job, intended),
                Err(error) => ledger.failed(format!("a job was not taken: {error:#}")),
            }
        });
    }
}

/// Submits so many jobs a second, and waits until they are done; the ledger measures all but the first second.
pub(super) async fn submit_jobs(
    scene: &Scene,
    ledger: &Arc<Ledger>,
    (rate, time): (u32, Duration),
    payload: u32,
) -> anyhow::Result<Steady> {
    let sender = Sender::new(scene, ledger, payload).await?;
    let mut alarm = Alarm::new()?;
    let warming = Schedule { start: Instant::now(), per_second: rate };
    let measured = Schedule { start: warming.start + WARM_UP, ..warming };
    ledger.measure(measured.start, measured.start + time);
    let mut send = |_, intended| sender.send(intended);
    open_loop(warming, warming.count(WARM_UP), &mut alarm, &mut send).await?;
    let before = Moment::now(&scene.pid)?;
    open_loop(measured, measured.count(time), &mut alarm, &mut send).await?;
    let after = Moment::now(&scene.pid);
    ledger.until_settled(warming.count(WARM_UP) + measured.count(time)).await;
    Ok(Steady { before, after, senders: sender.pool.opened() })
}
