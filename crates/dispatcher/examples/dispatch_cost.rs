//! What one decision costs, against the number of queued jobs and of waiting runners: it should hardly grow.
//!
//! `cargo run --release -p startline-dispatcher --example dispatch_cost`
#![expect(clippy::print_stdout, reason = "the table is the point")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::Instant;

use jiff::Timestamp;
use startline_dispatcher::{
    Config, Dispatcher, JobSpec, LostPolicy, PollId, PollOutcome, Requirement, RunnerSpec, Scope,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunnerId};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const DECISIONS: i64 = 2_000;

fn runner(id: i64, alike: bool) -> RunnerSpec {
    // Machines measure their free disk, so in practice no two are equal.
    let disk_space_gb = if alike { 100 } else { u32::try_from(id).unwrap_or(0) };
    RunnerSpec {
        id: RunnerId(id),
        name: format!("runner-{id}"),
        labels: vec!["self-hosted".to_owned(), "linux".to_owned(), "pool-0".to_owned()],
        group: "default".to_owned(),
        capabilities: Capabilities { disk_space_gb, ..Capabilities::default() },
        ephemeral: false,
        repositories: Scope::All,
        accepts_untrusted: false,
        draining: false,
    }
}

fn job(id: i64) -> JobSpec {
    JobSpec {
        id: JobId(id),
        requirement: Requirement {
            labels: vec!["linux".to_owned(), format!("pool-{}", id % 20)],
            group: None,
            repository: format!("acme/app-{}", id % 50),
            trusted: true,
        },
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
}
