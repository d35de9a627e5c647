//! Jobs enter the queue and leave it without having run.

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunnerId};

use super::Dispatcher;
use crate::effect::Effect;
use crate::index::Place;
use crate::job::{Held, HeldKind, Job, JobSpec};
use crate::lease::Assignment;
use crate::requirement::RequirementError;

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
        let id = self.insert(&spec)?;
        let job = &self.jobs[&id];
        self.index.push(job.lane, job.place);
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
        let id = self.insert(&spec)?;
        let held = Held::lease(runner, now, self.lease_duration(runner));
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.spent |= runner.spec.ephemeral;
        }
        self.take(id, held);
        Ok(held.assignment(id, spec.epoch, spec.attempt))
    }

    fn insert(&mut self, spec: &JobSpec) -> Result<JobId, EnqueueError> {
        let id = spec.id;
        if self.jobs.contains_key(&id) {
            return Err(AlreadyKnown(id).into());
        }
        let class = spec.requirement.class().map_err(|source| EnqueueError::Requirement { job: id, source })?;
        let job = Job {
            lane: self.index.retain_lane(class, &spec.requirement.repository),
            place: Place { priority: std::cmp::Reverse(spec.priority), sequence: spec.sequence, job: id },
            attempt: spec.attempt,
            epoch: spec.epoch,
            queued_at: spec.queued_at,
            run: spec.run,
            timeout_minutes: spec.timeout_minutes,
            on_runner_lost: spec.on_runner_lost,
            requeues_left: spec.requeues_left,
            held: None,
        };
        self.jobs.insert(id, job);
        self.changed_jobs.insert(id);
        Ok(id)
    }

    /// Takes a job out of the queue and forgets it. False when it is not queued; nothing has changed then.
    pub fn cancel_queued(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.held.is_none()) else { return false };
        self.index.remove(job.lane, job.place);
        self.forget(id);
        true
    }

    /// Cancels a job wherever it stands.
    #[must_use = "the effects are in force"]
    pub fn request_cancel(&mut self, now: Timestamp, id: JobId) -> (CancelOutcome, Vec<Effect>) {
        let mut effects = Vec::new();
        let Some(job) = self.jobs.get_mut(&id) else { return (CancelOutcome::Unknown, effects) };
        let epoch = job.epoch;
        let outcome = match &mut job.held {
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
