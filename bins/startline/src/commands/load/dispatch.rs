//! `startline load dispatch`: how long a job takes to a waiting runner, at a steady rate.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use serde_json::json;
use tokio::time::Instant;

use super::fleet::{Fleet, Style};
use super::ledger::Ledger;
use super::lifecycle::submit;
use super::pacing::{Alarm, Pool, Schedule, open_loop};
use super::report::Report;
use super::scene::{OPEN, Scene, check_descriptors, job_request};
use super::usage::Moment;
use crate::cli::DispatchArgs;

/// How long everything runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// Most connections for submissions, and those that are open from the beginning.
const SENDERS: u32 = 256;
const READY: usize = 16;

pub(super) async fn execute(args: DispatchArgs) -> anyhow::Result<ExitCode> {
    let connections = args.waiting + SENDERS;
    check_descriptors(connections, "fewer runners --waiting")?;
    let scene = Scene::open(&args.scene, connections, false).await?;
    eprintln!("registering {} runners", args.waiting);
    let runners = scene.register(args.waiting).await?;
    let ledger = Arc::new(Ledger::default());
    let mut fleet = Fleet::new(Style { auto_acquire: args.auto_acquire, ..Style::default() }, &ledger);
    fleet.start(&runners, scene.target.connect_many(&scene.tasks, runners.len(), 1).await?);
    scene.await_open(args.waiting, Instant::now() + OPEN).await.map_err(|error| ledger.explain(error))?;

    eprintln!("measuring for {} s", args.seconds);
    let pool = Pool::new(scene.target.clone(), scene.tasks.clone(), SENDERS);
    pool.fill(READY).await?;
    let time = Duration::from_secs(args.seconds);
    let schedule = Schedule { start: Instant::now(), per_second: args.rate };
    let from = schedule.start + WARM_UP;
    ledger.measure(from, from + time);
    let submission = Arc::new((scene.token.clone(), job_request(&scene.label, args.payload)));
    let mut send = |_, intended| {
        let (pool, ledger, submission) = (Arc::clone(&pool), Arc::clone(&ledger), Arc::clone(&submission));
        scene.tasks.spawn(async move {
            let submitted = pool.with(async |link| submit(link, &submission.0, &submission.1).await).await;
            match submitted {
                Ok(job) => ledger.submitted(job, intended),
                Err(error) => ledger.failed(format!("a job was not taken: {error:#}")),
            }
        });
    };
    let mut alarm = Alarm::new()?;
    let warming = schedule.count(WARM_UP);
    let count = schedule.count(time);
    open_loop(schedule, warming, &mut alarm, &mut send).await?;
    let before = Moment::now(scene.pid)?;
    let rest = Schedule { start: from, ..schedule };
    open_loop(rest, count, &mut alarm, &mut send).await?;
    let after = Moment::now(scene.pid);
    ledger.until_completed(warming + count).await;
    fleet.stop().await;

    let (measured, errors) = ledger.close();
    let mut report = Report::new(
        "dispatch",
        json!({
            "rate": args.rate, "waiting": args.waiting, "payload_bytes": args.payload,
            "auto_acquire": args.auto_acquire, "synchronous": args.scene.synchronous(),
        }),
        time,
        measured.to_offered.count(),
    );
    report.errors = errors;
    report.latency_us = measured.to_offered.summary();
    report.tell("held_latency_us", measured.to_held.summary());
    report.tell("completed_latency_us", measured.to_completed.summary());
    report.tell("sending_connections", pool.opened());
    report.cost(&before, after, report.count);
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}
