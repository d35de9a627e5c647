//! The dispatcher: its state, and what every event has in common.

mod expiry;
mod groups;
mod jobs;
mod leases;
mod runners;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use startline_protocol::ids::{JobId, RunnerId};

pub use jobs::{AlreadyKnown, CancelOutcome, EnqueueError};
pub use leases::Completed;
pub use runners::{PollOutcome, UnknownRunner};

use crate::config::{Config, later};
use crate::effect::{Effect, PollId, RequeueReason, RunnerRef};
use crate::explain::Missing;
use crate::index::{Index, Waiter};
use crate::job::{Held, Job};
use crate::runner::{Parked, Runner};

/// Decides who runs what next.
///
/// # Contract
///
/// * After every event the best queued job that fits a parked poll goes to the runner that has been idle for longest,
///   until there is no such pair. Best is: highest priority, then the repository with the fewest jobs in runners'
///   hands, then the lowest sequence.
/// * Limits bound new assignments: of a group, of a repository in a group, of a repository. Counted is what is in runners'
///   hands, offered or running, restored leases included, for the group that its runner was last registered in. A job that
///   is held back stays at its place and holds up nobody else's; it goes out when there is room.
/// * Effects are in force when they are returned. The caller persists them in their order and then delivers them; what
///   cannot be persisted or delivered goes back through [`Dispatcher::give_back`].
/// * Only [`Dispatcher::advance`] lets anything expire. The caller arms one timer for [`Dispatcher::next_expiry`] and looks
///   at it again after each call. An event that arrives late but before that timer still counts: a lease
///   that has run out is renewed by a renewal that comes before `advance`.
/// * A sign of life is a heartbeat, a poll or a registration; acquisitions, renewals and completions are too, except that they
///   do not bring an offline runner back.
/// * After a restart: set the groups, add the runners, [`Dispatcher::restore_lease`] for each running job, [`Dispatcher::enqueue`] the queued
///   *and the offered* ones with the epoch last used. An offer that was open is thereby void: its runner is refused with
///   both epochs named, and asks again.
/// * The same calls give the same answers: nothing depends on time, chance or the order of a hash table.
#[derive(Debug)]
pub struct Dispatcher {
    pub(crate) config: Config,
    pub(crate) index: Index,
    /// Boxed, since a map whose keys come in ascending order is half empty.
    pub(crate) jobs: BTreeMap<JobId, Box<Job>>,
    pub(crate) runners: BTreeMap<RunnerId, Runner>,
    /// Jobs in runners' hands; also of runners that are no longer, or not yet, registered.
    pub(crate) held: BTreeMap<RunnerId, BTreeSet<JobId>>,
    pub(crate) polls: Polls,
    /// Everything that expires, in order. Exact: what no longer expires is no longer here.
    deadlines: BTreeSet<(Timestamp, Due)>,
    /// Runners whose status may have changed since the caller last asked.
    changed_runners: BTreeSet<RunnerId>,
    /// Jobs that came, went or changed hands since the caller last asked.
    pub(crate) changed_jobs: BTreeSet<JobId>,
    /// No job that is known has been ready to run for longer.
    pub(crate) queued_since: Option<Timestamp>,
    /// Grows with each use.
    stamp: u64,
}

/// Parked polls and whose they are.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    of: BTreeMap<PollId, (RunnerId, bool)>,
    /// How many of them end with a lease.
    leases: usize,
}

impl Polls {
    fn insert(&mut self, poll: PollId, runner: RunnerId, auto_acquire: bool) {
        self.of.insert(poll, (runner, auto_acquire));
        self.leases += usize::from(auto_acquire);
    }

    fn remove(&mut self, poll: PollId) -> Option<RunnerId> {
        let (runner, auto_acquire) = self.of.remove(&poll)?;
        self.leases -= usize::from(auto_acquire);
        Some(runner)
    }

    fn contains(&self, poll: PollId) -> bool {
        self.of.contains_key(&poll)
    }

    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }
}

/// What a deadline is about. At one moment, jobs come before runners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Job(JobId),
    Runner(RunnerId),
}

