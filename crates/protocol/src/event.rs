//! `GET /api/v1/events`: what happens, as it happens, over WebSocket or server-sent events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, RunId, RunnerId};
use crate::state::{Conclusion, JobStatus, RunStatus, RunnerStatus};

/// One event: a text message on a WebSocket; `data` with `id` = `sequence` as a server-sent event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Event {
    /// Grows by one with each event of the process and starts anew, higher, with the next process. Pass the last one
    /// seen as `?after=` (or `Last-Event-ID`) to resume.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub body: EventBody,
}

/// What happened. A viewer that needs more than this asks for the thing itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// A runner came, went or changed its status.
    Runner {
        /// Which.
        runner_id: RunnerId,
        /// Its name.
        name: String,
        /// Absent when its registration was deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<RunnerStatus>,
    },
    /// A job changed.
    Job {
        /// Which.
        job_id: JobId,
        /// Of which run.
        run_id: RunId,
        /// Of which repository.
        repository: String,
        /// Where it stands.
        status: JobStatus,
        /// How it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conclusion: Option<Conclusion>,
        /// Why it waits, was re-queued or ended so, where there is more to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Which attempt.
        attempt: u32,
    },
    /// A run changed.
    Run {
        /// Which.
        run_id: RunId,
        /// Of which repository.
        repository: String,
        /// Where it stands.
        status: RunStatus,
        /// How it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conclusion: Option<Conclusion>,
        /// Why it waits or ended so, where there is more to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A job's log has grown; its text is at `/api/v1/jobs/{id}/logs`.
    Log {
        /// Of which job.
        job_id: JobId,
        /// Of which run.
        run_id: RunId,
        /// Of which repository.
        repository: String,
        /// Which attempt.
        attempt: u32,
        /// Bytes that the log has now.
        length: u64,
    },
    /// The reader was too slow, or asked for what is no longer kept: events are missing before the next one. Read the
    /// state anew.
    Lagged {
        /// How many are missing, when that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missed: Option<u64>,
    },
}
