//! The service goes away, comes back, forgets, is slow: the log stays whole and in order.

use std::time::Duration;

use startline_protocol::state::Conclusion::Success;
use tokio::time::Instant;

use crate::harness::{Job, run};

const COUNT: &str = "echo ready; for i in $(seq 200); do echo \"line $i\"; sleep 0.005; done; touch counted; while [ ! -e go ]; do sleep 0.02; done; echo end";

fn counted(lines: &[&str]) -> bool {
    let numbers: Vec<u32> = lines.iter().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    numbers == (1..=200).collect::<Vec<_>>()
}

#[tokio::test]
async fn lines_are_seen_while_the_step_still_runs() {
    let job = Job::new(vec![run("echo early; while [ ! -e go ]; do sleep 0.02; done")]).start();
    job.until_log("Z early\n").await;
    let steps = job.service.told().steps();
    assert_eq!(steps[1].status, startline_protocol::state::StepStatus::Running);
    std::fs::write(job.workspace().join("go"), "").unwrap();
    job.finish().await.green();
}

#[tokio::test]
async fn a_restart_of_the_service_loses_nothing() {
    let mut job = Job::new(vec![run(COUNT), run("echo second step")]).start();
    job.until_log("line 20\n").await;
    job.service.stop();
    // The job goes on meanwhile.
    let workspace = job.workspace();
    crate::harness::poll("the step counts on", || workspace.join("counted").exists()).await;
    std::fs::write(workspace.join("go"), "").unwrap();
    job.service.restart();
    let outcome = job.finish().await.green();
    assert!(counted(&outcome.step_lines(1)));
    assert_eq!(outcome.step_lines(2), ["second step"]);
}

#[tokio::test]
async fn a_service_that_is_gone_at_the_end_is_waited_for() {
    let mut job = Job::new(vec![run("echo ready; while [ ! -e go ]; do sleep 0.02; done; touch over")]).start();
    job.until_log("Z ready\n").await;
    job.service.stop();
    let workspace = job.workspace();
    std::fs::write(workspace.join("go"), "").unwrap();
    crate::harness::poll("the step is over", || workspace.join("over").exists()).await;
    assert!(!job.is_finished());
    job.service.restart();
    assert_eq!(job.finish().await.conclusion(), Success);
}

#[tokio::test]
async fn appends_whose_answer_is_lost_are_not_stored_twice() {
    let job = Job::new(vec![run("for i in $(seq 200); do echo \"line $i\"; sleep 0.005; done")]);
    job.service.told().forgetful = 3;
    job.service.told().unavailable = 3;
    assert!(counted(&job.finish().await.green().step_lines(1)));
}

#[tokio::test]
async fn a_service_that_lost_its_tail_gets_it_again() {
    let mut job = Job::new(vec![run(COUNT)]).start();
    job.until_log("line 50\n").await;
    job.service.stop();
    let held = job.service.told().log.len();
    job.service.told().log.truncate(held / 2);
    job.service.restart();
    std::fs::write(job.workspace().join("go"), "").unwrap();
    assert!(counted(&job.finish().await.green().step_lines(1)));
}

#[tokio::test]
async fn a_slow_service_does_not_hold_up_the_steps() {
    let job = Job::new(vec![run(
        "for i in $(seq 20000); do echo \"$i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"; done; touch over",
    )]);
    job.service.told().delay = Duration::from_millis(700);
    let start = Instant::now();
    let running = job.start();
    let over = running.workspace().join("over");
    crate::harness::poll("the step is over", || over.exists()).await;
    let step = start.elapsed();
    assert!(!running.is_finished(), "the log is still on its way");
    let outcome = running.finish().await.green();
    assert_eq!(outcome.step_lines(1).len(), 20_000);
    assert!(step < start.elapsed());
}

#[tokio::test]
async fn megabytes_arrive_whole_and_in_order() {
    let script = "python3 -c '\nfor i in range(60000):\n    print(i, \"é\" * 40)\nprint(\"z\" * 300000)'";
    let outcome = Job::new(vec![run(script)]).finish().await.green();
    let lines = outcome.step_lines(1);
    assert!(lines[..60_000].iter().enumerate().all(|(i, line)| line.split_once(' ').unwrap().0 == i.to_string()));
    assert_eq!(lines[60_000..].concat(), "z".repeat(300_000));
}

#[tokio::test]
async fn a_service_that_takes_no_more_log_still_hears_the_end() {
    let job = Job::new(vec![run("echo one; while [ ! -e go ]; do sleep 0.02; done; echo two")]).start();
    job.until_log("Z one\n").await;
    job.service.told().log_full = true;
    std::fs::write(job.workspace().join("go"), "").unwrap();
    let outcome = job.finish().await;
    let completion = outcome.completion.as_ref().unwrap();
    assert_eq!(completion.conclusion, Success);
    assert!(completion.annotations.iter().any(|annotation| annotation.message.starts_with("The log is not complete")));
}
