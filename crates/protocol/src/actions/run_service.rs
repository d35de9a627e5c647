//! What a runner and the run service say to each other: acquire, renew, complete (`Sdk/RSWebApi`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// The `source` by which a runner knows an error of the run service (`Sdk/RSWebApi/RunServiceHttpClient.cs`).
pub const ERROR_SOURCE: &str = "actions-run-service";

/// Body of `acquirejob` (`Sdk/RSWebApi/Contracts/AcquireJobRequest.cs`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcquireJobRequest {
    /// The message's `runner_request_id`.
    pub job_message_id: String,
    /// `Linux`, `macOS` or `Windows`.
    #[serde(default, rename = "runnerOS", alias = "runnerOs")]
    pub runner_os: String,
    /// From the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
}

/// Body of `renewjob` (`Contracts/RenewJobRequest.cs`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewJobRequest {
    /// The job message's plan.
    pub plan_id: Uuid,
    /// The job message's `jobId`.
    pub job_id: Uuid,
}

/// Answer of `renewjob` (`Contracts/RenewJobResponse.cs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewJobAnswer {
    /// Until when the job stays the runner's without another renewal.
    pub locked_until: Timestamp,
}

/// Body of `completejob` (`Contracts/CompleteJobRequest.cs`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompleteJobRequest {
    /// The job message's plan.
    pub plan_id: Uuid,
    /// The job message's `jobId`.
    pub job_id: Uuid,
    /// How it ended.
    pub conclusion: TaskResult,
    /// Job outputs.
    #[serde(default, deserialize_with = "null_as_default")]
    pub outputs: BTreeMap<String, Output>,
    /// Steps, those of the runner itself included.
    #[serde(default, deserialize_with = "null_as_default")]
    pub step_results: Vec<StepResult>,
    /// Annotations of the job.
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: Vec<Annotation>,
    /// URL of the deployment.
    #[serde(default)]
    pub environment_url: Option<String>,
    /// Why the service's own doing made the job fail.
    #[serde(default)]
    pub infrastructure_failure_category: Option<String>,
}

/// An output of a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Text.
    #[serde(default)]
    pub value: Option<String>,
    /// Never kept.
    #[serde(default)]
    pub is_secret: Option<bool>,
}

/// How a job or step ended (`Sdk/DTWebApi/WebApi/TaskResult.cs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TaskResult {
    /// Success.
    #[serde(alias = "Succeeded")]
    Succeeded,
    /// Success, with warnings.
    #[serde(alias = "SucceededWithIssues")]
    SucceededWithIssues,
    /// Failure.
    #[serde(alias = "Failed")]
    Failed,
    /// Cancelled, spelled so.
    #[serde(alias = "Canceled", alias = "cancelled")]
    Canceled,
    /// Skipped.
    #[serde(alias = "Skipped")]
    Skipped,
    /// Given up.
    #[serde(alias = "Abandoned")]
    Abandoned,
}

/// A step (`Contracts/StepResult.cs`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepResult {
    /// The step's GUID in the job message, or a random one.
    pub external_id: Option<Uuid>,
    /// Order.
    pub number: Option<i64>,
    /// Display name.
    pub name: Option<String>,
    /// `pending`, `inProgress` or `completed`.
    pub status: Option<String>,
    /// How it ended.
    pub conclusion: Option<TaskResult>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Lines of its log.
    pub completed_log_lines: Option<i64>,
    /// Its annotations.
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: Vec<Annotation>,
}

/// An annotation (`Contracts/Annotation.cs`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Annotation {
    /// `notice`, `warning` or `failure`.
    pub level: Option<String>,
    /// Text.
    pub message: Option<String>,
    /// Heading.
    pub title: Option<String>,
    /// More text.
    pub raw_details: Option<String>,
    /// File.
    pub path: Option<String>,
    /// First line.
    pub start_line: Option<i64>,
    /// Last line.
    pub end_line: Option<i64>,
    /// First column.
    pub start_column: Option<i64>,
    /// Last column.
    pub end_column: Option<i64>,
    /// The step.
    pub step_number: Option<i64>,
}

/// An error that a runner understands; the `statusCode` in here decides, not that of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunServiceError {
    /// [`ERROR_SOURCE`].
    pub source: String,
    /// 404, 409 and 422 are final.
    pub status_code: u16,
    /// For people.
    pub error_message: String,
}

pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_of_the_official_runner_is_read() {
        let body = r###"{"planId":"3b7f6b52-5d0c-4b3e-9a54-0f3b1a6d2c11","jobId":"6f0e7c0a-1c58-4b0e-8f0f-6a4d0f7f9a01",
            "conclusion":"failed","outputs":{"who":{"value":"ann"}},"stepResults":[{"external_id":
            "a0000000-0000-4000-8000-000000000003","number":4,"name":"Greet ann","action_name":"bash","type":"run",
            "status":"completed","conclusion":"canceled","started_at":"2026-05-01T10:00:02.51Z","completed_at":null,
            "annotations":[{"level":"failure","message":"exit code 2","startLine":12,"stepNumber":4}]}],
            "annotations":null,"telemetry":[{"message":"x","type":"General"}],"billingOwnerId":"O_x1"}"###;
        let request: CompleteJobRequest = serde_json::from_str(body).unwrap();
        assert_eq!(request.conclusion, TaskResult::Failed);
        assert_eq!(request.outputs["who"].value.as_deref(), Some("ann"));
        let step = &request.step_results[0];
        assert_eq!((step.number, step.conclusion), (Some(4), Some(TaskResult::Canceled)));
        assert_eq!(step.annotations[0].start_line, Some(12));
        assert!(request.annotations.is_empty());
    }

    #[test]
    fn what_is_said_of_a_lock_is_spelled_as_the_runner_reads_it() {
        let answer = RenewJobAnswer { locked_until: "2026-05-01T10:10:00Z".parse().unwrap() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"lockedUntil":"2026-05-01T10:10:00Z"}"#);
    }
}
