//! Runs and jobs as far as a start must know them: there may be a million.

use std::sync::Arc;

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::state::JobStatus;

use super::{JobRecord, RunRecord};

/// A run without a conclusion, and its jobs by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedRun {
    /// The run.
    pub run: RunRecord,
    /// All its jobs, those too that are completed.
    pub jobs: Vec<JobOutline>,
}

/// What a job asks of its runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Labels that a runner must have.
    pub labels: Vec<String>,
    /// Group that a runner must be in.
    pub group: Option<String>,
    /// Its code is trusted.
    pub trusted: bool,
}

/// What of a [`JobRecord`] a start must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutline {
    /// Its id.
    pub id: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// Whom it asks for; one for jobs of a run that follow one upon the other and ask for the same.
    pub demand: Arc<Demand>,
    /// Higher goes first.
    pub priority: i32,
    /// Longest run time.
    pub timeout_minutes: u32,
    /// Minutes that it may still take once it is cancelled.
    pub cancel_timeout_minutes: u32,
    /// How often it may still be re-queued after a lost runner.
    pub requeues_left: u32,
    /// Attempt running or, while queued, to come; from 1.
    pub attempt: u32,
    /// Epoch of the last offer.
    pub epoch: Epoch,
    /// Who has or had it.
    pub runner_id: Option<RunnerId>,
    /// A cancel was asked for, and why.
    pub cancel_reason: Option<String>,
    /// Into the queue.
    pub queued_at: Timestamp,
    /// Acquired.
    pub started_at: Option<Timestamp>,
}

impl From<&JobRecord> for JobOutline {
    fn from(job: &JobRecord) -> Self {
        let demand = Demand { labels: job.labels.clone(), group: job.group.clone(), trusted: job.trusted };
        Self {
            id: job.id,
            status: job.status,
            demand: Arc::new(demand),
            priority: job.priority,
            timeout_minutes: job.timeout_minutes,
            cancel_timeout_minutes: job.cancel_timeout_minutes,
            requeues_left: job.requeues_left,
            attempt: job.attempt,
            epoch: job.epoch,
            runner_id: job.runner_id,
            cancel_reason: job.cancel_reason.clone(),
            queued_at: job.queued_at,
            started_at: job.started_at,
        }
    }
}
