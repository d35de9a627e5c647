//! A worker process: started, told to cancel, watched, and killed with all that it started.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use startline_worker::input::{Control, Exit, WorkerInput};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::job::orphans;

/// Marks a worker and everything that it starts, so that they are found when the worker is gone.
const MARK: &str = "STARTLINE_TRACKING_ID";

/// Control lines that may wait for a worker that does not read; there are only two different ones.
const CONTROLS: usize = 4;

/// How a worker process ended.
#[derive(Debug)]
pub(super) enum Death {
    /// After the service had acknowledged the job's end.
    Reported,
    /// Because the service refused its reports.
    Stale,
    /// Before the job's end was reported; says how, to follow the words "the worker".
    Early(String),
}

/// One worker process. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    mark: String,
    controls: mpsc::Sender<Control>,
}

impl Worker {
    /// Starts `command` in a process group of its own and hands it `input`.
    pub(super) fn start(command: &[OsString], diagnostics: &Path, input: &WorkerInput) -> io::Result<Self> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::other("no program is given"));
        };
        let output = OpenOptions::new().create(true).append(true).mode(0o600).open(diagnostics)?;
        let mut line = serde_json::to_vec(input)?;
        line.push(b'\n');
        let mark = Uuid::new_v4().to_string();
        let mut worker = Command::new(program);
        // What configures this runner, its tokens above all, is not for jobs to read.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"STARTLINE_")) {
            worker.env_remove(name);
        }
        let mut child = worker
            .args(arguments)
            .env(MARK, &mark)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().ok_or_else(|| io::Error::other("it has no standard input"))?;
        let (controls, waiting) = mpsc::channel(CONTROLS);
        // In a task of its own: a pipe takes 64 KiB, and a worker may read late or never.
        TaskTracker::new().spawn(feed(stdin, line, waiting));
        Ok(Self { child, mark, controls })
    }

    /// Sends a control line; a worker that does not read its input is dealt with by its deadline.
    pub(super) fn control(&self, control: Control) {
        if self.controls.try_send(control).is_err() {
            tracing::warn!("the worker takes no more control lines");
        }
    }

    /// Waits for the process to end. Cancel-safe.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// What an exit means: what the worker says of its report, or how it died.
    pub(super) fn death(status: io::Result<ExitStatus>) -> Death {
        let status = match status {
            Ok(status) => status,
            Err(error) => return Death::Early(format!("was lost sight of: {error}")),
        };
        if let Some(signal) = status.signal() {
            let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            return Death::Early(format!(
                "was killed by signal {signal} ({name}) before it had reported the job's end"
            ));
        }
        match Exit::from_code(status.code()) {
            Exit::Reported => Death::Reported,
            Exit::Stale => Death::Stale,
            Exit::Failed => {
                let code = status.code().unwrap_or_default();
                Death::Early(format!("ended with exit code {code} before it had reported the job's end"))
            }
        }
    }

    /// Kills the process and everything that it has started, and waits for the process. Repeats are harmless.
    pub(super) async fn kill(&mut self) {
        // Once the process was waited for, its number may be another's.
        if let Some(group) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.kill().await;
        let mark = format!("{MARK}={}", self.mark);
        // Steps have process groups of their own, so they outlive their worker's.
        let killed = tokio::task::spawn_blocking(move || orphans::kill_marked(&mark)).await.unwrap_or(0);
        if killed > 0 {
            tracing::info!(killed, "killed processes that a worker left behind");
        }
    }
}

/// Writes the input and then every control line. The pipe stays open until the worker's owner lets go of it.
async fn feed(mut stdin: ChildStdin, input: Vec<u8>, mut waiting: mpsc::Receiver<Control>) {
    if let Err(error) = stdin.write_all(&input).await {
        tracing::debug!(%error, "the worker did not read its input");
    }
    drop(input);
    while let Some(control) = waiting.recv().await {
        let Ok(mut line) = serde_json::to_vec(&control) else { continue };
        line.push(b'\n');
        if let Err(error) = stdin.write_all(&line).await {
            tracing::debug!(%error, "the worker did not read a control line");
        }
    }
}