impl Dispatcher {
    /// A dispatcher without runners and jobs.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            index: Index::new(config.idle_classes, config.max_running_jobs_per_repository),
            config,
            jobs: BTreeMap::new(),
            runners: BTreeMap::new(),
            held: BTreeMap::new(),
            polls: Polls::default(),
            deadlines: BTreeSet::new(),
            changed_runners: BTreeSet::new(),
            changed_jobs: BTreeSet::new(),
            queued_since: None,
            stamp: 0,
        }
    }

    /// When [`Self::advance`] will next have something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The runners that came, went or may have another status than when this was last called; a look at
    /// [`Self::runner`] tells. Whoever wants to know asks after each call; until then they add up, each runner once.
    pub fn take_changed_runners(&mut self) -> BTreeSet<RunnerId> {
        std::mem::take(&mut self.changed_runners)
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// Hands out jobs until no queued job fits a parked poll.
    fn settle(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        while let Some((job, runner)) = self.index.next_match() {
            self.assign(now, job, runner, effects);
        }
    }

    fn assign(&mut self, now: Timestamp, id: JobId, runner_id: RunnerId, effects: &mut Vec<Effect>) {
        self.stop_waiting(runner_id);
        let runner = self.runners.get_mut(&runner_id).expect("a waiting runner is registered");
        assert!(!runner.polls.is_empty(), "a waiting runner has a poll");
        let Parked { poll, auto_acquire } = runner.polls.remove(0);
        self.polls.remove(poll);
        let held = if auto_acquire {
            runner.spent = runner.spec.ephemeral;
            Held::lease(runner_id, now, runner.spec.patience.lease_duration.unwrap_or(self.config.lease_duration))
        } else {
            Held::offer(runner_id, now, later(now, self.config.offer_window))
        };
        let job = self.jobs.get_mut(&id).expect("a queued job is known");
        self.index.remove(job.lane, job.place(id));
        job.epoch = job.epoch.next();
        let assignment = held.assignment(id, job.epoch, job.attempt);
        self.take(id, held);
        effects.push(Effect::Assigned { poll, assignment });
    }

    /// Puts a job that is not in the queue into a runner's hands.
    fn take(&mut self, id: JobId, mut held: Held) {
        held.group = self.runners.get(&held.runner).map(|runner| self.index.group_of(runner.profile));
        self.changed_jobs.insert(id);
        let job = self.jobs.get_mut(&id).expect("the job is known");
        job.held = Some(Box::new(held));
        self.index.hold(job.lane, held.group);
        self.held.entry(held.runner).or_default().insert(id);
        self.deadlines.insert((held.expires_at, Due::Job(id)));
        self.slots_changed(held.runner);
    }

    /// Takes a job out of its runner's hands; the caller queues or forgets it.
    fn let_go(&mut self, id: JobId) -> Option<Held> {
        let job = self.jobs.get_mut(&id)?;
        let held = *job.held.take()?;
        self.changed_jobs.insert(id);
        self.index.let_go(job.lane, held.group);
        if let Some(jobs) = self.held.get_mut(&held.runner) {
            jobs.remove(&id);
            if jobs.is_empty() {
                self.held.remove(&held.runner);
            }
        }
        self.deadlines.remove(&(held.expires_at, Due::Job(id)));
        self.slots_changed(held.runner);
        Some(held)
    }

    /// Queues a job that nobody holds, at its old place.
    fn requeue(&mut self, id: JobId, reason: RequeueReason, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        self.index.push(job.lane, job.place(id));
        effects.push(Effect::Requeued {
            job: id,
            old_epoch: job.epoch,
            attempt: job.attempt,
            requeues_left: job.requeues_left,
            reason,
        });
    }

    /// Forgets a job that is neither queued nor held.
    fn forget(&mut self, id: JobId) {
        self.changed_jobs.insert(id);
        if let Some(job) = self.jobs.remove(&id) {
            self.index.release_lane(job.lane);
        }
    }

    /// Moves a job's deadline.
    fn extend(&mut self, id: JobId, until: Timestamp) {
        if let Some(held) = self.jobs.get_mut(&id).and_then(|job| job.held.as_mut()) {
            self.deadlines.remove(&(held.expires_at, Due::Job(id)));
            held.expires_at = until;
            self.deadlines.insert((until, Due::Job(id)));
        }
    }

    /// The runner got or gave up a slot: it goes to the end of the line, if it stands there at all.
    fn slots_changed(&mut self, id: RunnerId) {
        self.changed_runners.insert(id);
        self.stop_waiting(id);
        let stamp = self.next_stamp();
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.idle = stamp;
        }
        self.wait(id);
    }

    /// Takes the runner out of the line. Whoever changes what decides about a runner's place does so between this and
    /// [`Self::wait`].
    fn stop_waiting(&mut self, id: RunnerId) {
        if let Some(runner) = self.runners.get_mut(&id)
            && std::mem::take(&mut runner.waiting)
        {
            self.index.stop_waiting(runner.profile, Waiter { idle: runner.idle, runner: id });
        }
    }

    /// Puts the runner into the line if it has a poll parked and could take a job.
    fn wait(&mut self, id: RunnerId) {
        let used = self.used(id);
        if let Some(runner) = self.runners.get_mut(&id)
            && !runner.waiting
            && !runner.polls.is_empty()
            && runner.is_online()
            && !runner.spec.draining
            && !runner.spent
            && used < runner.slots()
        {
            runner.waiting = true;
            self.index.wait(runner.profile, Waiter { idle: runner.idle, runner: id });
        }
    }

    /// Slots of a runner that hold jobs.
    pub(crate) fn used(&self, id: RunnerId) -> usize {
        self.held.get(&id).map_or(0, BTreeSet::len)
    }

    /// Why a runner does not stand in the line.
    pub(crate) fn unavailable(&self, id: RunnerId, runner: &Runner) -> Vec<Missing> {
        let (used, slots) = (self.used(id), runner.slots());
        let last_seen_at = runner.last_seen_at;
        let mut missing = Vec::new();
        missing.extend((!runner.is_online()).then_some(Missing::Offline { last_seen_at }));
        missing.extend(runner.spec.draining.then_some(Missing::Draining));
        missing.extend(runner.spent.then_some(Missing::Spent));
        missing.extend((used >= slots).then_some(Missing::Busy { used, slots }));
        if missing.is_empty() && runner.polls.is_empty() {
            missing.push(Missing::NotPolling);
        }
        missing
    }

    /// How long a lease of this runner lives without being renewed.
    fn lease_duration(&self, id: RunnerId) -> SignedDuration {
        let own = self.runners.get(&id).and_then(|runner| runner.spec.patience.lease_duration);
        own.unwrap_or(self.config.lease_duration)
    }

    /// When this runner counts as offline if it is silent from `now` on.
    fn silent_until(&self, now: Timestamp, id: RunnerId) -> Timestamp {
        let own = self.runners.get(&id).and_then(|runner| runner.spec.patience.offline_after);
        later(now, own.unwrap_or(self.config.offline_after))
    }

    fn named(&self, id: RunnerId) -> RunnerRef {
        RunnerRef { id, name: self.runners.get(&id).map(|runner| runner.spec.name.clone()) }
    }
}
