//! A process of a step: its output as it comes, and its end, asked for or not.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::procfs;

/// Between the interrupt and the request to terminate (actions/runner `Runner.Sdk/ProcessInvoker.cs`).
const UNTIL_TERMINATE: Duration = Duration::from_millis(7_500);
/// Between the request to terminate and the kill (same file).
const UNTIL_KILL: Duration = Duration::from_millis(2_500);
/// How long background children may hold the pipes after the process itself has ended (same file).
const HELD_PIPES: Duration = Duration::from_secs(5);
/// The same after everything was killed: only a process that left the group can still hold them.
const HELD_PIPES_KILLED: Duration = Duration::from_millis(500);
/// How long it may take to send a signal elsewhere.
const UNTIL_SENT: Duration = Duration::from_secs(10);
/// How often a group that is being ended is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Pieces of output read ahead of the log; with the pieces' size this bounds memory, and then the pipes fill up.
const READ_AHEAD: usize = 16;
const PIECE: usize = 32 * 1024;

/// What to start.
pub(crate) struct Spec {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) directory: PathBuf,
    /// The whole environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// What stands on its standard input; otherwise nothing does.
    pub(crate) input: Option<String>,
}

/// How signals reach what runs elsewhere than its client: in a container, whose engine does not pass them on.
pub(crate) struct Elsewhere {
    /// The process that sends a signal of this name.
    pub(crate) signal: Box<dyn Fn(Signal) -> Spec + Send + Sync>,
    pub(crate) tasks: TaskTracker,
}

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Output was read.
    Output(Stream, Vec<u8>),
    /// The process has ended and all its output was told; none when its status could not be learnt.
    Ended(Option<ExitStatus>),
}

/// A running process, leader of its own process group.
pub(crate) struct Child {
    inner: tokio::process::Child,
    group: Pid,
    output: mpsc::Receiver<(Stream, Vec<u8>)>,
    closed: bool,
    exited: Option<(Option<ExitStatus>, Instant)>,
    ending: Option<Ending>,
    elsewhere: Option<Elsewhere>,
}

/// How far the ending that somebody asked for has come.
struct Ending {
    next: Option<(Signal, Instant)>,
    killed: Option<Instant>,
}

impl Child {
    /// Starts the process with nothing on its standard input. Its pipes are read until they close, whatever becomes
    /// of this value, so that background children never die of a closed pipe.
    pub(crate) fn spawn(spec: &Spec, tasks: &TaskTracker) -> io::Result<Self> {
        let mut inner = tokio::process::Command::new(&spec.program)
            .args(&spec.arguments)
            .current_dir(&spec.directory)
            .env_clear()
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(if spec.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let id = inner.id().and_then(|id| i32::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
        // Under memory pressure the kernel should take the step and not the worker; not on every system.
        let _ = std::fs::write(format!("/proc/{id}/oom_score_adj"), "500");
        if let (Some(mut pipe), Some(input)) = (inner.stdin.take(), spec.input.clone()) {
            // A process that does not read it has an end of its own to tell.
            tasks.spawn(async move { drop(pipe.write_all(input.as_bytes()).await) });
        }
        let (sender, output) = mpsc::channel(READ_AHEAD);
        if let Some(pipe) = inner.stdout.take() {
            tasks.spawn(read(pipe, Stream::Out, sender.clone()));
        }
        if let Some(pipe) = inner.stderr.take() {
            tasks.spawn(read(pipe, Stream::Error, sender));
        }
        Ok(Self { inner, group: Pid::from_raw(id), output, closed: false, exited: None, ending: None, elsewhere: None })
    }

    /// Says where signals are to go.
    pub(crate) fn reach(&mut self, elsewhere: Elsewhere) {
        self.elsewhere = Some(elsewhere);
    }

    /// Whether no output is waiting to be told.
    pub(crate) fn is_quiet(&self) -> bool {
        self.output.is_empty()
    }

    /// Begins to end the whole process group: interrupt, then terminate, then kill. A repeat changes nothing.
    pub(crate) fn end(&mut self) {
        if self.ending.is_none() {
            self.signal(Signal::SIGINT);
            self.ending =
                Some(Ending { next: Some((Signal::SIGTERM, Instant::now() + UNTIL_TERMINATE)), killed: None });
        }
    }

    /// Kills the process group and all descendants now.
    pub(crate) fn kill(&mut self) {
        if self.exited.is_none() {
            procfs::kill_descendants(self.group);
        }
        self.signal(Signal::SIGKILL);
        if self.elsewhere.is_some() {
            // The client has nothing to wait for any more.
            let _ = killpg(self.group, Signal::SIGKILL);
        }
        self.ending = Some(Ending { next: None, killed: Some(Instant::now()) });
    }

    fn signal(&self, signal: Signal) {
        if let Some(elsewhere) = &self.elsewhere {
            let spec = (elsewhere.signal)(signal);
            elsewhere.tasks.spawn(send(spec));
        } else {
            // The group may be empty already.
            let _ = killpg(self.group, signal);
        }
    }

    /// Kills what a process that was told to end has left elsewhere.
    pub(crate) async fn sweep(&self) {
        if let Some(elsewhere) = &self.elsewhere {
            send((elsewhere.signal)(Signal::SIGKILL)).await;
        }
    }

    /// What happens next. Cancel-safe. After [`Event::Ended`] it must not be called again.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let look = match self.until_ended() {
                Ok(status) => return Event::Ended(status),
                Err(look) => look,
            };
            tokio::select! {
                biased;
                output = self.output.recv(), if !self.closed => match output {
                    Some((stream, bytes)) => return Event::Output(stream, bytes),
                    None => self.closed = true,
                },
                status = self.inner.wait(), if self.exited.is_none() => {
                    self.exited = Some((status.ok(), Instant::now()));
                }
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => self.escalate(),
            }
        }
    }

    /// The status when all is over; otherwise when to look again, if time alone can change something.
    fn until_ended(&self) -> Result<Option<ExitStatus>, Option<Instant>> {
        let now = Instant::now();
        let Some((status, at)) = self.exited else {
            return Err(self.ending.as_ref().and_then(|ending| ending.next).map(|(_, at)| at));
        };
        let Some(ending) = &self.ending else {
            return if self.closed || now >= at + HELD_PIPES { Ok(status) } else { Err(Some(at + HELD_PIPES)) };
        };
        if let Some(killed) = ending.killed {
            let patience = killed.max(at) + HELD_PIPES_KILLED;
            return if self.closed || now >= patience { Ok(status) } else { Err(Some(patience)) };
        }
        if procfs::group_runs(self.group) || !self.closed {
            return Err(Some(now + LOOK));
        }
        Ok(status)
    }

    fn escalate(&mut self) {
        let now = Instant::now();
        match self.ending.as_ref().and_then(|ending| ending.next) {
            Some((Signal::SIGTERM, at)) if now >= at => {
                self.signal(Signal::SIGTERM);
                self.ending = Some(Ending { next: Some((Signal::SIGKILL, now + UNTIL_KILL)), killed: None });
            }
            Some((_, at)) if now >= at => self.kill(),
            _ => {}
        }
    }
}

