//! `startline-bench growth`: how latency and processor time of a job grow with the queue, the fleet and the tenants.

use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{eprintln, println};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::time::Duration;

use crate::cli::{Measured, Place};
use crate::figures::Figures;
use crate::generator::{self, Paced};
use crate::ours::queue::Fleet;
use crate::ours::{self, Ours};
use crate::peer::{Load, PeerName, Peers};
use crate::probe::{self, Company, Probe, Watch};
use crate::sample::{Spread, turns};

/// Jobs a second: few enough for the slowest of all.
const RATE: f64 = 200.0;
/// Consumers that wait where their number does not grow.
const WAITING: usize = 16;

/// Command line of `growth`.
#[derive(Args, Debug)]
pub(crate) struct GrowthArgs {
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    place: Place,
    /// Fewer and shorter rounds, and no large numbers
    #[arg(long)]
    quick: bool,
    /// Only some
    #[arg(long, value_delimiter = ',', value_name = "WHAT,…")]
    only: Vec<Dimension>,
    /// Write JSON to standard output, for `plots`
    #[arg(long)]
    json: bool,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dimension {
    /// Queued jobs that none of the waiting runners can take
    Depth,
    /// Waiting runners
    Fleet,
    /// Repositories that jobs are submitted for
    Tenants,
}

/// One line of a figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) grows: Dimension,
    pub(crate) who: String,
    /// Why there are no points.
    pub(crate) missing: Option<String>,
    pub(crate) points: Vec<Point>,
}

/// What was measured at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) size: u64,
    pub(crate) p50_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) cpu_us: Spread,
}

/// All of it, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Growth {
    pub(crate) version: u32,
    pub(crate) time: String,
    pub(crate) startline: String,
    pub(crate) rate: f64,
    pub(crate) peers: Vec<String>,
    pub(crate) company: Company,
    pub(crate) probe_before: Probe,
    pub(crate) probe_after: Probe,
    pub(crate) series: Vec<Series>,
}

/// A run under way.
struct Run {
    args: GrowthArgs,
    /// The program that is measured.
    startline: PathBuf,
    peers: Peers,
    rounds: usize,
    lasting: Duration,
    series: Vec<Series>,
}

pub(crate) async fn execute(args: GrowthArgs) -> anyhow::Result<ExitCode> {
    let json = args.json;
    let startline = args.measured.program()?;
    let probe_before = Probe::take(args.place.check()?, Duration::from_secs(2))?;
    eprintln!("before: {}", probe_before.text());
    let watch = Watch::begin();
    let version = ours::version(&startline).await;
    let (rounds, seconds) = if args.quick { (1, 1) } else { (3, 5) };
    let mut run = Run {
        peers: Peers::new(&args.place.dir),
        rounds,
        lasting: Duration::from_secs(seconds),
        series: Vec::new(),
        startline,
        args,
    };
    for grows in [Dimension::Depth, Dimension::Fleet, Dimension::Tenants] {
        if run.args.only.is_empty() || run.args.only.contains(&grows) {
            Box::pin(run.measure(grows)).await?;
        }
    }
    let Run { args, peers, series, .. } = run;
    let about = peers.about();
    peers.stop().await?;
    let growth = Growth {
        version: 1,
        time: probe::time(),
        startline: version,
        rate: RATE,
        peers: about,
        company: watch.end(),
        probe_before,
        probe_after: Probe::take(&args.place.dir, Duration::from_secs(2))?,
        series,
    };
    eprintln!("after: {}", growth.probe_after.text());
    println!("{}", if json { serde_json::to_string(&growth)? } else { growth.text() });
    Ok(ExitCode::SUCCESS)
}

impl Run {
    fn sizes(&self, grows: Dimension) -> Vec<u64> {
        let sizes: &[u64] = match grows {
            // The first two show what a job costs without and with anybody before it.
            Dimension::Depth => &[1, 1000, 10_000, 100_000],
            Dimension::Fleet => &[16, 100, 1000, 10_000],
            Dimension::Tenants => &[1, 10, 100, 1000],
        };
        sizes.iter().copied().filter(|size| !self.args.quick || *size <= 1000).collect()
    }

