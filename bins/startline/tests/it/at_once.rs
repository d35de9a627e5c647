//! Jobs without a workflow that a waiting poll takes in the step that makes them: seen from outside, and when that goes
//! wrong.

use rusqlite::Connection;
use serde_json::{Value, json};
use startline_protocol::ids::RunId;
use startline_protocol::state::{Conclusion, JobStatus};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::again;
use crate::cast::{self, Puppet};
use crate::harness::{DEADLINE, Service, eventually};
use crate::hostile::metric;
use crate::http::{Reply, Wire};

const JOBS: &str = "/api/v1/jobs";
const POLL: &str = "/api/v1/runners/jobs/poll";

/// A service with one runner without a process.
struct Stage {
    service: Service,
    wire: Wire,
    runner: Puppet,
}

impl Stage {
    async fn new() -> Self {
        let service = Service::start(&[]);
        let mut wire = Wire::open(&service.url).await;
        let runner = cast::puppet(&mut wire, &service.token, "instance", "quick").await;
        Self { service, wire, runner }
    }

    fn database(&self) -> Connection {
        let database = Connection::open(self.service.data.path().join("startline.db")).unwrap();
        database.busy_timeout(DEADLINE).unwrap();
        database
    }

    /// A poll on a connection of its own, once it is open.
    async fn parked(&mut self) -> JoinHandle<Reply> {
        let mut own = Wire::open(&self.service.url).await;
        let token = self.runner.token.clone();
        let poll = TaskTracker::new().spawn(async move {
            let request = json!({ "timeout_seconds": 30, "auto_acquire": true });
            own.post(POLL, &token, &request).await
        });
        eventually("the poll is open", async || {
            metric(&mut self.wire, "startline_polls_open ").await.filter(|open| *open > 0.0)
        })
        .await;
        poll
    }

    async fn submit(&mut self) -> Reply {
        self.wire.post(JOBS, &self.service.token, &job()).await
    }

    /// The job that the runner gets next.
    async fn next(&mut self) -> Value {
        let wire = &mut self.wire;
        eventually("a job is handed out", async || {
            let request = json!({ "timeout_seconds": 5, "auto_acquire": true });
            let reply = wire.post(POLL, &self.runner.token, &request).await;
            (reply.code() == 200).then(|| reply.json())
        })
        .await
    }

    async fn complete(&mut self, job: &Value) {
        let path = format!("/api/v1/runners/jobs/{}/complete", job["job_id"]);
        let token = job["job_token"].as_str().unwrap();
        assert_eq!(self.wire.post(&path, token, &json!({ "conclusion": "success" })).await.code(), 200, "{job}");
        let run = RunId(job["workflow_run_id"].as_i64().unwrap());
        assert_eq!(self.service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    }

    async fn audit_is_valid(&self) {
        assert!(self.service.client.verify_audit().await.unwrap().valid);
    }
}

fn job() -> Value {
    json!({ "name": "a", "repository": "acme/a", "job_definition": again::script("true"),
            "requirements": { "labels": ["quick"] } })
}

#[tokio::test]
async fn a_waiting_poll_takes_a_new_job_in_the_step_that_makes_it() {
    let mut stage = Stage::new().await;
    // What the service does by itself may fall into a round; a second step for the lease would be in each of them.
    eventually("one step for both", async || {
        let poll = stage.parked().await;
        let before = metric(&mut stage.wire, "startline_store_batch_size_sum ").await?;
        let submitted = stage.submit().await;
        assert_eq!(submitted.code(), 201, "{submitted:?}");
        let taken = poll.await.unwrap();
        let after = metric(&mut stage.wire, "startline_store_batch_size_sum ").await?;
        let (submitted, taken) = (submitted.json(), taken.json());
        assert_eq!((&submitted["status"], &taken["job_id"]), (&json!("queued"), &submitted["id"]), "{submitted}");
        assert_eq!((&taken["epoch"], &taken["attempt"]), (&json!(1), &json!(1)), "{taken}");
        assert_eq!(taken["job_definition"]["contextData"]["github"]["t"], 2, "it is complete: {taken}");
        let run = RunId(submitted["run_id"].as_i64().unwrap());
        let running = stage.service.job(run, "it runs", |job| job.status == JobStatus::Running).await;
        assert_eq!(running.runner_name.as_deref(), Some("quick"), "{running:?}");
        stage.complete(&taken).await;
        (after - before == 1.0).then_some(())
    })
    .await;
    stage.audit_is_valid().await;
}

#[tokio::test]
async fn a_job_that_could_not_be_written_is_taken_from_nobody() {
    let mut stage = Stage::new().await;
    let poll = stage.parked().await;
    let database = stage.database();
    database
        .execute_batch("CREATE TRIGGER broken BEFORE INSERT ON job_messages BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .unwrap();
    let refused = stage.submit().await;
    assert_eq!(refused.code(), 503, "{refused:?}");
    assert_eq!(poll.await.unwrap().code(), 204, "its runner asks again");
    database.execute_batch("DROP TRIGGER broken").unwrap();
    let poll = stage.parked().await;
    let submitted = stage.submit().await;
    assert_eq!(submitted.code(), 201, "{submitted:?}");
    let taken = poll.await.unwrap();
    assert_eq!((taken.code(), &taken.json()["job_id"]), (200, &submitted.json()["id"]), "{taken:?}");
    stage.complete(&taken.json()).await;
    stage.audit_is_valid().await;
}

#[tokio::test]
async fn a_job_reaches_another_poll_when_the_first_goes_in_that_moment() {
    let mut stage = Stage::new().await;
    for _ in 0..20 {
        let (poll, job) = (stage.parked().await, job());
        let (submitted, ()) = tokio::join!(stage.wire.post(JOBS, &stage.service.token, &job), async { poll.abort() });
        assert_eq!(submitted.code(), 201, "{submitted:?}");
        let taken = stage.next().await;
        assert_eq!(taken["job_id"], submitted.json()["id"]);
        stage.complete(&taken).await;
    }
    stage.audit_is_valid().await;
}

#[tokio::test]
async fn a_job_reaches_another_runner_when_the_first_is_deleted_in_that_moment() {
    let mut stage = Stage::new().await;
    let mut other = Wire::open(&stage.service.url).await;
    let lasting = stage.runner.clone();
    for round in 0..20 {
        let token = cast::registration_token(&mut other, &stage.service.token, &json!({})).await;
        let first = cast::machine(&format!("first-{round}"), &["quick"]);
        let first = other.post("/api/v1/runners", &token, &first).await.json();
        let token = first["runner_token"].as_str().unwrap().to_owned();
        stage.runner = Puppet { token, ..lasting.clone() };
        let poll = stage.parked().await;
        stage.runner = lasting.clone();
        let path = format!("/api/v1/runners/{}?force=true", first["runner_id"]);
        let job = job();
        let (submitted, deleted) =
            tokio::join!(stage.wire.post(JOBS, &stage.service.token, &job), other.delete(&path, &stage.service.token),);
        assert_eq!((submitted.code(), deleted.code()), (201, 204), "{submitted:?} {deleted:?}");
        let first = poll.await.unwrap();
        let taken = match first.code() {
            // It was there in time.
            200 => first.json(),
            _ => stage.next().await,
        };
        assert_eq!(taken["job_id"], submitted.json()["id"]);
        stage.complete(&taken).await;
    }
    stage.audit_is_valid().await;
}
