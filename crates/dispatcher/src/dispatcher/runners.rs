//! Runners come, ask for jobs, say that they live, and go.

use jiff::Timestamp;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;

use super::{Dispatcher, Due};
use crate::config::later;
use crate::effect::{Effect, Gone, PollEnd, PollId, RequeueReason};
use crate::lease::Assignment;
use crate::runner::{Parked, Runner, RunnerSpec};

/// What becomes of a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// A job, at once.
    Assigned(Assignment),
    /// None yet. An [`Effect::Assigned`] that names the poll may come from any later call, until
    /// [`Dispatcher::abort_poll`].
    Parked,
    /// The runner is not registered.
    UnknownRunner,
    /// The runner is ephemeral and has had its job.
    Spent,
    /// All slots of the runner hold jobs.
    NoFreeSlot,
}

/// The runner is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("runner {0} is not registered")]
pub struct UnknownRunner(
    /// Who.
    pub RunnerId,
);

impl Dispatcher {
    /// Registers a runner, or changes a registration: parked polls and assignments stay. A sign of life.
    pub fn add_runner(&mut self, now: Timestamp, spec: RunnerSpec) -> Vec<Effect> {
        let mut effects = Vec::new();
        let id = spec.id;
        self.changed_runners.insert(id);
        let holds_lease = self.leases_of(id) > 0;
        let profile = self.index.retain_profile(&spec);
        self.stop_waiting(id);
        if let Some(runner) = self.runners.get_mut(&id) {
            self.index.release_profile(std::mem::replace(&mut runner.profile, profile));
            runner.spent = spec.ephemeral && (runner.spent || holds_lease);
            runner.spec = spec;
        } else {
            let spent = spec.ephemeral && holds_lease;
            let idle = self.next_stamp();
            let offline_at = later(now, spec.patience.offline_after.unwrap_or(self.config.offline_after));
            let runner = Runner {
                spec,
                profile,
                polls: Vec::new(),
                idle,
                waiting: false,
                last_seen_at: now,
                offline_at: Some(offline_at),
                braked: false,
                spent,
            };
            self.runners.insert(id, runner);
            self.deadlines.insert((offline_at, Due::Runner(id)));
        }
        self.regroup(id);
        self.seen(now, id, &mut effects);
        self.wait(id);
        self.settle(now, &mut effects);
        effects
    }

    /// Changes a runner's machine. Parked polls are matched with the new one at once.
    ///
    /// # Errors
    ///
    /// The runner is not registered.
    pub fn update_capabilities(
        &mut self,
        now: Timestamp,
        id: RunnerId,
        capabilities: Capabilities,
    ) -> Result<Vec<Effect>, UnknownRunner> {
        self.change(now, id, |spec| spec.capabilities = capabilities)
    }

    /// Lets a runner take no new jobs, or take them again. Its parked polls stay: abort them, or answer them when they end.
    ///
    /// # Errors
    ///
    /// The runner is not registered.
    pub fn set_draining(&mut self, now: Timestamp, id: RunnerId, draining: bool) -> Result<Vec<Effect>, UnknownRunner> {
        self.change(now, id, |spec| spec.draining = draining)
    }

    fn change(
        &mut self,
        now: Timestamp,
        id: RunnerId,
        change: impl FnOnce(&mut RunnerSpec),
    ) -> Result<Vec<Effect>, UnknownRunner> {
        self.stop_waiting(id);
        let runner = self.runners.get_mut(&id).ok_or(UnknownRunner(id))?;
        change(&mut runner.spec);
        self.reprofile(id);
        self.changed_runners.insert(id);
        let mut effects = Vec::new();
        self.settle(now, &mut effects);
        Ok(effects)
    }

    /// Gives the runner the profile that it now has.
    pub(super) fn reprofile(&mut self, id: RunnerId) {
        self.stop_waiting(id);
        if let Some(runner) = self.runners.get_mut(&id) {
            let profile = self.index.retain_profile(&runner.spec);
            self.index.release_profile(std::mem::replace(&mut runner.profile, profile));
        }
        self.wait(id);
    }

