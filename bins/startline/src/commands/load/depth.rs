//! `startline load depth`: what a claim costs behind a long queue, what the queue costs, and a start with it.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anstream::eprintln;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fleet::{Fleet, Style};
use super::ledger::Ledger;
use super::report::{Errors, Report, Summary, millis};
use super::runs::{self, MOST_JOBS};
use super::scene::{Runner, Scene, check_descriptors, job_request, submit};
use super::usage::{Moment, Resident};
use crate::cli::DepthArgs;

/// Label sets of the jobs in front, none of which the polling runners have.
const SETS: u32 = 63;
/// Connections that fill the queue.
const FILLERS: u32 = 8;
/// How often it is told how far the filling is.
const TOLD: Duration = Duration::from_secs(10);

/// What was found at one depth.
#[derive(Debug, Serialize)]
struct Depth {
    queued: u32,
    claims: u64,
    claims_per_second: f64,
    claim_latency_us: Option<Summary>,
    server_cpu_us_per_claim: Option<f64>,
    /// Resident KiB of the service with this queue, and bytes of it for each job since the depth before.
    user_kib: Option<u64>,
    bytes_per_queued_job: Option<f64>,
    filled_seconds: f64,
}

pub(super) async fn execute(args: DepthArgs) -> anyhow::Result<ExitCode> {
    let connections = args.runners + FILLERS + 8;
    check_descriptors(connections, "fewer --runners")?;
    let mut scene = Scene::open(&args.scene, connections, false).await?;
    let runners = scene.register(args.runners).await?;
    let mut depths = args.queued.clone();
    depths.sort_unstable();
    let mut found: Vec<Depth> = Vec::new();
    let mut errors = Errors::default();
    let mut filled = Vec::new();
    let mut ended = None;
    for depth in depths {
        scene.await_quiet().await?;
        let queued = u32::try_from(filled.len())? * MOST_JOBS;
        let memory = scene.pid.map(Resident::of).transpose()?;
        let began = Instant::now();
        filled.extend(fill(&scene, depth.saturating_sub(queued)).await?);
        let filled_for = began.elapsed();
        scene.await_quiet().await?;
        let memory = memory.zip(scene.pid.map(Resident::of).transpose()?);
        let grown = memory.map(|(before, after)| after.now.saturating_sub(before.now));
        let added = u32::try_from(filled.len())? * MOST_JOBS - queued;
        let (mut one, moments) = claims(&scene, &runners, args.claims, &mut errors).await?;
        one.queued = queued + added;
        one.user_kib = memory.map(|(_, after)| after.now);
        one.filled_seconds = millis(filled_for) / 1000.0;
        one.bytes_per_queued_job = grown.map(|kib| per_job(kib, added));
        found.push(one);
        ended = Some(moments);
    }
    let Some(((before, after), last)) = ended.zip(found.last()) else { anyhow::bail!("no depth was given") };
    let mut report = Report::new(
        "depth",
        json!({
            "queued": args.queued, "label_sets": SETS + 1, "claims": args.claims, "runners": args.runners,
            "synchronous": args.scene.synchronous(),
        }),
        after.at() - before.at(),
        last.claims,
    );
    report.errors = errors;
    report.latency_us = last.claim_latency_us;
    if let Some(first) = found.first() {
        let cpu = first.server_cpu_us_per_claim.zip(last.server_cpu_us_per_claim);
        report.tell("cpu_ratio", cpu.map(|(first, last)| (100.0 * last / first.max(0.1)).round() / 100.0));
        let p50 = first.claim_latency_us.zip(last.claim_latency_us);
        report.tell("latency_ratio", p50.map(|(first, last)| (100.0 * ratio(last.p50, first.p50)).round() / 100.0));
    }
    report.tell("depths", &found);
    report.cost(&before, Ok(after), report.count);
    if scene.is_own() {
        eprintln!("starting the service anew");
        match scene.restart().await {
            Ok(ready) => report.tell("restart_ready_ms", millis(ready)),
            Err(error) => report.errors.add(format!("{error:#}")),
        }
    } else if let Err(error) = cancel(&scene, &filled).await {
        report.errors.add(format!("{error:#}"));
    }
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}

