//! What one decision costs, against the number of queued jobs, of waiting runners and of whoever is at a limit: it should
//! hardly grow.
//!
//! `cargo run --release -p startline-dispatcher --example dispatch_cost`
#![expect(clippy::print_stdout, reason = "the table is the point")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::sync::Arc;

use std::time::Instant;

use jiff::Timestamp;
use startline_dispatcher::{
    Assignment, Config, Dispatcher, Effect, GroupKey, GroupPolicy, JobSpec, LostPolicy, Patience, PollId, PollOutcome,
    Requirement, RunnerSpec,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const DECISIONS: i64 = 2_000;

fn runner(id: i64, alike: bool) -> RunnerSpec {
    // Machines measure their free disk, so in practice no two are equal.
    let disk_space_gb = if alike { 100 } else { u32::try_from(id).unwrap_or(0) };
    RunnerSpec {
        id: RunnerId(id),
        name: format!("runner-{id}"),
        labels: vec!["self-hosted".to_owned(), "linux".to_owned(), "pool-0".to_owned()],
        scope: Scope::Instance,
        group: "default".to_owned(),
        capabilities: Capabilities { disk_space_gb, ..Capabilities::default() },
        ephemeral: false,
        draining: false,
        patience: Patience::default(),
    }
}

fn job(id: i64) -> JobSpec {
    JobSpec {
        id: JobId(id),
        run: RunId(id),
        timeout_minutes: 360,
        requirement: Arc::new(Requirement {
            labels: vec!["linux".to_owned(), format!("pool-{}", id % 20)],
            group: None,
            repository: format!("acme/app-{}", id % 50),
            trusted: true,
        }),
        priority: i32::try_from(id % 3).unwrap_or(0),
        sequence: id,
        attempt: 1,
        epoch: Epoch::ZERO,
        queued_at: NOW,
        on_runner_lost: LostPolicy::Requeue,
        requeues_left: 1,
    }
}

/// Microseconds for one poll that gets a job, its completion, and the enqueueing of another.
fn with_queued(jobs: i64) -> f64 {
    let mut dispatcher = Dispatcher::new(Config::default());
    dispatcher.add_runner(NOW, runner(1, true));
    for id in 0..jobs {
        let _ = dispatcher.enqueue(NOW, job(id));
    }
    let begun = Instant::now();
    for turn in 0..DECISIONS {
        let poll = PollId(turn.unsigned_abs());
        if let (PollOutcome::Assigned(assignment), _) = dispatcher.poll(NOW, RunnerId(1), poll, true) {
            let _ = dispatcher.complete(NOW, assignment.job, assignment.epoch);
        }
        let _ = dispatcher.enqueue(NOW, job(jobs + turn));
    }
    micros(begun)
}

/// Microseconds for one job that wakes a poll, its completion, and the next poll.
fn with_waiting(runners: i64, alike: bool) -> f64 {
    let mut dispatcher = Dispatcher::new(Config::default());
    // The class is known before the runners come, as it would be.
    let _ = dispatcher.enqueue(NOW, job(0));
    dispatcher.cancel_queued(JobId(0));
    let mut polls = 0;
    let mut poll = |dispatcher: &mut Dispatcher, runner| {
        polls += 1;
        dispatcher.poll(NOW, runner, PollId(polls), true).0
    };
    for id in 1..=runners {
        dispatcher.add_runner(NOW, runner(id, alike));
        poll(&mut dispatcher, RunnerId(id));
    }
    let begun = Instant::now();
    for turn in 1..=DECISIONS {
        let id = turn * 20;
        let _ = dispatcher.enqueue(NOW, job(id));
        if let Ok(completed) = dispatcher.complete(NOW, JobId(id), Epoch(1)) {
            poll(&mut dispatcher, completed.runner);
        }
    }
    micros(begun)
}

fn limited(change: impl FnOnce(&mut GroupPolicy)) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(Config::default());
    let mut policy = GroupPolicy::open(GroupKey::new(&Scope::Instance, "default"));
    change(&mut policy);
    dispatcher.set_group(NOW, policy);
    dispatcher
}

