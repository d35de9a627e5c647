//! Scale sets: runners that a listener of GitHub's (`actions/scaleset`, actions-runner-controller) starts and stops as
//! jobs come and go.
//!
//! The dispatcher hands jobs to runners, here as elsewhere. A scale set is told how many of the queued jobs are to be
//! its: a queued job that its runners would fit is assigned to one set at a time, whose listener starts a runner for it.
//! Whichever runner then asks first gets the job; an assignment decides about nothing but the number of runners.
//!
//! What is here is in memory and follows from the dispatcher, which tells of each change before its lock is let go.
//! Assignments are made and counted in the answer to a poll, under that lock, so that messages and statistics agree.
//! Lock order: the dispatcher's, then this one.

mod agents;
mod bearer;
mod poll;
mod queue;
mod routes;
mod session;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_daemon::Clock;
use startline_dispatcher::{Dispatcher, Patience, RunnerSpec};
use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus, RunnerStatus};
use startline_store::{BegunJob, RunnerRecord, ScaleSetRecord};
use tokio::sync::Notify;

use super::configuration::machine;
use crate::App;
use crate::config::ScaleSetMode;
use queue::{Message, Queue, Statistics, Who};
use session::Sessions;

pub(super) use routes::{administration, queue_plane};

/// What is known of scale sets beyond what the store keeps.
#[derive(Debug)]
pub(crate) struct ScaleSets {
    known: Mutex<Known>,
    clock: Clock,
    mode: ScaleSetMode,
    /// How long an assigned job may wait for a runner.
    patience: SignedDuration,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that somebody has read since the start, or might read again.
    sets: BTreeMap<i64, Set>,
    /// The set that a job is assigned to, or whose runner has it.
    owners: HashMap<JobId, i64>,
    /// Runners that were made for a set.
    runners: HashMap<RunnerId, i64>,
}

#[derive(Debug)]
struct Set {
    name: String,
    /// What its runners are like.
    prospect: RunnerSpec,
    sessions: Sessions,
    queue: Queue,
    runners: BTreeSet<RunnerId>,
    /// Message ids that are taken and not used yet.
    ids: Range<i64>,
    wake: Arc<Notify>,
    /// Jobs fit that the last poll could not be given.
    is_short: bool,
}

/// What a look at the queue says.
enum Look {
    /// Answer this.
    Say(Message, Statistics),
    /// Wait, at most until then.
    Wait(Option<Timestamp>),
    /// Take message ids first.
    Number,
}

