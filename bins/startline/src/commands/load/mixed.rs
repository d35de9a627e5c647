//! `startline load mixed`: jobs at a steady rate, beside runners that wait for others and leases that are renewed.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anstream::eprintln;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fleet::{Fleet, Style};
use super::hammer::Shot;
use super::leases::{complete, hold};
use super::ledger::Ledger;
use super::pacing::{Alarm, Pool, Schedule, open_loop};
use super::report::Report;
use super::scene::{OPEN, Scene, check_descriptors};
use super::steady::{SENDERS, WARM_UP, submit_jobs};
use crate::cli::MixedArgs;

/// Jobs whose leases are renewed, each renewal the next one's turn.
const LEASES: u32 = 16;
/// How long the last renewals may take to be answered.
const LAST: Duration = Duration::from_secs(30);

pub(super) async fn execute(args: MixedArgs) -> anyhow::Result<ExitCode> {
    let leases = if args.renewals == 0 { 0 } else { LEASES };
    let connections = args.parked + args.runners + leases + 2 * SENDERS;
    check_descriptors(connections, "fewer --parked")?;
    let scene = Scene::open(&args.scene, connections, false).await?;
    eprintln!("parking {} polls", args.parked);
    let waiting = format!("{}-waiting", scene.label);
    let parked = scene.register_as(&waiting, args.parked).await?;
    let runners = scene.register(args.runners).await?;
    let holding = format!("{}-holding", scene.label);
    let holders = scene.register_as(&holding, leases).await?;
    let held = hold(&scene, &holding, &holders).await?;

    let ledger = Arc::new(Ledger::default());
    let mut idle = Fleet::new(Style::default(), &ledger);
    idle.start(&parked, scene.target.connect_many(&scene.tasks, parked.len(), 1).await?);
    let mut fleet =
        Fleet::new(Style { auto_acquire: args.measured.auto_acquire, renew: true, ..Style::default() }, &ledger);
    fleet.start(&runners, scene.target.connect_many(&scene.tasks, runners.len(), 1).await?);
    let open = args.parked + args.runners;
    scene.await_open(open, Instant::now() + OPEN).await.map_err(|error| ledger.explain(error))?;
    scene.await_quiet().await?;

    eprintln!("measuring for {} s", args.measured.seconds);
    let time = Duration::from_secs(args.measured.seconds);
    let renewed = Arc::new(AtomicU64::new(0));
    let shots = held.iter().map(|held| Shot::post(&held.path("renew"), &held.token, "{}")).collect();
    let renewing = renew(&scene, &ledger, &renewed, shots, (args.renewals, WARM_UP + time));
    let jobs = submit_jobs(&scene, &ledger, (args.rate, time), args.measured.payload);
    let (renewing, steady) = tokio::join!(renewing, jobs);
    renewing?;
    let steady = steady?;
    let (measured, errors) = ledger.close();
    fleet.stop().await;
    idle.stop().await;
    let mut report = Report::new(
        "mixed",
        json!({
            "rate": args.rate, "runners": args.runners, "parked": args.parked, "renewals": args.renewals,
            "payload_bytes": args.measured.payload, "auto_acquire": args.measured.auto_acquire,
            "synchronous": args.scene.synchronous(),
        }),
        time,
        measured.to_offered.count(),
    );
    report.errors = errors;
    report.latency_us = measured.to_offered.summary();
    report.tell("held_latency_us", measured.to_held.summary());
    report.tell("renewed", renewed.load(Ordering::Relaxed));
    report.tell("sending_connections", steady.senders);
    report.cost(&steady.before, steady.after, report.count);
    if let Err(error) = complete(&scene, &held).await {
        report.errors.add(format!("{error:#}"));
    }
    scene.end(&[parked, runners, holders].concat(), &mut report).await;
    report.close(args.scene.json)
}

/// Renews leases in turn, so many a second, and waits for the answers.
async fn renew(
    scene: &Scene,
    ledger: &Arc<Ledger>,
    renewed: &Arc<AtomicU64>,
    shots: Vec<Arc<Shot>>,
    (rate, time): (u32, Duration),
) -> anyhow::Result<()> {
    if shots.is_empty() {
        return Ok(());
    }
    let pool = Pool::new(scene.target.clone(), scene.tasks.clone(), SENDERS);
    let schedule = Schedule { start: Instant::now(), per_second: rate };
    let mut turns = shots.iter().cycle();
    let under_way = TaskTracker::new();
    let send = |_, _| {
        let shot = turns.next().map(Arc::clone);
        let (pool, ledger, renewed) = (Arc::clone(&pool), Arc::clone(ledger), Arc::clone(renewed));
        under_way.spawn(async move {
            let Some(shot) = shot else { return };
            match pool.with(async |link| shot.fire(link).await).await {
                Ok(_) => drop(renewed.fetch_add(1, Ordering::Relaxed)),
                Err(error) => ledger.failed(format!("a lease was not renewed: {error:#}")),
            }
        });
    };
    open_loop(schedule, schedule.count(time), &mut Alarm::new()?, send).await?;
    under_way.close();
    if tokio::time::timeout(LAST, under_way.wait()).await.is_err() {
        let (left, seconds) = (under_way.len(), LAST.as_secs());
        ledger.failed(format!("{left} renewals were not answered {seconds} s after the last was sent"));
    }
    Ok(())
}
