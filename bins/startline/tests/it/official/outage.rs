//! The database is away: another process holds its file, for longer than any lease.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use startline_protocol::state::{Conclusion, JobStatus};

use super::client::{Held, send};
use super::{JOB, SHORT, demo, listening};
use crate::harness::{DEADLINE, Service, eventually};
use crate::here::Here;

const NATIVE: &str = "on: push\njobs:\n  native:\n    runs-on: native\n    steps: [{run: 'true'}]\n";

/// Holds the database's file until it is dropped: nothing can be written.
struct Outage(rusqlite::Connection);

impl Outage {
    fn begin(data: &Path) -> Self {
        let holder = rusqlite::Connection::open(data.join("startline.db")).unwrap();
        holder.busy_timeout(DEADLINE).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(holder)
    }

    fn end(self) {
        self.0.execute_batch("COMMIT").unwrap();
    }
}

/// A job in the hands of a runner of the Runner API.
struct Native {
    token: String,
    path: String,
}

impl Native {
    async fn take(service: &Service) -> Self {
        let ask = async |path: &str, bearer: &str, body: Value| {
            let bearer = format!("Bearer {bearer}");
            let reply = send(service, Method::POST, path, Some(&bearer), Some(&body)).await;
            assert!(reply.status.is_success(), "{reply:?}");
            reply.json()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let minted = ask("/api/v1/runners/registration-token", &service.token, json!({})).await;
        let capabilities = json!({ "architecture": "x64", "operating_system": "linux" });
        let body = json!({ "name": "native", "labels": ["native"], "capabilities": capabilities });
        let made = ask("/api/v1/runners", &text(&minted["token"]), body).await;
        let poll = json!({ "timeout_seconds": 60, "auto_acquire": true });
        let job = ask("/api/v1/runners/jobs/poll", &text(&made["runner_token"]), poll).await;
        Self { token: text(&job["job_token"]), path: format!("/api/v1/runners/jobs/{}", job["job_id"]) }
    }

    async fn say(&self, service: &Service, what: &str, body: Value) -> crate::http::Reply {
        let bearer = format!("Bearer {}", self.token);
        send(service, Method::POST, &format!("{}/{what}", self.path), Some(&bearer), Some(&body)).await
    }
}

/// Until when a renewal of an official runner extends its lease.
async fn renewed(service: &Service, held: &Held) -> jiff::Timestamp {
    let reply = held.renew(service).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    reply.json()["lockedUntil"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn while_the_database_is_away_for_two_minutes_renewals_are_answered_and_the_ends_of_jobs_are_kept() {
    let period = |text: &str| text.parse().unwrap();
    let here = Here::start(|config| {
        (config.lease, config.actions_lease) = (period("90s"), period("90s"));
        config.broker_poll_timeout = period("1s");
    })
    .await;
    let service = &here.service;
    let worker = listening(service, "build-07").await;
    let idle = listening(service, "build-08").await;
    let first = service.submit_with(demo(JOB)).await;
    let held = worker.take(service).await;
    let second = service.submit(NATIVE).await;
    let native = Native::take(service).await;
    let third = service.submit_with(demo(JOB)).await;
    service.job(third, "the third job waits", |job| job.status == JobStatus::Queued).await;

    let outage = Outage::begin(&service.data.path().join("data"));
    let polls = Mutex::new(0_usize);
    let step = json!({ "external_id": "6c0d0a2e-0b1f-4c2e-9a54-111111111111", "number": 2, "name": "Run true",
        "status": 6, "started_at": "2026-01-01T00:00:01Z", "completed_at": "2026-01-01T00:00:02Z", "conclusion": 2 });
    let report = json!({ "steps": [step], "change_order": 1, "workflow_run_backend_id": held.message["plan"]["planId"],
        "workflow_job_run_backend_id": held.message["jobId"] });
    let updates = "/twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate";
    let bearer = format!("Bearer {}", held.token);
    let reporting = send(service, Method::POST, updates, Some(&bearer), Some(&report));
    let polling = async {
        loop {
            let reply = idle.poll(service, "Online").await;
            match reply.code() {
                // Nothing, as if there were no job: an error would count, and ten of them restart a runner.
                202 => *polls.lock().unwrap() += 1,
                200 => return serde_json::from_str(reply.json()["body"].as_str().unwrap()).unwrap(),
                _ => panic!("{reply:?}"),
            }
        }
    };
    let lasting = async {
        let mut until = renewed(service, &held).await;
        for _ in 0..4 {
            here.turn(30);
            let extended = renewed(service, &held).await;
            assert!(extended > until, "{extended} {until}");
            until = extended;
            let reply = native.say(service, "renew", json!({ "wait_seconds": 0 })).await;
            assert_eq!(reply.code(), 200, "{reply:?}");
        }
        eventually("the idle runner comes and goes", async || (*polls.lock().unwrap() >= 3).then_some(())).await;
        // The worker gives up waiting, once; nobody has told it anything.
        let over = json!({ "outputs": { "who": { "value": "ann" } } });
        let given_up = held.complete(service, "succeeded", over.clone());
        assert!(tokio::time::timeout(Duration::from_millis(500), given_up).await.is_err(), "it was held");
        let (ended, ()) = tokio::join!(held.complete(service, "succeeded", over), async {
            assert_eq!(native.say(service, "renew", json!({ "wait_seconds": 0 })).await.code(), 200);
            outage.end();
        });
        assert_eq!(ended.code(), 204, "{ended:?}");
    };
    let (reported, offer, ()): (_, Value, _) = tokio::join!(reporting, polling, lasting);
    assert_ne!(reported.code() / 100, 5, "{reported:?}");

    let detail = service.ended(first).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success));
    let job = service.client.job(detail.jobs[0].id).await.unwrap();
    assert_eq!((job.attempt, job.outputs["who"].as_str()), (1, "ann"));
    let acquired = idle.acquire(service, &offer).await;
    assert_eq!(acquired.code(), 200, "{acquired:?}");
    let held = Held::new(service, acquired.json());
    assert_eq!(held.complete(service, "failed", json!({})).await.code(), 204);
    assert_eq!(service.ended(third).await.run.conclusion, Some(Conclusion::Failure));
    let over = json!({ "conclusion": "success", "outputs": {}, "steps": [], "annotations": [] });
    assert!(native.say(service, "complete", over).await.status.is_success());
    let detail = service.ended(second).await;
    assert_eq!((detail.run.conclusion, detail.jobs[0].attempt), (Some(Conclusion::Success), 1));
}

#[tokio::test]
async fn a_service_that_is_replaced_while_its_database_is_away_loses_no_lease_and_no_end() {
    let mut service = Service::start(&SHORT);
    let (one, two) = (listening(&service, "one").await, listening(&service, "two").await);
    let first = service.submit_with(demo(JOB)).await;
    let ending = one.take(&service).await;
    let second = service.submit_with(demo(JOB)).await;
    let going_on = two.take(&service).await;

    let outage = Outage::begin(service.data.path());
    let (cut, ()) = tokio::join!(ending.complete(&service, "succeeded", json!({})), async {
        let pending = ending.complete(&service, "succeeded", json!({}));
        assert!(tokio::time::timeout(Duration::from_millis(500), pending).await.is_err(), "it is held");
        renewed(&service, &going_on).await;
        service.process.signal(Signal::SIGTERM);
    });
    assert_eq!(cut.code(), 503, "the process goes, and its successor will know: {cut:?}");
    assert!(cut.headers.contains_key("retry-after") && cut.headers.contains_key("x-github-request-id"));
    outage.end();
    assert!(service.process.ended(DEADLINE).await.success());
    service.restart();
    renewed(&service, &going_on).await;
    assert_eq!(ending.complete(&service, "succeeded", json!({})).await.code(), 204, "as often as it is said");
    assert_eq!(service.ended(first).await.run.conclusion, Some(Conclusion::Success));
    renewed(&service, &going_on).await;
    assert_eq!(going_on.complete(&service, "failed", json!({})).await.code(), 204);
    assert_eq!(service.ended(second).await.run.conclusion, Some(Conclusion::Failure));
}
