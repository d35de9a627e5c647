//! What was told last of each run, job and runner, so that each state is told once and in order.
//!
//! Only what may still change is kept: a run with its jobs until its conclusion, a runner until it is removed.

use std::collections::{BTreeSet, HashMap};

use startline_daemon::Clock;
use startline_protocol::event::EventBody;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus, RunStatus, RunnerStatus};
use startline_store::{JobOutline, JobRecord, RunRecord};
use tokio::time::Instant;

use super::{Audience, Inner, LOG_INTERVAL};

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    runs: HashMap<RunId, Run>,
    runners: HashMap<RunnerId, Runner>,
    /// Jobs whose logs have grown beyond what was told.
    grown: BTreeSet<(RunId, JobId)>,
}

/// What is told of a runner, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runner {
    pub name: String,
    pub scope: Scope,
    pub status: RunnerStatus,
}

#[derive(Debug)]
struct Run {
    repository: String,
    started: bool,
    /// Why it waits.
    reason: Option<String>,
    jobs: Jobs,
}

/// Jobs by id, as they nearly always come. There may be a million of them that wait, so they lie close.
#[derive(Debug, Default)]
struct Jobs(Vec<(JobId, Job)>);

#[derive(Debug)]
struct Job {
    told: Place,
    /// `None` until it was offered.
    further: Option<Box<Further>>,
}

/// What there is to know of a job that a runner has, or had.
#[derive(Debug, Default)]
struct Further {
    runner: Option<RunnerId>,
    log: Log,
}

#[derive(Debug, Default)]
struct Log {
    told_at: Option<Instant>,
    /// Attempt and length that were not told yet.
    untold: Option<(u32, u64)>,
}

/// A state's place in the life of a job, later ones higher: eight for each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(i64);

impl Job {
    fn new(status: JobStatus, epoch: Epoch, runner: Option<RunnerId>) -> Self {
        let further = runner.map(|_| Box::new(Further { runner, log: Log::default() }));
        Self { told: Place::of(status, epoch), further }
    }
}

impl Jobs {
    fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&mut self.0[at].1)
    }

    /// Adds one that is not there yet.
    fn insert(&mut self, id: JobId, job: Job) {
        let at = self.0.partition_point(|(known, _)| *known < id);
        self.0.insert(at, (id, job));
    }
}

impl Tracked {
    pub(super) fn recall(&mut self, run: &RunRecord, jobs: &[JobOutline]) {
        let told = |job: &JobOutline| Job::new(job.status, job.epoch, job.runner_id);
        let known = Run {
            repository: run.run.repository.clone(),
            started: run.started_at.is_some(),
            reason: run.reason.clone(),
            jobs: Jobs(jobs.iter().map(|job| (job.id, told(job))).collect()),
        };
        self.runs.insert(run.id, known);
    }
}

impl Place {
    fn of(status: JobStatus, epoch: Epoch) -> Self {
        // A job is offered under a new epoch, and keeps it when it goes back to the queue.
        let rank = match status {
            JobStatus::Waiting => 0,
            JobStatus::Offered => 1,
            JobStatus::Running => 2,
            JobStatus::Queued => 3,
            JobStatus::Completed => 4,
        };
        Self(epoch.0.saturating_mul(8).saturating_add(rank))
    }
}

impl Inner {
    pub(super) fn begin_run(&mut self, clock: &Clock, run: &RunRecord) {
        let repository = run.run.repository.clone();
        let known = Run {
            repository: repository.clone(),
            started: run.started_at.is_some(),
            reason: run.reason.clone(),
            jobs: Jobs::default(),
        };
        self.tracked.runs.insert(run.id, known);
        let (status, conclusion, reason) = (run.status, run.conclusion, run.reason.clone());
        let body = EventBody::Run { run_id: run.id, repository, status, conclusion, reason };
        self.publish(clock, Audience::job(&run.run.repository, None), body);
    }

    /// Tells why a run waits, when that has changed; once it has begun there is nothing to tell.
    pub(super) fn see_run(&mut self, clock: &Clock, run: &RunRecord) {
        let Some(known) = self.tracked.runs.get_mut(&run.id) else { return };
        if known.started || known.reason == run.reason {
            return;
        }
        known.reason.clone_from(&run.reason);
        let body = EventBody::Run {
            run_id: run.id,
            repository: known.repository.clone(),
            status: run.status,
            conclusion: None,
            reason: run.reason.clone(),
        };
        self.publish(clock, Audience::job(&run.run.repository, None), body);
    }

