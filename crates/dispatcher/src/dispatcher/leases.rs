//! Assignments are acquired, renewed, completed and given back, each word quoting the epoch.

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunnerId};

use super::Dispatcher;
use crate::config::later;
use crate::effect::{Effect, GiveBack, Loss, LostEnd, LostReason, RequeueReason};
use crate::job::{Held, HeldKind, LostPolicy};
use crate::lease::{Assignment, Lease, LeaseError};

/// A job that its runner has completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Who ran it.
    pub runner: RunnerId,
    /// That runner is ephemeral: delete its registration.
    pub ephemeral: bool,
    /// Which attempt it was.
    pub attempt: u32,
    /// What follows from the free slot.
    pub effects: Vec<Effect>,
}

impl Dispatcher {
    /// A runner takes an offer. Repeating it answers the lease again, so that a lost answer can be asked for anew.
    ///
    /// # Errors
    ///
    /// The offer is not open, or somebody else's.
    pub fn acquire(
        &mut self,
        now: Timestamp,
        runner: RunnerId,
        id: JobId,
        epoch: Epoch,
    ) -> Result<Assignment, LeaseError> {
        let held = self.current(id, epoch)?;
        if held.runner != runner {
            return Err(LeaseError::NotYours { job: id, epoch, runner });
        }
        self.postpone_offline(now, runner);
        let job = &self.jobs[&id];
        if !held.is_offer() {
            return Ok(held.assignment(id, epoch, job.attempt));
        }
        let lease = Held { group: held.group, ..Held::lease(runner, now, self.lease_duration(runner)) };
        let assignment = lease.assignment(id, epoch, job.attempt);
        self.extend(id, lease.expires_at);
        self.changed_jobs.insert(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.held = Some(Box::new(lease));
        }
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.spent = runner.spec.ephemeral;
        }
        Ok(assignment)
    }

    /// Extends a lease. One that has run out is extended too, as long as [`Self::advance`] has not ended it.
    ///
    /// # Errors
    ///
    /// The lease is not the job's current one, or was never acquired.
    pub fn renew(&mut self, now: Timestamp, id: JobId, epoch: Epoch) -> Result<Lease, LeaseError> {
        let held = self.current(id, epoch)?;
        let HeldKind::Lease { lasts, cancel_requested, .. } = held.kind else {
            return Err(LeaseError::NotAcquired { job: id, epoch });
        };
        self.postpone_offline(now, held.runner);
        let expires_at = later(now, lasts);
        self.extend(id, expires_at);
        if let Some(held) = self.jobs.get_mut(&id).and_then(|job| job.held.as_mut()) {
            held.kind = HeldKind::Lease { lasts, renewed_at: Some(now), cancel_requested, braked: false };
        }
        Ok(Lease { runner: held.runner, expires_at, cancel_requested })
    }

    /// Ends a lease with a conclusion; the job is forgotten and its slot free. A lease that has run out can be completed
    /// too, as long as [`Self::advance`] has not ended it.
    ///
    /// # Errors
    ///
    /// As [`Self::renew`]; a repeat finds the job unknown.
    pub fn complete(&mut self, now: Timestamp, id: JobId, epoch: Epoch) -> Result<Completed, LeaseError> {
        let held = self.current(id, epoch)?;
        if held.is_offer() {
            return Err(LeaseError::NotAcquired { job: id, epoch });
        }
        self.postpone_offline(now, held.runner);
        let attempt = self.jobs[&id].attempt;
        self.let_go(id);
        self.forget(id);
        let ephemeral = self.runners.get(&held.runner).is_some_and(|runner| runner.spec.ephemeral);
        let mut effects = Vec::new();
        self.settle(now, &mut effects);
        Ok(Completed { runner: held.runner, ephemeral, attempt, effects })
    }

    /// Gives an assignment back: the job returns to its old place, the attempt does not count, and an ephemeral runner
    /// may have another. Except [`GiveBack::RunnerFailed`] of a lease: that is a loss, under the job's policy and
    /// budget. A lease whose cancel was asked for ends in [`Effect::Lost`] either way.
    ///
    /// # Errors
    ///
    /// The assignment is not the job's current one, or it is a lease that has been renewed, so that its runner
    /// must have it ([`GiveBack::RunnerFailed`] excepted).
    pub fn give_back(
        &mut self,
        now: Timestamp,
        id: JobId,
        epoch: Epoch,
        why: GiveBack,
    ) -> Result<Vec<Effect>, LeaseError> {
        let held = self.current(id, epoch)?;
        let mut effects = Vec::new();
        match held.kind {
            HeldKind::Lease { .. } if why == GiveBack::RunnerFailed => self.lose(id, now, true, &mut effects),
            HeldKind::Lease { renewed_at: Some(_), .. } => return Err(LeaseError::Delivered { job: id, epoch }),
            HeldKind::Lease { cancel_requested, .. } => {
                self.reprieve(held.runner);
                if cancel_requested {
                    self.lose(id, now, true, &mut effects);
                } else {
                    self.return_to_queue(id, why, &mut effects);
                }
            }
            HeldKind::Offer => self.return_to_queue(id, why, &mut effects),
        }
        self.settle(now, &mut effects);
        Ok(effects)
    }

    /// Lets an ephemeral runner have another job, when it is about to give up its only lease, which never was.
    pub(super) fn reprieve(&mut self, id: RunnerId) {
        let others = self.leases_of(id) > 1;
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.spent &= others;
        }
    }

    fn return_to_queue(&mut self, id: JobId, why: GiveBack, effects: &mut Vec<Effect>) {
        if let Some(held) = self.let_go(id) {
            let runner = self.named(held.runner);
            self.requeue(id, RequeueReason::GivenBack { runner, why }, effects);
        }
    }

    /// Ends a lease without a completion: the job is re-queued or lost, by its policy and budget.
    pub(super) fn lose(&mut self, id: JobId, ended_at: Timestamp, reported: bool, effects: &mut Vec<Effect>) {
        let Some(held) = self.let_go(id) else { return };
        let HeldKind::Lease { renewed_at, cancel_requested, .. } = held.kind else { return };
        let runner = self.named(held.runner);
        let renewed_at = renewed_at.unwrap_or(held.since);
        let loss = Loss { runner, acquired_at: held.since, renewed_at, ended_at, reported };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let end = if cancel_requested {
            LostEnd::Cancelled
        } else if job.on_runner_lost == LostPolicy::Fail {
            LostEnd::Policy
        } else if job.requeues_left == 0 {
            LostEnd::BudgetSpent
        } else {
            job.requeues_left -= 1;
            job.attempt += 1;
            return self.requeue(id, RequeueReason::RunnerLost(loss), effects);
        };
        let (epoch, attempt) = (job.epoch, job.attempt);
        self.forget(id);
        effects.push(Effect::Lost { job: id, epoch, attempt, reason: LostReason { loss, end } });
    }

    /// The assignment of `id` under `epoch`, if it is the current one.
    pub(super) fn current(&self, id: JobId, epoch: Epoch) -> Result<Held, LeaseError> {
        let job = self.jobs.get(&id).ok_or(LeaseError::Unknown { job: id })?;
        if job.epoch != epoch {
            return Err(LeaseError::Stale { job: id, quoted: epoch, current: job.epoch });
        }
        job.held.as_deref().copied().ok_or(LeaseError::Over { job: id, epoch })
    }

    pub(super) fn held_by(&self, id: JobId) -> Option<&Held> {
        self.jobs.get(&id)?.held.as_deref()
    }
}
