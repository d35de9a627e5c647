//! What a listening runner and the broker say to each other: tokens, sessions, messages.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The `source` by which a runner knows an error of the broker (`Sdk/WebApi/WebApi/BrokerHttpClient.cs`).
pub const ERROR_SOURCE: &str = "actions-broker-listener";

/// Form of a token request (`Sdk/WebApi/Common/…/VssOAuthTokenRequest.cs`).
#[derive(Clone, Deserialize)]
pub struct TokenRequest {
    /// `client_credentials`.
    #[serde(default)]
    pub grant_type: String,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    #[serde(default)]
    pub client_assertion_type: String,
    /// A JWT signed by the runner's key.
    #[serde(default)]
    pub client_assertion: String,
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("grant_type", &self.grant_type).finish_non_exhaustive()
    }
}

/// A token.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// Opaque to the runner.
    pub access_token: String,
    /// `bearer`.
    pub token_type: String,
    /// Seconds.
    pub expires_in: i64,
}

impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAnswer").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Why there is none; sent with status 400.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenError {
    /// `invalid_client`: the registration is gone. `server_error`: try again.
    pub error: String,
    /// For people.
    pub error_description: String,
}

/// A session (`Sdk/DTWebApi/WebApi/TaskAgentSession.cs`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Nil in requests.
    #[serde(default)]
    pub session_id: Uuid,
    /// `<host> (PID: <n>)`.
    #[serde(default)]
    pub owner_name: String,
    /// The runner, by its own account.
    #[serde(default)]
    pub agent: Agent,
}

/// A runner, by its own account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// The registration.
    #[serde(default)]
    pub id: i64,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Version of the runner program.
    #[serde(default)]
    pub version: String,
    /// Of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_description: Option<String>,
}

/// Query of `GET message` (`BrokerHttpClient.cs`, `GetRunnerMessageAsync`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageQuery {
    /// The session.
    #[serde(default)]
    pub session_id: Option<Uuid>,
    /// `Online` or `Busy`.
    #[serde(default)]
    pub status: Option<String>,
    /// Version of the runner program.
    #[serde(default)]
    pub runner_version: Option<String>,
    /// `Linux`, `macOS` or `Windows`.
    #[serde(default)]
    pub os: Option<String>,
    /// `X64`, `X86`, `ARM` or `ARM64`.
    #[serde(default)]
    pub architecture: Option<String>,
    /// It does not update itself.
    #[serde(default)]
    pub disable_update: Option<bool>,
}

/// A message (`Sdk/DTWebApi/WebApi/TaskAgentMessage.cs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Grows.
    pub message_id: i64,
    /// [`JOB_REQUEST`] or [`JOB_CANCELLATION`].
    pub message_type: String,
    /// JSON, as text.
    pub body: String,
}

/// [`Message::message_type`] of a [`JobRequest`].
pub const JOB_REQUEST: &str = "RunnerJobRequest";
/// [`Message::message_type`] of a [`JobCancellation`].
pub const JOB_CANCELLATION: &str = "JobCancellation";

/// A job to acquire (`Runner.Listener/RunnerJobRequestRef.cs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The same as `runner_request_id`.
    pub id: String,
    /// What the runner says as `jobMessageId` when it acquires.
    pub runner_request_id: String,
    /// Base of the run service; ends with `/`.
    pub run_service_url: String,
    /// The runner is to acknowledge first.
    pub should_acknowledge: bool,
    /// Comes back with the acquisition.
    pub billing_owner_id: String,
}

/// A job to stop (`Sdk/DTWebApi/WebApi/JobCancelMessage.cs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCancellation {
    /// The job message's `jobId`.
    pub job_id: Uuid,
    /// `hh:mm:ss`; the worker is killed 15 s before it ends.
    pub timeout: String,
}

/// Body of `POST acknowledge`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcknowledgeRequest {
    /// As in the [`JobRequest`].
    pub runner_request_id: String,
}

/// An error that a runner understands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerError {
    /// [`ERROR_SOURCE`].
    pub source: String,
    /// One of [`error_kind`]; others are tried again.
    pub error_kind: String,
    /// HTTP status.
    pub status_code: u16,
    /// For people.
    pub error_message: String,
}

/// The errors that have a meaning to a runner (`BrokerHttpClient.cs`, `GetRunnerMessageAsync`).
pub mod error_kind {
    /// Make a new session. Understood from 2.336 on.
    pub const SESSION_INVALID: &str = "RunnerSessionInvalid";
    /// The registration is gone: from 2.336 on the runner deletes its configuration.
    pub const RUNNER_NOT_FOUND: &str = "RunnerNotFound";
    /// The runner stops.
    pub const VERSION_TOO_OLD: &str = "RunnerVersionTooOld";
    /// The runner goes on.
    pub const OTHER: &str = "Error";
}
