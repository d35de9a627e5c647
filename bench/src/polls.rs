//! What a parked poll costs: the same client parks the same requests on bare hyper, bare axum and the service.
//!
//! The client has no buffer for a connection: it waits until the socket is readable and reads into an array on the
//! stack. Requests have a head of about 1.4 KB with a bearer of 1,000 bytes; the service's own bearers are shorter, so
//! there a header fills it up. Memory is the slope between two numbers of polls of the same process.

mod parked;
pub(crate) mod runners;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Duration, Instant};

use crate::cli::Measured;
use crate::daemon::Daemon;
use crate::figures::{Figures, ServerCost};
use crate::link::{Link, Target};
use crate::machine::{self, Memory};
use crate::ours::Ours;
use crate::serve::Bare;
use parked::{Bearer, Crowd};

/// Polls that are parked before anything is measured: every way has been gone once.
const FIRST: u32 = 20;
/// How long memory is left to settle before it is read.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// How long the polls may take to be parked.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a bearer where any will do.
const BEARER: usize = 1000;

/// Who parks the polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Host {
    Hyper,
    Axum,
    Startline,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polls {
    pub(crate) host: Host,
    pub(crate) http2: bool,
    /// Within TLS; the service only.
    pub(crate) tls: bool,
    /// Polls at the first point of the slope, and at the second.
    pub(crate) warm: u32,
    pub(crate) polls: u32,
    /// Polls that are woken one after the other, by a bare server.
    pub(crate) wakes: u32,
    /// How long memory is left to settle.
    pub(crate) settle: Duration,
}

/// A host that runs.
enum Server {
    Bare(Daemon, Target),
    Ours(Ours, Target),
}

impl Server {
    async fn start(load: &Polls, measured: &Measured, directory: &Path) -> anyhow::Result<Self> {
        let bare = match load.host {
            Host::Startline => {
                let tls: &[&str] = if load.tls { &["--tls-self-signed"] } else { &[] };
                let ours = Ours::start(&measured.program()?, directory, tls).await?;
                let target = ours.target(load.http2)?;
                return Ok(Self::Ours(ours, target));
            }
            Host::Hyper => Bare::Hyper,
            Host::Axum => Bare::Axum,
        };
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
        command.arg("serve").arg(bare.to_possible_value().context("a server without a name")?.get_name());
        if load.http2 {
            command.arg("--http2");
        }
        let mut daemon = Daemon::start(command)?;
        let address = daemon.line("listening: ").await?.parse()?;
        Ok(Self::Bare(daemon, Target::plain(address, load.http2)))
    }

    const fn target(&self) -> &Target {
        match self {
            Self::Bare(_, target) | Self::Ours(_, target) => target,
        }
    }

    const fn pid(&self) -> u32 {
        match self {
            Self::Bare(daemon, _) => daemon.pid(),
            Self::Ours(ours, _) => ours.pid(),
        }
    }

    /// Bearers for so many polls.
    async fn bearers(&self, polls: u32) -> anyhow::Result<Vec<Bearer>> {
        match self {
            Self::Bare(..) => {
                let token: Arc<str> = "t".repeat(BEARER).into();
                Ok((0..polls).map(|_| Bearer { token: Arc::clone(&token), filling: 0 }).collect())
            }
            Self::Ours(ours, target) => runners::register(target, ours.token(), polls, BEARER).await,
        }
    }

    /// How many polls are parked.
    async fn open(&self, link: &mut Link) -> anyhow::Result<u32> {
        let (path, bearer) = match self {
            Self::Bare(..) => ("/open", None),
            Self::Ours(ours, _) => ("/metrics", Some(ours.token())),
        };
        let (status, body) = link.get(path, bearer).await?;
        let text = String::from_utf8_lossy(&body);
        let count = match self {
            Self::Bare(..) => Some(text.as_ref()),
            Self::Ours(..) => text.lines().find_map(|line| line.strip_prefix("startline_polls_open ")),
        };
        count.and_then(|count| count.parse().ok()).with_context(|| format!("{path} answered {status} without a count"))
    }

    async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Bare(daemon, _) => daemon.stop(Signal::SIGTERM).await,
            Self::Ours(ours, _) => ours.stop().await,
        }
    }
}

