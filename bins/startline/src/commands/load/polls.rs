//! `startline load polls`: the scene, the load, the account.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use anyhow::Context;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fleet::{Fleet, POLL, POLL_SECONDS, Style};
use super::ledger::Ledger;
use super::link::Target;
use super::process::ServerProcess;
use super::report::{Report, millis};
use super::runs::{Account, account, submit_all};
use super::scene::{OPEN, Scene, check_descriptors};
use super::usage::{Moment, Resident, Slope, warm};
use crate::cli::PollsArgs;

/// How long memory is left to settle before it is read, at most.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) async fn execute(args: PollsArgs) -> anyhow::Result<ExitCode> {
    let sockets = if args.http2 { args.runners.div_ceil(args.streams) } else { args.runners };
    check_descriptors(sockets, "fewer --runners, or --http2")?;
    let scene = Scene::open(&args.scene, args.runners, args.http2).await?;
    let runners = scene.register(args.runners).await?;
    let ledger = Arc::new(Ledger::default());
    let mut fleet = Fleet::new(Style::default(), &ledger);
    let streams = usize::try_from(args.streams)?;
    let mut opening = Duration::ZERO;
    let mut open = async |from: usize, to: usize| -> anyhow::Result<Option<Resident>> {
        let began = Instant::now();
        fleet.start(&runners[from..to], scene.target.connect_many(&scene.tasks, to - from, streams).await?);
        let open = scene.await_open(u32::try_from(to)?, Instant::now() + OPEN).await;
        open.map_err(|error| ledger.explain(error))?;
        opening += began.elapsed();
        let Some(pid) = scene.pid else { return Ok(None) };
        settle(args.runners).await;
        Resident::of(pid).map(Some)
    };
    eprintln!("parking the polls");
    let first = usize::try_from(warm(args.runners))?;
    let warm_memory = open(0, first).await?;
    let full_memory = open(first, runners.len()).await?;
    let memory = match (warm_memory, full_memory) {
        (Some(at_warm), Some(at_full)) => Some(Slope::between((warm(args.runners), at_warm), (args.runners, at_full))),
        _ => None,
    };

    let began = Moment::now(scene.pid)?;
    let mut handed_out = Account::default();
    if args.jobs > 0 {
        eprintln!("handing out {} jobs", args.jobs);
        let runs = submit_all(&scene, &ledger, args.jobs, args.batch, args.rate).await?;
        ledger.until_completed(args.jobs.into()).await;
        handed_out = account(&scene, &ledger, runs, args.jobs).await?;
    }
    let ended = Moment::now(scene.pid);
    let time = ledger.last().map_or(Duration::ZERO, |last| last - began.at());
    let after_jobs = match scene.pid {
        Some(pid) if args.jobs > 0 => {
            scene.await_open(args.runners, Instant::now() + OPEN).await.map_err(|error| ledger.explain(error))?;
            settle(args.runners).await;
            Some(Resident::of(pid)?.now)
        }
        _ => None,
    };
    fleet.stop().await;

    let mut report = Report::new(
        "polls",
        json!({
            "runners": args.runners, "jobs": args.jobs, "http": if args.http2 { "2" } else { "1.1" },
            "batch": args.batch, "rate": args.rate, "synchronous": args.scene.synchronous(),
        }),
        time,
        handed_out.completed,
    );
    report.errors = ledger.close().1;
    report.latency_us = handed_out.latency.summary();
    report.tell("open_ms", millis(opening));
    report.tell("memory", memory);
    report.tell("after_jobs_kib", after_jobs);
    report.cost(&began, ended, handed_out.completed);
    scene.end(&runners, &mut report).await;

    if args.compare_hyper {
        eprintln!("parking as many on bare hyper");
        let slope = bare_hyper(&args).await?;
        report.tell("bare_hyper", slope);
        report.tell("ratio", memory.map(|own| own.bytes_per_poll / slope.bytes_per_poll));
    }
    report.close(args.scene.json)
}

/// Lets what the service does in the wake of opening polls come to its end.
async fn settle(polls: u32) {
    tokio::time::sleep(SETTLE.min(Duration::from_millis(100) + Duration::from_millis(2) * polls)).await;
}

/// Parks as many requests on bare hyper and measures them in the same way.
async fn bare_hyper(args: &PollsArgs) -> anyhow::Result<Slope> {
    let mut arguments = vec!["load".to_owned(), "bare-hyper".to_owned()];
    arguments.extend(args.http2.then(|| "--http2".to_owned()));
    let mut process = ServerProcess::start(&arguments)?;
    let address = process.line("listening: ").await?;
    let target = Target::new(&format!("http://{address}"), args.http2)?;
    let tasks = TaskTracker::new();
    let streams = usize::try_from(args.streams)?;
    let mut asking = target.connect(&tasks).await?;
    let body = json!({ "timeout_seconds": POLL_SECONDS }).to_string();
    // As long as the real one.
    let token = format!("slt_{}", "0".repeat(49));
    let mut polls = JoinSet::new();
    let mut points = Vec::new();
    for (from, to) in [(0, warm(args.runners)), (warm(args.runners), args.runners)] {
        for mut link in target.connect_many(&tasks, usize::try_from(to - from)?, streams).await? {
            let (token, body) = (token.clone(), body.clone());
            polls.spawn(async move { link.post(POLL, &token, body.as_bytes()).await.map(|_| link) });
        }
        let until = Instant::now() + OPEN;
        loop {
            let open = asking.get("/open", &token).await?;
            let open: u32 = String::from_utf8_lossy(&open.body).parse().context("bare hyper does not count")?;
            if open >= to {
                break;
            }
            anyhow::ensure!(Instant::now() < until, "bare hyper parked only {open} of {to} requests in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        settle(args.runners).await;
        points.push((to, Resident::of(process.pid())?));
    }
    polls.shutdown().await;
    let [at_warm, at_full] = points[..] else { anyhow::bail!("two measurements were made") };
    Ok(Slope::between(at_warm, at_full))
}
