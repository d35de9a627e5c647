//! Clients that go away after they have asked for something and before they are answered: what is stored takes effect.

use http::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::ids::RunId;
use startline_protocol::state::{Conclusion, JobStatus};
use tokio_util::task::TaskTracker;

use crate::again;
use crate::cast;
use crate::harness::{DEADLINE, Service, eventually};
use crate::http::Wire;

const JOBS: &str = "/api/v1/jobs";

/// Asks for the same on eight connections while nothing can be written, and drops them all before anything is.
async fn ask_and_go(service: &Service, wire: &mut Wire, method: Method, path: &str, body: &Value) {
    let other = Connection::open(service.data.path().join("startline.db")).unwrap();
    other.busy_timeout(DEADLINE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut asked = Vec::new();
    for _ in 0..8 {
        let mut own = Wire::open(&service.url).await;
        let (token, method, path, body) = (service.token.clone(), method.clone(), path.to_owned(), body.to_string());
        asked.push(TaskTracker::new().spawn(async move {
            own.send(method, &path, Some(&token), &[], body.as_bytes()).await;
        }));
    }
    round_trips(wire).await;
    for asked in asked {
        assert!(!asked.is_finished(), "answered before it is written");
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
    }
    round_trips(wire).await;
    other.execute_batch("ROLLBACK").unwrap();
}

/// Time for what others have sent to arrive.
async fn round_trips(wire: &mut Wire) {
    for _ in 0..20 {
        assert_eq!(wire.send(Method::GET, "/healthz", None, &[], b"").await.code(), 200);
    }
}

#[tokio::test]
async fn a_job_is_run_although_whoever_submitted_it_went_away() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "instance", "quick").await;
    let job = json!({ "name": "a", "repository": "acme/a", "job_definition": again::script("true"),
                      "requirements": { "labels": ["quick"] } });
    let mut jobs = 0;
    while jobs < 2 {
        ask_and_go(&service, &mut wire, Method::POST, JOBS, &job).await;
        jobs = wire.post(JOBS, &service.token, &job).await.json()["id"].as_i64().unwrap();
    }
    for _ in 0..jobs {
        let taken = eventually("a job is handed out", async || {
            let request = json!({ "timeout_seconds": 5, "auto_acquire": true });
            let reply = wire.post("/api/v1/runners/jobs/poll", &runner.token, &request).await;
            (reply.code() == 200).then(|| reply.json())
        })
        .await;
        let path = format!("/api/v1/runners/jobs/{}/complete", taken["job_id"]);
        let token = taken["job_token"].as_str().unwrap();
        assert_eq!(wire.post(&path, token, &json!({ "conclusion": "success" })).await.code(), 200, "{taken}");
        let run = RunId(taken["workflow_run_id"].as_i64().unwrap());
        assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    }
}

#[tokio::test]
async fn a_run_is_cancelled_although_whoever_asked_for_it_went_away() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let run = service.submit(&cast::workflow("nobody")).await;
    service.job(run, "it is queued", |job| job.status == JobStatus::Queued).await;
    let path = format!("/api/v1/runs/{run}/cancel");
    let is_asked =
        async || service.client.run(run, None, std::time::Duration::ZERO).await.unwrap().run.cancel_requested;
    while !is_asked().await {
        ask_and_go(&service, &mut wire, Method::POST, &path, &json!({})).await;
    }
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Cancelled));
}

#[tokio::test]
async fn a_group_is_open_although_whoever_opened_it_went_away() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let _runner = service.runner("one", &[]);
    let closed = GroupRequest { repositories: Some(Vec::new()), ..GroupRequest::default() };
    service.client.put_group("default", None, &closed).await.unwrap();
    let run = service.submit(&cast::workflow("ubuntu-latest")).await;
    let job = service.job(run, "it is queued", |job| job.status == JobStatus::Queued).await;
    let explanation = service.client.explain(job.id).await.unwrap();
    assert!(!explanation.candidates[0].missing.is_empty(), "{explanation:?}");
    let path = "/api/v1/runner-groups/default";
    let is_open = async || {
        let groups = service.client.groups().await.unwrap();
        groups.iter().any(|group| group.name == "default" && group.policy.repositories.is_none())
    };
    while !is_open().await {
        ask_and_go(&service, &mut wire, Method::PUT, path, &json!({})).await;
    }
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}