    pub(super) fn see_job(&mut self, clock: &Clock, job: &JobRecord) {
        let Some(run) = self.tracked.runs.get_mut(&job.run_id) else { return };
        let place = Place::of(job.status, job.epoch);
        let mut untold = None;
        match run.jobs.get_mut(job.id) {
            Some(known) if known.told >= place => return,
            Some(known) => {
                // What it wrote before comes first.
                untold = known.further.as_mut().and_then(|further| further.log.untold.take());
                known.told = place;
                if job.runner_id.is_some() || known.further.is_some() {
                    known.further.get_or_insert_default().runner = job.runner_id;
                }
            }
            None => {
                run.jobs.insert(job.id, Job::new(job.status, job.epoch, job.runner_id));
            }
        }
        let begins = !run.started && job.status == JobStatus::Running;
        run.started |= begins;
        let audience = Audience::job(&job.repository, job.runner_id);
        if begins {
            let body = EventBody::Run {
                run_id: job.run_id,
                repository: job.repository.clone(),
                status: RunStatus::Running,
                conclusion: None,
                reason: None,
            };
            self.publish(clock, Audience::job(&job.repository, None), body);
        }
        if let Some((attempt, length)) = untold {
            self.publish(clock, audience.clone(), log(job.run_id, job.id, &job.repository, attempt, length));
        }
        let body = EventBody::Job {
            job_id: job.id,
            run_id: job.run_id,
            repository: job.repository.clone(),
            status: job.status,
            conclusion: job.conclusion,
            reason: job.reason.clone(),
            attempt: job.attempt,
        };
        self.publish(clock, audience, body);
    }

    pub(super) fn finish_run(&mut self, clock: &Clock, id: RunId, conclusion: Conclusion, reason: Option<String>) {
        let Some(run) = self.tracked.runs.remove(&id) else { return };
        let audience = Audience::job(&run.repository, None);
        let (status, conclusion) = (RunStatus::Completed, Some(conclusion));
        let body = EventBody::Run { run_id: id, repository: run.repository, status, conclusion, reason };
        self.publish(clock, audience, body);
    }

    /// True when it is to be told later.
    pub(super) fn see_log(&mut self, clock: &Clock, run_id: RunId, id: JobId, attempt: u32, length: u64) -> bool {
        let Some(run) = self.tracked.runs.get_mut(&run_id) else { return false };
        let Some(job) = run.jobs.get_mut(id) else { return false };
        let now = Instant::now();
        let known = job.further.get_or_insert_default();
        if known.log.told_at.is_some_and(|at| now < at + LOG_INTERVAL) {
            known.log.untold = Some((attempt, length));
            self.tracked.grown.insert((run_id, id));
            return true;
        }
        known.log = Log { told_at: Some(now), untold: None };
        let audience = Audience::job(&run.repository, known.runner);
        let body = log(run_id, id, &run.repository, attempt, length);
        self.publish(clock, audience, body);
        false
    }

    /// Tells the growth of logs that is due; true when there is more to tell later.
    pub(super) fn tell_logs(&mut self, clock: &Clock) -> bool {
        let now = Instant::now();
        for (run_id, id) in std::mem::take(&mut self.tracked.grown) {
            let Some(run) = self.tracked.runs.get_mut(&run_id) else { continue };
            let Some(job) = run.jobs.get_mut(id) else { continue };
            let Some(known) = &mut job.further else { continue };
            if known.log.told_at.is_some_and(|at| now < at + LOG_INTERVAL) {
                self.tracked.grown.insert((run_id, id));
                continue;
            }
            let Some((attempt, length)) = known.log.untold.take() else { continue };
            known.log.told_at = Some(now);
            let audience = Audience::job(&run.repository, known.runner);
            let body = log(run_id, id, &run.repository, attempt, length);
            self.publish(clock, audience, body);
        }
        !self.tracked.grown.is_empty()
    }

    pub(super) fn see_runner(&mut self, clock: &Clock, id: RunnerId, now: Option<Runner>) {
        let status = now.as_ref().map(|now| now.status);
        let runner = match now {
            Some(now) if self.tracked.runners.get(&id) == Some(&now) => return,
            Some(now) => {
                self.tracked.runners.insert(id, now.clone());
                now
            }
            None => match self.tracked.runners.remove(&id) {
                Some(gone) => gone,
                None => return,
            },
        };
        let audience = Audience { scope: runner.scope, runner: Some(id) };
        self.publish(clock, audience, EventBody::Runner { runner_id: id, name: runner.name, status });
    }
}

fn log(run_id: RunId, job_id: JobId, repository: &str, attempt: u32, length: u64) -> EventBody {
    EventBody::Log { job_id, run_id, repository: repository.to_owned(), attempt, length }
}
