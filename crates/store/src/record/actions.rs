//! What only the Actions protocol has: its runners and scale sets of them.

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::scope::Scope;
use uuid::Uuid;

/// What is kept of a runner that speaks the Actions protocol. Such a runner proves by its key who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionsRunner {
    /// As whom it asks for access; no two registrations have the same, deleted ones included.
    pub client_id: Uuid,
    /// The public half of its key, in a form that the store does not look at.
    pub public_key: Vec<u8>,
    /// Its proofs are signed with PSS padding and no other.
    pub pss_only: bool,
    /// It is not to be offered updates.
    pub disable_update: bool,
    /// It was configured by the service.
    pub jit: bool,
    /// The scale set that it was made for.
    pub scale_set: Option<i64>,
    /// Where it works, below its own directory.
    pub work_folder: Option<String>,
}

/// A scale set to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewScaleSet {
    /// Whose it is.
    pub scope: Scope,
    /// Group of its runners: the innermost of this name that its scope lies in.
    pub group: String,
    /// Unique within scope and group, compared without case.
    pub name: String,
    /// Labels that its runners carry.
    pub labels: Vec<String>,
    /// What its client set of its runners, as JSON.
    pub settings: String,
    /// Who made it.
    pub owner: String,
    /// Creation.
    pub created_at: Timestamp,
}

/// A scale set: runners that another program starts and stops as jobs come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleSetRecord {
    /// Its id.
    pub id: i64,
    /// The last message id that was given; 0 while there is none.
    pub last_message_id: i64,
    /// As added, with later changes.
    pub set: NewScaleSet,
}

/// A job that one of a scale set's runners has begun, as far as the set's reader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunJob {
    /// The set.
    pub set: i64,
    /// The job.
    pub job: JobId,
    /// The runner; its registration may be gone.
    pub runner: RunnerId,
    /// What it was called.
    pub runner_name: String,
    /// The job became the set's.
    pub assigned_at: Timestamp,
    /// The runner began it.
    pub started_at: Timestamp,
}

/// What to change of a scale set; `None` keeps what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaleSetChanges {
    /// Group of its runners to come.
    pub group: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Labels of its runners to come.
    pub labels: Option<Vec<String>>,
    /// What its client set of its runners, as JSON.
    pub settings: Option<String>,
}

impl ScaleSetChanges {
    pub(crate) fn apply(self, set: &mut NewScaleSet) {
        set.group = self.group.unwrap_or_else(|| std::mem::take(&mut set.group));
        set.name = self.name.unwrap_or_else(|| std::mem::take(&mut set.name));
        set.labels = self.labels.unwrap_or_else(|| std::mem::take(&mut set.labels));
        set.settings = self.settings.unwrap_or_else(|| std::mem::take(&mut set.settings));
    }
}