impl ScaleSets {
    pub(crate) fn new(clock: Clock, mode: ScaleSetMode, patience: SignedDuration) -> Self {
        Self { known: Mutex::default(), clock, mode, patience }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whose a runner is, before the dispatcher has it.
    pub(crate) fn welcome(&self, runner: &RunnerRecord) {
        if let Some(id) = runner.actions.as_ref().and_then(|actions| actions.scale_set) {
            let mut known = self.lock();
            known.runners.insert(runner.id, id);
            if let Some(set) = known.sets.get_mut(&id) {
                set.runners.insert(runner.id);
            }
        }
    }

    /// Whether a runner was made for a scale set.
    pub(super) fn is_of_set(&self, runner: RunnerId) -> bool {
        self.lock().runners.contains_key(&runner)
    }

    /// Takes over what the dispatcher says has changed; called under its lock.
    pub(crate) fn changed(&self, dispatcher: &Dispatcher, jobs: &BTreeSet<JobId>, runners: &BTreeSet<RunnerId>) {
        let mut known = self.lock();
        if known.sets.is_empty() {
            // Nobody asked yet what the others have in hand; whoever does looks it up.
            for runner in runners.iter().filter(|runner| dispatcher.runner_status(**runner).is_none()) {
                known.runners.remove(runner);
            }
            return;
        }
        let now = self.clock.now();
        for &job in jobs {
            known.job_changed(dispatcher, job, now);
        }
        for &runner in runners {
            known.runner_changed(dispatcher, runner);
        }
    }

    /// Everything may fit other runners now: groups have changed.
    pub(crate) fn look_again(&self) {
        for set in self.lock().sets.values() {
            set.wake.notify_one();
        }
    }

    /// A job has its conclusion.
    pub(crate) fn ended(&self, job: JobId, conclusion: Option<Conclusion>) {
        let mut known = self.lock();
        let Some(id) = known.owners.remove(&job) else { return };
        if let Some(set) = known.sets.get_mut(&id) {
            set.queue.ended(job, conclusion.unwrap_or(Conclusion::Cancelled), self.clock.now());
            set.wake.notify_one();
        }
    }

    /// What a queued job waits for, where that is a scale set's runner.
    pub(crate) fn explain(&self, job: JobId) -> Option<String> {
        let known = self.lock();
        for set in known.sets.values() {
            if let Some((since, tries)) = set.queue.waited(job) {
                return Some(format!(
                    "it is assigned to scale set `{}` since {since} and waits for one of its runners, of which {} are \
                     registered (try {tries} of {})",
                    set.name,
                    set.runners.len(),
                    queue::TRIES
                ));
            }
            if let Some(until) = set.queue.rests(job) {
                return Some(format!(
                    "scale set `{}` was assigned the job {} times and no runner of it started within {:#} each; it is \
                     assigned the job again after {until}, or as soon as one of its runners takes a job",
                    set.name,
                    queue::TRIES,
                    self.patience
                ));
            }
        }
        None
    }

    /// Makes a set known, with the jobs that its runners have; called under the dispatcher's lock.
    fn open(&self, record: &ScaleSetRecord, dispatcher: &Dispatcher) {
        self.open_with(record, Vec::new(), dispatcher);
    }

    /// The same, with the jobs whose beginning its reader knows, and how they have ended meanwhile.
    fn open_with(&self, record: &ScaleSetRecord, begun: Vec<(BegunJob, Option<Conclusion>)>, dispatcher: &Dispatcher) {
        let mut known = self.lock();
        let prospect = prospect(record);
        if let Some(set) = known.sets.get_mut(&record.id) {
            (set.name, set.prospect) = (record.set.name.clone(), prospect);
            set.wake.notify_one();
            return;
        }
        let now = self.clock.now();
        let runners = known.runners.iter().filter(|(_, set)| **set == record.id).map(|(runner, _)| *runner).collect();
        let set = Set {
            name: record.set.name.clone(),
            prospect,
            sessions: Sessions::default(),
            queue: Queue::new(now, self.patience),
            runners,
            ids: 0..0,
            wake: Arc::new(Notify::new()),
            is_short: false,
        };
        let held: Vec<JobId> = set.runners.iter().flat_map(|runner| dispatcher.jobs_of(*runner)).collect();
        known.sets.insert(record.id, set);
        for (job, conclusion) in begun {
            known.resume(dispatcher, job, conclusion, now);
        }
        for job in held {
            known.job_changed(dispatcher, job, now);
        }
    }

    fn is_open(&self, id: i64) -> bool {
        self.lock().sets.contains_key(&id)
    }

    /// Forgets a set that was deleted.
    fn close(&self, id: i64) {
        let mut known = self.lock();
        if let Some(mut set) = known.sets.remove(&id) {
            set.sessions.end();
        }
        known.owners.retain(|_, owner| *owner != id);
        known.wake_short();
    }
}

impl Known {
    /// Takes up a job whose beginning its set's reader knows.
    fn resume(&mut self, dispatcher: &Dispatcher, begun: BegunJob, conclusion: Option<Conclusion>, now: Timestamp) {
        let BegunJob { set: id, job, runner, runner_name, assigned_at, started_at } = begun;
        let Some(set) = self.sets.get_mut(&id) else { return };
        set.queue.resume(job, Who { id: runner, name: runner_name }, assigned_at, started_at);
        match conclusion {
            Some(conclusion) => set.queue.ended(job, conclusion, now),
            None => {
                self.owners.insert(job, id);
                self.job_changed(dispatcher, job, now);
            }
        }
    }

