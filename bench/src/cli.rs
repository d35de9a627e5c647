//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::println;
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Duration;

use crate::figures::Figures;
use crate::generator::{Closed, Paced};
use crate::goals::results::Results;
use crate::goals::{self, GoalsArgs};
use crate::growth::{self, GrowthArgs};
use crate::machine;
use crate::peer::{Load, PeerName, Peers};
use crate::plots::{self, PlotsArgs};
use crate::polls::{self, Host, Polls};
use crate::probe::Probe;
use crate::serve::{self, Bare};
use crate::soak::{self, SoakArgs};

#[derive(Parser, Debug)]
#[command(
    name = "startline-bench",
    version,
    about = "Measures the service beside the best of its kind",
    after_help = "bench/run installs the peers, builds everything and runs `goals`."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// How the disk, a processor and the load of this machine are now
    Probe(ProbeArgs),
    /// Put a peer under load
    Peer(PeerArgs),
    /// Serve nothing but parked requests, with a bare library
    Serve(ServeArgs),
    /// Park polls on a bare server or on the service, and measure what they cost it
    Polls(PollsArgs),
    /// Every goal beside its anchor, in one table
    #[command(after_help = "Examples:\n  startline-bench goals --quick\n  startline-bench goals --only S1,S2 --json")]
    Goals(GoalsArgs),
    /// The table of a run that was written
    #[command(after_help = "Example:\n  startline-bench table --markdown target/bench/results-2026-11-22T100000Z.json")]
    Table(TableArgs),
    /// How latency and processor time of a job grow with the queue, the fleet and the tenants
    Growth(GrowthArgs),
    /// Draw what `growth --json` measured
    #[command(
        after_help = "Example:\n  startline-bench growth --json >growth.json && startline-bench plots growth.json"
    )]
    Plots(PlotsArgs),
    /// Half of what the service can do, for long: memory and latency must stay
    #[command(after_help = "Examples:\n  startline-bench soak --minutes 30\n  startline-bench soak --minutes 3 --json")]
    Soak(SoakArgs),
}

/// Where everything is kept that is measured: it must be on the disk that is meant, not in memory.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Directory for the data of servers, on the disk that is meant
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

impl Place {
    /// Says so when nothing can be written there, before what needs it reads as missing.
    pub(crate) fn check(&self) -> anyhow::Result<&Path> {
        tempfile::tempfile_in(&self.dir).with_context(|| {
            format!("cannot write to {}; name a directory on the disk that is meant with --dir", self.dir.display())
        })?;
        Ok(&self.dir)
    }
}

/// What is measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct Measured {
    /// The program that is measured; a release build
    #[arg(long, default_value = "target/release/startline", value_name = "FILE")]
    startline: PathBuf,
}

impl Measured {
    /// The program, from whatever directory it is started.
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        self.startline.canonicalize().with_context(|| {
            format!(
                "there is no {}; build it with `cargo build --release -p startline`, or name another program with \
                 --startline",
                self.startline.display()
            )
        })
    }
}

