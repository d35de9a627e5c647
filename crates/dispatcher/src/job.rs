//! A job as the dispatcher sees it.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::JobStatus;

use crate::config::later;
use crate::index::{Lane, Place};
use crate::interner::GroupId;
use crate::{Assignment, AssignmentKind, Requirement};

/// A job to be queued, or restored after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// How long it may run, in minutes. Not looked at; told with its offer.
    pub timeout_minutes: u32,
    /// Who may run it; shared by jobs that ask for the same.
    pub requirement: Arc<Requirement>,
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

/// A job that is queued or in a runner's hands.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) lane: Lane,
    pub(crate) priority: i32,
    pub(crate) sequence: i64,
    pub(crate) attempt: u32,
    pub(crate) epoch: Epoch,
    pub(crate) queued_at: Timestamp,
    pub(crate) run: RunId,
    pub(crate) timeout_minutes: u32,
    pub(crate) on_runner_lost: LostPolicy,
    pub(crate) requeues_left: u32,
    /// `None` while it is queued, as most jobs are; so it takes no room then.
    pub(crate) held: Option<Box<Held>>,
}

/// A job in a runner's hands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) runner: RunnerId,
    /// For whose limits it counts: the group that the runner was last registered in, `None` before that.
    pub(crate) group: Option<GroupId>,
    /// Offered or acquired.
    pub(crate) since: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) kind: HeldKind,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum HeldKind {
    Offer,
    Lease {
        /// From one renewal to the end.
        lasts: SignedDuration,
        renewed_at: Option<Timestamp>,
        cancel_requested: bool,
        /// Extended by the brake since its last renewal.
        braked: bool,
    },
}

impl Job {
    /// Its place in its lane, given its id.
    pub(crate) fn place(&self, job: JobId) -> Place {
        Place { priority: Reverse(self.priority), sequence: self.sequence, job }
    }

    pub(crate) fn status(&self) -> JobStatus {
        match self.held.as_ref().map(|held| held.kind) {
            None => JobStatus::Queued,
            Some(HeldKind::Offer) => JobStatus::Offered,
            Some(HeldKind::Lease { .. }) => JobStatus::Running,
        }
    }
}

impl Held {
    pub(crate) fn offer(runner: RunnerId, since: Timestamp, expires_at: Timestamp) -> Self {
        Self { runner, group: None, since, expires_at, kind: HeldKind::Offer }
    }

    pub(crate) fn lease(runner: RunnerId, since: Timestamp, lasts: SignedDuration) -> Self {
        let kind = HeldKind::Lease { lasts, renewed_at: None, cancel_requested: false, braked: false };
        Self { runner, group: None, since, expires_at: later(since, lasts), kind }
    }

    pub(crate) fn is_offer(&self) -> bool {
        matches!(self.kind, HeldKind::Offer)
    }

    pub(crate) fn assignment(&self, job: JobId, epoch: Epoch, attempt: u32) -> Assignment {
        let expires_at = self.expires_at;
        let kind = match self.kind {
            HeldKind::Offer => AssignmentKind::Offer { expires_at },
            HeldKind::Lease { .. } => AssignmentKind::Lease { expires_at },
        };
        Assignment { job, runner: self.runner, epoch, attempt, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_job_is_small() {
        assert!(size_of::<Job>() <= 80, "{}", size_of::<Job>());
    }
}
