//! `startline load dispatch`: how long a job takes to a waiting runner, at a steady rate.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use serde_json::json;
use tokio::time::Instant;

use super::fleet::{Fleet, Style};
use super::ledger::Ledger;
use super::report::Report;
use super::scene::{OPEN, Scene, check_descriptors};
use super::steady::{SENDERS, submit_jobs};
use crate::cli::DispatchArgs;

pub(super) async fn execute(args: DispatchArgs) -> anyhow::Result<ExitCode> {
    let connections = args.waiting + SENDERS;
    check_descriptors(connections, "fewer runners --waiting")?;
    let scene = Scene::open(&args.scene, connections, false).await?;
    let runners = scene.register(args.waiting).await?;
    let ledger = Arc::new(Ledger::default());
    let mut fleet = Fleet::new(Style { auto_acquire: args.measured.auto_acquire, ..Style::default() }, &ledger);
    fleet.start(&runners, scene.target.connect_many(&scene.tasks, runners.len(), 1).await?);
    scene.await_open(args.waiting, Instant::now() + OPEN).await.map_err(|error| ledger.explain(error))?;
    scene.await_quiet().await?;

    eprintln!("measuring for {} s", args.measured.seconds);
    let time = Duration::from_secs(args.measured.seconds);
    let steady = submit_jobs(&scene, &ledger, (args.rate, time), args.measured.payload).await?;
    fleet.stop().await;

    let (measured, errors) = ledger.close();
    let mut report = Report::new(
        "dispatch",
        json!({
            "rate": args.rate, "waiting": args.waiting, "payload_bytes": args.measured.payload,
            "auto_acquire": args.measured.auto_acquire, "synchronous": args.scene.synchronous(),
        }),
        time,
        measured.to_offered.count(),
    );
    report.errors = errors;
    report.latency_us = measured.to_offered.summary();
    report.tell("held_latency_us", measured.to_held.summary());
    report.tell("completed_latency_us", measured.to_completed.summary());
    report.tell("sending_connections", steady.senders);
    report.cost(&steady.before, steady.after, report.count);
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}