#[derive(Args, Debug)]
struct ProbeArgs {
    #[command(flatten)]
    place: Place,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct ServeArgs {
    bare: Bare,
    /// Speak HTTP/2 with prior knowledge instead of HTTP/1.1
    #[arg(long)]
    http2: bool,
}

#[derive(Args, Debug)]
struct TableArgs {
    /// What `goals` wrote
    #[arg(value_name = "FILE")]
    results: PathBuf,
    /// For a page of documentation
    #[arg(long)]
    markdown: bool,
}

#[derive(Args, Debug)]
struct PollsArgs {
    host: Host,
    /// Speak HTTP/2 with prior knowledge instead of HTTP/1.1
    #[arg(long)]
    http2: bool,
    /// Within TLS; the service only
    #[arg(long)]
    tls: bool,
    /// Parked polls
    #[arg(long, default_value_t = 18_000, value_name = "N")]
    polls: u32,
    /// Polls at the first of the two points whose slope is measured
    #[arg(long, default_value_t = 2000, value_name = "N")]
    warm: u32,
    /// Polls that a bare server wakes afterwards, one at a time
    #[arg(long, default_value_t = 5000, value_name = "N")]
    wakes: u32,
    /// When everything is measured and told, keep the polls parked until a SIGTERM
    #[arg(long)]
    hold: bool,
    /// How long memory is left to settle before it is read
    #[arg(long, default_value_t = polls::SETTLE.as_secs_f64(), value_name = "SECONDS")]
    settle: f64,
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    place: Place,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Whole cycles as fast as they go
    Lifecycle,
    /// From the time at which a job was meant to be sent until a waiting consumer has it
    Dispatch,
}

#[derive(Args, Debug)]
struct PeerArgs {
    peer: PeerName,
    #[command(flatten)]
    place: Place,
    #[arg(long, default_value = "lifecycle")]
    scenario: Scenario,
    /// How long
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    #[arg(long, default_value_t = 64, value_name = "N")]
    producers: usize,
    /// Consumers; under `dispatch`, those that wait
    #[arg(long, default_value_t = 64, value_name = "N")]
    consumers: usize,
    /// Jobs a second under `dispatch`
    #[arg(long, default_value_t = 200.0, value_name = "N")]
    rate: f64,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    machine::raise_descriptors().context("cannot raise the limit of open files")?;
    match cli.command {
        Command::Probe(args) => {
            let probe = Probe::take(args.place.check()?, Duration::from_secs(2))?;
            println!("{}", if args.json { serde_json::to_string(&probe)? } else { probe.text() });
            Ok(ExitCode::SUCCESS)
        }
        Command::Peer(args) => interruptible(peer(args)).await,
        Command::Serve(args) => serve::serve(args.bare, args.http2).await.map(|()| ExitCode::SUCCESS),
        Command::Polls(args) => polls(args).await,
        Command::Goals(args) => goals::execute(args).await,
        Command::Table(args) => {
            println!("{}", Results::read(&args.results)?.text(args.markdown));
            Ok(ExitCode::SUCCESS)
        }
        Command::Growth(args) => interruptible(growth::execute(args)).await,
        Command::Plots(args) => plots::execute(&args),
        Command::Soak(args) => interruptible(soak::execute(args)).await,
    }
}

/// Ends the work at a signal: what it started is killed when it is dropped, which a signal alone would not do.
async fn interruptible(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::select! {
        done = work => done,
        ended = signalled() => {
            ended?;
            anyhow::bail!("ended by a signal")
        }
    }
}

/// Returns at SIGTERM and at Ctrl-C.
pub(crate) async fn signalled() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn polls(args: PollsArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.warm < args.polls, "--warm must be less than --polls");
    let PollsArgs { host, http2, tls, polls, warm, wakes, .. } = args;
    let load = Polls { host, http2, tls, warm, polls, wakes, settle: Duration::from_secs_f64(args.settle) };
    let mut stop = signal(SignalKind::terminate())?;
    let (figures, held) = polls::park(load, &args.measured, args.place.check()?).await?;
    println!("{}", if args.json { serde_json::to_string(&figures)? } else { text(&figures) });
    if args.hold {
        stop.recv().await;
    }
    if let Some(why) = held.leave().await? {
        anyhow::bail!("a poll failed: {why}");
    }
    Ok(if figures.errors.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn peer(args: PeerArgs) -> anyhow::Result<ExitCode> {
    let mut peers = Peers::new(args.place.check()?);
    let lasting = Duration::from_secs_f64(args.seconds);
    let load = match args.scenario {
        Scenario::Lifecycle => Load::Closed(Closed { producers: args.producers, consumers: args.consumers, lasting }),
        Scenario::Dispatch => {
            Load::Paced(Paced { rate: args.rate, waiting: args.consumers, producers: args.producers.min(4), lasting })
        }
    };
    let ran = peers.run(args.peer, load).await?;
    let about = peers.about();
    peers.stop().await?;
    match ran {
        Err(missing) => {
            println!("skipped: {missing}");
            Ok(ExitCode::SUCCESS)
        }
        Ok(mut figures) => {
            figures.more.insert("about".to_owned(), about.into());
            println!("{}", if args.json { serde_json::to_string(&figures)? } else { text(&figures) });
            Ok(if figures.errors.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn text(figures: &Figures) -> String {
    let mut text = format!("{}: {:.0} a second", figures.scenario, figures.per_second);
    if let Some(latency) = figures.latency_us {
        text += &format!(", latency p50 {:.0} µs p99 {:.0} µs", latency.p50, latency.p99);
    }
    if let Some(cpu) = figures.server.and_then(|server| server.cpu_us_per_op) {
        text += &format!(", server {cpu:.0} µs of processor each");
    }
    for name in ["user_kib_per_poll", "kernel_kib_per_poll"] {
        if let Some(kib) = figures.more.get(name).and_then(serde_json::Value::as_f64) {
            text += &format!(", {name} {kib:.2}");
        }
    }
    for error in &figures.errors.first {
        text += &format!("\nerror: {error}");
    }
    text + &figures.more.get("about").map(|about| format!("\n{about}")).unwrap_or_default()
}
