//! Servers beside this process, which end with it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_util::task::TaskTracker;

/// How long a server may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most of its words that are kept.
const MOST_WORDS: usize = 16 * 1024;

/// A server in a process of its own, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    pid: u32,
    lines: mpsc::UnboundedReceiver<String>,
    /// What it wrote, for when it fails.
    words: Arc<Mutex<String>>,
    family: Option<Family>,
}

/// A process and what it started, which all end when this is dropped: to kill the process alone would leave them.
#[derive(Debug)]
pub(crate) struct Family(Option<Pid>);

impl Family {
    /// Has the next process of this command begin a family.
    pub(crate) fn found(command: &mut Command) {
        command.process_group(0);
    }

    /// That of a process that was started so.
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw))
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Usually all have ended by themselves, and there is no such group any more.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Daemon {
    /// Starts `command` as the first of a family, which ends with it at the latest.
    pub(crate) fn start_family(mut command: Command) -> anyhow::Result<Self> {
        Family::found(&mut command);
        let mut daemon = Self::start(command)?;
        daemon.family = Some(Family::of(&daemon.child));
        Ok(daemon)
    }

    /// Starts `command` with its output read by this process.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", Path::new(&program).display()))?;
        let pid = child.id().context("the server ended at once")?;
        let words = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        if let Some(output) = child.stdout.take() {
            tasks.spawn(read(output, Arc::clone(&words), Some(sender.clone())));
        }
        if let Some(output) = child.stderr.take() {
            let words = Arc::clone(&words);
            // As long as it may have words there is no end of its lines, so that its last words are known by then.
            tasks.spawn(async move {
                read(output, words, None).await;
                drop(sender);
            });
        }
        Ok(Self { child, pid, lines, words, family: None })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has said so far.
    pub(crate) fn words(&self) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rest of the next line of its standard output that begins with `prefix`.
    pub(crate) async fn line(&mut self, prefix: &str) -> anyhow::Result<String> {
        let read = async {
            while let Some(line) = self.lines.recv().await {
                if let Some(rest) = line.strip_prefix(prefix) {
                    return Ok(rest.to_owned());
                }
            }
            bail!("the server ended before it was ready");
        };
        let read = tokio::time::timeout(PATIENCE, read).await.context("the server did not become ready");
        read.flatten().map_err(|error| anyhow!("{error:#}; it said:{}", self.words()))
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) async fn stop(self, signal: Signal) -> anyhow::Result<()> {
        self.stop_with(signal).await.map(drop)
    }

    /// Asks it to stop, and says how it ended.
    pub(crate) async fn stop_with(mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        if self.runs() {
            kill(Pid::from_raw(i32::try_from(self.pid)?), signal).context("cannot stop the server")?;
        }
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the server did not stop")?.map_err(Into::into)
    }
}

async fn read(output: impl AsyncRead + Unpin, words: Arc<Mutex<String>>, lines: Option<mpsc::UnboundedSender<String>>) {
    let mut reader = BufReader::new(output).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        {
            let mut kept = words.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MOST_WORDS {
                kept.push('\n');
                kept.push_str(&line);
            }
        }
        if let Some(lines) = &lines {
            // Nobody may be waiting for a line any more.
            drop(lines.send(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_family_ends_with_whoever_holds_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo child $!; wait"]);
        let mut daemon = Daemon::start_family(command).unwrap();
        let child: i32 = daemon.line("child ").await.unwrap().parse().unwrap();
        assert!(kill(Pid::from_raw(child), None).is_ok());
        drop(daemon);
        let until = tokio::time::Instant::now() + PATIENCE;
        // Until whoever inherits it has seen its end, it is still known.
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(tokio::time::Instant::now() < until, "{}", state());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
