//! Jobs enter the queue and leave it without having run.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunnerId};

use super::Dispatcher;
use crate::effect::{Effect, PollId};
use crate::index::{Lane, Place};
use crate::job::{Held, HeldKind, Job, JobSpec};
use crate::lease::{Assignment, LeaseError};
use crate::requirement::{Requirement, RequirementError};

/// Why a job cannot be queued or restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// Its requirement cannot be understood.
    #[error("job {job}: {source}")]
    Requirement {
        /// The job.
        job: JobId,
        /// Why.
        source: RequirementError,
    },
    /// It is already here.
    #[error(transparent)]
    AlreadyKnown(#[from] AlreadyKnown),
}

/// The job is already queued or in a runner's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job {0} is already queued or running")]
pub struct AlreadyKnown(
    /// Which.
    pub JobId,
);

/// What a request to cancel a job has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It was queued. It is no longer: conclude it.
    WasQueued,
    /// It was offered. The offer is withdrawn and the job forgotten: conclude it.
    Offered {
        /// To whom.
        runner: RunnerId,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// It is running, and its renewals now say that it should stop.
    Running {
        /// Where.
        runner: RunnerId,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// The job is not here.
    Unknown,
}

impl Dispatcher {
    /// Queues a job. At most one parked poll gets it.
    ///
    /// # Errors
    ///
    /// The requirement cannot be understood, or the job is already here; nothing has changed then.
    pub fn enqueue(&mut self, now: Timestamp, spec: JobSpec) -> Result<Vec<Effect>, EnqueueError> {
        let (effects, refused) = self.enqueue_all(now, [spec]);
        refused.into_iter().next().map_or(Ok(effects), Err)
    }

    /// Queues jobs, and hands out when all of them are there. Says which were not queued, as [`Self::enqueue`] would.
    ///
    /// Jobs that follow one upon the other and share a requirement cost little more than their memory.
    pub fn enqueue_all(
        &mut self,
        now: Timestamp,
        specs: impl IntoIterator<Item = JobSpec>,
    ) -> (Vec<Effect>, Vec<EnqueueError>) {
        let (mut effects, mut refused) = (Vec::new(), Vec::new());
        let mut last: Option<(Arc<Requirement>, Lane)> = None;
        for spec in specs {
            let lane = last.as_ref().filter(|(requirement, _)| *requirement == spec.requirement).map(|(_, lane)| *lane);
            match self.insert(&spec, lane) {
                Ok((lane, place)) => {
                    self.index.push(lane, place);
                    last = Some((spec.requirement, lane));
                }
                Err(error) => refused.push(error),
            }
        }
        self.settle(now, &mut effects);
        (effects, refused)
    }

    /// Whether a parked poll would end with a lease, so that [`Self::enqueue_leased`] may have an answer.
    #[must_use]
    pub fn awaits_leases(&self) -> bool {
        self.polls.leases > 0
    }

    /// Queues a job if a parked poll ends with a lease of it at once; the poll, and what it gets. `None`: nothing has
    /// changed, and whatever else the job may come to is for [`Self::enqueue`].
    ///
    /// The caller may do this while the job is not durable yet, so that it and its lease become that together. Nothing is
    /// told to the poll before, and should it fail, [`Self::revoke`] follows.
    pub fn enqueue_leased(&mut self, now: Timestamp, spec: &JobSpec) -> Option<(PollId, Assignment)> {
        if !self.awaits_leases() {
            return None;
        }
        let (lane, place) = self.insert(spec, None).ok()?;
        self.index.push(lane, place);
        // No other pair fits, or it would have been handed out before.
        let matched = self.index.next_match().filter(|(job, runner)| {
            let first = self.runners.get(runner).and_then(|runner| runner.polls.first());
            *job == spec.id && first.is_some_and(|parked| parked.auto_acquire)
        });
        let Some((id, runner)) = matched else {
            self.index.remove(lane, place);
            self.forget(spec.id);
            return None;
        };
        let mut effects = Vec::new();
        self.assign(now, id, runner, &mut effects);
        match effects.pop() {
            Some(Effect::Assigned { poll, assignment }) => Some((poll, assignment)),
            _ => None,
        }
    }

    /// Forgets a job whose lease by [`Self::enqueue_leased`] never became durable, as if it had not been; the poll stays
    /// ended.
    ///
    /// # Errors
    ///
    /// The assignment is not the job's current one, or an offer.
    pub fn revoke(&mut self, now: Timestamp, id: JobId, epoch: Epoch) -> Result<Vec<Effect>, LeaseError> {
        let held = self.current(id, epoch)?;
        let HeldKind::Lease { .. } = held.kind else { return Err(LeaseError::NotAcquired { job: id, epoch }) };
        self.reprieve(held.runner);
        self.let_go(id);
        self.forget(id);
        let mut effects = Vec::new();
        self.settle(now, &mut effects);
        Ok(effects)
    }

    /// Restores a running job after a restart: `runner`, registered or not, holds it under the spec's epoch and has the
    /// whole of a lease's time to renew it. A cancel that was asked for before must be asked for again.
    ///
    /// # Errors
    ///
    /// As [`Self::enqueue`].
    pub fn restore_lease(
        &mut self,
        now: Timestamp,
        runner: RunnerId,
        spec: JobSpec,
    ) -> Result<Assignment, EnqueueError> {
        self.insert(&spec, None)?;
        let id = spec.id;
        let held = Held::lease(runner, now, self.lease_duration(runner));
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.spent |= runner.spec.ephemeral;
        }
        self.take(id, held);
        Ok(held.assignment(id, spec.epoch, spec.attempt))
    }

    /// Makes a job known; `lane` is that of its requirement, when another job holds it.
    fn insert(&mut self, spec: &JobSpec, lane: Option<Lane>) -> Result<(Lane, Place), EnqueueError> {
        let id = spec.id;
        let Entry::Vacant(entry) = self.jobs.entry(id) else { return Err(AlreadyKnown(id).into()) };
        let lane = if let Some(lane) = lane {
            self.index.reuse_lane(lane);
            lane
        } else {
            let class = spec.requirement.class().map_err(|source| EnqueueError::Requirement { job: id, source })?;
            self.index.retain_lane(class, &spec.requirement.repository)
        };
        let job = Job {
            lane,
            priority: spec.priority,
            sequence: spec.sequence,
            attempt: spec.attempt,
            epoch: spec.epoch,
            queued_at: spec.queued_at,
            run: spec.run,
            timeout_minutes: spec.timeout_minutes,
            on_runner_lost: spec.on_runner_lost,
            requeues_left: spec.requeues_left,
            held: None,
        };
        let place = job.place(id);
        self.queued_since = Some(self.queued_since.map_or(spec.queued_at, |since| since.min(spec.queued_at)));
        entry.insert(Box::new(job));
        self.changed_jobs.insert(id);
        Ok((lane, place))
    }

    /// Takes a job out of the queue and forgets it. False when it is not queued; nothing has changed then.
    pub fn cancel_queued(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.held.is_none()) else { return false };
        self.index.remove(job.lane, job.place(id));
        self.forget(id);
        true
    }

    /// Cancels a job wherever it stands.
    #[must_use = "the effects are in force"]
    pub fn request_cancel(&mut self, now: Timestamp, id: JobId) -> (CancelOutcome, Vec<Effect>) {
        let mut effects = Vec::new();
        let Some(job) = self.jobs.get_mut(&id) else { return (CancelOutcome::Unknown, effects) };
        let epoch = job.epoch;
        let outcome = match job.held.as_deref_mut() {
            None => {
                self.cancel_queued(id);
                CancelOutcome::WasQueued
            }
            Some(Held { runner, kind: HeldKind::Lease { cancel_requested, .. }, .. }) => {
                *cancel_requested = true;
                CancelOutcome::Running { runner: *runner, epoch }
            }
            Some(Held { runner, kind: HeldKind::Offer, .. }) => {
                let runner = *runner;
                self.let_go(id);
                self.forget(id);
                CancelOutcome::Offered { runner, epoch }
            }
        };
        self.settle(now, &mut effects);
        (outcome, effects)
    }
}
