//! `/api/v1` as runners and workers speak it.
//!
//! Members named `…_at` are unix seconds in the answers that a runner acts on, as `design/runner-api` fixes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::ids::{Epoch, JobId, RunId, RunnerId};
use crate::job_message::JobMessage;
use crate::state::{Conclusion, RunnerStatus};
use crate::step::{Annotation, StepRecord};
use crate::token::{JobToken, RegistrationToken, RunnerToken};

/// `POST /api/v1/runners/registration-token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegistrationTokenRequest {
    /// A note for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(length(max = 100), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")))]
    pub name: Option<String>,
    /// Labels that runners registered with it may carry; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Group that its runners join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_group: Option<String>,
    /// Life in seconds: 60 to 604,800; 3,600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 60, max = 604_800)))]
    pub expires_in_seconds: Option<u32>,
    /// How often it may be used; absent means 1 for ephemeral, unlimited otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1)))]
    pub max_uses: Option<u32>,
    /// Its runners are ephemeral.
    #[serde(default)]
    pub ephemeral: bool,
    /// What its runners belong to; within the caller's scope, which is meant when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<crate::scope::Scope>,
    /// Networks from which it may be used, such as `10.0.0.0/8`; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Vec<String>>,
}

/// Answer to [`RegistrationTokenRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RegistrationTokenResponse {
    /// The token; shown this once.
    pub token: RegistrationToken,
    /// Unix seconds.
    pub expires_at: i64,
}

/// `POST /api/v1/runners`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// Unique, without regard to case, among the runners of the registration token's scope; 1 to 64 printable
    /// characters.
    #[cfg_attr(
        feature = "openapi",
        schemars(
            length(min = 1, max = 64),
            regex(pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$")
        )
    )]
    pub name: String,
    /// Own labels; the service adds none.
    #[cfg_attr(
        feature = "openapi",
        schemars(
            length(max = 64),
            inner(
                length(min = 1, max = 256),
                regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")
            )
        )
    )]
    pub labels: Vec<String>,
    /// What the machine can do.
    pub capabilities: Capabilities,
    /// Delete the registration after one job.
    #[serde(default)]
    pub ephemeral: bool,
    /// Take over the name from an earlier registration.
    #[serde(default)]
    pub replace: bool,
    /// Version of the runner program; at most 256 bytes.
    #[serde(default)]
    pub version: String,
}

/// Answer to [`RegisterRequest`], 201.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RegisterResponse {
    /// The registration.
    pub runner_id: RunnerId,
    /// The runner's own bearer.
    pub runner_token: RunnerToken,
    /// End of the token's life, unix seconds.
    pub expires_at: i64,
    /// Labels as accepted.
    pub labels: Vec<String>,
    /// Group joined.
    pub runner_group: String,
    /// How long a poll should ask to be held.
    pub poll_timeout_seconds: u32,
    /// How often to send a heartbeat.
    pub heartbeat_interval_seconds: u32,
}

/// `POST /api/v1/runners/token`, 200: the runner's next bearer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RunnerTokenResponse {
    /// The new bearer.
    pub runner_token: RunnerToken,
    /// End of its life, unix seconds.
    pub expires_at: i64,
}

/// `POST /api/v1/runners/jobs/poll`: 200 [`JobAssignment`], 204 no job, 410 `runner-offline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PollRequest {
    /// How long to hold the poll: 0 to 60.
    #[serde(default = "default_poll_timeout")]
    #[cfg_attr(feature = "openapi", schemars(range(max = 60)))]
    pub timeout_seconds: u32,
    /// Capabilities, when they changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Acquire the job in the same step.
    #[serde(default)]
    pub auto_acquire: bool,
}

const fn default_poll_timeout() -> u32 {
    30
}

impl Default for PollRequest {
    fn default() -> Self {
        Self { timeout_seconds: default_poll_timeout(), capabilities: None, auto_acquire: false }
    }
}

