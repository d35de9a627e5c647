//! Server processes beside this one, which measure nothing of their own and end with it.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// How long a process may take to say that it is ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one that is killed may take to be gone.
const DYING: Duration = Duration::from_secs(2);
/// Most of its words that are kept.
const MOST_WORDS: usize = 64 * 1024;

/// A server in a process of its own, killed when it is dropped.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
    input: Option<ChildStdin>,
    /// What it wrote to standard error, for when it fails.
    words: Arc<Mutex<String>>,
}

impl ServerProcess {
    /// Starts this program with other arguments, and without the settings of this one's environment.
    pub(super) fn start(arguments: &[String]) -> anyhow::Result<Self> {
        Self::launch(arguments, Stdio::null())
    }

    /// Starts one that is told what to do on its standard input.
    pub(super) fn start_listening(arguments: &[String]) -> anyhow::Result<Self> {
        Self::launch(arguments, Stdio::piped())
    }

    fn launch(arguments: &[String], input: Stdio) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STARTLINE_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start a server")?;
        let pid = child.id().context("the server ended at once")?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let stderr = child.stderr.take().context("the server has no standard error")?;
        let words = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&words);
        TaskTracker::new().spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < MOST_WORDS {
                    kept.push('\n');
                    kept.push_str(&line);
                }
            }
        });
        Ok(Self { child, pid, lines: BufReader::new(stdout).lines(), input, words })
    }

    fn words(&self) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// The rest of the next line of its output that begins with `prefix`.
    pub(super) async fn line(&mut self, prefix: &str) -> anyhow::Result<String> {
        let read = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(prefix) {
                    return Ok(rest.to_owned());
                }
            }
            bail!("the server ended before it was ready");
        };
        let read = tokio::time::timeout(PATIENCE, read).await.context("the server did not become ready");
        read.flatten().with_context(|| format!("the server said:{}", self.words()))
    }

    /// Writes a line to its standard input.
    pub(super) async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("a process that does not listen")?;
        let said = async {
            input.write_all(line.as_bytes()).await?;
            input.write_all(b"\n").await?;
            input.flush().await
        };
        said.await.with_context(|| format!("the process has ended; it said:{}", self.words()))
    }

    /// Waits for the end of one that ends by itself.
    pub(super) async fn ended(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("a process did not end")??;
        if !status.success() {
            bail!("a process ended with {status}; it said:{}", self.words());
        }
        Ok(())
    }

    /// Asks it to stop and waits for its end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM).context("cannot stop the server")?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the server did not stop")??;
        if !status.success() {
            bail!("the server ended with {status}; it said:{}", self.words());
        }
        Ok(())
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
