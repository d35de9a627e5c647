//! Offers of the Runner API, whose records are written a moment later, and not at all when they are taken by then.
//!
//! Nothing rests on such a record: an acquisition is durable before it is answered, and a restart voids offers anyway
//! (docs/decisions/036-one-commit-a-step.md). It is for those who look at the job, and for the epoch that the next step in the
//! store may quote; so it is written before the job goes back to the queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use startline_dispatcher::{Assignment, JobSnapshot};
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::state::JobStatus;
use startline_store::Error;
use tokio::time::Instant;

use super::Inner;
use crate::App;
use crate::problem::ApiError;

/// How long an offer goes without a record; most are taken within a few milliseconds.
const DELAY: Duration = Duration::from_millis(50);

/// Offers without a record.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    open: HashMap<JobId, Offer>,
}

/// An offer without a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    epoch: Epoch,
    runner: RunnerId,
    /// When it was made.
    pub at: Timestamp,
    since: Instant,
}

impl Offers {
    /// Takes out the offer of this job under this epoch.
    pub(crate) fn take(&mut self, job: JobId, epoch: Epoch) -> Option<Offer> {
        self.open.get(&job).is_some_and(|offer| offer.epoch == epoch).then(|| self.open.remove(&job))?
    }
}

fn is_offered(job: &JobSnapshot, epoch: Epoch) -> bool {
    job.epoch == epoch && job.status == JobStatus::Offered
}

impl App {
    /// Notes an offer that is about to be told; the job as the dispatcher knows it. `None` when it was withdrawn in the same
    /// moment.
    pub(crate) fn note_offer(&self, assignment: &Assignment) -> Option<JobSnapshot> {
        let now = self.clock.now();
        let known = {
            let mut inner = self.dispatch.lock();
            let known = inner.dispatcher.job(assignment.job).filter(|known| is_offered(known, assignment.epoch))?;
            let offer = Offer { epoch: assignment.epoch, runner: assignment.runner, at: now, since: Instant::now() };
            let is_first = inner.offers.open.is_empty();
            inner.offers.open.insert(assignment.job, offer);
            if is_first {
                self.dispatch.offers.notify_one();
            }
            known
        };
        self.measure_assigned(known.queued_at, now);
        Some(known)
    }

    /// Writes records of offers that nobody took at once, until the service stops.
    pub(crate) async fn record_offers(self: Arc<Self>) {
        let mut is_empty = true;
        loop {
            let more = async {
                if is_empty {
                    self.dispatch.offers.notified().await;
                }
                tokio::time::sleep(DELAY).await;
            };
            tokio::select! {
                biased;
                // They are void after a restart.
                () = self.drain.cancelled() => return,
                () = more => {}
            }
            let mut inner = self.dispatch.lock();
            let due: Vec<(JobId, Offer)> =
                inner.offers.open.extract_if(|_, offer| offer.since.elapsed() >= DELAY).collect();
            for (job, offer) in due {
                self.send_offer_record(job, offer);
            }
            is_empty = inner.offers.open.is_empty();
        }
    }

    /// Writes the record of this offer now, if it was not: the next step in the store quotes its epoch.
    pub(super) fn record_offer_of(self: &Arc<Self>, inner: &mut Inner, job: JobId, epoch: Epoch) {
        if let Some(offer) = inner.offers.take(job, epoch) {
            self.send_offer_record(job, offer);
        }
    }

    /// Sends a record to the store; called under the lock, so behind what was decided of the job before and ahead of what is
    /// decided next.
    fn send_offer_record(self: &Arc<Self>, job: JobId, offer: Offer) {
        let written = self.store.record_offer(job, offer.epoch, offer.runner);
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            match written.await {
                Ok(job) => {
                    app.events.job(&job);
                    app.trace_assigned(&job, offer.epoch, offer.at);
                }
                Err(error) => app.offer_not_written(job, offer.epoch, error),
            }
        });
    }

    /// Goes on without the record of an offer, unless the store knows that the job is over: then there is nothing to offer.
    fn offer_not_written(self: &Arc<Self>, job: JobId, epoch: Epoch, error: Error) {
        if let Error::RunnerGone(_) = error {
            return tracing::debug!(job.id = %job, %error, "an offer was not written");
        }
        if !ApiError::from(error.clone()).is_stale() {
            return tracing::error!(job.id = %job, %error, "an offer was not written; its acquisition will be");
        }
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        if inner.dispatcher.job(job).is_some_and(|known| is_offered(&known, epoch)) {
            let (_, effects) = inner.dispatcher.request_cancel(now, job);
            self.apply(&mut inner, now, effects);
        }
    }
}
