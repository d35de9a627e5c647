use std::time::Duration;

use startline_runner::{Error, Outcome, Registration, remove};

use crate::service::State;
use crate::stage::{Stage, transport, wait_until};

fn statuses(state: &State) -> Vec<String> {
    state.heartbeats.iter().map(|beat| beat["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_drained_runner_finishes_its_job_takes_no_other_and_says_goodbye() {
    let stage = Stage::new("touch $stage/begun; await go").await;
    stage.service.queue_job(5);
    let running = stage.start().await;
    wait_until("the worker", || stage.place("begun").exists()).await;
    stage.shutdown.drain();
    stage.service.until("a draining heartbeat", |state| statuses(state).contains(&"draining".into())).await;
    stage.service.queue_job(6);
    stage.touch("go");
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
    assert_eq!(stage.service.look(|state| state.queue.len()), 1);
    assert_eq!(stage.service.look(|state| statuses(state).last().cloned()).as_deref(), Some("offline"));
    assert!(Registration::path(&stage.options.dir).exists(), "it can be started again");
}

#[tokio::test]
async fn an_idle_runner_stops_at_once_although_its_poll_is_held() {
    let stage = Stage::new("").await;
    let running = stage.start().await;
    stage.service.until("a poll", |state| !state.polls.is_empty()).await;
    let begin = tokio::time::Instant::now();
    stage.shutdown.drain();
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_second_signal_cancels_the_jobs() {
    let stage = Stage::new("touch $stage/begun; read -r control; echo \"$control\" > $stage/control").await;
    stage.service.queue_job(5);
    let running = stage.start().await;
    wait_until("the worker", || stage.place("begun").exists()).await;
    stage.shutdown.escalate();
    stage.service.until("a draining heartbeat", |state| statuses(state).contains(&"draining".into())).await;
    assert!(!stage.place("control").exists(), "the first signal lets the job run");
    stage.shutdown.escalate();
    assert!(stage.read("control").await.contains("the runner is shutting down"));
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
}

#[tokio::test]
async fn a_runner_that_must_end_does_not_wait_for_a_service_that_is_gone() {
    let mut stage = Stage::new("trap '' INT TERM; touch $stage/begun; await never").await;
    stage.options.shutdown_timeout = Duration::from_millis(100);
    stage.service.queue_job(5);
    let running = stage.start().await;
    wait_until("the worker", || stage.place("begun").exists()).await;
    stage.service.stop().await;
    let begin = tokio::time::Instant::now();
    stage.shutdown.cancel();
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_long_lived_runner_whose_registration_is_gone_says_what_to_do() {
    let stage = Stage::new("").await;
    stage.service.change(|state| state.gone = true);
    let error = stage.start().await.end().await.unwrap_err();
    assert!(matches!(error, Error::RegistrationGone { .. }), "{error}");
    assert!(error.to_string().contains("startline runner register"), "{error}");
}

#[tokio::test]
async fn an_ephemeral_runner_whose_registration_is_gone_just_ends() {
    let stage = Stage::new("").await.ephemeral();
    stage.service.change(|state| state.gone = true);
    assert_eq!(stage.start().await.end().await.unwrap(), Outcome::Removed);
    assert!(!Registration::path(&stage.options.dir).exists());
}

#[tokio::test]
async fn a_job_under_way_is_finished_although_the_registration_is_gone() {
    let mut stage = Stage::new("touch $stage/begun; await go; touch $stage/done").await;
    stage.options.max_parallel_jobs = 2;
    stage.service.queue_job(5);
    let running = stage.start().await;
    wait_until("the worker", || stage.place("begun").exists()).await;
    stage.service.change(|state| state.gone = true);
    stage.touch("go");
    assert!(matches!(running.end().await, Err(Error::RegistrationGone { .. })));
    assert!(stage.place("done").exists());
}

#[tokio::test]
async fn a_runner_without_work_ends_when_it_was_told_to() {
    let mut stage = Stage::new("").await.ephemeral();
    stage.options.exit_when_idle = Some(Duration::from_millis(300));
    assert_eq!(stage.start().await.end().await.unwrap(), Outcome::Idle);
    let asked = stage.service.look(|state| state.asked.clone());
    assert!(asked.contains(&"DELETE /api/v1/runners/7".to_owned()), "an unused registration is given back: {asked:?}");
}

#[tokio::test]
async fn a_runner_that_starts_before_its_service_finds_it() {
    let stage = Stage::new("").await.once();
    let registration = stage.register().await.unwrap();
    stage.service.stop().await;
    let (outcome, ()) = tokio::join!(
        startline_runner::run(stage.options.clone(), registration, transport(), stage.shutdown.clone()),
        async {
            wait_until("the runner to have begun", || stage.options.dir.join("jobs").exists()).await;
            stage.service.queue_job(5);
            stage.service.restart();
        }
    );
    assert!(matches!(outcome.unwrap(), Outcome::JobEnded { .. }));
}

#[tokio::test]
async fn one_directory_serves_one_runner_at_a_time_and_one_registration() {
    let stage = Stage::new("").await;
    let running = stage.start().await;
    stage.service.until("a poll", |state| !state.polls.is_empty()).await;
    let registration = Registration::load(&stage.options.dir).unwrap();
    let second = startline_runner::run(stage.options.clone(), registration, transport(), stage.shutdown.clone());
    let error = second.await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let error = stage.register().await.unwrap_err();
    assert!(error.to_string().contains("already registered") && error.to_string().contains("\"box\""), "{error}");
    stage.shutdown.drain();
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_is_not_there_is_named_before_a_job_is_taken_for_it() {
    let mut stage = Stage::new("").await;
    stage.options.worker_command = vec!["/no/such/worker".into()];
    let error = stage.start().await.end().await.unwrap_err();
    assert!(error.to_string().contains("/no/such/worker"), "{error}");
    assert!(stage.service.look(|state| state.polls.is_empty()));
}

#[tokio::test]
async fn a_removed_registration_is_given_back_and_forgotten() {
    let stage = Stage::new("").await;
    stage.register().await.unwrap();
    let removed = remove(transport(), &stage.options.dir, false).await.unwrap();
    assert_eq!(removed.name, "box");
    assert_eq!(stage.service.look(|state| state.asked.last().cloned()).unwrap(), "DELETE /api/v1/runners/7");
    let error = remove(transport(), &stage.options.dir, false).await.unwrap_err();
    assert!(matches!(error, Error::NotRegistered { .. }), "{error}");
}
