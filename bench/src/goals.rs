//! `startline-bench goals`: every goal beside its anchor in the same run.
//!
//! Servers are started once; then contenders take turns, forwards and backwards (A-B-B-A), and medians are compared. A
//! figure without a judge, such as what a peer did beside the goal, is kept in the results too.

pub(crate) mod results;
mod suites;
pub(crate) mod table;
pub(crate) mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::Args;
use tokio::time::Duration;

use crate::cli::{Measured, Place};
use crate::figures::Figures;
use crate::machine;
use crate::ours::{self, Ours};
use crate::peer::{Load, PeerName, Peers};
use crate::probe::{Company, Probe, Watch};
use crate::sample::turns;
use results::{Measurement, Results};
use verdict::{Found, Goal, Row};

/// Most letters of an error that stand in the table.
const MOST_LETTERS: usize = 80;

/// Command line of `goals`.
#[derive(Args, Debug)]
pub(crate) struct GoalsArgs {
    #[command(flatten)]
    pub(crate) measured: Measured,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Fewer and shorter rounds
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these goals, such as S1,S2
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub(crate) only: Vec<String>,
    /// Write the results as JSON to standard output instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Directory for the results
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The comparison with act, which is measured by a script of its own
    #[arg(long, default_value = "scripts/bench-act", value_name = "FILE")]
    pub(crate) act: PathBuf,
}

/// How much is done for each goal.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: usize,
    /// Of each contender in a round.
    seconds: u64,
    /// Polls that are parked for a slope of memory, and before them.
    polls: u32,
    warm: u32,
    /// Polls at once over all.
    many: u32,
    /// Queued jobs of a shallow and of a deep queue.
    queued: &'static str,
    /// Log lines, all together.
    logs: &'static str,
    /// Waiting runners of a large fleet, and jobs of a burst.
    fleet: u32,
    /// Starts of the service.
    starts: usize,
    quick: bool,
}

impl Effort {
    const FULL: Self = Self {
        rounds: 5,
        seconds: 5,
        polls: 18_000,
        warm: 2000,
        many: 100_000,
        queued: "1000,1000000",
        logs: "1GiB",
        fleet: 10_000,
        starts: 10,
        quick: false,
    };
    const QUICK: Self = Self {
        rounds: 2,
        seconds: 2,
        polls: 6000,
        warm: 1000,
        many: 20_000,
        queued: "1000,20000",
        logs: "128MiB",
        fleet: 2000,
        starts: 5,
        quick: true,
    };

    const fn lasting(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// A goal, the path of its figure, and name and path of the anchor's within the same figures.
type Wanted<'path> = (Goal, &'path str, Option<(&'path str, &'path str)>);

/// A run under way.
struct Bench {
    args: GoalsArgs,
    /// The program that is measured.
    startline: PathBuf,
    effort: Effort,
    peers: Peers,
    load_before: f64,
    /// Life cycles a second of the service, once they are measured.
    rate: Option<f64>,
    results: Results,
}

pub(crate) async fn execute(args: GoalsArgs) -> anyhow::Result<ExitCode> {
    let startline = args.measured.program()?;
    let unknown: Vec<&str> = args.only.iter().map(String::as_str).filter(|id| !suites::IDS.contains(id)).collect();
    anyhow::ensure!(unknown.is_empty(), "there is no goal {unknown:?}; there are {}", suites::IDS.join(", "));
    let json = args.json;
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let before = Probe::take(args.place.check()?, Duration::from_secs(2))?;
    eprintln!("before: {}", before.text());
    let results = Results::begin(args.quick, &startline, before).await;
    let mut bench = Bench {
        effort,
        peers: Peers::new(&args.place.dir),
        load_before: results.probe_before.load,
        rate: None,
        results,
        startline,
        args,
    };
    // What was measured until a signal is told as well; servers are killed when the work is dropped.
    tokio::select! {
        () = Box::pin(bench.all()) => {}
        ended = crate::cli::signalled() => {
            ended?;
            eprintln!("ended by a signal: the rest was not measured");
            bench.results.whole = false;
        }
    }
    bench.results.peers = bench.peers.about();
    let Bench { args, peers, mut results, .. } = bench;
    peers.stop().await?;
    let after = Probe::take(&args.place.dir, Duration::from_secs(2))?;
    eprintln!("after: {}", after.text());
    results.probe_after = Some(after);
    let path = results.write(&args.out)?;
    if json {
        println!("{}", serde_json::to_string(&results)?);
    } else {
        println!("{}", results.text(false));
    }
    eprintln!("written: {}", path.display());
    results.outcome()
}

/// One who takes turns with others.
enum Contender<'run> {
    Peer(PeerName, Load),
    /// A scenario against a service that runs.
    Ours {
        name: &'static str,
        server: &'run Ours,
        scenario: &'static str,
        further: Vec<String>,
    },
}

impl Contender<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Peer(peer, _) => peer.name(),
            Self::Ours { name, .. } => name,
        }
    }
}

/// What one contender did in all rounds.
struct Turns {
    name: &'static str,
    rounds: Vec<Figures>,
    missing: Option<String>,
}

