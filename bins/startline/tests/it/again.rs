//! Jobs without a workflow, keys for repeats, and runs again: from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use startline_client::{Credentials, Options, PollResult, RunnerClient, Transport};
use startline_protocol::ids::RunId;
use startline_protocol::runner_api::{PollRequest, RegisterRequest, RegistrationTokenRequest};
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::{Conclusion, JobStatus, RunnerStatus};
use startline_protocol::token::ApiToken;
use tokio::task::JoinSet;

use crate::harness::{Service, eventually};
use crate::http::{Reply, Wire};

/// A job definition of one script.
pub(crate) fn script(text: &str) -> Value {
    let answer = json!({ "Key": "answer", "Value": { "type": 3, "expr": "steps.x.outputs.answer" } });
    json!({
        "steps": [{
            "type": "action", "id": "a0000000-0000-4000-8000-000000000004", "contextName": "x",
            "condition": "success()", "reference": { "type": "script" },
            "inputs": { "type": 2, "map": [{ "Key": "script", "Value": text }] },
        }],
        "jobOutputs": { "type": 2, "map": [answer] },
    })
}

async fn post(wire: &mut Wire, service: &Service, path: &str, key: Option<&str>, body: &Value) -> Reply {
    let headers: Vec<(&str, &str)> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    wire.send(http::Method::POST, path, Some(&service.token), &headers, body.to_string().as_bytes()).await
}

#[tokio::test]
async fn a_job_without_a_workflow_runs_with_its_secrets_and_runs_again() {
    let service = Service::start(&[]);
    let _runner = service.runner("one", &[]);
    let mut wire = Wire::open(&service.url).await;
    let text = "echo \"run $GITHUB_RUN_ID of $GITHUB_REPOSITORY by $KEY\"; echo answer=42 >> $GITHUB_OUTPUT";
    let mut definition = script(text);
    definition["environmentVariables"] =
        json!([{ "type": 2, "map": [{ "Key": "KEY", "Value": { "type": 3, "expr": "secrets.KEY" } }] }]);
    let request = json!({
        "name": "a: job", "repository": "acme/a", "job_definition": definition, "timeout_minutes": 5,
        "secrets": { "KEY": "canary-4711" },
        "requirements": { "labels": ["ubuntu-latest"], "capabilities": { "cpu_cores": 1 } },
    });
    let reply = post(&mut wire, &service, "/api/v1/jobs", None, &request).await;
    assert_eq!(reply.code(), 201, "{}", reply.text());
    let job = reply.json();
    assert_eq!((&job["name"], &job["labels"]), (&json!("a: job"), &json!(["ubuntu-latest", "cpu_cores>=1"])));
    let run = RunId(job["run_id"].as_i64().unwrap());
    let first = service.ended(run).await;
    assert_eq!(first.run.conclusion, Some(Conclusion::Success), "{first:#?}");
    assert_eq!(first.jobs[0].outputs["answer"], "42");
    let log = service.log(first.jobs[0].id).await;
    assert!(log.contains(&format!("run {run} of acme/a by ***")), "{log}");

    let reply = post(&mut wire, &service, &format!("/api/v1/runs/{run}/rerun"), None, &json!({})).await;
    assert_eq!(reply.code(), 201, "{}", reply.text());
    let again = RunId(reply.json()["run"]["id"].as_i64().unwrap());
    assert_ne!(again, run);
    let second = service.ended(again).await;
    assert_eq!(second.run.conclusion, Some(Conclusion::Success), "{second:#?}");
    let log = service.log(second.jobs[0].id).await;
    assert!(log.contains(&format!("run {again} of acme/a by ***")), "{log}");
}

