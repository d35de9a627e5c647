//! What the service must look like, kept by hand from what it has acknowledged: the naive reference of the machine.

use std::collections::{BTreeMap, BTreeSet};

use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::runner_api::JobAssignment;
use startline_protocol::state::{Conclusion, JobStatus, RunnerStatus};

/// How long what lasts, in seconds of the clock that is turned by hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub offer: i64,
    pub lease: i64,
    pub offline: i64,
    pub requeues: u32,
}

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub labels: Vec<&'static str>,
    pub memory_gb: u32,
    pub group: Option<&'static str>,
    pub repository: &'static str,
}

/// What a runner has.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub labels: Vec<&'static str>,
    pub memory_gb: u32,
    pub slots: usize,
    pub group: &'static str,
    /// The only repository that it serves.
    pub repository: Option<&'static str>,
    pub ephemeral: bool,
}

impl Machine {
    /// What it lacks for a job, however idle it is.
    fn lacks(&self, needs: &Needs) -> Vec<String> {
        let mut lacks = Vec::new();
        if self.repository.is_some_and(|own| own != needs.repository) {
            lacks.push(format!("scope: does not serve {}", needs.repository));
        }
        if let Some(group) = needs.group.filter(|group| *group != self.group) {
            lacks.push(format!("group: {group} (is in {})", self.group));
        }
        lacks.extend(
            needs.labels.iter().filter(|label| !self.labels.contains(label)).map(|label| format!("label: {label}")),
        );
        if needs.memory_gb > self.memory_gb {
            lacks.push(format!("capability: memory_gb>={} (has {})", needs.memory_gb, self.memory_gb));
        }
        lacks
    }
}

#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub name: String,
    pub machine: Machine,
    pub draining: bool,
    pub spent: bool,
    pub online: bool,
    pub last_seen: i64,
    /// Its polls that may get a job, oldest first.
    pub polls: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Queued,
    Offered { runner: RunnerId, until: i64 },
    Running { runner: RunnerId, until: i64 },
    Done(Conclusion),
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub run: RunId,
    pub needs: Needs,
    pub state: State,
    /// The epoch last handed out.
    pub epoch: i64,
    pub attempt: u32,
    pub requeues_left: u32,
    pub cancelled: bool,
    /// The log of each attempt.
    pub logs: BTreeMap<u32, String>,
}

impl Job {
    fn holder(&self) -> Option<RunnerId> {
        match self.state {
            State::Offered { runner, .. } | State::Running { runner, .. } => Some(runner),
            State::Queued | State::Done(_) => None,
        }
    }

    pub(super) fn status(&self) -> JobStatus {
        match self.state {
            State::Queued => JobStatus::Queued,
            State::Offered { .. } => JobStatus::Offered,
            State::Running { .. } => JobStatus::Running,
            State::Done(_) => JobStatus::Completed,
        }
    }
}

/// The service as it must be.
#[derive(Debug)]
pub(super) struct Model {
    times: Times,
    pub now: i64,
    pub runners: BTreeMap<RunnerId, Runner>,
    pub jobs: BTreeMap<JobId, Job>,
    /// Polls that are open at the service, in a queue or not.
    pub open: BTreeSet<u64>,
    /// Polls that end without a job at any moment.
    pub closing: BTreeSet<u64>,
}

/// A job as anybody can see it.
pub(super) type SeenJob = (RunId, JobStatus, Option<Conclusion>, u32, Option<RunnerId>);
/// A runner as anybody can see it.
pub(super) type SeenRunner = (String, RunnerStatus, Vec<JobId>, i64);
/// How many there are, by the names that `/metrics` has for them.
pub(super) type Counts = BTreeMap<String, usize>;

/// Everything that anybody can see.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct View {
    pub jobs: BTreeMap<JobId, SeenJob>,
    pub runners: BTreeMap<RunnerId, SeenRunner>,
    pub runs: BTreeMap<RunId, bool>,
    pub counts: Counts,
}

