//! What a worker and the results service say to each other (`Sdk/WebApi/WebApi/Contracts.cs`): names in snake case,
//! enums as numbers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is answered for the kind of storage: the worker then puts logs with Azure's SDK (`AppendBlobClient`). For any other
/// kind it writes requests of its own, and loses the first block of every log that has several: it gives the request
/// that announces them a second `Content-Type`, which .NET refuses (`ResultsHttpClient.cs`, `CreateAppendFileAsync`).
pub const STORAGE_TYPE: &str = "BLOB_STORAGE_TYPE_AZURE";

/// What a request is about; each method's body begins so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The job message's plan.
    pub workflow_run_backend_id: Uuid,
    /// The job message's `jobId`.
    pub workflow_job_run_backend_id: Uuid,
    /// The step's GUID; absent where the job is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_backend_id: Option<Uuid>,
}

/// Answer of `GetStepLogsSignedBlobURL` and `GetJobLogsSignedBlobURL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsUrl {
    /// Where to put blocks; has a query.
    pub logs_url: String,
    /// [`STORAGE_TYPE`].
    pub blob_storage_type: String,
    /// Bytes, in decimal.
    pub soft_size_limit: String,
}

/// Answer of `GetStepSummarySignedBlobURL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryUrl {
    /// Where to put the summary; has a query.
    pub summary_url: String,
    /// Bytes, in decimal. The worker throws for anything larger, and takes an absent one for 0.
    pub soft_size_limit: String,
    /// [`STORAGE_TYPE`].
    pub blob_storage_type: String,
}

/// Answer of `GetJobDiagLogsSignedBlobURL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagLogsUrl {
    /// Where to put the archive; has a query.
    pub diag_logs_url: String,
    /// [`STORAGE_TYPE`].
    pub blob_storage_type: String,
}

/// Answer of everything else. The worker throws unless it is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true; errors have a status.
    pub ok: bool,
}

/// Body of `WorkflowStepsUpdate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepsUpdate {
    /// Whose.
    #[serde(flatten)]
    pub subject: Subject,
    /// Steps that have changed.
    #[serde(default, deserialize_with = "super::run_service::null_as_default")]
    pub steps: Vec<Step>,
    /// Grows with each request of a worker.
    #[serde(default)]
    pub change_order: i64,
}

/// A step's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The step's GUID in the job message, or one that the worker has drawn.
    pub external_id: Uuid,
    /// Order; steps of the end have gaps before them.
    #[serde(default)]
    pub number: Option<i64>,
    /// Display name, masked.
    #[serde(default)]
    pub name: Option<String>,
    /// One of [`step_status`].
    #[serde(default)]
    pub status: Option<i64>,
    /// One of [`step_conclusion`].
    #[serde(default)]
    pub conclusion: Option<i64>,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
}

/// Numbers of [`Step::status`].
pub mod step_status {
    /// It runs.
    pub const IN_PROGRESS: i64 = 3;
    /// It waits for its turn.
    pub const PENDING: i64 = 5;
    /// It has ended.
    pub const COMPLETED: i64 = 6;
}

/// Numbers of [`Step::conclusion`].
pub mod step_conclusion {
    /// Success, also of a step that failed and may.
    pub const SUCCESS: i64 = 2;
    /// Failure.
    pub const FAILURE: i64 = 3;
    /// Cancelled.
    pub const CANCELLED: i64 = 4;
    /// Skipped.
    pub const SKIPPED: i64 = 7;
}

/// A message on the live console's WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedLines {
    /// Lines, masked, without times.
    #[serde(default, deserialize_with = "super::run_service::null_as_default")]
    pub value: Vec<String>,
    /// The step's GUID.
    #[serde(default)]
    pub step_id: Option<Uuid>,
    /// Place of the first line in the step's log, from 1.
    #[serde(default)]
    pub start_line: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_of_the_official_runner_is_read() {
        let body = r#"{"steps":[{"external_id":"a0000000-0000-4000-8000-000000000002","number":3,"name":"Run echo",
            "status":6,"started_at":"2026-05-01T10:00:01.120Z","completed_at":null,"conclusion":2}],"change_order":7,
            "workflow_job_run_backend_id":"6f0e7c0a-1c58-4b0e-8f0f-6a4d0f7f9a01",
            "workflow_run_backend_id":"3b7f6b52-5d0c-4b3e-9a54-0f3b1a6d2c11"}"#;
        let update: StepsUpdate = serde_json::from_str(body).unwrap();
        assert_eq!((update.change_order, update.subject.step_backend_id), (7, None));
        let step = &update.steps[0];
        assert_eq!((step.status, step.conclusion), (Some(step_status::COMPLETED), Some(step_conclusion::SUCCESS)));
        assert_eq!((step.number, step.completed_at), (Some(3), None));
    }

    #[test]
    fn a_message_of_the_live_console_may_lack_all_but_its_lines() {
        let lines: FeedLines =
            serde_json::from_str("{\n  \"count\": 1,\n  \"value\": [\n    \"make\"\n  ]\n}").unwrap();
        assert_eq!((lines.value, lines.step_id, lines.start_line), (vec!["make".to_owned()], None, None));
    }
}