#[tokio::test]
async fn a_repeat_under_the_same_key_makes_nothing_and_another_request_under_it_is_refused() {
    let mut service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let request = json!({ "job_definition": script("true"), "requirements": { "labels": ["nobody"] } });
    let first = post(&mut wire, &service, "/api/v1/jobs", Some("k1"), &request).await.json();
    service.process.crash();
    service.restart();
    let mut wire = Wire::open(&service.url).await;
    let second = post(&mut wire, &service, "/api/v1/jobs", Some("k1"), &request).await;
    assert_eq!((second.code(), &second.json()["id"]), (201, &first["id"]));
    let other = post(&mut wire, &service, "/api/v1/jobs", Some("k2"), &request).await.json();
    assert_ne!(other["id"], first["id"]);
    let mut changed = request.clone();
    changed["priority"] = json!(7);
    let refused = post(&mut wire, &service, "/api/v1/jobs", Some("k1"), &changed).await;
    assert_eq!(refused.code(), 422, "{}", refused.text());
    let mut secret = request.clone();
    secret["secrets"] = json!({ "KEY": "canary-0815" });
    let keyed = post(&mut wire, &service, "/api/v1/jobs", Some("k3"), &secret).await.json();
    let repeat = post(&mut wire, &service, "/api/v1/jobs", Some("k3"), &secret).await.json();
    assert_eq!(repeat["id"], keyed["id"]);
    secret["secrets"] = json!({ "KEY": "another" });
    let refused = post(&mut wire, &service, "/api/v1/jobs", Some("k3"), &secret).await;
    assert_eq!(refused.code(), 422, "a secret is part of the request: {}", refused.text());
    // The key counts for one deed of one token.
    let run = json!({ "workflow": "on: push\njobs:\n  a:\n    runs-on: nobody\n    steps:\n      - run: x\n" });
    let first = post(&mut wire, &service, "/api/v1/runs", Some("k1"), &run).await.json();
    let second = post(&mut wire, &service, "/api/v1/runs", Some("k1"), &run).await.json();
    assert_eq!(first["run"]["id"], second["run"]["id"]);
    let minted = service.says(&["token", "create", "--name", "other", "--permission", "jobs:write", "--json"]);
    let minted: Value = serde_json::from_str(&minted.out).unwrap();
    let headers = [("idempotency-key", "k1")];
    let body = run.to_string();
    let token = minted["token"].as_str().unwrap();
    let third = wire.send(http::Method::POST, "/api/v1/runs", Some(token), &headers, body.as_bytes()).await.json();
    assert_ne!(first["run"]["id"], third["run"]["id"]);
    assert_eq!(service.client.runs(None, None).await.unwrap().runs.len(), 5);
}