    /// Forgets a runner. Its polls are closed and its offers go back; its leases stay, can be renewed and completed, and
    /// otherwise lapse by themselves.
    pub fn remove_runner(&mut self, now: Timestamp, id: RunnerId) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.withdraw_offers(id, Gone::Removed, &mut effects);
        self.stop_waiting(id);
        let Some(runner) = self.runners.remove(&id) else { return effects };
        self.changed_runners.insert(id);
        for Parked { poll, .. } in runner.polls {
            self.polls.remove(poll);
            effects.push(Effect::PollClosed { poll, runner: id, why: PollEnd::RunnerRemoved });
        }
        if let Some(at) = runner.offline_at {
            self.deadlines.remove(&(at, Due::Runner(id)));
        }
        self.index.release_profile(runner.profile);
        self.settle(now, &mut effects);
        effects
    }

    /// A runner asks for a job. A sign of life.
    ///
    /// A runner may have as many polls open as it has free slots; one more closes the oldest, which is taken for the
    /// remains of a broken connection. One that drains may always have one: it gets nothing, unless the runner takes jobs
    /// again meanwhile. A `poll` that is already parked stays as it is. With `auto_acquire` the poll ends with a lease
    /// instead of an offer. The poll's own assignment is in the outcome, not among the effects.
    #[must_use = "the effects are in force"]
    pub fn poll(
        &mut self,
        now: Timestamp,
        id: RunnerId,
        poll: PollId,
        auto_acquire: bool,
    ) -> (PollOutcome, Vec<Effect>) {
        let mut effects = Vec::new();
        if !self.runners.contains_key(&id) {
            return (PollOutcome::UnknownRunner, effects);
        }
        self.seen(now, id, &mut effects);
        let outcome = self.park(id, poll, auto_acquire, &mut effects);
        self.settle(now, &mut effects);
        let own = effects.iter().position(|effect| matches!(effect, Effect::Assigned { poll: at, .. } if *at == poll));
        match own.map(|at| effects.remove(at)) {
            Some(Effect::Assigned { assignment, .. }) => (PollOutcome::Assigned(assignment), effects),
            _ => (outcome, effects),
        }
    }

    fn park(&mut self, id: RunnerId, poll: PollId, auto_acquire: bool, effects: &mut Vec<Effect>) -> PollOutcome {
        if self.polls.contains(poll) {
            return PollOutcome::Parked;
        }
        let used = self.used(id);
        self.stop_waiting(id);
        let Some(runner) = self.runners.get_mut(&id) else { return PollOutcome::UnknownRunner };
        let free = runner.slots().saturating_sub(used);
        let most = if runner.spec.draining { free.max(1) } else { free };
        let outcome = if runner.spent {
            PollOutcome::Spent
        } else if most == 0 {
            PollOutcome::NoFreeSlot
        } else {
            runner.polls.reserve_exact(1);
            runner.polls.push(Parked { poll, auto_acquire });
            self.polls.insert(poll, id, auto_acquire);
            let superseded = runner.polls.len().saturating_sub(most);
            for Parked { poll, .. } in runner.polls.drain(..superseded) {
                self.polls.remove(poll);
                effects.push(Effect::PollClosed { poll, runner: id, why: PollEnd::Superseded });
            }
            PollOutcome::Parked
        };
        self.wait(id);
        outcome
    }

    /// Ends a parked poll without a job: its time is over, or its connection is gone. False when it is not parked: it
    /// has a job by now (give that back if it cannot be delivered), or was closed.
    pub fn abort_poll(&mut self, poll: PollId) -> bool {
        let Some(id) = self.polls.remove(poll) else { return false };
        self.stop_waiting(id);
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.polls.retain(|parked| parked.poll != poll);
        }
        self.wait(id);
        true
    }

    /// A sign of life.
    ///
    /// # Errors
    ///
    /// The runner is not registered.
    pub fn heartbeat(&mut self, now: Timestamp, id: RunnerId) -> Result<Vec<Effect>, UnknownRunner> {
        if !self.runners.contains_key(&id) {
            return Err(UnknownRunner(id));
        }
        let mut effects = Vec::new();
        self.seen(now, id, &mut effects);
        self.settle(now, &mut effects);
        Ok(effects)
    }

    /// Notes a sign of life; an offline runner is back.
    fn seen(&mut self, now: Timestamp, id: RunnerId, effects: &mut Vec<Effect>) {
        self.postpone_offline(now, id);
        let at = self.silent_until(now, id);
        let Some(runner) = self.runners.get_mut(&id) else { return };
        if runner.offline_at.is_none() {
            runner.last_seen_at = now;
            runner.offline_at = Some(at);
            self.deadlines.insert((at, Due::Runner(id)));
            effects.push(Effect::RunnerOnline { runner: id });
            self.changed_runners.insert(id);
            self.wait(id);
        }
    }

    /// Notes a sign of life of a runner that is online.
    pub(super) fn postpone_offline(&mut self, now: Timestamp, id: RunnerId) {
        let until = self.silent_until(now, id);
        if let Some(runner) = self.runners.get_mut(&id)
            && let Some(at) = runner.offline_at
        {
            self.deadlines.remove(&(at, Due::Runner(id)));
            runner.last_seen_at = now;
            runner.braked = false;
            runner.offline_at = Some(until);
            self.deadlines.insert((until, Due::Runner(id)));
        }
    }

    /// Sends the runner's offers back to the queue.
    pub(super) fn withdraw_offers(&mut self, id: RunnerId, why: Gone, effects: &mut Vec<Effect>) {
        let runner = self.named(id);
        for job in self.held.get(&id).cloned().unwrap_or_default() {
            if !self.held_by(job).is_some_and(|held| held.is_offer()) {
                continue;
            }
            if let Some(held) = self.let_go(job) {
                let reason = RequeueReason::OfferWithdrawn { runner: runner.clone(), offered_at: held.since, why };
                self.requeue(job, reason, effects);
            }
        }
    }

    pub(super) fn leases_of(&self, id: RunnerId) -> usize {
        let jobs = self.held.get(&id).into_iter().flatten();
        jobs.filter(|job| self.held_by(**job).is_some_and(|held| !held.is_offer())).count()
    }
}
