//! What happens to jobs of official runners after a time: a service in this process whose clock is turned by hand.

use std::time::Duration;

use startline_client::{ApiClient, Options, Retry, Transport};
use startline_daemon::{Clock, Hand};
use startline_protocol::ids::RunId;
use startline_protocol::runs_api::RunDetail;
use startline_server::{ServerConfig, Synchronous};

use super::*;

/// A service whose clock is turned by hand, and its people.
struct Turned {
    _data: tempfile::TempDir,
    hand: Hand,
    url: String,
    admin: String,
    people: ApiClient,
    turned: Duration,
}

impl At for Turned {
    fn url(&self) -> &str {
        &self.url
    }

    fn admin(&self) -> &str {
        &self.admin
    }
}

impl Turned {
    async fn start() -> Self {
        startline_crypto::install_provider();
        let data = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::by_hand(jiff::Timestamp::now());
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: data.path().to_owned(),
            synchronous: Synchronous::Normal,
            broker_poll_timeout: "1s".parse().unwrap(),
            ..ServerConfig::defaults()
        };
        let running = startline_server::start_by(clock, config, false).await.unwrap();
        let (url, token) = (running.url().to_owned(), running.admin_token().unwrap().clone());
        let transport = Transport::new(&Options::default()).unwrap();
        let admin = token.expose().to_owned();
        let people = ApiClient::new(transport, &url, token).unwrap().with_retry(Retry::NEVER);
        Self { _data: data, hand, url, admin, people, turned: Duration::ZERO }
    }

    fn turn(&mut self, seconds: u64) {
        self.turned += Duration::from_secs(seconds);
        self.hand.turn(Duration::from_secs(seconds));
    }

    async fn submit(&self) -> RunId {
        self.people.submit_run(&demo(JOB)).await.unwrap().run.id
    }

    async fn run(&self, run: RunId) -> RunDetail {
        self.people.run(run, None, Duration::ZERO).await.unwrap()
    }

    async fn ended(&self, run: RunId) -> Option<Conclusion> {
        eventually("the run ends", async || self.run(run).await.run.conclusion).await.into()
    }

    /// An assertion that is fresh by the service's clock.
    fn assertion(&self, runner: &Official) -> String {
        let now = jiff::Timestamp::now().as_second() + i64::try_from(self.turned.as_secs()).unwrap();
        runner.assertion_with(&json!({ "nbf": now, "exp": now + 300 }))
    }
}

#[tokio::test]
async fn a_lease_lasts_while_it_is_renewed_each_minute_and_then_its_job_is_tried_again_by_another_runner() {
    let mut service = Turned::start().await;
    let runner = listening(&service, "build-07").await;
    let run = service.submit().await;
    let held = runner.take(&service).await;
    let other = listening(&service, "other").await;
    for minute in 0..50 {
        service.turn(60);
        assert_eq!(held.renew(&service).await.code(), 200, "minute {minute}");
    }
    // Its machine is lost; the job goes to another one.
    service.turn(301);
    let again = other.take(&service).await;
    assert_eq!(held.renew(&service).await.code(), 404, "the job is gone, and says so where the runner looks for it");
    assert_ne!(again.message["jobId"], held.message["jobId"], "another attempt");
    assert_eq!(again.complete(&service, "succeeded", json!({})).await.code(), 204);
    assert_eq!(service.ended(run).await, Some(Conclusion::Success));
}

#[tokio::test]
async fn a_job_whose_first_renewal_never_comes_goes_to_another_runner() {
    let mut service = Turned::start().await;
    let runner = listening(&service, "build-07").await;
    let run = service.submit().await;
    let offer = runner.offer(&service).await;
    assert_eq!(runner.acquire(&service, &offer).await.code(), 200);
    // The runner gives up silently and asks for the next job.
    service.turn(301);
    let again = runner.take(&service).await;
    assert_eq!(again.complete(&service, "succeeded", json!({})).await.code(), 204);
    assert_eq!(service.ended(run).await, Some(Conclusion::Success));
}

#[tokio::test]
async fn a_cancelled_job_whose_worker_was_killed_is_concluded_when_its_time_to_stop_is_over() {
    let mut service = Turned::start().await;
    let runner = listening(&service, "build-07").await;
    let run = service.submit().await;
    let held = runner.take(&service).await;
    service.people.cancel_run(run).await.unwrap();
    let (kind, body) = runner.message(&service, "Busy").await;
    assert_eq!((kind.as_str(), &body["timeout"]), ("JobCancellation", &json!("00:05:00")));
    // A worker that does not stop is killed 15 s before the end, and nobody says anything more of its job.
    for _ in 0..5 {
        service.turn(60);
        assert_eq!(held.renew(&service).await.code(), 200);
    }
    assert_eq!(service.run(run).await.run.conclusion, None, "it may still report");
    service.turn(61);
    assert_eq!(service.ended(run).await, Some(Conclusion::Cancelled));
    assert_eq!(held.renew(&service).await.code(), 404);
}

#[tokio::test]
async fn a_cancel_before_the_first_renewal_is_concluded_by_the_service_and_the_runner_works_on() {
    let mut service = Turned::start().await;
    let runner = listening(&service, "build-07").await;
    let run = service.submit().await;
    let offer = runner.offer(&service).await;
    assert_eq!(runner.acquire(&service, &offer).await.code(), 200);
    service.people.cancel_run(run).await.unwrap();
    let (kind, _) = runner.message(&service, "Busy").await;
    assert_eq!(kind, "JobCancellation");
    // It drops the job without a completion, and its next poll says that it is free.
    let next = service.submit().await;
    service.turn(301);
    assert_eq!(service.ended(run).await, Some(Conclusion::Cancelled));
    let held = runner.take(&service).await;
    assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    assert_eq!(service.ended(next).await, Some(Conclusion::Success));
}

#[tokio::test]
async fn an_expired_listener_token_is_one_401_and_its_successor_goes_on_with_the_session() {
    let mut service = Turned::start().await;
    let mut runner = listening(&service, "build-07").await;
    service.turn(3601);
    assert_eq!(runner.poll(&service, "Online").await.code(), 401);
    let reply = runner.exchange(&service, &service.assertion(&runner)).await;
    reply.json()["access_token"].as_str().unwrap().clone_into(&mut runner.token);
    assert_eq!(runner.poll(&service, "Online").await.code(), 202, "a second 401 would stop it for good");
}
