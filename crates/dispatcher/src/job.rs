//! A job as the dispatcher sees it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use startline_protocol::ids::{Epoch, JobId};

use crate::Requirement;

/// A job to be queued, or restored after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// The job.
    pub id: JobId,
    /// Who may run it.
    pub requirement: Requirement,
    /// Higher goes first.
    pub priority: i32,
    /// Its place in the queue among jobs of one priority, lower first; kept when the job is re-queued.
    pub sequence: i64,
    /// The attempt to come or, for a restored lease, under way; from 1.
    pub attempt: u32,
    /// The epoch last used: [`Epoch::ZERO`] for a job that was never offered. The next offer's is one higher.
    pub epoch: Epoch,
    /// When it became ready to run.
    pub queued_at: Timestamp,
    /// What becomes of it when its runner is lost.
    pub on_runner_lost: LostPolicy,
    /// How often it may still be re-queued after its runner was lost.
    pub requeues_left: u32,
}

/// What becomes of a running job whose runner is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostPolicy {
    /// It is queued again at its old place, as the next attempt, while its budget lasts.
    #[default]
    Requeue,
    /// It is concluded.
    Fail,
}
