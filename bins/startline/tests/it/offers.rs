//! Offers that are not taken at once: what is shown of them, and what becomes of their jobs.

use serde_json::{Value, json};
use startline_protocol::ids::{RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus};

use crate::cast;
use crate::harness::{Service, eventually};
use crate::http::Wire;

const POLL: &str = "/api/v1/runners/jobs/poll";
const LABEL: &str = "hesitant";

/// A service with one job that has been offered to the runner whose id comes with it, and the offer.
struct Stage {
    service: Service,
    wire: Wire,
    run: RunId,
    runner: RunnerId,
    token: String,
    offer: Value,
}

impl Stage {
    async fn new() -> Self {
        let service = Service::start(&[]);
        let mut wire = Wire::open(&service.url).await;
        let (runner, token) = register(&service, &mut wire, "first").await;
        let run = service.submit(&cast::workflow(LABEL)).await;
        let offer = poll(&mut wire, &token, false).await;
        assert_eq!((&offer["epoch"], &offer["job_token"]), (&json!(1), &Value::Null), "{offer}");
        Self { service, wire, run, runner, token, offer }
    }

    async fn acquire(&mut self) -> u16 {
        let path = format!("/api/v1/runners/jobs/{}/acquire", self.offer["job_id"]);
        self.wire.post(&path, &self.token, &json!({ "epoch": self.offer["epoch"] })).await.code()
    }

    async fn audit_is_valid(&self) {
        assert!(self.service.client.verify_audit().await.unwrap().valid);
    }
}

async fn register(service: &Service, wire: &mut Wire, name: &str) -> (RunnerId, String) {
    let token = cast::registration_token(wire, &service.token, &json!({})).await;
    let reply = wire.post("/api/v1/runners", &token, &cast::machine(name, &[LABEL])).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let reply = reply.json();
    (RunnerId(reply["runner_id"].as_i64().unwrap()), reply["runner_token"].as_str().unwrap().to_owned())
}

async fn poll(wire: &mut Wire, token: &str, auto_acquire: bool) -> Value {
    let request = json!({ "timeout_seconds": 5, "auto_acquire": auto_acquire });
    eventually("the job is handed out", async || {
        let reply = wire.post(POLL, token, &request).await;
        (reply.code() == 200).then(|| reply.json())
    })
    .await
}

#[tokio::test]
async fn an_offer_that_nobody_takes_is_shown_until_its_runner_goes() {
    let mut stage = Stage::new().await;
    let shown = stage.service.job(stage.run, "the job is offered", |job| job.status == JobStatus::Offered).await;
    assert_eq!((shown.runner_name.as_deref(), shown.attempt), (Some("first"), 1), "{shown:?}");
    stage.service.client.delete_runner(stage.runner, true).await.unwrap();
    let back = stage.service.job(stage.run, "the job is back", |job| job.status == JobStatus::Queued).await;
    assert!(back.reason.is_some(), "it says why: {back:?}");
    let (_, token) = register(&stage.service, &mut stage.wire, "second").await;
    let taken = poll(&mut stage.wire, &token, true).await;
    assert_eq!((&taken["epoch"], &taken["attempt"]), (&json!(2), &json!(1)), "{taken}");
    stage.audit_is_valid().await;
}

#[tokio::test]
async fn an_offer_may_be_taken_before_and_after_it_is_shown() {
    for shown in [false, true] {
        let mut stage = Stage::new().await;
        if shown {
            stage.service.job(stage.run, "the job is offered", |job| job.status == JobStatus::Offered).await;
        }
        assert_eq!(stage.acquire().await, 200, "shown before: {shown}");
        assert_eq!(stage.acquire().await, 200, "and asked for again");
        let running = stage.service.job(stage.run, "the job runs", |job| job.status == JobStatus::Running).await;
        assert_eq!((running.runner_name.as_deref(), running.attempt), (Some("first"), 1), "{running:?}");
        stage.audit_is_valid().await;
    }
}

#[tokio::test]
async fn a_job_whose_runner_is_deleted_right_after_the_offer_goes_to_another() {
    let mut stage = Stage::new().await;
    stage.service.client.delete_runner(stage.runner, true).await.unwrap();
    assert_eq!(stage.acquire().await, 410, "there is no such runner");
    let (_, token) = register(&stage.service, &mut stage.wire, "second").await;
    let taken = poll(&mut stage.wire, &token, true).await;
    assert_eq!(taken["job_id"], stage.offer["job_id"]);
    let running = stage.service.job(stage.run, "the job runs", |job| job.status == JobStatus::Running).await;
    assert_eq!((running.runner_name.as_deref(), running.attempt), (Some("second"), 1), "{running:?}");
    stage.audit_is_valid().await;
}

#[tokio::test]
async fn a_job_may_be_cancelled_right_after_the_offer() {
    for deleted in [false, true] {
        let mut stage = Stage::new().await;
        if deleted {
            stage.service.client.delete_runner(stage.runner, true).await.unwrap();
        }
        stage.service.client.cancel_run(stage.run).await.unwrap();
        let ended = stage.service.ended(stage.run).await;
        assert_eq!(ended.run.conclusion, Some(Conclusion::Cancelled), "runner deleted before: {deleted}");
        let refused = if deleted { 410 } else { 409 };
        assert_eq!(stage.acquire().await, refused, "runner deleted before: {deleted}");
        stage.audit_is_valid().await;
    }
}