#[expect(clippy::cast_precision_loss, reason = "below 2^52")]
fn per_job(kib: u64, jobs: u32) -> f64 {
    (kib as f64 * 1024.0 / f64::from(jobs.max(1))).round()
}

#[expect(clippy::cast_precision_loss, reason = "below 2^52")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

/// Queues so many more jobs, in runs of many for one label set each, and gives the runs.
async fn fill(scene: &Scene, jobs: u32) -> anyhow::Result<Vec<i64>> {
    let wanted = jobs.div_ceil(MOST_JOBS);
    let next = Arc::new(AtomicU32::new(0));
    let mut filling = JoinSet::new();
    for _ in 0..FILLERS.min(wanted) {
        let (mut link, next) = (scene.connect().await?, Arc::clone(&next));
        let (token, label) = (scene.token.clone(), scene.label.clone());
        filling.spawn(async move {
            let mut runs = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= wanted {
                    return anyhow::Ok(runs);
                }
                let label = format!("{label}-{}", number % SETS);
                runs.push(runs::submit(&mut link, &token, &label, MOST_JOBS).await?.run.id.0);
            }
        });
    }
    let mut runs = Vec::new();
    let mut told = Instant::now();
    loop {
        match tokio::time::timeout_at(told + TOLD, filling.join_next()).await {
            Ok(None) => break,
            Ok(Some(some)) => runs.extend(some??),
            Err(_) => {
                told = Instant::now();
                eprintln!("{} of {jobs} jobs", next.load(Ordering::Relaxed).min(wanted) * MOST_JOBS);
            }
        }
    }
    // The jobs of a run may be made after its acknowledgement.
    let mut link = scene.connect().await?;
    for run in runs.iter().rev().take(usize::try_from(FILLERS)?) {
        runs::await_jobs(&mut link, &scene.token, *run).await?;
    }
    Ok(runs)
}

/// Queues jobs behind all others and lets the runners take them.
async fn claims(
    scene: &Scene,
    runners: &[Runner],
    claims: u32,
    errors: &mut Errors,
) -> anyhow::Result<(Depth, (Moment, Moment))> {
    let ledger = Arc::new(Ledger::default());
    let body = job_request(&scene.label, 100);
    let mut submitting = JoinSet::new();
    for number in 0..FILLERS {
        let mut link = scene.connect().await?;
        let (token, body, ledger) = (scene.token.clone(), body.clone(), Arc::clone(&ledger));
        let jobs = claims / FILLERS + u32::from(number < claims % FILLERS);
        submitting.spawn(async move {
            for _ in 0..jobs {
                ledger.submitted(submit(&mut link, &token, &body).await?, Instant::now());
            }
            anyhow::Ok(())
        });
    }
    while let Some(submitted) = submitting.join_next().await {
        submitted??;
    }
    scene.await_quiet().await?;
    let mut fleet = Fleet::new(Style { auto_acquire: true, ..Style::default() }, &ledger);
    let links = scene.target.connect_many(&scene.tasks, runners.len(), 1).await?;
    let before = Moment::now(&scene.pid)?;
    fleet.start(runners, links);
    ledger.until_settled(claims.into()).await;
    let after = Moment::now(&scene.pid)?;
    let polls = ledger.polls();
    fleet.stop().await;
    errors.join(ledger.close().1);
    let depth = Depth {
        queued: 0,
        claims: claims.into(),
        claims_per_second: super::report::per_second(claims.into(), after.at() - before.at()),
        claim_latency_us: polls.summary(),
        server_cpu_us_per_claim: before.until(&after).server_each(claims.into()),
        user_kib: None,
        bytes_per_queued_job: None,
        filled_seconds: 0.0,
    };
    Ok((depth, (before, after)))
}

/// Takes back what was queued at a service that others use too.
async fn cancel(scene: &Scene, runs: &[i64]) -> anyhow::Result<()> {
    let mut link = scene.connect().await?;
    for run in runs {
        let answer = link.post(&format!("/api/v1/runs/{run}/cancel"), &scene.token, b"").await?;
        answer.require(http::StatusCode::OK)?;
    }
    Ok(())
}