impl Model {
    pub(super) fn new(times: Times) -> Self {
        Self {
            times,
            now: 0,
            runners: BTreeMap::new(),
            jobs: BTreeMap::new(),
            open: BTreeSet::new(),
            closing: BTreeSet::new(),
        }
    }

    pub(super) fn held(&self, runner: RunnerId) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.holder() == Some(runner)).map(|(id, _)| *id).collect()
    }

    fn status(&self, id: RunnerId, runner: &Runner) -> RunnerStatus {
        if !runner.online {
            RunnerStatus::Offline
        } else if runner.draining {
            RunnerStatus::Draining
        } else if runner.spent || self.held(id).len() >= runner.machine.slots {
            RunnerStatus::Busy
        } else {
            RunnerStatus::Online
        }
    }

    /// Why a runner does not get a queued job.
    pub(super) fn missing(&self, id: RunnerId, needs: &Needs) -> BTreeSet<String> {
        let runner = &self.runners[&id];
        let (used, slots) = (self.held(id).len(), runner.machine.slots);
        let mut missing = BTreeSet::new();
        let mut lacks = |is: bool, what: &str| is.then(|| missing.insert(what.to_owned()));
        lacks(!runner.online, "offline");
        lacks(runner.draining, "draining");
        lacks(runner.spent, "ephemeral: has had its job");
        lacks(used >= slots, &format!("busy ({used} of {slots} slots)"));
        if missing.is_empty() && runner.polls.is_empty() {
            missing.insert("not polling".to_owned());
        }
        missing.extend(runner.machine.lacks(needs));
        missing
    }

    /// Queued jobs for which a poll is open, which must not be.
    pub(super) fn missed(&self) -> Vec<(JobId, RunnerId)> {
        let queued = self.jobs.iter().filter(|(_, job)| job.state == State::Queued);
        queued
            .flat_map(|(id, job)| self.runners.keys().map(move |runner| (*id, job, *runner)))
            .filter(|(_, job, runner)| self.missing(*runner, &job.needs).is_empty())
            .map(|(id, _, runner)| (id, runner))
            .collect()
    }

    /// What anybody must see.
    pub(super) fn view(&self) -> View {
        let mut counts = Counts::new();
        for name in ["queued", "offered", "running"] {
            counts.insert(format!("startline_jobs{{state=\"{name}\"}}"), 0);
        }
        for name in ["online", "busy", "draining", "offline"] {
            counts.insert(format!("startline_runners{{status=\"{name}\"}}"), 0);
        }
        counts.insert("startline_polls_open".to_owned(), self.open.len());
        let mut runs = BTreeMap::new();
        for job in self.jobs.values() {
            let over = matches!(job.state, State::Done(_));
            *runs.entry(job.run).or_insert(true) &= over;
            if !over {
                *counts.get_mut(&format!("startline_jobs{{state=\"{}\"}}", job.status().as_str())).unwrap() += 1;
            }
        }
        for (id, runner) in &self.runners {
            let status = self.status(*id, runner);
            *counts.get_mut(&format!("startline_runners{{status=\"{}\"}}", status.as_str())).unwrap() += 1;
        }
        let jobs = self.jobs.iter().map(|(id, job)| {
            let conclusion = match job.state {
                State::Done(conclusion) => Some(conclusion),
                _ => None,
            };
            (*id, (job.run, job.status(), conclusion, job.attempt, job.holder()))
        });
        let runners = self.runners.iter().map(|(id, runner)| {
            (*id, (runner.name.clone(), self.status(*id, runner), self.held(*id), runner.last_seen))
        });
        View { jobs: jobs.collect(), runners: runners.collect(), runs, counts }
    }

    /// A heartbeat, a poll or a registration.
    pub(super) fn seen(&mut self, id: RunnerId) {
        let runner = self.runners.get_mut(&id).unwrap();
        (runner.online, runner.last_seen) = (true, self.now);
    }

    /// Any other word of it, which does not bring it back.
    fn heard(&mut self, id: RunnerId) {
        let now = self.now;
        if let Some(runner) = self.runners.get_mut(&id).filter(|runner| runner.online) {
            runner.last_seen = now;
        }
    }

    pub(super) fn register(&mut self, id: RunnerId, name: String, machine: Machine) {
        let last_seen = self.now;
        let runner =
            Runner { name, machine, draining: false, spent: false, online: true, last_seen, polls: Vec::new() };
        assert!(self.runners.insert(id, runner).is_none(), "{id} is new");
    }

    /// A registration is gone: its polls end, its offers go back, its leases stay.
    pub(super) fn remove(&mut self, id: RunnerId) {
        if self.runners.remove(&id).is_some() {
            self.withdraw(id);
        }
    }

    fn withdraw(&mut self, id: RunnerId) {
        for job in self.jobs.values_mut() {
            if matches!(job.state, State::Offered { runner, .. } if runner == id) {
                job.state = State::Queued;
            }
        }
    }

    /// A poll that the service holds; the oldest one ends when there are more than the runner has room for.
    pub(super) fn park(&mut self, id: RunnerId, poll: u64) {
        let free = self.runners[&id].machine.slots.saturating_sub(self.held(id).len());
        let runner = self.runners.get_mut(&id).unwrap();
        self.open.insert(poll);
        // A draining runner may always have one; it gets nothing until the runner drains no more.
        let most = if runner.draining { free.max(1) } else { free };
        runner.polls.push(poll);
        while runner.polls.len() > most {
            self.closing.insert(runner.polls.remove(0));
        }
    }

    pub(super) fn forget_poll(&mut self, poll: u64) {
        self.open.remove(&poll);
        self.closing.remove(&poll);
        for runner in self.runners.values_mut() {
            runner.polls.retain(|own| *own != poll);
        }
    }

    /// A poll has brought a job: it must have been one that the runner could get, and nobody else's.
    pub(super) fn assign(&mut self, id: RunnerId, poll: u64, taken: &JobAssignment) {
        let job = self.jobs.get(&taken.job_id).unwrap_or_else(|| panic!("{taken:?} is nobody's job"));
        assert_eq!(job.state, State::Queued, "job {} has one holder: {taken:?}", taken.job_id);
        assert!(taken.epoch.0 > job.epoch, "each assignment has a higher epoch than {}: {taken:?}", job.epoch);
        assert_eq!((taken.attempt, taken.workflow_run_id), (job.attempt, job.run), "{taken:?}");
        let runner = &self.runners[&id];
        assert!(runner.polls.contains(&poll), "a poll that was closed or never in the queue got {taken:?}");
        assert_eq!(self.missing(id, &job.needs), BTreeSet::new(), "{id} cannot take {taken:?}");
        self.forget_poll(poll);
        let leased = taken.job_token.is_some();
        let job = self.jobs.get_mut(&taken.job_id).unwrap();
        job.epoch = taken.epoch.0;
        job.state = State::Offered { runner: id, until: self.now + self.times.offer };
        if leased {
            self.lease(taken.job_id);
        }
    }

    /// A runner acquires an offer.
    pub(super) fn acquire(&mut self, id: JobId) {
        self.lease(id);
        if let Some(runner) = self.jobs[&id].holder() {
            self.heard(runner);
        }
    }

    /// An offer becomes a lease, which is no word of the runner's where the poll had asked for it.
    fn lease(&mut self, id: JobId) {
        let until = self.now + self.times.lease;
        let job = self.jobs.get_mut(&id).unwrap();
        let State::Offered { runner, .. } = job.state else { panic!("{job:?} is not offered") };
        job.state = State::Running { runner, until };
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.spent = runner.machine.ephemeral;
        }
    }

    /// A word of the holder, which a repeated acquisition is too.
    pub(super) fn speak(&mut self, id: JobId, renews: bool) {
        let until = self.now + self.times.lease;
        let job = self.jobs.get_mut(&id).unwrap();
        let State::Running { runner, until: end } = &mut job.state else { panic!("{job:?} is not running") };
        if renews {
            *end = until;
        }
        let runner = *runner;
        self.heard(runner);
    }

    pub(super) fn complete(&mut self, id: JobId, conclusion: Conclusion) {
        let job = self.jobs.get_mut(&id).unwrap();
        let State::Running { runner, .. } = job.state else { panic!("{job:?} is not running") };
        job.state = State::Done(conclusion);
        self.heard(runner);
        self.remove_if_ephemeral(runner);
    }

    fn remove_if_ephemeral(&mut self, id: RunnerId) {
        if self.runners.get(&id).is_some_and(|runner| runner.machine.ephemeral) {
            self.remove(id);
        }
    }

    pub(super) fn cancel(&mut self, run: RunId) {
        for job in self.jobs.values_mut().filter(|job| job.run == run) {
            match job.state {
                State::Queued | State::Offered { .. } => job.state = State::Done(Conclusion::Cancelled),
                State::Running { .. } => job.cancelled = true,
                State::Done(_) => {}
            }
        }
    }

    /// Whether so many things would end at once when the clock is turned that the service may take it for its own fault.
    pub(super) fn would_brake(&self) -> bool {
        let leases = self.jobs.values().filter(|job| matches!(job.state, State::Running { .. })).count();
        leases >= 5 || self.runners.len() >= 5
    }

    /// Time passes.
    pub(super) fn turn(&mut self, by: i64) {
        self.now += by;
        let now = self.now;
        let mut lost = Vec::new();
        for job in self.jobs.values_mut() {
            match job.state {
                State::Offered { until, .. } if until <= now => job.state = State::Queued,
                State::Running { until, runner } if until <= now => {
                    lost.push(runner);
                    job.state = if job.cancelled {
                        State::Done(Conclusion::Cancelled)
                    } else if job.requeues_left == 0 {
                        State::Done(Conclusion::Failure)
                    } else {
                        job.requeues_left -= 1;
                        job.attempt += 1;
                        State::Queued
                    };
                }
                _ => {}
            }
        }
        // An ephemeral runner has had its job.
        for runner in lost {
            self.remove_if_ephemeral(runner);
        }
        let silent: Vec<RunnerId> = self
            .runners
            .iter()
            .filter(|(_, runner)| runner.online && runner.last_seen + self.times.offline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            self.runners.get_mut(&id).unwrap().online = false;
            self.withdraw(id);
        }
    }

    /// An offer was acquired in the moment of a crash: the job is the runner's, as after any restart.
    pub(super) fn restore_acquired(&mut self, id: JobId, runner: RunnerId) {
        let until = self.now + self.times.lease;
        let job = self.jobs.get_mut(&id).unwrap();
        assert_eq!(job.state, State::Queued, "an offer is void after a crash");
        job.state = State::Running { runner, until };
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.spent = runner.machine.ephemeral;
        }
    }

    /// The service is another process: what was in its memory is gone, what it had acknowledged is not.
    pub(super) fn crash(&mut self) {
        let until = self.now + self.times.lease;
        self.open.clear();
        self.closing.clear();
        let mut leases = BTreeSet::new();
        for job in self.jobs.values_mut() {
            match &mut job.state {
                State::Offered { .. } => job.state = State::Queued,
                State::Running { until: end, runner } => {
                    *end = until;
                    leases.insert(*runner);
                }
                State::Queued | State::Done(_) => {}
            }
        }
        for (id, runner) in &mut self.runners {
            runner.polls.clear();
            (runner.online, runner.last_seen, runner.draining) = (true, self.now, false);
            runner.spent = runner.machine.ephemeral && leases.contains(id);
        }
    }
}
