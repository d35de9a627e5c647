//! Servers beside this process, which end with it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
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
}

impl Daemon {
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
            tasks.spawn(read(output, Arc::clone(&words), Some(sender)));
        }
        if let Some(output) = child.stderr.take() {
            tasks.spawn(read(output, Arc::clone(&words), None));
        }
        Ok(Self { child, pid, lines, words })
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
        read.flatten().with_context(|| format!("the server said:{}", self.words()))
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
