//! Claims on concurrency groups.

use serde::{Deserialize, Serialize};
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::state::ClaimState;

/// A concurrency group that somebody wants, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Name of the group, as it is written.
    pub group: String,
    /// Who has the group is to be cancelled.
    pub cancel_in_progress: bool,
    /// Many may wait, not only one.
    pub queue_max: bool,
}

/// A claim to put at the end of its group's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClaim {
    /// Whose it is, or whose job's or call's.
    pub run: RunId,
    /// The job, if it is one's.
    pub job: Option<JobId>,
    /// What of the run it is for; empty for the run itself.
    pub place: String,
    /// What makes groups the same: the repository and the name, without case.
    pub group_key: String,
    /// The group.
    pub wanted: Wanted,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRecord {
    /// Its id, which is its place in the line.
    pub id: i64,
    /// As added.
    pub claim: NewClaim,
    /// How it stands.
    pub state: ClaimState,
    /// Why it was displaced or overtaken.
    pub reason: Option<String>,
}