    fn job_changed(&mut self, dispatcher: &Dispatcher, job: JobId, now: Timestamp) {
        let owner = self.owners.get(&job).copied();
        let Some(found) = dispatcher.job(job) else {
            if let Some(id) = owner
                && self.with(id, |set| set.queue.over(job, now)).unwrap_or(true)
            {
                self.owners.remove(&job);
            }
            for set in self.sets.values_mut().filter(|_| owner.is_none()) {
                set.queue.forget(job);
            }
            // There may be room now under a limit.
            self.wake_short();
            return;
        };
        let Some(assignment) = found.assignment else {
            match owner {
                Some(id) => drop(self.with(id, |set| set.queue.waits(job, now))),
                None => {
                    for set in self.sets.values().filter(|set| dispatcher.would_fit(&set.prospect, job)) {
                        set.wake.notify_one();
                    }
                }
            }
            return;
        };
        let runner = assignment.runner;
        let holder = self.runners.get(&runner).copied().filter(|id| self.sets.contains_key(id));
        if let Some(id) = owner.filter(|id| Some(*id) != holder) {
            self.with(id, |set| set.queue.lost(job, now));
            self.owners.remove(&job);
        }
        if let Some(id) = holder {
            self.owners.insert(job, id);
            let name = dispatcher.runner(runner).map(|live| live.name).unwrap_or_default();
            let running = found.status == JobStatus::Running;
            self.with(id, |set| set.queue.held(job, Who { id: runner, name }, running, now));
        }
    }

    fn runner_changed(&mut self, dispatcher: &Dispatcher, runner: RunnerId) {
        let Some(&id) = self.runners.get(&runner) else { return };
        let is_gone = dispatcher.runner_status(runner).is_none();
        if is_gone {
            self.runners.remove(&runner);
        }
        self.with(id, |set| {
            if is_gone {
                set.runners.remove(&runner);
            }
        });
    }

    /// Changes a set and wakes its reader.
    fn with<T>(&mut self, id: i64, change: impl FnOnce(&mut Set) -> T) -> Option<T> {
        let set = self.sets.get_mut(&id)?;
        set.wake.notify_one();
        Some(change(set))
    }

    fn wake_short(&self) {
        for set in self.sets.values().filter(|set| set.is_short) {
            set.wake.notify_one();
        }
    }

    /// Takes jobs back from sets that nobody reads any more, so that others may have them.
    fn release_unattended(&mut self, now: Timestamp) {
        let Self { sets, owners, .. } = self;
        let mut is_released = false;
        for set in sets.values_mut().filter(|set| !set.sessions.is_attended(now)) {
            for job in set.queue.shrink(0, now) {
                owners.remove(&job);
                is_released = true;
            }
        }
        if is_released {
            self.wake_short();
        }
    }

    fn statistics(&self, id: i64, dispatcher: &Dispatcher) -> Statistics {
        let Some(set) = self.sets.get(&id) else { return Statistics::default() };
        let is_busy = |runner: &RunnerId| dispatcher.jobs_of(*runner).next().is_some();
        let busy = set.runners.iter().filter(|runner| is_busy(runner)).count();
        let is_there =
            |runner: &RunnerId| dispatcher.runner_status(*runner).is_some_and(|status| status != RunnerStatus::Offline);
        let idle = set.runners.iter().filter(|runner| !is_busy(runner) && is_there(runner)).count();
        Statistics {
            total_available_jobs: dispatcher.queued_for(&set.prospect).saturating_sub(set.queue.waiting().count()),
            total_acquired_jobs: 0,
            total_assigned_jobs: set.queue.size(),
            total_running_jobs: set.queue.running(),
            total_registered_runners: busy + idle,
            total_busy_runners: busy,
            total_idle_runners: idle,
        }
    }