#[tokio::test]
async fn repeats_at_the_same_time_make_one_run_also_when_the_service_is_killed_among_them() {
    let mut service = Service::start(&[]);
    let request = json!({ "job_definition": script("true"), "requirements": { "labels": ["nobody"] } });
    for round in 0..5 {
        let key = format!("round {round}");
        let mut asked = JoinSet::new();
        for _ in 0..8 {
            let mut wire = Wire::open(&service.url).await;
            let (token, body, key) = (service.token.clone(), request.to_string(), key.clone());
            asked.spawn(async move {
                let headers = [("idempotency-key", key.as_str())];
                wire.try_send(http::Method::POST, "/api/v1/jobs", Some(&token), &headers, body.as_bytes()).await
            });
        }
        // Among them, not after them: as soon as one has been stored.
        eventually("a run is there", async || {
            (service.client.runs(None, None).await.unwrap().runs.len() > round).then_some(())
        })
        .await;
        service.process.crash();
        let answered = asked.join_all().await.into_iter().flatten();
        let mut ids: BTreeSet<i64> = answered.map(|reply| reply.json()["id"].as_i64().unwrap()).collect();
        service.restart();
        let mut wire = Wire::open(&service.url).await;
        ids.insert(
            post(&mut wire, &service, "/api/v1/jobs", Some(&key), &request).await.json()["id"].as_i64().unwrap(),
        );
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(service.client.runs(None, None).await.unwrap().runs.len(), round + 1);
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_meant_is_refused() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let mut secret = script("true");
    secret["variables"] = json!({ "TOKEN": { "value": "x", "isSecret": true } });
    let mut blank = script("true");
    blank["steps"][0]["condition"] = json!(" ");
    let mut misspelled = script("true");
    misspelled["environment_variables"] = json!([]);
    for (request, wanted) in [
        (json!({}), "job_definition"),
        (json!({ "job_definition": { "steps": [] } }), "steps"),
        (json!({ "job_definition": blank }), "condition"),
        (json!({ "job_definition": secret }), "secrets"),
        (json!({ "job_definition": misspelled }), "environment_variables"),
        (json!({ "job_definition": script("true"), "priority": 1001 }), "priority"),
        (json!({ "job_definition": script("true"), "timeout_minutes": 0 }), "timeout_minutes"),
        (json!({ "job_definition": script("true"), "repository": "../x" }), "repository"),
        (json!({ "job_definition": script("true"), "requirements": { "labels": ["disk>=3"] } }), "disk"),
        (json!({ "job_definition": script("true"), "name": "a\nb" }), "name"),
        (json!({ "job_definition": script("true"), "name": "${{ x }}" }), "`name` cannot hold an expression"),
    ] {
        let reply = post(&mut wire, &service, "/api/v1/jobs", None, &request).await;
        assert_eq!(reply.code(), 422, "{request}: {}", reply.text());
        assert!(reply.text().contains(wanted), "{request}: {}", reply.text());
    }
    let reply = post(&mut wire, &service, "/api/v1/jobs", Some(""), &json!({ "job_definition": script("true") })).await;
    assert_eq!(reply.code(), 422, "{}", reply.text());
}

#[tokio::test]
async fn only_what_failed_runs_again_with_the_outputs_of_the_rest() {
    let service = Service::start(&[]);
    let _runner = service.runner("one", &[]);
    let mut wire = Wire::open(&service.url).await;
    let place = tempfile::tempdir().unwrap();
    let (count, pass) = (place.path().join("count"), place.path().join("pass"));
    let workflow = format!(
        "on: push\njobs:\n  good:\n    runs-on: ubuntu-latest\n    outputs:\n      word: ${{{{ steps.x.outputs.word }}}}\n    \
         steps:\n      - id: x\n        run: echo x >> {count}; echo word=carried >> $GITHUB_OUTPUT\n  bad:\n    \
         needs: good\n    runs-on: ubuntu-latest\n    env:\n      KEY: ${{{{ secrets.KEY }}}}\n    steps:\n      \
         - run: test -e {pass}; test \"$KEY\" = value; echo \"word ${{{{ needs.good.outputs.word }}}}\"\n  after:\n    \
         needs: bad\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo after\n",
        count = count.display(),
        pass = pass.display()
    );
    let secrets = BTreeMap::from([("KEY".to_owned(), "value".to_owned())]);
    let run = service.submit_with(SubmitRequest { workflow, secrets, ..SubmitRequest::default() }).await;
    let path = format!("/api/v1/runs/{run}/rerun");
    let active = post(&mut wire, &service, &path, None, &json!({})).await;
    assert_eq!((active.code(), &active.json()["type"]), (409, &json!("run-active")));
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Failure));
    std::fs::write(&pass, "").unwrap();

    let reply = post(&mut wire, &service, &path, Some("once"), &json!({ "failed_only": true })).await;
    assert_eq!(reply.code(), 201, "{}", reply.text());
    let again = RunId(reply.json()["run"]["id"].as_i64().unwrap());
    let repeat = post(&mut wire, &service, &path, Some("once"), &json!({ "failed_only": true })).await.json();
    assert_eq!(repeat["run"]["id"], again.0);
    let detail = service.ended(again).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    let job = |key: &str| detail.jobs.iter().find(|job| job.key == key).unwrap();
    assert_eq!(job("good").status, JobStatus::Completed);
    assert!(job("good").reason.as_ref().unwrap().contains(&format!("run {run}")), "{:?}", job("good"));
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n", "what succeeded did not run again");
    assert!(service.log(job("bad").id).await.contains("word carried"));
    assert_eq!(job("after").conclusion, Some(Conclusion::Success));

    let path = format!("/api/v1/runs/{again}/rerun");
    let nothing = post(&mut wire, &service, &path, None, &json!({ "failed_only": true })).await;
    assert_eq!(nothing.code(), 422, "{}", nothing.text());
    let said = service.says(&["rerun", &again.to_string(), "--failed"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    let said = service.says(&["rerun", &again.to_string(), "--json"]);
    let whole: Value = serde_json::from_str(&said.out).unwrap();
    let whole = RunId(whole["run"]["id"].as_i64().unwrap());
    eventually("all of it has run again", async || (std::fs::read_to_string(&count).ok()? == "x\nx\n").then_some(()))
        .await;
    assert_eq!(service.ended(whole).await.run.conclusion, Some(Conclusion::Success));
    let audit = service.says(&["audit", "list", "--action", "run.rerun", "--json"]).out;
    assert!(audit.contains(&format!("run:{run}")) && audit.contains("refused: run-active"), "{audit}");
}

#[tokio::test]
async fn the_clients_example_is_a_runner() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let request = json!({ "job_definition": script("true"), "requirements": { "labels": ["example"] } });
    let job = post(&mut wire, &service, "/api/v1/jobs", None, &request).await.json();
    let token = service.says(&["token", "registration", "--json"]);
    let token: Value = serde_json::from_str(&token.out).unwrap();
    crate::runner_example::one_job(&service.url, token["token"].as_str().unwrap(), &["example"]).await.unwrap();
    let ended = service.ended(RunId(job["run_id"].as_i64().unwrap())).await;
    assert_eq!(ended.run.conclusion, Some(Conclusion::Success), "{ended:#?}");
    assert_eq!(service.log(ended.jobs[0].id).await, "Hello from the example\n");
}

