//! A runner as the dispatcher sees it.

use jiff::{SignedDuration, Timestamp};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;

use crate::PollId;
use crate::interner::ProfileId;

/// A runner registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSpec {
    /// The registration.
    pub id: RunnerId,
    /// Its name, for messages.
    pub name: String,
    /// Its labels; case does not matter.
    pub labels: Vec<String>,
    /// What it belongs to: it runs jobs of repositories in there only.
    pub scope: Scope,
    /// Its group, of those that were set: the one of this name that belongs to its organization, or else to the
    /// instance. Case does not matter.
    pub group: String,
    /// Its machine; `max_parallel_jobs` is its number of slots.
    pub capabilities: Capabilities,
    /// It gets one job only, and so has one slot.
    pub ephemeral: bool,
    /// It finishes what it has and takes nothing new.
    pub draining: bool,
    /// How long it is waited for, where that is not what is configured for all.
    pub patience: Patience,
}

/// How long a runner is waited for; `None` is the time in [`Config`](crate::Config).
///
/// Runners of another protocol speak at another pace, which they do not let themselves be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// How long its leases live without being renewed, from the acquisition on.
    pub lease_duration: Option<SignedDuration>,
    /// How long it may be silent before it counts as offline.
    pub offline_after: Option<SignedDuration>,
}

/// A runner, as long as it is registered.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) spec: RunnerSpec,
    pub(crate) profile: ProfileId,
    /// Its parked polls, oldest first. Few, and kept for every runner that waits: so no more than they need.
    pub(crate) polls: Vec<Parked>,
    /// When it last got or gave up a slot, as a stamp: the lowest has been idle for longest.
    pub(crate) idle: u64,
    /// It stands in the index as waiting, under `idle`.
    pub(crate) waiting: bool,
    /// Last sign of life.
    pub(crate) last_seen_at: Timestamp,
    /// When it will count as offline; `None` when it does.
    pub(crate) offline_at: Option<Timestamp>,
    /// Extended by the brake since its last sign of life.
    pub(crate) braked: bool,
    /// It is ephemeral and has had its job.
    pub(crate) spent: bool,
}

/// An open poll without a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) poll: PollId,
    pub(crate) auto_acquire: bool,
}

impl Runner {
    pub(crate) fn slots(&self) -> usize {
        let declared = usize::try_from(self.spec.capabilities.max_parallel_jobs).unwrap_or(usize::MAX);
        if self.spec.ephemeral { declared.min(1) } else { declared }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.offline_at.is_some()
    }
}
