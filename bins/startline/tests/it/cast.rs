//! The cast of the tests about who may do what: tokens of every kind, and things that belong to somebody.

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use startline_crypto::JobTokenKey;
use startline_crypto::job_token::Claims;
use startline_protocol::ids::{Epoch, JobId, RunId};

use crate::harness::{Service, eventually};
use crate::http::Wire;

/// A job that nobody but a runner with this label takes.
pub(crate) fn workflow(label: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: {label}\n    steps:\n      - run: 'true'\n")
}

/// Mints an API token; permissions separated by blanks.
pub(crate) async fn api_token(wire: &mut Wire, by: &str, scope: &str, permissions: &str) -> (i64, String) {
    let permissions: Vec<&str> = permissions.split_whitespace().collect();
    let request = json!({ "name": format!("{scope} {}", permissions.join(" ")).chars().take(90).collect::<String>(),
                          "scope": scope, "permissions": permissions });
    let reply = wire.post("/api/v1/tokens", by, &request).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let reply = reply.json();
    (reply["view"]["id"].as_i64().unwrap(), reply["token"].as_str().unwrap().to_owned())
}

/// Mints a registration token.
pub(crate) async fn registration_token(wire: &mut Wire, by: &str, request: &Value) -> String {
    let reply = wire.post("/api/v1/runners/registration-token", by, request).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    reply.json()["token"].as_str().unwrap().to_owned()
}

/// What a runner says of itself when it registers.
pub(crate) fn machine(name: &str, labels: &[&str]) -> Value {
    json!({ "name": name, "labels": labels,
            "capabilities": { "architecture": "x64", "operating_system": "linux", "memory_gb": 1, "cpu_cores": 1,
                              "disk_space_gb": 1, "max_parallel_jobs": 8 } })
}

/// A registered runner without a process.
#[derive(Clone, Debug)]
pub(crate) struct Puppet {
    pub id: i64,
    pub token: String,
    pub label: String,
}

/// Registers a runner of this scope, with a label of its own.
pub(crate) async fn puppet(wire: &mut Wire, by: &str, scope: &str, name: &str) -> Puppet {
    let registration = registration_token(wire, by, &json!({ "scope": scope })).await;
    let reply = wire.post("/api/v1/runners", &registration, &machine(name, &[name])).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let reply = reply.json();
    Puppet {
        id: reply["runner_id"].as_i64().unwrap(),
        token: reply["runner_token"].as_str().unwrap().to_owned(),
        label: name.to_owned(),
    }
}

/// A job in a runner's hands.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub run: i64,
    pub job: i64,
    pub token: String,
}

/// Submits a run of this repository and has the runner take its job.
pub(crate) async fn taken(service: &Service, wire: &mut Wire, repository: &str, runner: &Puppet) -> Taken {
    let request = json!({ "workflow": workflow(&runner.label), "repository": repository });
    let reply = wire.post("/api/v1/runs", &service.token, &request).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let run = reply.json()["run"]["id"].as_i64().unwrap();
    eventually("the job is handed out", async || {
        let poll = json!({ "timeout_seconds": 5, "auto_acquire": true });
        let reply = wire.post("/api/v1/runners/jobs/poll", &runner.token, &poll).await;
        let job = (reply.code() == 200).then(|| reply.json())?;
        assert_eq!(job["workflow_run_id"], run, "{job}");
        let token = job["job_token"].as_str().unwrap().to_owned();
        Some(Taken { run, job: job["job_id"].as_i64().unwrap(), token })
    })
    .await
}

/// Moves the end of a token's life into the past, in the service's database.
pub(crate) fn expire(data: &Path, table: &str, token: &str) {
    let database = Connection::open(data.join("startline.db")).unwrap();
    database.busy_timeout(crate::harness::DEADLINE).unwrap();
    let hash = startline_crypto::token::hash(token).0;
    let changed = database.execute(&format!("UPDATE {table} SET expires_at = 1 WHERE hash = ?1"), [&hash]).unwrap();
    assert_eq!(changed, 1, "{table}");
}

/// A job token of the service's own make whose time is over.
pub(crate) fn expired_job_token(data: &Path, job: i64, run: i64) -> String {
    let key = JobTokenKey::load_or_create(data.join("job-token.key")).unwrap();
    let claims = Claims {
        job: JobId(job),
        run: RunId(run),
        attempt: 1,
        epoch: Epoch(1),
        issued_at: jiff::Timestamp::UNIX_EPOCH,
        expires_at: jiff::Timestamp::from_second(1_000_000).unwrap(),
        id: uuid::Uuid::new_v4(),
        plan_id: uuid::Uuid::new_v4(),
        job_guid: uuid::Uuid::new_v4(),
    };
    key.mint(&claims).expose().to_owned()
}
