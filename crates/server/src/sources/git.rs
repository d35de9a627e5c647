//! The `git` program, run so that neither a repository nor a caller decides what else runs.
//!
//! Never through a shell; with an environment made for it, without the machine's and the user's configuration, without
//! hooks, prompts and helpers; with a time limit, after which everything that it has started is killed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// Settings that win over those of the repository, whose own may name programs.
const CONFIG: [(&str, &str); 16] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.alternateRefsCommand", "true"),
    ("credential.helper", ""),
    ("protocol.ext.allow", "never"),
    // Repositories belong to whom they belong; which ones are served is the operator's decision.
    ("safe.directory", "*"),
    ("tar.tar.gz.command", "git archive gzip"),
    // As GitHub does: `actions/checkout` asks for a commit, which need not be at the end of a branch.
    ("uploadpack.allowAnySHA1InWant", "true"),
    ("uploadpack.allowFilter", "true"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("init.defaultBranch", "main"),
];

/// What git may know of our environment: where programs are, proxies and authorities.
const KEPT: [&str; 14] = [
    "PATH",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// What is kept of what git says.
const SAID: usize = 8 * 1024;
/// Largest answer that is read as text.
const ANSWER: usize = 1024 * 1024;

/// Why git did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("cannot run git: {0}; install git 2.38 or newer")]
    Start(io::Error),
    #[error("git {what}: {said}")]
    Failed { what: String, said: String },
    #[error("git {what} took longer than {} s", .limit.as_secs())]
    Slow { what: String, limit: Duration },
    #[error("git {what} gives more than {most} bytes")]
    Large { what: String, most: u64 },
    #[error("git {what}: {source}")]
    Io { what: String, source: io::Error },
}

/// The repository that git works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub git_dir: &'a Path,
    pub work_tree: Option<&'a Path>,
}

impl<'a> At<'a> {
    pub(crate) const fn bare(git_dir: &'a Path) -> Self {
        Self { git_dir, work_tree: None }
    }
}

/// How git is run.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    environment: Vec<(OsString, OsString)>,
}

impl Git {
    pub(crate) fn new() -> Self {
        let mut environment: Vec<(OsString, OsString)> =
            KEPT.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))).collect();
        let mut set = |name: &str, value: &str| environment.push((name.into(), value.into()));
        for (name, value) in [
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("GIT_ALLOW_PROTOCOL", "file:http:https"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_AUTHOR_NAME", "startline"),
            ("GIT_AUTHOR_EMAIL", "startline@localhost"),
            ("GIT_COMMITTER_NAME", "startline"),
            ("GIT_COMMITTER_EMAIL", "startline@localhost"),
            // The same content is the same commit whenever it is imported.
            ("GIT_AUTHOR_DATE", "@0 +0000"),
            ("GIT_COMMITTER_DATE", "@0 +0000"),
        ] {
            set(name, value);
        }
        set("GIT_CONFIG_COUNT", &CONFIG.len().to_string());
        for (index, (key, value)) in CONFIG.iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{index}"), key);
            set(&format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        Self { environment }
    }

    /// The program at work on a repository, with its standard streams piped and a process group of its own.
    pub(crate) fn start(&self, at: At<'_>, arguments: &[&OsStr], more: &[(&str, &str)]) -> Result<Running, GitError> {
        let mut command = Command::new("git");
        // Named, so that git does not look for one in the directories above.
        command.env_clear().envs(self.environment.iter().cloned()).env("GIT_DIR", at.git_dir);
        if let Some(tree) = at.work_tree {
            command.env("GIT_WORK_TREE", tree);
        }
        command.args(arguments).current_dir(at.work_tree.unwrap_or(at.git_dir)).envs(more.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(GitError::Start)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Running { child, group: Group(group) })
    }

    /// What it prints, which is text.
    pub(crate) async fn text(&self, at: At<'_>, arguments: &[&OsStr], limit: Duration) -> Result<String, GitError> {
        let mut printed = Vec::new();
        self.copy(at, arguments, &mut printed, ANSWER as u64, limit).await?;
        Ok(String::from_utf8_lossy(&printed).trim().to_owned())
    }

    /// Copies what it prints, at most `most` bytes; how many it were.
    pub(crate) async fn copy(
        &self,
        at: At<'_>,
        arguments: &[&OsStr],
        to: &mut (impl tokio::io::AsyncWrite + Unpin),
        most: u64,
        limit: Duration,
    ) -> Result<u64, GitError> {
        let what = || arguments.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let working = async {
            let mut running = self.start(at, arguments, &[])?;
            let failed = |source| GitError::Io { what: what(), source };
            drop(running.child.stdin.take());
            let (out, err) = (running.child.stdout.take(), running.child.stderr.take());
            let saying = async {
                match err {
                    Some(err) => first(err, SAID).await,
                    None => String::new(),
                }
            };
            let copying = async {
                let Some(out) = out else { return Ok::<u64, io::Error>(0) };
                let copied = tokio::io::copy(&mut out.take(most + 1), to).await?;
                to.flush().await?;
                Ok(copied)
            };
            tokio::pin!(copying, saying);
            let mut said = None;
            let copied = loop {
                tokio::select! {
                    done = &mut copying => break done.map_err(failed)?,
                    text = &mut saying, if said.is_none() => said = Some(text),
                }
            };
            if copied > most {
                return Err(GitError::Large { what: what(), most });
            }
            let said = match said {
                Some(said) => said,
                None => saying.await,
            };
            let status = running.child.wait().await.map_err(failed)?;
            running.group.0 = None;
            if status.success() { Ok(copied) } else { Err(GitError::Failed { what: what(), said }) }
        };
        match tokio::time::timeout(limit, working).await {
            Ok(result) => result,
            Err(_) => Err(GitError::Slow { what: what(), limit }),
        }
    }
}

/// Git at work; everything that it has started is killed when this is dropped before its end.
#[derive(Debug)]
pub(crate) struct Running {
    // First, because a number is free to be used again once the child was waited for.
    group: Group,
    pub child: Child,
}

#[derive(Debug)]
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nothing is left to kill where it has ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The beginning of what is read, on one line; all is read, so that nobody waits for us.
pub(super) async fn first(mut from: impl AsyncRead + Unpin, most: usize) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = most.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
    }
    let text = String::from_utf8_lossy(&kept);
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
