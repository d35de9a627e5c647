use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use startline_protocol::ids::JobId;
use startline_protocol::state::Conclusion;
use startline_runner::{Outcome, Registration};

use crate::service::State;
use crate::stage::{Stage, runs, wait_until};

fn ended(conclusion: Option<Conclusion>) -> Outcome {
    Outcome::JobEnded { job_id: JobId(5), conclusion }
}

const SUCCESS: &str = r#"'{"steps":[],"uploaded":0,"completed":true,"completion":{"conclusion":"success"}}'"#;

#[tokio::test]
async fn an_ephemeral_runner_runs_its_one_job_and_leaves_nothing() {
    let script = format!(
        r#"
        echo "$input" > $stage/input
        tr '\0' '\n' < /proc/$$/environ > $stage/environment; echo >> $stage/environment
        stat -c %a $job > $stage/mode
        echo {SUCCESS} > $job/state.json
        "#
    );
    let stage = Stage::new(&script).await.ephemeral();
    stage.service.queue_job(5);
    stage.service.queue_job(6);
    assert_eq!(stage.start().await.end().await.unwrap(), ended(Some(Conclusion::Success)));

    let input: Value = serde_json::from_str(&stage.read("input").await).unwrap();
    assert_eq!(input["assignment"]["job_id"], 5);
    assert_eq!(input["assignment"]["secrets"]["PASSWORD"], "hunter2");
    assert_eq!(input["assignment"]["job_token"], "eyJ.secret.token");
    assert_eq!(input["runner_name"], "box");
    assert_eq!(input["environment"], "self-hosted");
    assert!(input["work_dir"].as_str().unwrap().ends_with("runner/_work"));
    assert_eq!(stage.read("mode").await, "700\n");
    let environment = stage.read("environment").await;
    assert!(!environment.contains("hunter2") && !environment.contains("secret.token"));

    let (asked, polls, waiting) =
        stage.service.look(|state| (state.asked.clone(), state.polls.clone(), state.queue.len()));
    assert_eq!(asked[0], "POST /api/v1/runners");
    assert_eq!(asked[1], "POST /api/v1/runners/heartbeat", "it says what it does before it asks");
    assert_eq!(polls.len(), 1);
    assert_eq!(waiting, 1, "the second job is left to others");
    assert_eq!(polls[0]["auto_acquire"], true);
    assert_eq!(polls[0]["capabilities"]["max_parallel_jobs"], 1);
    assert!(!Registration::path(&stage.options.dir).exists());
    assert_eq!(std::fs::read_dir(stage.options.dir.join("jobs")).unwrap().count(), 0);
    let mode = std::fs::metadata(&stage.options.dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_the_worker_runs() {
    let stage = Stage::new("await go").await.once();
    stage.service.queue_job(5);
    let running = stage.start().await;
    stage.service.until("three renewals", |state| state.renewals.len() >= 3).await;
    assert_eq!(stage.service.look(|state| state.renewals[0].clone()), json!({ "wait_seconds": 1 }));
    let busy = |state: &crate::service::State| state.heartbeats.iter().any(|beat| beat["status"] == "busy");
    stage.service.until("a busy heartbeat", busy).await;
    let jobs = stage.service.look(|state| state.heartbeats.last().unwrap()["current_jobs"].clone());
    assert_eq!(jobs, json!([5]));
    stage.touch("go");
    assert_eq!(running.end().await.unwrap(), ended(None));
    assert!(stage.service.look(|state| state.completions.is_empty()), "the worker has said that it reported");
}

#[tokio::test]
async fn a_cancel_reaches_the_workers_standard_input() {
    let stage = Stage::new("touch $stage/begun; read -r control; echo \"$control\" > $stage/control").await.once();
    stage.service.queue_job(5);
    let running = stage.start().await;
    wait_until("the worker", || stage.place("begun").exists()).await;
    stage.service.change(|state| state.cancel = Some("asked for".into()));
    assert_eq!(stage.read("control").await, "{\"type\":\"cancel\",\"reason\":\"asked for\"}\n");
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_does_not_end_after_a_cancel_is_killed_and_its_job_ends_cancelled() {
    let mut stage = Stage::new("trap '' INT TERM; echo $$ > $stage/pid; await never").await.once();
    stage.options.cancel_timeout = Duration::from_millis(200);
    stage.service.queue_job(5);
    let running = stage.start().await;
    let pid = stage.read("pid").await;
    stage.service.change(|state| state.cancel = Some("asked for".into()));
    assert_eq!(running.end().await.unwrap(), ended(Some(Conclusion::Cancelled)));
    assert!(!runs(&pid));
    let completion = stage.service.look(|state| state.completions[0].clone());
    assert_eq!(completion["conclusion"], "cancelled");
    let message = completion["annotations"][0]["message"].as_str().unwrap();
    assert!(message.contains("did not end within 0.2 s of the cancel and was killed"), "{message}");
}

#[tokio::test]
async fn a_job_that_says_how_long_its_cancel_may_take_has_that_time() {
    let stopping = "trap '' INT TERM; touch $stage/begun; read -r control; touch $stage/cancelled; await go";
    let mut stage = Stage::new(stopping).await.once();
    stage.options.cancel_timeout = Duration::ZERO;
    let message = json!({
        "messageType": "RunnerJobRequest", "plan": { "planId": uuid(1) }, "timeline": { "id": uuid(2) }, "jobId": uuid(3),
        "variables": { "startline.cancel_timeout_minutes": { "value": "3" } },
    });
    stage.service.queue_job_with(5, &json!({ "job_definition": message }));
    let running = stage.start().await;
    wait_until("the worker", || stage.place("begun").exists()).await;
    stage.service.change(|state| state.cancel = Some("asked for".into()));
    wait_until("the cancel", || stage.place("cancelled").exists()).await;
    stage.service.until("a renewal after the cancel", |state| state.renewals.len() >= 3).await;
    stage.touch("go");
    assert_eq!(running.end().await.unwrap(), ended(None), "the worker has reported the end by itself");
    assert!(stage.service.look(|state| state.completions.is_empty()));
}

fn uuid(number: u8) -> String {
    format!("00000000-0000-0000-0000-0000000000{number:02}")
}

#[tokio::test]
async fn a_crashed_workers_log_steps_and_end_are_reported_and_its_children_killed() {
    let script = r#"
        step() { echo "{\"number\":$1,\"name\":\"s\",\"status\":\"$2\",\"log_start\":0}"; }
        printf 'one\ntwo\nhal' > $job/log
        echo "{\"steps\":[$(step 1 running),$(step 2 pending)],\"uploaded\":4,\"completed\":false}" > $job/state.json
        setsid sleep 600 & echo $! > $stage/child
        echo "it hurts" >&2
        kill -9 $$
    "#;
    let stage = Stage::new(script).await.once();
    stage.service.change(|state| state.log = b"one\n".to_vec());
    stage.service.queue_job(5);
    assert_eq!(stage.start().await.end().await.unwrap(), ended(Some(Conclusion::Failure)));

    let log = stage.service.look(|state| String::from_utf8(state.log.clone()).unwrap());
    let (worker, last) = log.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(worker, "one\ntwo\nhal");
    assert!(last.contains(" ##[error]The worker of this job was killed by signal 9 (SIGKILL)"), "{last}");
    let completion = stage.service.look(|state| state.completions[0].clone());
    assert_eq!(completion["conclusion"], "failure");
    let message = completion["annotations"][0]["message"].as_str().unwrap();
    assert!(message.contains("killed by signal 9 (SIGKILL)") && message.contains("runner box"), "{message}");
    assert_eq!(completion["steps"][0]["conclusion"], "failure");
    assert_eq!(completion["steps"][0]["log_end"], log.len());
    assert_eq!(completion["steps"][1]["conclusion"], "skipped");
    let child = stage.read("child").await;
    wait_until("the worker's child to end", || !runs(&child)).await;
    let diagnostics = std::fs::read_to_string(stage.options.dir.join("_diag/worker-5-1-2.log")).unwrap();
    assert!(diagnostics.contains("it hurts"));
}

#[tokio::test]
async fn the_end_that_a_worker_had_come_to_stands_when_it_dies_before_reporting_it() {
    let script = r#"
        echo done > $job/log
        echo '{"steps":[],"uploaded":9,"completed":false,"completion":{"conclusion":"success","outputs":{"a":"b"}}}' \
            > $job/state.json
        exit 1
    "#;
    let stage = Stage::new(script).await.once();
    stage.service.queue_job(5);
    assert_eq!(stage.start().await.end().await.unwrap(), ended(Some(Conclusion::Success)));
    let completion = stage.service.look(|state| state.completions[0].clone());
    assert_eq!((&completion["conclusion"], &completion["outputs"]["a"]), (&json!("success"), &json!("b")));
    assert!(completion["annotations"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_gap_in_the_services_log_is_filled_from_the_spool() {
    let script = r#"
        printf 'one\ntwo\nthree\n' > $job/log
        echo '{"steps":[],"uploaded":8,"completed":false}' > $job/state.json
        exit 3
    "#;
    let stage = Stage::new(script).await.once();
    // As after a crash of the service that lost what it had not yet put on disk.
    stage.service.change(|state| state.log = b"one\n".to_vec());
    stage.service.queue_job(5);
    stage.start().await.end().await.unwrap();
    let log = stage.service.look(|state| String::from_utf8(state.log.clone()).unwrap());
    assert!(log.starts_with("one\ntwo\nthree\n20") && log.contains("exit code 3"), "{log}");
}

#[tokio::test]
async fn a_job_that_became_somebody_elses_is_killed_and_nothing_is_reported() {
    let stage = Stage::new("trap '' INT TERM; echo $$ > $stage/pid; await never").await.once();
    stage.service.queue_job(5);
    let running = stage.start().await;
    let pid = stage.read("pid").await;
    stage.service.change(|state| state.stale = true);
    assert_eq!(running.end().await.unwrap(), ended(None));
    assert!(!runs(&pid));
    assert!(stage.service.look(|state| state.completions.is_empty() && state.log.is_empty()));
}

#[tokio::test]
async fn a_worker_whose_report_ended_the_lease_is_heard_out() {
    let script = format!("echo {SUCCESS} > $job/state.json; touch $stage/reported; await go");
    let stage = Stage::new(&script).await.once();
    stage.service.queue_job(5);
    let running = stage.start().await;
    wait_until("the worker", || stage.place("reported").exists()).await;
    stage.service.change(|state| state.stale = true);
    stage.service.until("the runner to hear of it", |state| state.told_stale > 0).await;
    stage.touch("go");
    assert_eq!(running.end().await.unwrap(), ended(Some(Conclusion::Success)));
}

#[tokio::test]
async fn a_job_outlasts_a_service_that_is_down_for_a_while() {
    let script = "echo text > $job/log; touch $stage/begun; await go; exit 9";
    let stage = Stage::new(script).await.once();
    stage.service.queue_job(5);
    let running = stage.start().await;
    wait_until("the worker", || stage.place("begun").exists()).await;
    stage.service.stop().await;
    // The worker ends while nobody is there to hear of it.
    stage.touch("go");
    let diag = stage.options.dir.join("jobs/5-1-2/log");
    wait_until("the job's directory", || diag.exists()).await;
    stage.service.restart();
    assert_eq!(running.end().await.unwrap(), ended(Some(Conclusion::Failure)));
    let log = stage.service.look(|state| String::from_utf8(state.log.clone()).unwrap());
    assert!(log.starts_with("text\n") && log.contains("exit code 9"), "{log}");
    assert_eq!(stage.service.look(|state| state.completions.len()), 1);
}

#[tokio::test]
async fn a_worker_that_cannot_be_started_fails_its_job_and_says_so() {
    let mut stage = Stage::new("").await.once();
    stage.options.worker_command = vec!["no-such-program-anywhere".into()];
    stage.service.queue_job(5);
    assert_eq!(stage.start().await.end().await.unwrap(), ended(Some(Conclusion::Failure)));
    let completion = stage.service.look(|state| state.completions[0].clone());
    let message = completion["annotations"][0]["message"].as_str().unwrap();
    assert!(message.contains("could not start the worker no-such-program-anywhere"), "{message}");
}

#[tokio::test]
async fn every_free_slot_has_a_poll_of_its_own_and_one_of_them_tells_of_the_machine() {
    let mut stage = Stage::new("await go").await;
    stage.options.max_parallel_jobs = 3;
    let running = stage.start().await;
    stage.service.until("a poll is held for each slot", |state| state.held == 3).await;
    let telling = |state: &State| state.polls.iter().filter(|poll| !poll["capabilities"].is_null()).count();
    assert_eq!(stage.service.look(telling), 1);
    for (job, left) in [(5, 2), (6, 1), (7, 0)] {
        stage.service.queue_job(job);
        stage.service.until("the other slots still poll", |state| state.held == left && state.queue.is_empty()).await;
    }
    assert_eq!(stage.service.look(|state| state.polls.len()), 3, "a slot that has a job does not poll");
    stage.touch("go");
    stage.service.until("the free slots poll again", |state| state.held == 3).await;
    stage.shutdown.drain();
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
}

#[tokio::test]
async fn a_runner_that_takes_one_job_has_one_poll_however_many_slots() {
    let mut stage = Stage::new("await go").await.once();
    stage.options.max_parallel_jobs = 3;
    let running = stage.start().await;
    stage.service.until("it polls", |state| state.held > 0).await;
    stage.service.queue_job(5);
    stage.service.queue_job(6);
    stage.service.until("it has its job", |state| state.queue.len() == 1).await;
    stage.touch("go");
    running.end().await.unwrap();
    assert_eq!(stage.service.look(|state| (state.polls.len(), state.queue.len())), (1, 1));
}

#[tokio::test]
async fn a_service_that_fails_is_asked_by_one_poll_until_it_answers() {
    let mut stage = Stage::new("await go").await;
    stage.options.max_parallel_jobs = 4;
    // The four that open at once, and two more.
    stage.service.change(|state| state.refuse = 6);
    let running = stage.start().await;
    stage.service.until("a poll is held", |state| state.held == 1).await;
    assert_eq!(stage.service.look(|state| state.polls.len()), 7);
    // Whether it got a job or none, an answer means that the others may poll again.
    stage.service.queue_job(5);
    stage.service.until("the other slots poll", |state| state.held == 3).await;
    stage.touch("go");
    stage.shutdown.drain();
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
}

#[tokio::test]
async fn two_slots_run_two_jobs_side_by_side_in_directories_of_their_own() {
    let script = r#"
        work=$(sed -n 's/.*"work_dir":"\([^"]*\)".*/\1/p' <<<"$input")
        echo "$work" >> $stage/work; await go
    "#;
    let mut stage = Stage::new(script).await;
    stage.options.max_parallel_jobs = 2;
    stage.service.queue_job(5);
    stage.service.queue_job(6);
    stage.service.queue_job(7);
    let running = stage.start().await;
    let work = stage.place("work");
    let lines = || std::fs::read_to_string(&work).unwrap_or_default().lines().count();
    wait_until("two workers", || lines() == 2).await;
    assert_eq!(stage.service.look(|state| state.queue.len()), 1, "there is no third slot");
    stage.touch("go");
    wait_until("the third worker", || lines() == 3).await;
    stage.shutdown.drain();
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
    let text = std::fs::read_to_string(&work).unwrap();
    let places: std::collections::BTreeSet<_> = text.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(places, ["_work", "_work-1"].into());
}