/// Polls that are parked.
pub(crate) struct Held {
    server: Server,
    crowd: Crowd,
}

impl Held {
    /// The process that holds them.
    pub(crate) const fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends it all; why a poll failed meanwhile, if one did.
    pub(crate) async fn leave(self) -> anyhow::Result<Option<String>> {
        let failure = self.crowd.failure();
        self.crowd.leave().await;
        self.server.stop().await?;
        Ok(failure)
    }
}

/// Parks the polls, measures, wakes some, and ends.
pub(crate) async fn run(load: Polls, measured: &Measured, directory: &Path) -> anyhow::Result<Figures> {
    let (mut figures, held) = park(load, measured, directory).await?;
    if let Some(why) = held.leave().await? {
        figures.errors.add(why);
    }
    Ok(figures)
}

/// Parks the polls, measures, wakes some; the polls stay.
pub(crate) async fn park(load: Polls, measured: &Measured, directory: &Path) -> anyhow::Result<(Figures, Held)> {
    if load.tls && load.host != Host::Startline {
        bail!("bare servers are measured without TLS");
    }
    if load.http2 && load.host == Host::Axum {
        bail!("axum is measured on HTTP/1.1 only; underneath it is hyper");
    }
    let sockets = if load.http2 { load.polls.div_ceil(parked::STREAMS) } else { load.polls };
    machine::check_descriptors(sockets, "take fewer --polls, or --http2 where many share a connection")?;
    let server = Server::start(&load, measured, directory).await?;
    // What stays of registrations is there before the first point, so it belongs to no poll.
    let bearers = server.bearers(load.polls).await?;
    let mut crowd = Crowd::new(server.target().clone());
    let mut asking = Link::open(server.target()).await?;
    let mut points = Vec::new();
    let mut from = 0;
    for to in [FIRST.min(load.warm), load.warm, load.polls] {
        crowd.park(&bearers[from..to as usize]).await?;
        let until = Instant::now() + PATIENCE;
        while server.open(&mut asking).await? < to {
            if let Some(why) = crowd.failure() {
                bail!("a poll failed: {why}");
            }
            anyhow::ensure!(Instant::now() < until, "not all of {to} polls were parked in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(load.settle).await;
        points.push((to, Memory::of(server.pid())?, machine::slab()));
        from = to as usize;
    }
    let [_, (_, warm, warm_slab), (_, full, full_slab)] = points[..] else { bail!("three points were measured") };
    let grown = f64::from(load.polls - load.warm).max(1.0);
    let user = (full.resident as f64 - warm.resident as f64) / grown;
    // Both ends of a connection are on this machine.
    let kernel = warm_slab.zip(full_slab).map(|(warm, full)| (full as f64 - warm as f64) / grown / 2.0);

    let (cpu, begun) = (machine::tree_time(server.pid()), Instant::now());
    let latencies = if matches!(server, Server::Bare(..)) { crowd.wake(&mut asking, load.wakes).await? } else { None };
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = machine::tree_time(server.pid()).saturating_sub(cpu).as_secs_f64() * 1e6;
    let woken = if latencies.is_some() { load.wakes } else { 0 };
    let mut figures = Figures {
        scenario: "polls".to_owned(),
        settings: json!({ "host": load.host, "http2": load.http2, "tls": load.tls, "polls": load.polls, "warm": load.warm }),
        seconds,
        count: woken.into(),
        per_second: f64::from(woken) / seconds.max(0.001),
        latency_us: latencies,
        server: Some(ServerCost {
            cpu_us_per_op: (woken > 0).then(|| cpu / f64::from(woken)),
            user_kib: Some(full.resident as f64),
            peak_kib: Some(full.peak as f64),
            kernel_kib: kernel.map(|each| each * f64::from(load.polls)),
        }),
        ..Figures::default()
    };
    figures.more.insert("user_kib_per_poll".to_owned(), Value::from(user));
    // Of the service alone: with it the other ends of the connections, which are this process's.
    let total = kernel.map(|each| (full.resident as f64 + each * f64::from(load.polls)) / 1024.0);
    figures.more.insert("total_mib".to_owned(), Value::from(total));
    figures.more.insert("kernel_kib_per_poll".to_owned(), Value::from(kernel));
    Ok((figures, Held { server, crowd }))
}
