//! Error answers: `application/problem+json` (RFC 9457).

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An error that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Problem {
    /// Stable code, a short word such as `runner-offline`; never changes between versions.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong, naming the thing.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request this answers, to be found in the service's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// For `log-gap`: the offset at which the service wants the next byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// For `workflow-invalid`: all diagnostics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

/// One mistake in a workflow file, as the API carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Diagnostic {
    /// Stable code.
    pub code: String,
    /// `error` or `warning`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// The file, where it is not the one that was submitted but one that it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Rendered text with a snippet of the file.
    pub rendered: String,
}

/// The stable codes of [`Problem::kind`].
pub mod kind {
    /// No bearer, or one that is unknown, expired, revoked or of the wrong kind.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// The bearer may not do this.
    pub const FORBIDDEN: &str = "forbidden";
    /// No such thing, or none that the bearer may know of.
    pub const NOT_FOUND: &str = "not-found";
    /// The request's shape or values are wrong.
    pub const INVALID: &str = "invalid";
    /// The workflow file has mistakes; see `diagnostics`.
    pub const WORKFLOW_INVALID: &str = "workflow-invalid";
    /// What happened does not start the workflow, and a run was wanted only if it does.
    pub const NOT_TRIGGERED: &str = "not-triggered";
    /// Another runner has this name.
    pub const NAME_TAKEN: &str = "name-taken";
    /// The registration token was used as often as it may be.
    pub const TOKEN_EXHAUSTED: &str = "token-exhausted";
    /// A label outside the token's allow-list.
    pub const LABEL_NOT_ALLOWED: &str = "label-not-allowed";
    /// The registration is gone; register anew.
    pub const RUNNER_OFFLINE: &str = "runner-offline";
    /// The runner holds a job.
    pub const RUNNER_BUSY: &str = "runner-busy";
    /// The session was replaced; make a new one.
    pub const SESSION_GONE: &str = "session-gone";
    /// The client's version is not worked for any more.
    pub const TOO_OLD: &str = "too-old";
    /// The quoted epoch is no longer the job's current one.
    pub const STALE_EPOCH: &str = "stale-epoch";
    /// Bytes are missing before the offset of this append.
    pub const LOG_GAP: &str = "log-gap";
    /// The body is larger than the route takes.
    pub const TOO_LARGE: &str = "too-large";
    /// Something else still needs the thing, or the service itself does.
    pub const IN_USE: &str = "in-use";
    /// The run has not ended yet.
    pub const RUN_ACTIVE: &str = "run-active";
    /// The caller asks for more at once than it may; try again later.
    pub const TOO_MANY_REQUESTS: &str = "too-many-requests";
    /// The service cannot answer now; try again.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The fault is the service's own.
    pub const INTERNAL: &str = "internal";
}