    async fn measure(&mut self, grows: Dimension) -> anyhow::Result<()> {
        let sizes = self.sizes(grows);
        let ours = Ours::start(&self.startline, &self.args.place.dir, &[]).await?;
        let runners = if grows == Dimension::Fleet { sizes.iter().copied().max().unwrap_or(1) } else { WAITING as u64 };
        eprintln!("{grows:?}: registering {runners} runners");
        let mut fleet = Fleet::register(&ours, u32::try_from(runners)?).await?;
        let peers: &[PeerName] = match grows {
            Dimension::Depth => &[PeerName::PgPoll],
            Dimension::Fleet => &[PeerName::Beanstalkd, PeerName::PgNotify],
            Dimension::Tenants => &[],
        };
        let mut series: Vec<Series> = std::iter::once("startline")
            .chain(peers.iter().map(|peer| peer.name()))
            .map(|who| Series { grows, who: who.to_owned(), missing: None, points: Vec::new() })
            .collect();
        let mut buried = 0;
        for size in sizes {
            let waiting = if grows == Dimension::Fleet { usize::try_from(size)? } else { WAITING };
            let load = Paced { rate: RATE, waiting, producers: 4, lasting: self.lasting };
            fleet.of_repositories(if grows == Dimension::Tenants { u32::try_from(size)? } else { 1 });
            if grows == Dimension::Depth {
                fleet.bury(size - buried).await?;
                buried = size;
                if let Ok(postgres) = self.peers.postgres().await {
                    postgres.fill(i64::try_from(size)?).await?;
                }
            }
            let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); series.len()];
            for (round, index) in turns(self.rounds, series.len()) {
                if index > 0 && (series[index].missing.is_some() || !bears(peers[index - 1], waiting)) {
                    continue;
                }
                eprintln!("{grows:?} {size}: round {round} of {}, {}", self.rounds, series[index].who);
                let ran = match index {
                    0 => Ok(generator::paced(&fleet, load, Some(ours.pid())).await?),
                    peer => self.peers.run(peers[peer - 1], Load::Paced(load)).await?,
                };
                match ran {
                    Ok(figures) => {
                        if let Some(first) = figures.errors.first.first() {
                            eprintln!("{}: {} errors, such as {first}", series[index].who, figures.errors.count);
                        }
                        rounds[index].push(figures);
                    }
                    Err(why) => series[index].missing = Some(why),
                }
            }
            for (series, rounds) in series.iter_mut().zip(rounds) {
                series.points.extend(Point::of(size, &rounds));
            }
        }
        self.series.extend(series);
        ours.stop().await
    }
}

/// Whether a peer can have so many consumers at all: PostgreSQL has a process for each connection.
fn bears(peer: PeerName, waiting: usize) -> bool {
    matches!(peer, PeerName::Beanstalkd) || waiting <= 500
}

impl Point {
    fn of(size: u64, rounds: &[Figures]) -> Option<Self> {
        let all = |pointer: &str| Spread::of(rounds.iter().filter_map(|figures| figures.number(pointer)).collect());
        Some(Self {
            size,
            p50_us: all("/latency_us/p50")?,
            p99_us: all("/latency_us/p99")?,
            cpu_us: all("/server/cpu_us_per_op")?,
        })
    }
}

impl Growth {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for series in &self.series {
            let grows = format!("{:?}", series.grows).to_lowercase();
            if let Some(why) = &series.missing {
                lines.push(format!("{grows:8} {:12} skipped: {why}", series.who));
            }
            for point in &series.points {
                lines.push(format!(
                    "{grows:8} {:12} {:>7}  p50 {:.0} µs  p99 {:.0} µs  {:.0} µs of processor a job",
                    series.who, point.size, point.p50_us.median, point.p99_us.median, point.cpu_us.median
                ));
            }
        }
        lines.join("\n")
    }
}
