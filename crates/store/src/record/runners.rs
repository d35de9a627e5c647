//! Registrations and groups of runners.

use jiff::Timestamp;
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;

use super::{ActionsRunner, Hash, kept};

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
    /// Its token, unless it has other means to prove who it is.
    pub token: Option<NewRunnerToken>,
    /// Set when it speaks the Actions protocol.
    pub actions: Option<ActionsRunner>,
}

/// The token of a runner to register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRunnerToken {
    /// SHA-256 of its text.
    pub hash: Hash,
    /// End of its life.
    pub expires_at: Timestamp,
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
    /// Set when it speaks the Actions protocol.
    pub actions: Option<ActionsRunner>,
}

/// The outcome of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The new registration.
    pub runner: RunnerRecord,
    /// The registration whose name it took over.
    pub replaced: Option<RunnerId>,
}

/// Whom a runner token speaks for, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBearer {
    /// The registration.
    pub runner: RunnerRecord,
    /// The token's end.
    pub expires_at: Timestamp,
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

impl NewRunner {
    /// The record of this runner, new in `scope` and `group`.
    pub(crate) fn into_record(self, id: RunnerId, scope: Scope, group: String, now: Timestamp) -> RunnerRecord {
        RunnerRecord {
            id,
            name: self.name,
            labels: self.labels,
            scope,
            group,
            capabilities: self.capabilities,
            ephemeral: self.ephemeral,
            version: self.version,
            created_at: kept(now),
            last_seen_at: None,
            actions: self.actions,
        }
    }
}

impl RunnerRecord {
    /// Whether it was made for this scale set.
    pub(crate) fn is_of(&self, scale_set: i64) -> bool {
        self.actions.as_ref().is_some_and(|actions| actions.scale_set == Some(scale_set))
    }
}

/// What makes two names of runners, groups or scale sets the same.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

/// Whether `scope` and `name` are those of the group that always exists.
pub(crate) fn is_default_group(scope: &Scope, name: &str) -> bool {
    *scope == Scope::Instance && name_key(name) == DEFAULT_GROUP
}
