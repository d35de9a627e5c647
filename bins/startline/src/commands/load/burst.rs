//! `startline load burst`: all jobs at once, and no runner that idles beside them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use serde_json::json;
use tokio::time::Instant;

use super::fleet::{Fleet, Style};
use super::ledger::{Idle, Ledger};
use super::report::{Report, millis};
use super::runs::{Wait, account, submit_all};
use super::scene::{OPEN, Scene, check_descriptors};
use super::usage::Moment;
use crate::cli::BurstArgs;

/// How long a job may wait beside an idle runner.
const OVERDUE: Duration = Duration::from_secs(1);

pub(super) async fn execute(args: BurstArgs) -> anyhow::Result<ExitCode> {
    check_descriptors(args.runners, "fewer --runners")?;
    let scene = Scene::open(&args.scene, args.runners, false).await?;
    let runners = scene.register(args.runners).await?;
    let ledger = Arc::new(Ledger::watching_runners());
    let job = Duration::from_millis(args.job_ms);
    let style = Style { auto_acquire: args.auto_acquire, runs_for: job, ..Style::default() };
    let mut fleet = Fleet::new(style, &ledger);
    fleet.start(&runners, scene.target.connect_many(&scene.tasks, runners.len(), 1).await?);
    scene.await_open(args.runners, Instant::now() + OPEN).await.map_err(|error| ledger.explain(error))?;
    scene.await_quiet().await?;

    eprintln!("submitting {} jobs", args.jobs);
    let before = Moment::now(&scene.pid)?;
    let runs = submit_all(&scene, &ledger, args.jobs).await?;
    let submitted = before.at().elapsed();
    ledger.until_completed(args.jobs.into()).await;
    let after = Moment::now(&scene.pid);
    let ended = ledger.last().unwrap_or_else(|| before.at());
    let idle = ledger.idle(Instant::now());
    let account = account(&scene, &ledger, runs, args.jobs).await?;
    fleet.stop().await;

    let delivered = account.waits.iter().map(|wait| wait.offered).max().unwrap_or_else(|| before.at());
    let beside = longest_beside(&idle, &account.waits);
    let overdue = longest_overdue(&idle, &account.waits);
    if beside > OVERDUE {
        ledger.failed(format!("a job was queued for {beside:?} beside an idle runner that could have had it"));
    }
    let mut report = Report::new(
        "burst",
        json!({
            "jobs": args.jobs, "runners": args.runners, "job_ms": args.job_ms, "auto_acquire": args.auto_acquire,
            "synchronous": args.scene.synchronous(),
        }),
        delivered - before.at(),
        account.completed,
    );
    report.errors = ledger.close().1;
    report.latency_us = account.latency.summary();
    report.tell("submitted_ms", millis(submitted));
    report.tell("delivered_ms", millis(delivered - before.at()));
    report.tell("completed_ms", millis(ended - before.at()));
    report.tell("longest_wait_beside_idle_runner_ms", millis(beside));
    report.tell("longest_idle_while_overdue_ms", millis(overdue));
    report.cost(&before, after, report.count);
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}

/// The longest time for which one job was queued while one and the same runner was idle.
fn longest_beside(idle: &[Idle], waits: &[Wait]) -> Duration {
    let mut idle: Vec<_> = idle.iter().map(|idle| (idle.to - idle.from, idle)).collect();
    let mut waits: Vec<_> = waits.iter().map(|wait| (wait.offered - wait.queued, wait)).collect();
    idle.sort_unstable_by_key(|(length, _)| std::cmp::Reverse(*length));
    waits.sort_unstable_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut longest = Duration::ZERO;
    for (length, idle) in idle {
        if length <= longest {
            break;
        }
        for (length, wait) in &waits {
            if *length <= longest {
                break;
            }
            let both = idle.to.min(wait.offered).saturating_duration_since(idle.from.max(wait.queued));
            longest = longest.max(both);
        }
    }
    longest
}

/// The longest time for which a runner was idle while some job or other had been queued for more than a second.
fn longest_overdue(idle: &[Idle], waits: &[Wait]) -> Duration {
    let mut overdue: Vec<_> = waits.iter().map(|wait| (wait.queued + OVERDUE, wait.offered)).collect();
    overdue.retain(|(from, to)| from < to);
    overdue.sort_unstable();
    // What overlaps becomes one.
    let mut united: Vec<(Instant, Instant)> = Vec::new();
    for (from, to) in overdue {
        match united.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => united.push((from, to)),
        }
    }
    let mut longest = Duration::ZERO;
    for idle in idle {
        let first = united.partition_point(|(_, to)| *to <= idle.from);
        for (from, to) in united[first..].iter().take_while(|(from, _)| *from < idle.to) {
            longest = longest.max(idle.to.min(*to) - idle.from.max(*from));
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(start: Instant, millis: &[(u64, u64)]) -> Vec<(Instant, Instant)> {
        let after = |millis| start + Duration::from_millis(millis);
        millis.iter().map(|(from, to)| (after(*from), after(*to))).collect()
    }

    fn both(idle: &[(u64, u64)], queued: &[(u64, u64)]) -> (u128, u128) {
        let start = Instant::now();
        let idle: Vec<_> = spans(start, idle).into_iter().map(|(from, to)| Idle { from, to }).collect();
        let waits = spans(start, queued).into_iter().map(|(queued, offered)| Wait { queued, offered });
        let waits: Vec<_> = waits.collect();
        (longest_beside(&idle, &waits).as_millis(), longest_overdue(&idle, &waits).as_millis())
    }

    #[test]
    fn a_job_that_waits_while_all_runners_are_busy_is_no_violation() {
        assert_eq!(both(&[(0, 100), (5000, 5002)], &[(10, 20), (200, 5002)]), (10, 2));
        assert_eq!(both(&[(0, 10)], &[(10, 9000)]), (0, 0));
        assert_eq!(both(&[], &[(10, 9000)]), (0, 0));
    }

    #[test]
    fn a_job_that_waits_beside_an_idle_runner_is_found_among_many() {
        assert_eq!(both(&[(0, 10), (1000, 9000), (0, 2000)], &[(0, 1), (500, 4000), (3000, 3500)]), (3000, 2500));
        // Two jobs after each other, none of which waits long with the runner, but one is always overdue.
        assert_eq!(both(&[(2000, 5000)], &[(500, 3500), (1000, 5000)]).1, 3000);
    }
}