/// Runs a process that sends a signal. Whether it did is seen by what the signal is for.
async fn send(spec: Spec) {
    let mut command = tokio::process::Command::new(&spec.program);
    command.args(&spec.arguments).current_dir(&spec.directory).env_clear();
    command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
    if let Ok(mut child) = command.spawn() {
        let _ = tokio::time::timeout(UNTIL_SENT, child.wait()).await;
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, stream: Stream, sender: mpsc::Sender<(Stream, Vec<u8>)>) {
    let mut buffer = vec![0; PIECE];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            // Nobody listens any more when the step has gone on without its background children: read and forget.
            Ok(length) => drop(sender.send((stream, buffer[..length].to_vec())).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bash(script: &str) -> (Child, TaskTracker) {
        let tasks = TaskTracker::new();
        let spec = Spec {
            program: "/bin/bash".into(),
            arguments: vec!["-c".into(), script.into()],
            directory: "/".into(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            input: None,
        };
        (Child::spawn(&spec, &tasks).unwrap(), tasks)
    }

    async fn output(child: &mut Child) -> (String, Option<ExitStatus>) {
        let mut text = Vec::new();
        loop {
            match child.event().await {
                Event::Output(_, bytes) => text.extend(bytes),
                Event::Ended(status) => return (String::from_utf8(text).unwrap(), status),
            }
        }
    }

    async fn until(child: &mut Child, expected: &str) {
        let mut text = String::new();
        while !text.contains(expected) {
            match child.event().await {
                Event::Output(_, bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Event::Ended(status) => panic!("ended with {status:?} before {expected:?}: {text}"),
            }
        }
    }

    #[tokio::test]
    async fn output_and_exit_code_are_told() {
        let (mut child, _tasks) = bash("echo out; echo err >&2; exit 3");
        let (text, status) = output(&mut child).await;
        assert!(text.contains("out\n") && text.contains("err\n"));
        assert_eq!(status.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn a_background_child_that_holds_the_pipes_delays_the_end_by_five_seconds_and_lives() {
        let (mut child, _tasks) = bash("sleep 30 & echo $!");
        let start = Instant::now();
        let (text, status) = output(&mut child).await;
        assert!(status.unwrap().success());
        let waited = start.elapsed();
        assert!(waited >= HELD_PIPES && waited < HELD_PIPES + Duration::from_secs(5), "{waited:?}");
        let background = Pid::from_raw(text.trim().parse().unwrap());
        nix::sys::signal::kill(background, Signal::SIGKILL).expect("it still runs");
    }

    #[tokio::test]
    async fn an_interrupt_lets_the_process_clean_up() {
        let (mut child, _tasks) = bash("trap 'echo cleaned; exit 4' INT; echo ready; while :; do sleep 0.05; done");
        until(&mut child, "ready").await;
        let start = Instant::now();
        child.end();
        let (text, status) = output(&mut child).await;
        assert!(text.contains("cleaned"));
        assert_eq!(status.unwrap().code(), Some(4));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn stubborn_children_are_killed_within_twelve_seconds() {
        let (mut child, _tasks) = bash(
            "bash -c \"trap '' INT TERM; while :; do sleep 1; done\" & trap '' INT TERM; echo ready; while :; do sleep 1; done",
        );
        until(&mut child, "ready").await;
        let start = Instant::now();
        child.end();
        let (_, status) = output(&mut child).await;
        assert!(!status.unwrap().success());
        let waited = start.elapsed();
        assert!(waited >= UNTIL_TERMINATE && waited < Duration::from_secs(12), "{waited:?}");
        assert!(!procfs::group_runs(child.group));
    }

    #[tokio::test]
    async fn a_kill_ends_at_once_even_what_left_the_group() {
        let (mut child, _tasks) = bash("setsid sleep 60 & echo ready; sleep 60");
        until(&mut child, "ready").await;
        let start = Instant::now();
        child.kill();
        output(&mut child).await;
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}
