//! The service that is measured, and `startline load` beside it.

pub(crate) mod queue;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use http::StatusCode;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::{Duration, Instant};

use crate::daemon::{Daemon, Family};
use crate::figures::Figures;
use crate::link::{Link, Target};

/// Longest that one load may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest that a start may take.
const READY: Duration = Duration::from_secs(30);
/// Nothing that protects a service from strangers slows the load, which comes from few addresses.
const WITHOUT_LIMITS: &[&str] =
    &["--address-rate", "0", "--failed-auth-rate", "0", "--bearer-rate", "0", "--max-connections", "19900"];

/// A service of its own on loopback, with a data directory that goes with it.
pub(crate) struct Ours {
    daemon: Daemon,
    program: PathBuf,
    url: String,
    token: String,
    data: tempfile::TempDir,
}

/// `startline` without the settings of this process's environment.
pub(crate) fn startline(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STARTLINE_") {
            command.env_remove(name);
        }
    }
    command
}

/// The version of this program; nothing when it does not say.
pub(crate) async fn version(program: &Path) -> String {
    let said = startline(program).arg("--version").output().await;
    said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

impl Ours {
    /// Starts the service with its data in a temporary directory within `directory`.
    pub(crate) async fn start(program: &Path, directory: &Path, further: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir_in(directory).context("cannot make a data directory")?;
        let mut daemon = server(program, &data.path().join("data"), further)?;
        let token = daemon.line("admin token: ").await?;
        let url = daemon.line("API: ").await?.trim_end_matches("/api/v1").to_owned();
        Ok(Self { daemon, program: program.to_owned(), url, token, data })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Where it listens; within TLS when it was started so.
    pub(crate) fn target(&self, http2: bool) -> anyhow::Result<Target> {
        match self.url.strip_prefix("https://") {
            None => Ok(Target::plain(authority(&self.url)?.parse()?, http2)),
            Some(authority) => {
                Target::tls(authority.parse()?, http2, &self.data.path().join("data").join("tls").join("ca.pem"))
            }
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.daemon.stop(Signal::SIGTERM).await
    }

    /// Runs a scenario of `startline load` against it; the inner error says why there is none.
    pub(crate) async fn load(&self, scenario: &str, further: &[String]) -> anyhow::Result<Result<Figures, String>> {
        let pid = self.pid().to_string();
        let place = ["--url", &self.url, "--token", &self.token, "--pid", &pid].map(str::to_owned);
        load(&self.program, self.data.path(), scenario, &[&place[..], further].concat()).await
    }
}

/// The service's process, which has not said yet that it listens.
fn server(program: &Path, data: &Path, further: &[&str]) -> anyhow::Result<Daemon> {
    let mut command = startline(program);
    command.args(["server", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(data);
    command.args(WITHOUT_LIMITS).args(further);
    Daemon::start(command)
}

/// Starts the service over this data, and stops it: how long it took from the start until it answered that it is ready.
pub(crate) async fn time_to_ready(program: &Path, data: &Path) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut daemon = server(program, data, &[])?;
    let url = daemon.line("API: ").await?;
    let target = Target::plain(authority(url.trim_end_matches("/api/v1"))?.parse()?, false);
    loop {
        // Refused while it does not listen.
        if let Ok(mut link) = Link::open(&target).await
            && link.get("/readyz", None).await?.0 == StatusCode::OK
        {
            break;
        }
        anyhow::ensure!(begun.elapsed() < READY, "the service is not ready:{}", daemon.words());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    daemon.stop(Signal::SIGTERM).await?;
    Ok(took)
}

/// `host:port` of an address of the service.
fn authority(url: &str) -> anyhow::Result<&str> {
    url.strip_prefix("http://").with_context(|| format!("{url} is no http:// address"))
}

/// Runs a scenario of `startline load`, which starts what it needs, with data in `directory`, unless it is told where
/// that is.
pub(crate) async fn load(
    program: &Path,
    directory: &Path,
    scenario: &str,
    further: &[String],
) -> anyhow::Result<Result<Figures, String>> {
    if !scenarios(program).await?.iter().any(|known| known == scenario) {
        return Ok(Err(format!("no scenario `{scenario}` in startline load")));
    }
    let mut command = startline(program);
    command.args(["load", scenario, "--json"]).args(further).env("TMPDIR", directory).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Family::found(&mut command);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let _family = Family::of(&child);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.with_context(|| format!("startline load {scenario} did not end"))??;
    let words = String::from_utf8_lossy(&output.stderr);
    let last = String::from_utf8_lossy(&output.stdout).trim().lines().last().unwrap_or_default().to_owned();
    let Ok(figures) = serde_json::from_str::<Figures>(&last) else {
        bail!("startline load {scenario} {} ended with {}: {}", further.join(" "), output.status, words.trim());
    };
    Ok(Ok(figures))
}

/// The scenarios that this program has.
async fn scenarios(program: &Path) -> anyhow::Result<Vec<String>> {
    let help = startline(program).args(["load", "--help"]).output().await;
    let help = help.with_context(|| format!("cannot start {}", program.display()))?;
    Ok(commands(&String::from_utf8_lossy(&help.stdout)))
}

/// Names of the commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let named = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_read_from_the_help() {
        let help = "Put a service under load\n\nCommands:\n  polls      Park many polls,\n             and more\n  \
                    lifecycle  Whole lives\n  help       Print\n\nOptions:\n  -h, --help  Print help\n";
        assert_eq!(commands(help), ["polls", "lifecycle", "help"]);
        assert!(commands("nothing").is_empty());
    }
}
