//! Who runs what next: requirement classes, queue order, offers, leases, attempts.
//!
//! The room owns the queue, the parked polls and the assignments, and decides which runner gets which job. It must
//! not know a clock, a socket, a database or a random number: every method takes `now`, and every decision leaves as data,
//! to be persisted and delivered by the caller.

mod config;
mod effect;
mod job;
mod lease;
mod requirement;
mod runner;

pub use config::{Brake, Config};
pub use effect::{Braked, Effect, GiveBack, Gone, Loss, LostEnd, LostReason, PollId, RequeueReason, RunnerRef};
pub use job::{JobSpec, LostPolicy};
pub use lease::{Assignment, AssignmentKind, Lease, LeaseError};
pub use requirement::{Bound, Feature, Requirement, RequirementError};
pub use runner::{RunnerSpec, Scope};