    /// Queued jobs that a set may have and does not have yet.
    fn free_jobs(&self, id: i64, most: usize, dispatcher: &Dispatcher) -> Vec<JobId> {
        let Some(set) = self.sets.get(&id) else { return Vec::new() };
        let taken = |job| self.owners.contains_key(&job) || set.queue.rests(job).is_some();
        dispatcher.next_for(&set.prospect, most, set.queue.waiting(), taken)
    }

    /// Gives a set a job that it asks for, if it may have it or has it already.
    fn acquire(&mut self, id: i64, job: JobId, dispatcher: &Dispatcher, now: Timestamp) -> bool {
        let Some(set) = self.sets.get(&id) else { return false };
        match self.owners.get(&job) {
            Some(owner) => *owner == id,
            None if dispatcher.would_fit(&set.prospect, job) => {
                self.assign(id, job, now);
                self.with(id, |_| ());
                true
            }
            None => false,
        }
    }

    fn assign(&mut self, id: i64, job: JobId, now: Timestamp) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.queue.assign(job, now);
            self.owners.insert(job, id);
        }
    }

    /// One look of the set's reader, who takes `capacity` jobs and has read everything up to `last`.
    fn look(
        &mut self,
        id: i64,
        capacity: usize,
        last: i64,
        mode: ScaleSetMode,
        dispatcher: &Dispatcher,
        now: Timestamp,
    ) -> Option<Look> {
        self.release_unattended(now);
        let set = self.sets.get_mut(&id)?;
        if set.ids.is_empty() {
            return Some(Look::Number);
        }
        let mut gone = set.queue.tick(now);
        gone.extend(set.queue.shrink(capacity, now));
        let room = capacity.saturating_sub(set.queue.size());
        for job in gone {
            self.owners.remove(&job);
        }
        // One more, to see whether there are more than can be had.
        let free = self.free_jobs(id, room.saturating_add(1).min(MOST_AT_ONCE), dispatcher);
        let is_short = free.len() > room;
        for job in free.into_iter().take(room) {
            match mode {
                ScaleSetMode::Assign => self.assign(id, job, now),
                ScaleSetMode::Acquire => drop(self.sets.get_mut(&id).map(|set| set.queue.announce(job))),
            }
        }
        let statistics = self.statistics(id, dispatcher);
        let set = self.sets.get_mut(&id)?;
        set.is_short = is_short || statistics.total_available_jobs > 0;
        let message = set.queue.next(last, set.ids.start, statistics);
        Some(match message {
            Some(message) => {
                if message.id == set.ids.start {
                    set.ids.start += 1;
                }
                Look::Say(message, statistics)
            }
            None => Look::Wait(set.queue.next_tick()),
        })
    }
}

impl App {
    /// Takes up, at a start, the sets that have runners or whose readers wait for the end of a job. What happens from now
    /// on is noted for readers that are not back yet.
    pub(crate) async fn restore_scale_sets(self: &Arc<Self>) -> Result<(), startline_store::Error> {
        let mut begun: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for job in self.store.begun_jobs().await? {
            let conclusion = self.store.job(job.job).await?.and_then(|job| job.conclusion);
            begun.entry(job.set).or_default().push((job, conclusion));
        }
        let sets = &self.actions.scale_sets;
        let with_runners: Vec<i64> = sets.lock().runners.values().copied().collect();
        for id in with_runners {
            begun.entry(id).or_default();
        }
        for (id, begun) in begun {
            if let Some(record) = self.store.scale_set(id).await? {
                let inner = self.dispatch.lock();
                sets.open_with(&record, begun, &inner.dispatcher);
            }
        }
        Ok(())
    }
}

/// Most jobs that one poll is given; the next one is given more.
const MOST_AT_ONCE: usize = 10_000;

/// A runner of the set that is not there yet.
fn prospect(record: &ScaleSetRecord) -> RunnerSpec {
    let set = &record.set;
    RunnerSpec {
        id: RunnerId(0),
        name: String::new(),
        labels: set.labels.clone(),
        scope: set.scope.clone(),
        group: set.group.clone(),
        capabilities: machine(&set.labels),
        ephemeral: true,
        draining: false,
        patience: Patience::default(),
    }
}
