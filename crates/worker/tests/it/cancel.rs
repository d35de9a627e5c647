//! Cancel, the runner's death, and the loss of the job.

use std::time::Duration;

use serde_json::json;
use startline_protocol::state::Conclusion::{Cancelled, Skipped, Success};
use startline_worker::input::Exit;
use tokio::time::Instant;

use crate::harness::{Job, poll, run, runs, with};

const STUBBORN: &str = "\
trap '' INT TERM
echo $$ > parent
bash -c \"trap '' INT TERM; echo \\$\\$ > child; while :; do sleep 1; done\" &
while [ ! -s child ]; do sleep 0.05; done
echo ready
while :; do sleep 1; done";

fn always(script: &str) -> serde_json::Value {
    with(run(script), &[("condition", json!("always()"))])
}

#[tokio::test]
async fn a_cancel_ends_stubborn_children_within_twelve_seconds() {
    let steps = vec![
        run(STUBBORN),
        run("echo never"),
        always("echo clean up"),
        with(run("echo was cancelled"), &[("condition", json!("cancelled()"))]),
        with(run("echo not failed"), &[("condition", json!("failure()"))]),
    ];
    let mut job = Job::new(steps).start();
    job.until_log("Z ready\n").await;
    let start = Instant::now();
    job.cancel("somebody asked");
    job.cancel("asked again");
    let workspace = job.workspace();
    let outcome = job.finish().await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(outcome.conclusion(), Cancelled);
    assert_eq!(outcome.conclusions(), [Cancelled, Skipped, Success, Success, Skipped]);
    assert!(outcome.has("##[warning]The job is being cancelled: somebody asked"));
    assert!(outcome.has("##[error]The operation was canceled.") && outcome.has("clean up") && !outcome.has("Z never"));
    for file in ["parent", "child"] {
        assert!(!runs(&workspace.join(file)), "{file} still runs");
    }
}

#[tokio::test]
async fn a_process_that_obeys_ends_at_once() {
    let mut job =
        Job::new(vec![run("trap 'echo got it; exit 0' INT; echo ready; while :; do sleep 0.1; done")]).start();
    job.until_log("Z ready\n").await;
    let start = Instant::now();
    job.cancel("enough");
    let outcome = job.finish().await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(outcome.has("got it"));
    assert_eq!((outcome.conclusion(), outcome.conclusions()), (Cancelled, vec![Cancelled]));
}

#[tokio::test]
async fn a_running_step_that_asks_to_run_anyway_is_left_alone() {
    let steps = vec![always("echo ready; while [ ! -e go ]; do sleep 0.05; done; echo done anyway"), run("echo never")];
    let mut job = Job::new(steps).start();
    job.until_log("Z ready\n").await;
    job.cancel("enough");
    job.until_log("being cancelled").await;
    std::fs::write(job.workspace().join("go"), "").unwrap();
    let outcome = job.finish().await;
    assert!(outcome.has("done anyway"));
    assert_eq!((outcome.conclusion(), outcome.conclusions()), (Cancelled, vec![Success, Skipped]));
}

#[tokio::test]
async fn a_cancel_before_the_first_step_skips_them_all() {
    let mut job = Job::new(vec![run("sleep 60"), always("echo at the end")]).start();
    job.cancel("too late to begin");
    let outcome = job.finish().await;
    assert_eq!(outcome.conclusion(), Cancelled);
    assert!(outcome.has("at the end"));
}

#[tokio::test]
async fn when_the_runner_dies_everything_is_killed_and_nothing_reported() {
    let script = "setsid bash -c 'echo $$ > escaped; exec sleep 300' & echo $$ > main; while [ ! -s escaped ]; do sleep 0.05; done; echo ready; sleep 300";
    let mut job = Job::new(vec![run(script), always("touch later")]).start();
    job.until_log("Z ready\n").await;
    let workspace = job.workspace();
    let start = Instant::now();
    job.close();
    assert_eq!(job.exit().await, Exit::Failed);
    assert!(start.elapsed() < Duration::from_secs(5));
    poll("the processes are gone", || !runs(&workspace.join("main")) && !runs(&workspace.join("escaped"))).await;
    assert!(!workspace.join("later").exists());
    assert!(job.service.told().completion.is_none());
}

#[tokio::test]
async fn a_job_that_is_no_longer_ours_stops_at_once() {
    let mut job =
        Job::new(vec![run("echo $$ > main; echo ready; while sleep 0.1; do echo on; done"), always("touch later")])
            .start();
    job.until_log("Z ready\n").await;
    let workspace = job.workspace();
    job.service.told().stale = true;
    assert_eq!(job.exit().await, Exit::Stale);
    poll("the process is gone", || !runs(&workspace.join("main"))).await;
    assert!(!workspace.join("later").exists());
    assert!(job.service.told().completion.is_none());
}

#[tokio::test]
async fn input_that_is_no_job_is_refused() {
    for input in ["", "{}\n", "nonsense\n", "{\"assignment\":"] {
        let exit = startline_worker::run_process(std::io::Cursor::new(input.as_bytes().to_vec())).await;
        assert_eq!(exit, Exit::Failed, "{input}");
    }
}
