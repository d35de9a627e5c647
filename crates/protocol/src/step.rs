//! What a worker reports of its steps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::{Conclusion, StepStatus};

/// One line of a job's list of steps. Reports are level-triggered: each carries all steps as they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct StepRecord {
    /// Place in the list, from 1.
    pub number: u32,
    /// The GUID by which an official runner speaks of the step; absent where `number` is all that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Display name, masked.
    pub name: String,
    /// Where the step stands.
    pub status: StepStatus,
    /// How it ended, after `continue-on-error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<Conclusion>,
    /// How it ended, before `continue-on-error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Conclusion>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Byte offset in the job's log of the step's first line. A worker reports a step as running before it appends
    /// any byte at or after this offset, so that a reader of the log always knows whose line it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_start: Option<u64>,
    /// Byte offset just behind the step's last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_end: Option<u64>,
    /// What the step wrote to `GITHUB_STEP_SUMMARY`, masked; Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

impl StepRecord {
    /// A step that has not begun.
    #[must_use]
    pub const fn pending(number: u32, name: String) -> Self {
        Self {
            number,
            id: None,
            name,
            status: StepStatus::Pending,
            conclusion: None,
            outcome: None,
            started_at: None,
            completed_at: None,
            log_start: None,
            log_end: None,
            summary: None,
        }
    }
}

/// How serious an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AnnotationLevel {
    /// For information.
    Notice,
    /// Something to look at.
    Warning,
    /// What made the step or job fail.
    Failure,
}

/// A message that a job leaves for people, often tied to a place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Annotation {
    /// How serious it is.
    pub level: AnnotationLevel,
    /// The text, masked.
    pub message: String,
    /// A heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// File, relative to the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// First line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_line: Option<u32>,
    /// Last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// First column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_column: Option<u32>,
    /// Last column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_column: Option<u32>,
    /// The step that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_number: Option<u32>,
}
