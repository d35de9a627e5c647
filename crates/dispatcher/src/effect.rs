//! What the dispatcher decided besides its answer: to be persisted and delivered by the caller.

use std::fmt;

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunnerId};

use crate::Assignment;

/// One open long poll; the caller numbers them and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PollId(pub u64);

/// A decision. They come in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A parked poll gets a job. When it cannot be persisted or delivered, call `give_back`.
    Assigned {
        /// The poll; it is no longer parked.
        poll: PollId,
        /// What it gets.
        assignment: Assignment,
    },
    /// A job went back to the queue, at its old place.
    Requeued {
        /// The job.
        job: JobId,
        /// The epoch that ended.
        old_epoch: Epoch,
        /// The attempt to come.
        attempt: u32,
        /// How often it may still be re-queued after a loss.
        requeues_left: u32,
        /// Why.
        reason: RequeueReason,
    },
    /// A job's runner is lost and the job is not to be tried again: conclude it. The dispatcher has forgotten it.
    Lost {
        /// The job.
        job: JobId,
        /// The epoch that ended.
        epoch: Epoch,
        /// The attempt that was lost.
        attempt: u32,
        /// Why.
        reason: LostReason,
    },
    /// A runner was silent for too long.
    RunnerOffline {
        /// The runner.
        runner: RunnerId,
        /// Its last sign of life.
        last_seen_at: Timestamp,
    },
    /// An offline runner spoke again.
    RunnerOnline {
        /// The runner.
        runner: RunnerId,
    },
    /// A parked poll gets nothing any more: answer it so.
    PollClosed {
        /// The poll; it is no longer parked.
        poll: PollId,
        /// Whose it was.
        runner: RunnerId,
        /// Why.
        why: PollEnd,
    },
    /// The mass-expiry brake has tripped: somebody should be told.
    Braked {
        /// What was about to run out.
        what: Braked,
        /// How many were extended.
        extended: usize,
        /// Out of how many.
        of: usize,
        /// Until when.
        until: Timestamp,
    },
}

/// Why a parked poll was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// Its runner was removed.
    RunnerRemoved,
    /// Its runner opened another one, with fewer slots free than polls open: the older is taken for dead.
    Superseded,
}

/// What the mass-expiry brake has extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Braked {
    /// Leases of running jobs.
    Leases,
    /// Runners' signs of life.
    Runners,
}

/// Why a job went back to the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequeueReason {
    /// The offer was not acquired in time.
    OfferExpired {
        /// To whom it was offered.
        runner: RunnerRef,
        /// When.
        offered_at: Timestamp,
        /// Until when.
        expired_at: Timestamp,
    },
    /// The offer's runner went offline or was removed.
    OfferWithdrawn {
        /// To whom it was offered.
        runner: RunnerRef,
        /// When.
        offered_at: Timestamp,
        /// What happened to the runner.
        why: Gone,
    },
    /// The caller gave the assignment back.
    GivenBack {
        /// Who had it.
        runner: RunnerRef,
        /// Why.
        why: GiveBack,
    },
    /// The lease lapsed or its runner failed; the attempt counts.
    RunnerLost(Loss),
}

/// What happened to a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Silent for too long.
    Offline,
    /// Deregistered.
    Removed,
}

/// Why a caller gives an assignment back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveBack {
    /// The poll's answer could not be delivered.
    Undelivered,
    /// The assignment could not be persisted.
    NotPersisted,
    /// The runner declined the offer.
    Declined,
    /// The runner says that it cannot run the job after all. A lease so ended counts as lost: policy and budget apply.
    RunnerFailed,
}

/// A runner named in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRef {
    /// The runner.
    pub id: RunnerId,
    /// Its name, unless it is no longer registered.
    pub name: Option<String>,
}

/// How a lease ended without a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Who held it.
    pub runner: RunnerRef,
    /// Since when.
    pub acquired_at: Timestamp,
    /// Its last renewal, or its acquisition.
    pub renewed_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The runner said so itself, rather than falling silent.
    pub reported: bool,
}

/// Why a job is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostReason {
    /// What happened.
    pub loss: Loss,
    /// Why that is the end.
    pub end: LostEnd,
}

/// Why a lost job is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostEnd {
    /// Its policy says so.
    Policy,
    /// Its budget is spent.
    BudgetSpent,
    /// A cancel had been asked for.
    Cancelled,
}

impl fmt::Display for RunnerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "runner {} ({name})", self.id),
            None => write!(f, "runner {}", self.id),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runner, acquired_at, renewed_at, ended_at, reported } = self;
        if *reported {
            write!(f, "{runner}, which had the job since {acquired_at}, failed at {ended_at}")
        } else {
            write!(
                f,
                "{runner}, which had the job since {acquired_at}, was last heard of at {renewed_at}; \
                 its lease lapsed at {ended_at}"
            )
        }
    }
}

impl fmt::Display for RequeueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfferExpired { runner, offered_at, expired_at } => {
                write!(f, "{runner} did not take the offer of {offered_at} by {expired_at}")
            }
            Self::OfferWithdrawn { runner, why: Gone::Offline, .. } => {
                write!(f, "{runner} went offline before it took the offer")
            }
            Self::OfferWithdrawn { runner, why: Gone::Removed, .. } => {
                write!(f, "{runner} was removed before it took the offer")
            }
            Self::GivenBack { runner, why: GiveBack::Undelivered } => {
                write!(f, "the job could not be delivered to {runner}")
            }
            Self::GivenBack { runner, why: GiveBack::NotPersisted } => {
                write!(f, "the assignment to {runner} could not be stored")
            }
            Self::GivenBack { runner, why: GiveBack::Declined } => write!(f, "{runner} declined the job"),
            Self::GivenBack { runner, why: GiveBack::RunnerFailed } => {
                write!(f, "{runner} failed before it took the offer")
            }
            Self::RunnerLost(loss) => loss.fmt(f),
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.end {
            LostEnd::Policy => "the job is not to be tried again",
            LostEnd::BudgetSpent => "the job has been tried as often as it may",
            LostEnd::Cancelled => "a cancel had been asked for",
        };
        write!(f, "{}; {end}", self.loss)
    }
}
