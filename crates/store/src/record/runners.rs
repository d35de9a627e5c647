//! Registrations and groups of runners.

use jiff::Timestamp;
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;

use super::Hash;

/// The group that always exists, in the instance's scope.
pub const DEFAULT_GROUP: &str = "default";

/// A runner to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRunner {
    /// Unique among runners that are not deleted, compared without case.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// The machine.
    pub capabilities: Capabilities,
    /// Deleted after one job.
    pub ephemeral: bool,
    /// Version of the runner program.
    pub version: String,
    /// Take the name over from an earlier registration.
    pub replace: bool,
    /// SHA-256 of its token.
    pub token: Hash,
    /// End of the token's life.
    pub token_expires_at: Timestamp,
}

/// A runner registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRecord {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// Where it belongs, from its registration token.
    pub scope: Scope,
    /// Group: the innermost of this name that its scope lies in.
    pub group: String,
    /// The machine.
    pub capabilities: Capabilities,
    /// Deleted after one job.
    pub ephemeral: bool,
    /// Version of the runner program.
    pub version: String,
    /// Registration.
    pub created_at: Timestamp,
    /// Last sign of life that was written down, if any since the registration.
    pub last_seen_at: Option<Timestamp>,
}

/// The outcome of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The new registration.
    pub runner: RunnerRecord,
    /// The registration whose name it took over.
    pub replaced: Option<RunnerId>,
}

/// A runner group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Whose it is.
    pub scope: Scope,
    /// Its name, unique in its scope without regard to case.
    pub name: String,
    /// As set.
    pub policy: GroupRequest,
    /// Registered runners in it.
    pub runners: u32,
}

/// What makes two names of runners or groups the same.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

/// Whether `scope` and `name` are those of the group that always exists.
pub(crate) fn is_default_group(scope: &Scope, name: &str) -> bool {
    *scope == Scope::Instance && name_key(name) == DEFAULT_GROUP
}
