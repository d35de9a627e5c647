//! Who runs what next: requirement classes, queue order, offers, leases, attempts.
//!
//! The room owns the queue, the parked polls and the assignments, and decides which runner gets which job. It must
//! not know a clock, a socket, a database or a random number: every method takes `now`, and every decision leaves as data,
//! to be persisted and delivered by the caller. [`Dispatcher`] says how.

mod config;
mod dispatcher;
mod effect;
mod explain;
mod group;
mod index;
mod interner;
mod job;
mod lease;
mod profile;
mod prospect;
mod requirement;
mod runner;
mod snapshot;

pub use config::{Brake, Config};
pub use dispatcher::{AlreadyKnown, CancelOutcome, Completed, Dispatcher, EnqueueError, PollOutcome, UnknownRunner};
pub use effect::{
    Braked, Effect, GiveBack, Gone, Loss, LostEnd, LostReason, PollEnd, PollId, RequeueReason, RunnerRef,
};
pub use explain::{Candidate, Explanation, Missing};
pub use group::{GroupKey, GroupPolicy, GroupSnapshot, Limit, Repositories};
pub use job::{JobSpec, LostPolicy};
pub use lease::{Assignment, AssignmentKind, Lease, LeaseError};
pub use requirement::{Bound, Feature, Requirement, RequirementError};
pub use runner::{Patience, RunnerSpec};
pub use snapshot::{JobSnapshot, RunnerSnapshot, Stats};
