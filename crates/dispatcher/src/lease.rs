//! Who holds a job, under which epoch, until when.

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunnerId};

/// A job given to a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The job.
    pub job: JobId,
    /// Who has it.
    pub runner: RunnerId,
    /// The fencing number; every later word about the assignment quotes it.
    pub epoch: Epoch,
    /// Which attempt at the job this is or will be.
    pub attempt: u32,
    /// Offered or already acquired.
    pub kind: AssignmentKind,
}

/// How firm an assignment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentKind {
    /// To be acquired, or it goes to somebody else.
    Offer {
        /// Until when.
        expires_at: Timestamp,
    },
    /// Acquired; to be renewed.
    Lease {
        /// Until when it lives without a renewal.
        expires_at: Timestamp,
    },
}

impl AssignmentKind {
    /// When it ends unless something is done.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        match self {
            Self::Offer { expires_at } | Self::Lease { expires_at } => *expires_at,
        }
    }
}

/// A lease, as its renewal answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub runner: RunnerId,
    /// Until when it lives without another renewal.
    pub expires_at: Timestamp,
    /// The job should stop.
    pub cancel_requested: bool,
}

/// Why a word about an assignment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The dispatcher has no such job: it was never queued, or it is completed, cancelled or lost.
    #[error("job {job} is neither queued nor running")]
    Unknown {
        /// The job.
        job: JobId,
    },
    /// The epoch quoted is not the job's current one.
    #[error("epoch {quoted} of job {job} is stale, the current one is {current}")]
    Stale {
        /// The job.
        job: JobId,
        /// What the caller said.
        quoted: Epoch,
        /// What it is.
        current: Epoch,
    },
    /// The epoch was the last one, but nobody holds the job: it went back to the queue.
    #[error("the assignment of job {job} under epoch {epoch} is over, the job is queued again")]
    Over {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
    },
    /// The job is offered but not acquired.
    #[error("job {job} is offered under epoch {epoch} but not acquired")]
    NotAcquired {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
    },
    /// A lease that was renewed cannot be given back as undelivered: its runner has it.
    #[error("job {job} under epoch {epoch} was renewed, so its runner has it")]
    Delivered {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
    },
    /// The job is somebody else's.
    #[error("job {job} under epoch {epoch} is not runner {runner}'s")]
    NotYours {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// Who asked.
        runner: RunnerId,
    },
}
