//! Server processes beside this one, which measure nothing of their own and end with it.

use std::fmt::Display;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// How long a process may take to say that it is ready.
pub(super) const READY: Duration = Duration::from_secs(30);
/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for what it has said to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long one that is killed may take to be gone.
const DYING: Duration = Duration::from_secs(2);
/// Most of its words that are kept.
const MOST_WORDS: usize = 64 * 1024;

/// A server in a process of its own, killed when it is dropped.
#[derive(Debug)]
pub(super) struct ServerProcess {
    /// What it is called when it fails, such as `the service`.
    name: &'static str,
    child: Child,
    pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
    input: Option<ChildStdin>,
    /// What it wrote to standard error, for when it fails.
    words: Arc<Mutex<String>>,
    /// Who reads them to the end.
    reading: JoinHandle<()>,
}

impl ServerProcess {
    /// Starts this program with other arguments, and without the settings of this one's environment.
    pub(super) fn start(name: &'static str, arguments: &[String]) -> anyhow::Result<Self> {
        Self::launch(name, arguments, Stdio::null())
    }

    /// Starts one that is told what to do on its standard input.
    pub(super) fn start_listening(name: &'static str, arguments: &[String]) -> anyhow::Result<Self> {
        Self::launch(name, arguments, Stdio::piped())
    }

    fn launch(name: &'static str, arguments: &[String], input: Stdio) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STARTLINE_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().with_context(|| format!("{name} has no standard output"))?;
        let stderr = child.stderr.take().with_context(|| format!("{name} has no standard error"))?;
        let words = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&words);
        let reading = TaskTracker::new().spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < MOST_WORDS {
                    kept.push('\n');
                    kept.push_str(&line);
                }
            }
        });
        Ok(Self { name, child, pid, lines: BufReader::new(stdout).lines(), input, words, reading })
    }

    fn words(&self) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// An error with its name before and its words behind it.
    async fn failed(&mut self, what: impl Display) -> anyhow::Error {
        // Its last words may come after its end; one that runs has none yet.
        if !self.reading.is_finished() {
            drop(tokio::time::timeout(LAST_WORDS, &mut self.reading).await);
        }
        anyhow!("{} {what}; it said:{}", self.name, self.words())
    }

    /// The rest of the next line of its output that begins with `prefix`, when that comes within `patience`.
    pub(super) async fn line(&mut self, prefix: &str, patience: Duration) -> anyhow::Result<String> {
        let read = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(prefix) {
                    return std::io::Result::Ok(Some(rest.to_owned()));
                }
            }
            Ok(None)
        };
        let prefix = prefix.trim_end();
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(Some(rest))) => Ok(rest),
            Ok(Ok(None)) => Err(self.failed(format!("ended before it said `{prefix}`")).await),
            Ok(Err(error)) => Err(self.failed(format!("cannot be read: {error}")).await),
            Err(_) => Err(self.failed(format!("did not say `{prefix}` within {} s", patience.as_secs())).await),
        }
    }

    /// Writes a line to its standard input.
    pub(super) async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().with_context(|| format!("{} does not listen", self.name))?;
        let said = async {
            input.write_all(line.as_bytes()).await?;
            input.write_all(b"\n").await?;
            input.flush().await
        };
        let said: std::io::Result<()> = said.await;
        match said {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failed("has ended").await),
        }
    }

    /// Waits for the end of one that ends by itself.
    pub(super) async fn ended(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        self.end().await
    }

    /// Asks it to stop and waits for its end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop {}", self.name))?;
        self.end().await
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => match status? {
                status if status.success() => Ok(()),
                status => Err(self.failed(format!("ended with {status}")).await),
            },
            Err(_) => Err(self.failed(format!("did not end within {} s", PATIENCE.as_secs())).await),
        }
    }
}

impl Drop for ServerProcess {
    /// Kills it, where it runs still, and waits until it is gone: its data is removed next.
    fn drop(&mut self) {
        if self.child.start_kill().is_err() {
            return;
        }
        let until = Instant::now() + DYING;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