#[tokio::test]
async fn a_client_registers_anew_by_itself_when_its_registration_is_gone() {
    let service = Service::start(&[]);
    let client = RunnerClient::new(Transport::new(&Options::default()).unwrap(), &service.url).unwrap();
    let minted = client
        .request_registration_token(&ApiToken::parse(&*service.token).unwrap(), &RegistrationTokenRequest::default())
        .await
        .unwrap();
    let request = RegisterRequest { name: "phoenix".to_owned(), ..RegisterRequest::default() };
    let registered = client.register(&minted.token, &request).await.unwrap();
    let session = client.session(Credentials::of(&registered, jiff::Timestamp::now()));
    let kept = Arc::new(Mutex::new(None));
    session.register_again_with(minted.token, request);
    session.on_renewed({
        let kept = Arc::clone(&kept);
        move |credentials| *kept.lock().unwrap() = Some(credentials.clone())
    });

    let path = format!("/api/v1/runners/{}", registered.runner_id);
    assert_eq!(Wire::open(&service.url).await.delete(&path, &service.token).await.code(), 204);
    let poll = PollRequest { timeout_seconds: 0, ..PollRequest::default() };
    let (one, other) = tokio::join!(session.poll_for_job(&poll), session.report_status(RunnerStatus::Online));
    assert!(matches!(one, PollResult::NoJobs), "{one:?}");
    other.unwrap();
    let runners = service.client.runners().await.unwrap();
    assert_eq!(runners.len(), 1, "both calls found it gone, one registration was made: {runners:?}");
    assert_ne!(session.id(), registered.runner_id);
    assert_eq!(kept.lock().unwrap().as_ref(), Some(&session.credentials()), "to be kept for the next start");

    session.deregister(false).await.unwrap();
    assert!(matches!(session.poll_for_job(&poll).await, PollResult::RunnerOffline), "who left stays away");
}