/// A job in a runner's hands: an offer when `job_token` is absent, a lease when it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobAssignment {
    /// Always true; a poll without a job answers 204.
    pub job_assigned: bool,
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub workflow_run_id: RunId,
    /// Which attempt at the job this is, from 1.
    pub attempt: u32,
    /// Fencing number of this assignment.
    pub epoch: Epoch,
    /// What to execute, without its secrets. Absent in an offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_definition: Option<Box<JobMessage>>,
    /// Secrets by name. Empty in an offer: they leave the service at acquire only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Longest time that the job may run.
    pub timeout_minutes: u32,
    /// Unix seconds until which an offer must be acquired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_expires_at: Option<i64>,
    /// Unix seconds until which the lease must be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<i64>,
    /// How often to renew.
    pub renew_interval_seconds: u32,
    /// Bearer of the job's own calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_token: Option<JobToken>,
    /// Where the job's calls go.
    pub urls: JobUrls,
}

/// Where the calls about one job go; built from the service's configuration only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobUrls {
    /// `POST` [`AcquireRequest`].
    pub acquire: String,
    /// `POST` [`RenewRequest`].
    pub renew: String,
    /// `POST` [`StatusRequest`].
    pub status: String,
    /// `PATCH` with `Content-Range`.
    pub logs: String,
    /// `POST` [`CompleteRequest`].
    pub complete: String,
}

/// `POST /api/v1/runners/jobs/{id}/acquire`: 200 [`JobAssignment`] with a lease; 409 when the offer is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AcquireRequest {
    /// The offer's epoch.
    pub epoch: Epoch,
}

/// `POST /api/v1/runners/jobs/{id}/renew`.
///
/// The lease is extended when the request arrives. With `wait_seconds` the *answer* is then held until a cancel is
/// asked for or the time has passed, so that a cancel reaches the worker at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// 0 to 60.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schemars(range(max = 60)))]
    pub wait_seconds: u32,
}

/// Answer to [`RenewRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RenewResponse {
    /// Unix seconds.
    pub lease_expires_at: i64,
    /// Why the job should stop, when it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
    /// The job should stop.
    pub cancel_requested: bool,
}

/// `POST /api/v1/runners/jobs/{id}/status`: all steps as they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    /// All steps, in order.
    pub steps: Vec<StepRecord>,
}

/// Answer to `PATCH /api/v1/runners/jobs/{id}/logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct LogOffset {
    /// Bytes that the service now holds: where the next append starts.
    pub offset: u64,
}

/// `POST /api/v1/runners/jobs/{id}/complete`. An exact repeat answers 200; an older epoch 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CompleteRequest {
    /// How the job ended.
    pub conclusion: Conclusion,
    /// Job outputs; values that contain a secret are left out.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// Where what was deployed can be seen; for a job with an environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_url: Option<String>,
    /// All steps.
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// Messages for people.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
}

impl CompleteRequest {
    /// The end of a job without outputs, steps and annotations.
    #[must_use]
    pub const fn new(conclusion: Conclusion) -> Self {
        Self { conclusion, outputs: BTreeMap::new(), environment_url: None, steps: Vec::new(), annotations: Vec::new() }
    }
}

/// `POST /api/v1/runners/heartbeat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeartbeatRequest {
    /// What the runner does.
    pub status: RunnerStatus,
    /// Jobs in its hands.
    #[serde(default)]
    pub current_jobs: Vec<JobId>,
    /// Load of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_info: Option<SystemInfo>,
}

/// Load of a runner's machine in per cent, 0 to 100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SystemInfo {
    /// Of all processors.
    #[cfg_attr(feature = "openapi", schemars(range(min = 0, max = 100)))]
    pub cpu_usage: f64,
    /// Of memory.
    #[cfg_attr(feature = "openapi", schemars(range(min = 0, max = 100)))]
    pub memory_usage: f64,
    /// Of the disk where jobs work.
    #[cfg_attr(feature = "openapi", schemars(range(min = 0, max = 100)))]
    pub disk_usage: f64,
}

/// Answer to [`HeartbeatRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct HeartbeatResponse {
    /// What the service wants of the runner.
    pub commands: Vec<RunnerCommand>,
}

/// What the service wants of a runner; desired state, repeated until it is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunnerCommand {
    /// Stop this job.
    CancelJob {
        /// Which.
        job_id: JobId,
    },
    /// The runner believes that it holds a job that is not its own.
    AbandonJob {
        /// Which.
        job_id: JobId,
    },
}
