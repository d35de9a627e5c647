//! What the dispatcher's state looks like from outside. Everything is counted afresh, nothing is kept.

use jiff::Timestamp;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{JobStatus, RunnerStatus};

use crate::dispatcher::Dispatcher;
use crate::job::{HeldKind, Job};
use crate::lease::Assignment;
use crate::runner::Runner;

/// How many there are of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs in the queue.
    pub jobs_queued: usize,
    /// Jobs offered.
    pub jobs_offered: usize,
    /// Jobs acquired.
    pub jobs_running: usize,
    /// Runners seen lately, with a free slot.
    pub runners_online: usize,
    /// Runners without a free slot.
    pub runners_busy: usize,
    /// Runners that take nothing new.
    pub runners_draining: usize,
    /// Runners not seen for too long.
    pub runners_offline: usize,
    /// Slots that registered runners declare.
    pub slots_declared: usize,
    /// Of those, slots that hold jobs.
    pub slots_used: usize,
    /// Of those, slots that do not.
    pub slots_free: usize,
    /// Jobs in the hands of registered runners beyond their slots, because those have become fewer.
    pub slots_exceeded: usize,
    /// Parked polls.
    pub polls_parked: usize,
    /// Requirement classes remembered.
    pub classes: usize,
    /// Runner profiles.
    pub profiles: usize,
}

/// A runner as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSnapshot {
    /// The runner.
    pub id: RunnerId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub status: RunnerStatus,
    /// Labels, as registered.
    pub labels: Vec<String>,
    /// What it belongs to.
    pub scope: Scope,
    /// Group.
    pub group: String,
    /// It gets one job only.
    pub ephemeral: bool,
    /// The machine.
    pub capabilities: Capabilities,
    /// Jobs in its hands, offered or acquired, by id.
    pub current_jobs: Vec<JobId>,
    /// Last sign of life.
    pub last_seen_at: Timestamp,
    /// Its parked polls.
    pub polls_parked: usize,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSnapshot {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// When it became ready to run.
    pub queued_at: Timestamp,
    /// How long it may run.
    pub timeout_minutes: u32,
    /// Queued, offered or running.
    pub status: JobStatus,
    /// The epoch last used.
    pub epoch: Epoch,
    /// The attempt to come or under way.
    pub attempt: u32,
    /// How often it may still be re-queued after a loss.
    pub requeues_left: u32,
    /// Who has it and until when, unless it is queued.
    pub assignment: Option<Assignment>,
    /// It is running and should stop.
    pub cancel_requested: bool,
}

impl Dispatcher {
    /// How many there are of everything. Costs a look at every runner.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            jobs_queued: self.index.queued_jobs(),
            polls_parked: self.polls.len(),
            classes: self.index.class_count(),
            profiles: self.index.profile_count(),
            ..Stats::default()
        };
        for job in self.held.values().flatten().filter_map(|id| self.jobs.get(id)) {
            match job.status() {
                JobStatus::Offered => stats.jobs_offered += 1,
                _ => stats.jobs_running += 1,
            }
        }
        for (&id, runner) in &self.runners {
            match self.status(id, runner) {
                RunnerStatus::Online => stats.runners_online += 1,
                RunnerStatus::Busy => stats.runners_busy += 1,
                RunnerStatus::Draining => stats.runners_draining += 1,
                RunnerStatus::Offline => stats.runners_offline += 1,
            }
            let (slots, used) = (runner.slots(), self.used(id));
            stats.slots_declared += slots;
            stats.slots_used += used.min(slots);
            stats.slots_free += slots.saturating_sub(used);
            stats.slots_exceeded += used.saturating_sub(slots);
        }
        stats
    }

    /// One runner, if it is registered.
    #[must_use]
    pub fn runner(&self, id: RunnerId) -> Option<RunnerSnapshot> {
        self.runners.get(&id).map(|runner| self.runner_snapshot(id, runner))
    }

    /// Every registered runner, by id.
    pub fn runners(&self) -> impl Iterator<Item = RunnerSnapshot> + '_ {
        self.runners.iter().map(|(&id, runner)| self.runner_snapshot(id, runner))
    }

    /// Runners that were seen at `since` or later, and when they were last; nothing of theirs is copied, whatever their number.
    pub fn seen_since(&self, since: Timestamp) -> impl Iterator<Item = (RunnerId, Timestamp)> + '_ {
        self.runners.iter().map(|(&id, runner)| (id, runner.last_seen_at)).filter(move |(_, at)| *at >= since)
    }

    /// One job, if it is queued or in a runner's hands.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobSnapshot> {
        self.jobs.get(&id).map(|job| job_snapshot(id, job))
    }

    /// Whose the job is, `owner/name` in lower case, if it is queued or in a runner's hands.
    #[must_use]
    pub fn repository(&self, id: JobId) -> Option<&str> {
        self.jobs.get(&id).map(|job| self.index.repository(job.lane))
    }

    /// Jobs that are queued and became ready to run before this time, by id. Costs a look at every job where there may be
    /// such jobs, and nothing otherwise.
    #[must_use]
    pub fn queued_since_before(&mut self, time: Timestamp) -> Vec<JobId> {
        if self.queued_since.is_none_or(|since| since >= time) {
            return Vec::new();
        }
        // What is held may come back with the time that it has.
        self.queued_since = self.jobs.values().map(|job| job.queued_at).min();
        let waits = |job: &Job| job.held.is_none() && job.queued_at < time;
        self.jobs.iter().filter(|(_, job)| waits(job)).map(|(&id, _)| id).collect()
    }

    /// Every job that is queued or in a runner's hands, by id.
    pub fn jobs(&self) -> impl Iterator<Item = JobSnapshot> + '_ {
        self.jobs.iter().map(|(&id, job)| job_snapshot(id, job))
    }

    fn runner_snapshot(&self, id: RunnerId, runner: &Runner) -> RunnerSnapshot {
        RunnerSnapshot {
            id,
            name: runner.spec.name.clone(),
            status: self.status(id, runner),
            labels: runner.spec.labels.clone(),
            scope: runner.spec.scope.clone(),
            group: runner.spec.group.clone(),
            ephemeral: runner.spec.ephemeral,
            capabilities: runner.spec.capabilities.clone(),
            current_jobs: self.held.get(&id).into_iter().flatten().copied().collect(),
            last_seen_at: runner.last_seen_at,
            polls_parked: runner.polls.len(),
        }
    }

    pub(crate) fn status(&self, id: RunnerId, runner: &Runner) -> RunnerStatus {
        if !runner.is_online() {
            RunnerStatus::Offline
        } else if runner.spec.draining {
            RunnerStatus::Draining
        } else if runner.spent || self.used(id) >= runner.slots() {
            RunnerStatus::Busy
        } else {
            RunnerStatus::Online
        }
    }
}

fn job_snapshot(id: JobId, job: &Job) -> JobSnapshot {
    let cancel_requested = job.held.as_ref().is_some_and(|held| match held.kind {
        HeldKind::Lease { cancel_requested, .. } => cancel_requested,
        HeldKind::Offer => false,
    });
    JobSnapshot {
        id,
        run: job.run,
        queued_at: job.queued_at,
        timeout_minutes: job.timeout_minutes,
        status: job.status(),
        epoch: job.epoch,
        attempt: job.attempt,
        requeues_left: job.requeues_left,
        assignment: job.held.as_ref().map(|held| held.assignment(id, job.epoch, job.attempt)),
        cancel_requested,
    }
}
