//! Things that tests start from.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use startline_dispatcher::{
    Assignment, AssignmentKind, Config, Dispatcher, Effect, GroupKey, GroupPolicy, JobSpec, LostPolicy, Patience,
    PollId, PollOutcome, Requirement, RunnerSpec,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;

/// `seconds` after the tests' beginning of time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(crate) fn runner(id: i64) -> RunnerSpec {
    RunnerSpec {
        id: RunnerId(id),
        name: format!("r{id}"),
        labels: vec!["linux".to_owned()],
        scope: Scope::Instance,
        group: "default".to_owned(),
        capabilities: Capabilities { memory_gb: 16, ..Capabilities::default() },
        ephemeral: false,
        draining: false,
        patience: Patience::default(),
    }
}

pub(crate) fn job(id: i64) -> JobSpec {
    JobSpec {
        id: JobId(id),
        run: RunId(id),
        timeout_minutes: 360,
        requirement: Arc::new(Requirement {
            labels: vec!["linux".to_owned()],
            group: None,
            repository: "acme/app".to_owned(),
            trusted: true,
        }),
        priority: 0,
        sequence: id,
        attempt: 1,
        epoch: Epoch::ZERO,
        queued_at: at(0),
        on_runner_lost: LostPolicy::Requeue,
        requeues_left: 1,
    }
}

/// A job that needs `labels`.
pub(crate) fn job_with(id: i64, labels: &[&str]) -> JobSpec {
    let mut job = job(id);
    Arc::make_mut(&mut job.requirement).labels = labels.iter().map(ToString::to_string).collect();
    job
}

/// A job of `repository`.
pub(crate) fn job_of(id: i64, repository: &str) -> JobSpec {
    let mut job = job(id);
    Arc::make_mut(&mut job.requirement).repository = repository.to_owned();
    job
}

/// The instance's group `name`, open unless `change` says otherwise.
pub(crate) fn group(name: &str, change: impl FnOnce(&mut GroupPolicy)) -> GroupPolicy {
    let mut policy = GroupPolicy::open(GroupKey::new(&Scope::Instance, name));
    change(&mut policy);
    policy
}

/// A dispatcher and a counter of polls.
pub(crate) struct Bench {
    pub(crate) dispatcher: Dispatcher,
    polls: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dispatcher: Dispatcher::new(Config::default()), polls: 0 }
    }

    pub(crate) fn with_runners(runners: impl IntoIterator<Item = RunnerSpec>) -> Self {
        let mut bench = Self::new();
        for runner in runners {
            assert_eq!(bench.dispatcher.add_runner(at(0), runner), []);
        }
        bench
    }

    /// Queues jobs that nobody waits for.
    pub(crate) fn queue(&mut self, now: i64, jobs: impl IntoIterator<Item = JobSpec>) {
        for job in jobs {
            assert_eq!(self.dispatcher.enqueue(at(now), job).unwrap(), []);
        }
    }

    /// Polls, and expects a job at once.
    pub(crate) fn gets(&mut self, now: i64, runner: i64, auto_acquire: bool) -> Assignment {
        match self.polls(now, runner, auto_acquire) {
            (PollOutcome::Assigned(assignment), _) => assignment,
            (other, _) => panic!("runner {runner} gets {other:?}"),
        }
    }

    /// Polls, and expects to be parked.
    pub(crate) fn parks(&mut self, now: i64, runner: i64, auto_acquire: bool) -> PollId {
        let (outcome, effects) = self.polls(now, runner, auto_acquire);
        assert_eq!((outcome, effects), (PollOutcome::Parked, vec![]));
        PollId(self.polls)
    }

    /// Polls.
    pub(crate) fn polls(&mut self, now: i64, runner: i64, auto_acquire: bool) -> (PollOutcome, Vec<Effect>) {
        self.polls += 1;
        self.dispatcher.poll(at(now), RunnerId(runner), PollId(self.polls), auto_acquire)
    }

    /// A job in the hands of a runner, leased at `now`.
    pub(crate) fn running(&mut self, now: i64, runner: i64, job: JobSpec) -> Assignment {
        self.queue(now, [job]);
        self.gets(now, runner, true)
    }
}

/// Who gets which job among `effects`.
pub(crate) fn assigned(effects: &[Effect]) -> Vec<(i64, i64)> {
    let pairs = effects.iter().filter_map(|effect| match effect {
        Effect::Assigned { assignment, .. } => Some((assignment.job.0, assignment.runner.0)),
        _ => None,
    });
    pairs.collect()
}

pub(crate) fn lease_of(assignment: &Assignment) -> Timestamp {
    match assignment.kind {
        AssignmentKind::Lease { expires_at } => expires_at,
        AssignmentKind::Offer { .. } => panic!("{assignment:?} is an offer"),
    }
}

pub(crate) fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}
