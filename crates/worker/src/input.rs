//! The process contract between a runner and its worker.
//!
//! A runner starts the worker with a pipe as standard input and writes one [`WorkerInput`] as a line of JSON, then
//! any number of [`Control`] lines. The end of that stream means that the runner is gone: the worker kills what it
//! started, reports nothing and exits. What the worker has to say it says to the service itself; its exit code
//! ([`Exit`]) tells the runner whether the service has heard the end. Standard output and error are diagnostics.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use startline_protocol::runner_api::{CompleteRequest, JobAssignment};
use startline_protocol::step::StepRecord;

/// The job's log inside [`WorkerInput::job_dir`], byte for byte as the service is to hold it.
pub const LOG_FILE: &str = "log";

/// The [`JobState`] inside [`WorkerInput::job_dir`], replaced atomically.
pub const STATE_FILE: &str = "state.json";

/// The first line on a worker's standard input.
#[derive(Clone, Serialize, Deserialize)]
pub struct WorkerInput {
    /// A lease: with the job definition, the secrets and the job token.
    pub assignment: JobAssignment,
    /// A directory of mode 0700 that the runner owns and removes; holds [`LOG_FILE`] and [`STATE_FILE`].
    pub job_dir: PathBuf,
    /// Where workspaces live (`_work`); one worker at a time.
    pub work_dir: PathBuf,
    /// `runner.name`.
    pub runner_name: String,
    /// `runner.os`: `Linux`, `macOS` or `Windows`.
    pub runner_os: String,
    /// `runner.arch`: `X86`, `X64`, `ARM` or `ARM64`.
    pub runner_arch: String,
    /// `runner.environment`: `self-hosted` or `github-hosted`.
    pub environment: String,
    /// `runner.tool_cache`.
    pub tool_cache: PathBuf,
    /// Where archives of actions are kept for other jobs.
    pub archives: PathBuf,
    /// The program that runs JavaScript actions, instead of `node` on the search path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<PathBuf>,
    /// The program that runs containers, instead of `docker` or `podman` on the search path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_cli: Option<PathBuf>,
    /// A directory whose files are copied into the workspace before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_from: Option<PathBuf>,
    /// The job works in that directory itself, and nothing is copied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
    /// How to reach the service.
    #[serde(default)]
    pub connection: Connection,
}

impl fmt::Debug for WorkerInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The assignment holds secrets; only what identifies it is shown.
        f.debug_struct("WorkerInput")
            .field("job_id", &self.assignment.job_id)
            .field("epoch", &self.assignment.epoch)
            .field("job_dir", &self.job_dir)
            .field("work_dir", &self.work_dir)
            .field("runner_name", &self.runner_name)
            .finish_non_exhaustive()
    }
}

/// How a worker reaches the service: the runner's own settings, passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// A PEM file of further certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca: Option<PathBuf>,
    /// Proxy for `http:` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<String>,
    /// Proxy for `https:` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
}

/// A later line on a worker's standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// Stop the job as GitHub cancels one; steps with `always()` or `cancelled()` still run. Repeats are harmless.
    Cancel {
        /// Shown in the job's log.
        reason: String,
    },
}

/// What a worker leaves in [`STATE_FILE`], so that whoever finds the directory knows how far it came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    /// All steps as they stand.
    pub steps: Vec<StepRecord>,
    /// Bytes of the log that the service has acknowledged.
    pub uploaded: u64,
    /// How the job ended, once that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<CompleteRequest>,
    /// The service has acknowledged `completion`.
    pub completed: bool,
}

/// How a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The service has acknowledged the completion: code 0.
    Reported,
    /// The worker could not do its work, or its runner is gone: code 1.
    Failed,
    /// The service refused the job's reports, because the job is no longer this worker's: code 2.
    Stale,
}

impl Exit {
    /// The process exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Reported => 0,
            Self::Failed => 1,
            Self::Stale => 2,
        }
    }

    /// What a process exit code says; every unknown one, and death by a signal, is [`Exit::Failed`].
    #[must_use]
    pub const fn from_code(code: Option<i32>) -> Self {
        match code {
            Some(0) => Self::Reported,
            Some(2) => Self::Stale,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_lines_are_spelled_as_documented() {
        let line = r#"{"type":"cancel","reason":"asked"}"#;
        let control: Control = serde_json::from_str(line).unwrap();
        assert_eq!(control, Control::Cancel { reason: "asked".into() });
        assert_eq!(serde_json::to_string(&control).unwrap(), line);
    }

    #[test]
    fn exit_codes_are_read_back() {
        for exit in [Exit::Reported, Exit::Failed, Exit::Stale] {
            assert_eq!(Exit::from_code(Some(i32::from(exit.code()))), exit);
        }
        assert_eq!(Exit::from_code(None), Exit::Failed);
    }
}