/// Microseconds for one job of a group that runs as many as it may, while jobs and other runners wait for it to end.
fn with_limited_group(runners: i64, alike: bool) -> f64 {
    let mut dispatcher = limited(|group| group.max_running_jobs = Some(5));
    let mut running: Vec<Assignment> = Vec::new();
    for id in 1..=100 {
        let _ = dispatcher.enqueue(NOW, job(id * 20));
    }
    let mut polls = 0;
    let mut poll = |dispatcher: &mut Dispatcher, runner| {
        polls += 1;
        dispatcher.poll(NOW, runner, PollId(polls), true).0
    };
    for id in 1..=runners {
        dispatcher.add_runner(NOW, runner(id, alike));
        if let PollOutcome::Assigned(assignment) = poll(&mut dispatcher, RunnerId(id)) {
            running.push(assignment);
        }
    }
    let begun = Instant::now();
    for turn in 101..=100 + DECISIONS {
        let _ = dispatcher.enqueue(NOW, job(turn * 20));
        let ended = running.swap_remove(0);
        let completed = dispatcher.complete(NOW, ended.job, ended.epoch);
        for effect in completed.into_iter().flat_map(|completed| completed.effects) {
            if let Effect::Assigned { assignment, .. } = effect {
                running.push(assignment);
            }
        }
        if let PollOutcome::Assigned(assignment) = poll(&mut dispatcher, ended.runner) {
            running.push(assignment);
        }
    }
    let took = micros(begun);
    assert_eq!(running.len(), 5);
    took
}

/// Microseconds as [`with_queued`], while so many repositories have more urgent jobs and are at their limit.
fn with_limited_repositories(repositories: i64) -> f64 {
    let mut dispatcher = limited(|group| group.max_running_jobs_per_repository = Some(1));
    let mut many = runner(1, true);
    many.capabilities.max_parallel_jobs = u32::MAX;
    dispatcher.add_runner(NOW, many);
    let next =
        |dispatcher: &mut Dispatcher, poll: i64| dispatcher.poll(NOW, RunnerId(1), PollId(poll.unsigned_abs()), true).0;
    for id in 0..repositories {
        for again in 0..2 {
            let mut urgent = job((id + again * repositories) * 20);
            urgent.priority = 9;
            Arc::make_mut(&mut urgent.requirement).repository = format!("acme/limited-{id}");
            let _ = dispatcher.enqueue(NOW, urgent);
        }
        assert!(matches!(next(&mut dispatcher, id), PollOutcome::Assigned(_)));
    }
    let mut id = 2 * repositories * 20;
    let begun = Instant::now();
    for turn in 0..DECISIONS {
        id += 20;
        let _ = dispatcher.enqueue(NOW, job(id));
        let PollOutcome::Assigned(assignment) = next(&mut dispatcher, repositories + turn) else {
            panic!("job {id} is at no limit")
        };
        let _ = dispatcher.complete(NOW, assignment.job, assignment.epoch);
    }
    micros(begun)
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(i32::try_from(DECISIONS).unwrap_or(1))
}

fn main() {
    println!("queued jobs      µs per job");
    for jobs in [1_000, 10_000, 100_000, 1_000_000] {
        println!("{jobs:>11} {:>15.1}", with_queued(jobs));
    }
    println!("\nwaiting runners  µs per job, equal machines  no two machines equal");
    for runners in [10, 100, 1_000, 10_000, 100_000] {
        println!("{runners:>15} {:>27.1} {:>22.1}", with_waiting(runners, true), with_waiting(runners, false));
    }
    println!("\nas above, in a group that runs 5 of 5 jobs");
    for runners in [10, 100, 1_000, 10_000, 100_000] {
        let took = |alike| with_limited_group(runners, alike);
        println!("{runners:>15} {:>27.1} {:>22.1}", took(true), took(false));
    }
    println!("\nrepositories that run 1 of 1 jobs  µs per job of another");
    for repositories in [10, 100, 1_000, 10_000, 100_000] {
        println!("{repositories:>33} {:>23.1}", with_limited_repositories(repositories));
    }
}