impl Turns {
    /// A single round.
    fn once(name: &'static str, ran: Result<Figures, String>) -> Self {
        match ran {
            Ok(figures) => Self { name, rounds: vec![figures], missing: None },
            Err(why) => Self { name, rounds: Vec::new(), missing: Some(why) },
        }
    }

    /// A figure of each round, by its path.
    fn found(&self, pointer: &str) -> Found {
        if let Some(why) = &self.missing {
            return Found::Missing(why.clone());
        }
        let rounds: Option<Vec<f64>> = self.rounds.iter().map(|figures| figures.number(pointer)).collect();
        let found = rounds.map_or_else(|| Found::Missing(format!("has no {pointer}")), Found::of);
        let errors: u64 = self.rounds.iter().map(|figures| figures.errors.count).sum();
        if errors == 0 {
            return found;
        }
        let first = self.rounds.iter().find_map(|figures| figures.errors.first.first());
        let first = first.map(|first| beginning(first)).unwrap_or_default();
        let figure = if let Found::Figure(figure) = found { Some(figure) } else { None };
        Found::Wrong(format!("{errors} errors: {first}"), figure)
    }
}

impl Bench {
    /// Whether any of these goals is wanted.
    fn wants(&self, ids: &[&str]) -> bool {
        self.args.only.is_empty() || ids.iter().any(|id| self.args.only.iter().any(|only| only == id))
    }

    /// A service for this run.
    async fn server(&self, further: &[&str]) -> anyhow::Result<Ours> {
        Ours::start(&self.startline, &self.args.place.dir, further).await
    }

    /// Lets all take turns, and tells who else was there.
    async fn turns<'run>(
        &mut self,
        what: &str,
        contenders: &[Contender<'run>],
    ) -> anyhow::Result<(Vec<Turns>, Company)> {
        let mut all: Vec<Turns> = contenders
            .iter()
            .map(|contender| Turns { name: contender.name(), rounds: Vec::new(), missing: None })
            .collect();
        let watch = Watch::begin();
        for (round, index) in turns(self.effort.rounds, contenders.len()) {
            if all[index].missing.is_some() {
                continue;
            }
            eprintln!("{what}: round {round} of {}, {}", self.effort.rounds, all[index].name);
            let ran = match &contenders[index] {
                Contender::Peer(peer, load) => self.peers.run(*peer, *load).await?,
                Contender::Ours { server, scenario, further, .. } => server.load(scenario, further).await?,
            };
            match ran {
                Ok(figures) => all[index].rounds.push(figures),
                Err(why) => all[index].missing = Some(why),
            }
        }
        for turns in &all {
            self.keep(what, turns);
        }
        let company = self.company(&watch);
        Ok((all, company))
    }

    /// Who else was there since then; the load before is that before the whole run, which nothing of ours has raised.
    fn company(&self, watch: &Watch) -> Company {
        Company { load_before: self.load_before, ..watch.end() }
    }

    /// Keeps all rounds, and fails nothing that came with errors silently.
    fn keep(&mut self, what: &str, turns: &Turns) {
        for figures in turns.rounds.iter().filter(|figures| figures.errors.count > 0) {
            eprintln!(
                "{what}, {}: {} errors, such as {:?}",
                turns.name,
                figures.errors.count,
                figures.errors.first.first()
            );
        }
        self.results.measurements.push(Measurement {
            what: what.to_owned(),
            who: turns.name.to_owned(),
            missing: turns.missing.clone(),
            rounds: turns.rounds.clone(),
        });
    }

    fn row(&mut self, goal: Goal, ours: Found, anchor: Option<(&str, Found)>, company: Company) {
        if self.wants(&[goal.id]) {
            self.results.rows.push(Row::judge(goal, ours, anchor, company));
        }
    }

    /// One scenario alone, a few times; each goal with the path of its figure, and of its anchor's where that is within.
    async fn alone(
        &mut self,
        scenario: &'static str,
        further: Vec<String>,
        goals: &[Wanted<'_>],
    ) -> anyhow::Result<()> {
        let server = self.server(&[]).await?;
        let contender = Contender::Ours { name: "ours", server: &server, scenario, further };
        let (turns, company) = self.turns(scenario, &[contender]).await?;
        for (goal, pointer, anchor) in goals {
            let anchor = anchor.map(|(who, pointer)| (who, turns[0].found(pointer)));
            self.row(*goal, turns[0].found(pointer), anchor, company);
        }
        server.stop().await
    }
}

/// As much of an error as fits into the table.
fn beginning(error: &str) -> String {
    error.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST_LETTERS).collect()
}

/// Versions that belong to a result.
async fn versions(startline: &std::path::Path) -> Vec<(String, String)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ours = ours::version(startline).await;
    let mut versions = vec![("kernel".to_owned(), release.trim().to_owned()), ("startline".to_owned(), ours)];
    for (name, program, arguments) in [
        ("rustc", "rustc", &["--version"][..]),
        ("commit", "git", &["rev-parse", "HEAD"]),
        ("tree", "git", &["status", "--porcelain", "--untracked-files=no"]),
    ] {
        if let Some(line) = machine::first_line(program, arguments) {
            let line = if name == "tree" { "changed since the commit".to_owned() } else { line };
            versions.push((name.to_owned(), line));
        }
    }
    versions
}
