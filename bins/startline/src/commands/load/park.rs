//! Many parked polls towards one service: in this process, or in another one where one process may not open so many.

use std::process::ExitCode;
use std::sync::Arc;

use anstream::println;
use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fleet::{Fleet, Style};
use super::ledger::{Entry, Ledger};
use super::link::Target;
use super::process::ServerProcess;
use super::report::Errors;
use super::scene::{OPEN, Runner};
use crate::descriptors;

/// What another process is told at first.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    url: String,
    http2: bool,
    /// Polls that share a connection under HTTP/2.
    streams: usize,
    sources: u32,
    auto_acquire: bool,
    runners: Vec<Runner>,
}

/// What it is told afterwards, and answers each.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Park the polls of the first so many runners.
    Open(usize),
    /// Say how many jobs are completed, and whether something failed.
    Tell,
    /// Say everything, and end.
    End,
}

/// How far it is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    completed: u64,
    failed: bool,
}

/// Everything that it saw: jobs with the nanoseconds since 1970 at which they were handed out, taken and completed.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    jobs: Vec<(i64, [Option<i128>; 3])>,
    errors: Errors,
}

/// The same moment by both clocks.
struct Clocks(Instant, Timestamp);

impl Clocks {
    fn now() -> Self {
        Self(Instant::now(), Timestamp::now())
    }

    fn to_wall(&self, at: Instant) -> i128 {
        let before = SignedDuration::try_from(self.0.saturating_duration_since(at)).unwrap_or_default();
        let after = SignedDuration::try_from(at.saturating_duration_since(self.0)).unwrap_or_default();
        self.1.as_nanosecond() - before.as_nanos() + after.as_nanos()
    }

    fn to_instant(&self, nanos: i128) -> Instant {
        let since = self.1.as_nanosecond() - nanos;
        let length = std::time::Duration::from_nanos(u64::try_from(since.unsigned_abs()).unwrap_or(u64::MAX));
        let at = if since >= 0 { self.0.checked_sub(length) } else { self.0.checked_add(length) };
        at.unwrap_or(self.0)
    }
}

/// Runners whose polls are parked.
pub(super) enum Park {
    Here { fleet: Fleet, target: Target, tasks: TaskTracker, streams: usize, runners: Vec<Runner>, opened: usize },
    Elsewhere(Box<ServerProcess>),
}

impl Park {
    /// Runners of this process, which enter what they see into the ledger.
    pub(super) fn here(
        target: &Target,
        tasks: &TaskTracker,
        streams: usize,
        runners: Vec<Runner>,
        style: Style,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let (target, tasks, fleet) = (target.clone(), tasks.clone(), Fleet::new(style, ledger));
        Self::Here { fleet, target, tasks, streams, runners, opened: 0 }
    }

    /// Runners of another process.
    pub(super) async fn elsewhere(
        target: &Target,
        streams: usize,
        runners: Vec<Runner>,
        auto_acquire: bool,
    ) -> anyhow::Result<Self> {
        let mut process =
            ServerProcess::start_listening("a process that polls", &["load".to_owned(), "park".to_owned()])?;
        let url = format!("http://{}", target.authority());
        let (http2, sources) = (target.is_http2(), target.sources());
        let task = Task { url, http2, streams, sources, auto_acquire, runners };
        process.say(&serde_json::to_string(&task)?).await?;
        Ok(Self::Elsewhere(Box::new(process)))
    }

    /// Opens the polls of the first so many runners, those that are not open yet.
    pub(super) async fn open(&mut self, to: usize) -> anyhow::Result<()> {
        match self {
            Self::Here { fleet, target, tasks, streams, runners, opened } => {
                let to = to.min(runners.len());
                let links = target.connect_many(tasks, to - *opened, *streams).await?;
                fleet.start(&runners[*opened..to], links);
                *opened = to;
                Ok(())
            }
            Self::Elsewhere(process) => ask(process, &Order::Open(to)).await.map(drop),
        }
    }

    /// Jobs that another process has completed, and whether something failed there; of this one the ledger tells.
    pub(super) async fn progress(&mut self) -> anyhow::Result<(u64, bool)> {
        let Self::Elsewhere(process) = self else { return Ok((0, false)) };
        let progress: Progress = serde_json::from_str(&ask(process, &Order::Tell).await?)?;
        Ok((progress.completed, progress.failed))
    }

    /// Stops them, and enters what another process saw into the ledger.
    pub(super) async fn end(self, ledger: &Ledger) -> anyhow::Result<()> {
        let mut process = match self {
            Self::Here { fleet, .. } => {
                fleet.stop().await;
                return Ok(());
            }
            Self::Elsewhere(process) => *process,
        };
        let seen: Seen = serde_json::from_str(&ask(&mut process, &Order::End).await?)?;
        let clocks = Clocks::now();
        for (job, [offered, held, completed]) in seen.jobs {
            let at = |nanos: Option<i128>| nanos.map(|nanos| clocks.to_instant(nanos));
            if let Some(at) = at(offered) {
                ledger.offered(job, at);
            }
            if let Some(at) = at(held) {
                ledger.held(job, at);
            }
            if let Some(at) = at(completed) {
                ledger.completed(job, at);
            }
        }
        ledger.join(seen.errors);
        process.ended().await
    }
}

/// Gives an order and waits for its answer.
async fn ask(process: &mut ServerProcess, order: &Order) -> anyhow::Result<String> {
    process.say(&serde_json::to_string(order)?).await?;
    process.line("done ", OPEN).await
}

/// The other process: it reads what to do from standard input and answers on standard output.
pub(super) async fn execute() -> anyhow::Result<ExitCode> {
    descriptors::raise_limit()?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let task = lines.next_line().await?.context("no task came")?;
    let task: Task = serde_json::from_str(&task)?;
    let target = Target::new(&task.url, task.http2)?.with_sources(Some(task.sources), 0)?;
    let ledger = Arc::new(Ledger::default());
    let style = Style { auto_acquire: task.auto_acquire, ..Style::default() };
    let mut park = Park::here(&target, &TaskTracker::new(), task.streams, task.runners, style, &ledger);
    while let Some(order) = lines.next_line().await? {
        match serde_json::from_str(&order)? {
            Order::Open(to) => {
                park.open(to).await?;
                println!("done {{}}");
            }
            Order::Tell => {
                let progress = Progress { completed: ledger.completions(), failed: ledger.has_failed() };
                println!("done {}", serde_json::to_string(&progress)?);
            }
            Order::End => {
                park.end(&ledger).await?;
                let clocks = Clocks::now();
                let wall = |at: Option<Instant>| at.map(|at| clocks.to_wall(at));
                let way = |entry: Entry| [entry.offered, entry.held, entry.completed].map(wall);
                let jobs = ledger.take_open().into_iter().map(|(job, entry)| (job, way(entry))).collect();
                let seen = Seen { jobs, errors: ledger.close().1 };
                println!("done {}", serde_json::to_string(&seen)?);
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    bail!("nobody waits for the end any more");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_the_same_by_the_clocks_of_two_processes() {
        let (ours, theirs) = (Clocks::now(), Clocks::now());
        for at in [ours.0 - Duration::from_millis(7), ours.0, ours.0 + Duration::from_millis(7)] {
            let there = theirs.to_instant(ours.to_wall(at));
            let apart = there.saturating_duration_since(at).max(at.saturating_duration_since(there));
            assert!(apart < Duration::from_millis(5), "{apart:?}");
        }
    }
}
