//! Why a step was not done.

use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::value_scope::ValueScope;

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No registration token has this hash.
    #[error("the registration token is unknown")]
    TokenUnknown,
    /// It was revoked.
    #[error("the registration token was revoked")]
    TokenRevoked,
    /// Its life is over.
    #[error("the registration token has expired")]
    TokenExpired,
    /// It was used as often as it may be.
    #[error("the registration token was used {0} times, as often as it may be")]
    TokenExhausted(u32),
    /// Labels outside the token's allow-list.
    #[error("the registration token does not allow the labels {}", .0.join(", "))]
    LabelNotAllowed(Vec<String>),
    /// Labels that the group protects and the token does not name.
    #[error("the runner group protects the labels {}, and the registration token does not name them", .0.join(", "))]
    LabelProtected(Vec<String>),
    /// Another registration has the name.
    #[error("a runner named `{0}` is registered already")]
    NameTaken(String),
    /// Another scale set of the scope and group has the name.
    #[error("the runner group `{group}` has a scale set named `{name}` already")]
    ScaleSetExists {
        /// The group.
        group: String,
        /// The name.
        name: String,
    },
    /// No such scale set.
    #[error("there is no scale set {0}")]
    NoScaleSet(i64),
    /// The run has such an artifact, and it is complete.
    #[error("the run has an artifact named `{0}` already")]
    ArtifactExists(String),
    /// The registration was deleted.
    #[error("runner {0} is no longer registered")]
    RunnerGone(RunnerId),
    /// No scope that `scope` lies in has such a group.
    #[error("there is no runner group `{name}` for {scope}")]
    NoGroup {
        /// Where it was looked for.
        scope: Scope,
        /// Its name.
        name: String,
    },
    /// The group cannot be deleted while somebody is in it or may come into it.
    #[error("the runner group `{name}` of {scope} is in use by {runners} runner(s) and {tokens} registration token(s)")]
    GroupInUse {
        /// Whose it is.
        scope: Scope,
        /// Its name.
        name: String,
        /// Registered runners in it.
        runners: u32,
        /// Registration tokens for it that can still be used.
        tokens: u32,
    },
    /// The instance's group `default` cannot be deleted.
    #[error("the runner group `default` of the instance always exists")]
    DefaultGroup,
    /// A scope has as many secrets or variables as it may have.
    #[error("{scope} has {limit} {what} already, as many as it may have")]
    TooMany {
        /// `secrets` or `variables`.
        what: &'static str,
        /// Where.
        scope: ValueScope,
        /// How many that is.
        limit: u32,
    },
    /// The quoted epoch is not the one that the step needs.
    #[error("epoch {quoted} of job {job} is not current ({current})")]
    StaleEpoch {
        /// The job.
        job: JobId,
        /// What the caller quoted.
        quoted: Epoch,
        /// What the job has.
        current: Epoch,
    },
    /// No such job.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// No such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The database is newer than this program, or was edited; or its files cannot be used. Found at opening.
    #[error("cannot use the data directory: {0}")]
    Unusable(String),
    /// The engine failed; the step was not done.
    #[error("the database failed to {operation}: {message}")]
    Engine {
        /// What it was to do.
        operation: &'static str,
        /// What it said.
        message: String,
    },
}

impl Error {
    /// Whether the same step may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Engine { .. } | Self::Closed)
    }
}
