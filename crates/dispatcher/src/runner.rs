//! A runner as the dispatcher sees it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;

/// A runner registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSpec {
    /// The registration.
    pub id: RunnerId,
    /// Its name, for messages.
    pub name: String,
    /// Its labels; case does not matter.
    pub labels: Vec<String>,
    /// Its group; case does not matter.
    pub group: String,
    /// Its machine; `max_parallel_jobs` is its number of slots.
    pub capabilities: Capabilities,
    /// It gets one job only, and so has one slot.
    pub ephemeral: bool,
    /// Whose jobs it may run.
    pub repositories: Scope,
    /// Its group accepts untrusted jobs. They go to ephemeral runners only, whatever the group says.
    pub accepts_untrusted: bool,
    /// It finishes what it has and takes nothing new.
    pub draining: bool,
}

/// Whose jobs a runner may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every repository's.
    #[default]
    All,
    /// Those of these repositories, `owner/name`; case does not matter.
    Only(BTreeSet<String>),
}
