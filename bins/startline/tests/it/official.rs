//! Official runners, by a client of our own that speaks the wire as they do. Each test is named after the pitfall that it
//! keeps out.

mod answers;
mod burst;
pub(crate) mod client;
mod doors;
mod launch;
mod messages;
mod outage;
mod pitfalls;
mod results;
mod times;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::{Conclusion, JobStatus};

use crate::harness::{Service, eventually};
use client::{At, Held, Official, Padding, path, send};

const JOB: &str = "on: push\njobs:\n  build:\n    runs-on: [self-hosted, linux]\n    outputs: {who: '${{ steps.a.outputs.who }}'}\n    steps: [{id: a, run: 'true'}]\n";

/// Polls that end soon, so that tests need not wait for them.
pub(crate) const SHORT: [&str; 2] = ["--broker-poll-timeout", "1s"];

pub(crate) async fn registration_token(service: &impl At, place: &str) -> String {
    let reply = rest(service, Method::POST, &format!("/api/v3/{place}/actions/runners/registration-token"), None).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    assert!(reply.json()["expires_at"].as_str().unwrap().ends_with('Z'));
    reply.json()["token"].as_str().unwrap().to_owned()
}

async fn rest(service: &impl At, method: Method, path: &str, body: Option<&Value>) -> crate::http::Reply {
    send(service, method, path, Some(&format!("token {}", service.admin())), body).await
}

/// A runner of one repository.
async fn runner(service: &impl At, name: &str) -> Official {
    let token = registration_token(service, "repos/acme/demo").await;
    Official::configure(service, "acme/demo", &token, name, &["gpu"]).await
}

pub(crate) async fn listening(service: &impl At, name: &str) -> Official {
    let mut runner = runner(service, name).await;
    runner.listen(service).await;
    runner
}

fn demo(workflow: &str) -> SubmitRequest {
    SubmitRequest {
        workflow: workflow.to_owned(),
        repository: Some("acme/demo".to_owned()),
        ..SubmitRequest::default()
    }
}

#[tokio::test]
async fn a_runner_configures_listens_takes_a_job_and_completes_it() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    assert_eq!(held.message["messageType"], "RunnerJobRequest");
    assert_eq!(held.token.split('.').count(), 3, "the listener reads it as a JWT");
    let results = &held.message["variables"]["system.github.results_endpoint"]["value"];
    assert!(results.as_str().unwrap().ends_with('/'), "or its last segment is lost");
    let step = json!({"number": 2, "name": "Run true", "status": "completed", "conclusion": "succeeded",
        "annotations": [{"level": "warning", "message": "careful", "path": "a.rs", "startLine": 3}]});
    let over = json!({ "outputs": { "who": { "value": "ann" } }, "stepResults": [step], "telemetry": [] });
    let reply = held.complete(&service, "succeeded", over).await;
    assert_eq!(reply.code(), 204, "{reply:?}");
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success));
    let job = service.client.job(detail.jobs[0].id).await.unwrap();
    assert_eq!(job.outputs["who"], "ann");
    assert_eq!((job.steps[0].number, job.steps[0].name.as_str()), (2, "Run true"));
    assert_eq!((job.annotations[0].message.as_str(), job.annotations[0].start_line), ("careful", Some(3)));
    assert!(runner.leave(&service).await.status.is_success());
}

#[tokio::test]
async fn a_jit_runner_works_on_any_port_and_is_gone_after_its_job() {
    let service = Service::start(&SHORT);
    let body =
        json!({"name": "jit-1", "runner_group_id": 1, "labels": ["self-hosted", "linux"], "work_folder": "_work"});
    let reply = rest(&service, Method::POST, "/api/v3/orgs/acme/actions/runners/generate-jitconfig", Some(&body)).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let again = rest(&service, Method::POST, "/api/v3/orgs/acme/actions/runners/generate-jitconfig", Some(&body)).await;
    assert_eq!(again.code(), 409, "a name is taken: {again:?}");
    let mut runner = Official::unpack(reply.json()["encoded_jit_config"].as_str().unwrap());
    runner.listen(&service).await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    service.ended(run).await;
    // Its last polls and its farewell meet no refusal, which would be an error to it.
    assert!(runner.poll(&service, "Busy").await.status.is_success());
    assert!(runner.poll(&service, "Online").await.status.is_success());
    assert!(runner.leave(&service).await.status.is_success());
    assert!(service.client.runners().await.unwrap().is_empty());
    let reply = runner.exchange(&service, &runner.assertion()).await;
    assert_eq!((reply.code(), &reply.json()["error"]), (400, &json!("invalid_client")), "single use");
}

#[tokio::test]
async fn a_job_is_offered_to_online_polls_alone_and_again_until_it_is_acquired() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let busy = runner.poll(&service, "Busy").await;
    assert_eq!(busy.code(), 202, "a Busy poll may be thrown away with its answer: {busy:?}");
    let first = runner.offer(&service).await;
    let second = runner.offer(&service).await;
    assert_eq!(first, second, "the answer was lost, so the offer comes again");
    assert_eq!(runner.acquire(&service, &second).await.code(), 200);
    assert_eq!(runner.poll(&service, "Online").await.code(), 202, "acquired, so it is not offered again");
}

#[tokio::test]
async fn an_offer_that_is_never_acquired_goes_to_another_runner() {
    let service = Service::start(&SHORT);
    let broken = listening(&service, "broken").await;
    service.submit_with(demo(JOB)).await;
    for _ in 0..3 {
        broken.offer(&service).await;
    }
    let other = listening(&service, "other").await;
    // The fourth time it is not sent, lest a message that crashes its reader do so for ever.
    let (offer, poll) = tokio::join!(other.offer(&service), broken.poll(&service, "Online"));
    assert_eq!(poll.code(), 202, "{poll:?}");
    assert_eq!(other.acquire(&service, &offer).await.code(), 200);
}

#[tokio::test]
async fn a_repeated_acquisition_answers_the_same_job_and_another_runner_gets_a_conflict() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let other = listening(&service, "other").await;
    service.submit_with(demo(JOB)).await;
    let offers = tokio::select! { offer = runner.offer(&service) => (offer, true), offer = other.offer(&service) => (offer, false) };
    let (offer, (winner, loser)) = match offers {
        (offer, true) => (offer, (&runner, &other)),
        (offer, false) => (offer, (&other, &runner)),
    };
    let first = winner.acquire(&service, &offer).await;
    let again = winner.acquire(&service, &offer).await;
    assert_eq!((first.code(), again.code()), (200, 200));
    assert_eq!(first.json()["jobId"], again.json()["jobId"]);
    let refused = loser.acquire(&service, &offer).await;
    assert_eq!((refused.code(), refused.json()["statusCode"].clone()), (409, json!(409)));
    assert_eq!(refused.json()["source"], "actions-run-service");
    let held = Held::new(&service, again.json());
    assert_eq!(held.renew(&service).await.code(), 200);
}

#[tokio::test]
async fn a_completion_may_come_twenty_five_times() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    for time in 0..25 {
        let reply = held.complete(&service, "failed", json!({})).await;
        assert!(reply.status.is_success(), "time {time}: {reply:?}");
    }
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Failure));
    let renewed = held.renew(&service).await;
    assert_eq!((renewed.code(), &renewed.json()["statusCode"]), (404, &json!(404)), "nothing to renew any more");
}

#[tokio::test]
async fn a_cancel_reaches_the_busy_poll_once_and_carries_a_time() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    service.client.cancel_run(run).await.unwrap();
    let (kind, body) = runner.message(&service, "Busy").await;
    assert_eq!(kind, "JobCancellation");
    assert_eq!(body["jobId"], held.message["jobId"]);
    assert_eq!(body["timeout"], "00:05:00");
    // Asked again in the same way: it was read, and a copy would start its timer anew.
    assert_eq!(runner.poll(&service, "Busy").await.code(), 202);
    assert_eq!(held.renew(&service).await.code(), 200, "it may still clean up");
    assert_eq!(held.complete(&service, "canceled", json!({})).await.code(), 204);
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Cancelled));
}

#[tokio::test]
async fn an_empty_poll_is_held_to_its_time_so_that_no_client_runs_hot() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    for status in ["Online", "Busy"] {
        let begun = tokio::time::Instant::now();
        let reply = runner.poll(&service, status).await;
        assert_eq!((reply.code(), reply.body.len()), (202, 0), "{reply:?}");
        assert!(begun.elapsed() >= Duration::from_millis(990), "{status} was answered after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_session_is_one_of_a_kind_and_a_host_that_came_back_gets_it_at_once() {
    let service = Service::start(&[]);
    let mut runner = listening(&service, "build-07").await;
    let old = runner.session.clone();
    {
        let poll = runner.poll(&service, "Online");
        tokio::pin!(poll);
        // Until the service holds the poll.
        let mut second = runner_twin(&service, &runner).await;
        let refused = eventually("the session is held", async || {
            tokio::select! {
                reply = &mut poll => panic!("{reply:?}"),
                reply = second.try_session(&service, "elsewhere") => (reply.code() == 409).then_some(reply),
            }
        })
        .await;
        assert_eq!(refused.json()["source"], "actions-broker-listener");
    }
    // The connection of the poll is gone with its process; the same host asks again.
    eventually("the service has seen that the poll is gone", async || {
        let reply = runner.try_session(&service, "host-1").await;
        (reply.code() == 200).then_some(())
    })
    .await;
    runner.session = old;
}

/// Another process with the same configuration.
async fn runner_twin(service: &Service, runner: &Official) -> Twin {
    let reply = runner.exchange(service, &runner.assertion()).await;
    Twin { token: reply.json()["access_token"].as_str().unwrap().to_owned(), server_url: runner.server_url.clone() }
}

struct Twin {
    token: String,
    server_url: String,
}

impl Twin {
    async fn try_session(&mut self, service: &Service, host: &str) -> crate::http::Reply {
        let body =
            json!({"sessionId": "00000000-0000-0000-0000-000000000000", "ownerName": format!("{host} (PID: 1)")});
        let path = format!("{}session", path(service, &self.server_url));
        send(service, Method::POST, &path, Some(&format!("Bearer {}", self.token)), Some(&body)).await
    }
}

#[tokio::test]
async fn a_job_survives_a_restart_and_its_runner_goes_on_with_the_session_it_had() {
    let mut service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    service.process.crash();
    service.restart();
    assert_eq!(held.renew(&service).await.code(), 200);
    assert_eq!(runner.poll(&service, "Busy").await.code(), 202, "an unknown session is adopted");
    service.client.cancel_run(run).await.unwrap();
    let (kind, body) = runner.message(&service, "Busy").await;
    assert_eq!((kind.as_str(), &body["jobId"]), ("JobCancellation", &held.message["jobId"]));
    assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    service.ended(run).await;
}

#[tokio::test]
async fn an_assertion_is_good_once_for_its_own_runner_and_for_this_service() {
    let service = Service::start(&[]);
    let (runner, other) = (runner(&service, "build-07").await, runner(&service, "other").await);
    let refused = |reply: crate::http::Reply| {
        assert_eq!((reply.code(), &reply.json()["error"]), (400, &json!("invalid_client")), "{reply:?}");
        reply.json()["error_description"].as_str().unwrap().to_owned()
    };
    let assertion = runner.assertion();
    assert_eq!(runner.exchange(&service, &assertion).await.code(), 200);
    assert!(refused(runner.exchange(&service, &assertion).await).contains("used before"));
    let stranger = runner.assertion_with(&json!({ "iss": other.client_id, "sub": other.client_id }));
    refused(runner.exchange(&service, &stranger).await);
    let elsewhere = runner.assertion_with(&json!({ "aud": "https://other.example.com/_runner/oauth/token" }));
    refused(runner.exchange(&service, &elsewhere).await);
    let old = jiff::Timestamp::now().as_second() - 3600;
    let late = runner.assertion_with(&json!({ "nbf": old, "exp": old + 300 }));
    assert!(refused(runner.exchange(&service, &late).await).contains("Current server time is"));
    // What a runner without FIPS signs is taken from one that made its key itself.
    let mut plain = runner;
    plain.padding = Padding::Pkcs1;
    assert_eq!(plain.exchange(&service, &plain.assertion()).await.code(), 200);
}

#[tokio::test]
async fn a_name_is_found_exactly_and_taken_over_only_when_asked() {
    let service = Service::start(&[]);
    let token = registration_token(&service, "repos/acme/demo").await;
    let first = Official::configure(&service, "acme/demo", &token, "build-07", &[]).await;
    let auth = format!("RemoteAuth {token}");
    for (name, found) in [("build-0", 0), ("build-07", 1), ("BUILD-07", 1), ("build-077", 0)] {
        let path = format!("/api/v3/repos/acme/demo/actions/runners?name={name}");
        let reply = send(&service, Method::GET, &path, Some(&auth), None).await;
        assert_eq!(reply.json()["runners"].as_array().unwrap().len(), found, "{name}");
    }
    let refused = Official::try_configure(&service, "acme/demo", &token, "build-07", &[], json!({})).await;
    assert_eq!(refused.err().unwrap().code(), 409);
    let over = json!({ "replace": true });
    let second = Official::try_configure(&service, "acme/demo", &token, "build-07", &[], over).await.ok().unwrap();
    assert_eq!(second.exchange(&service, &second.assertion()).await.code(), 200);
    let reply = first.exchange(&service, &first.assertion()).await;
    assert_eq!(reply.json()["error"], "invalid_client", "the key that was replaced is worth nothing");
}

#[tokio::test]
async fn a_runner_older_than_what_is_worked_for_is_told_so() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let reply = runner.poll_as(&service, "Online", "2.320.0").await;
    assert_ne!(reply.code(), 403, "a 403 on a poll is fatal without saying why");
    assert_eq!(reply.json()["errorKind"], "RunnerVersionTooOld");
}

#[tokio::test]
async fn a_deleted_registration_is_said_in_the_words_that_a_runner_knows() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let path = format!("/api/v3/repos/acme/demo/actions/runners/{}", runner.id);
    assert_eq!(rest(&service, Method::DELETE, &path, None).await.code(), 204);
    let reply = runner.poll(&service, "Online").await;
    assert_eq!((reply.code(), &reply.json()["errorKind"]), (404, &json!("RunnerNotFound")));
    assert_eq!(reply.json()["source"], "actions-broker-listener");
}

#[tokio::test]
async fn a_runner_removes_itself_with_a_remove_token_but_not_while_it_works() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let reply = rest(&service, Method::POST, "/api/v3/repos/acme/demo/actions/runners/remove-token", None).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let auth = format!("RemoteAuth {}", reply.json()["token"].as_str().unwrap());
    let path = format!("/api/v3/repos/acme/demo/actions/runners/{}", runner.id);
    service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    assert_eq!(send(&service, Method::DELETE, &path, Some(&auth), None).await.code(), 422);
    held.complete(&service, "succeeded", json!({})).await;
    assert_eq!(send(&service, Method::DELETE, &path, Some(&auth), None).await.code(), 204);
    let elsewhere = format!("/api/v3/repos/acme/other/actions/runners/{}", runner.id);
    assert_eq!(
        send(&service, Method::DELETE, &elsewhere, Some(&auth), None).await.code(),
        404,
        "of another repository"
    );
}

#[tokio::test]
async fn a_worker_that_is_never_heard_of_again_is_concluded_by_the_service() {
    let service = Service::start(&[&SHORT[..], &["--actions-lease", "2s", "--requeues", "0"]].concat());
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    let job = service.job(run, "the job is given up", |job| job.status == JobStatus::Completed).await;
    assert_eq!(job.conclusion, Some(Conclusion::Failure));
    assert_eq!(held.renew(&service).await.code(), 404);
    let late = held.complete(&service, "succeeded", json!({})).await;
    assert!(late.status.is_success() || late.code() == 404, "final either way: {late:?}");
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Failure), "the late word changes nothing");
}

#[tokio::test]
async fn every_answer_carries_its_ids_and_every_error_of_rest_reads_like_githubs() {
    let service = Service::start(&[]);
    let reply = send(&service, Method::GET, "/api/v3/orgs/acme/actions/runners", Some("token slp_wrong"), None).await;
    assert_eq!(reply.code(), 401);
    assert!(reply.json()["message"].is_string() && reply.json()["documentation_url"].is_string(), "{reply:?}");
    assert_eq!(reply.headers["x-github-request-id"], reply.headers["x-request-id"]);
    assert!(reply.headers.contains_key("activityid"));
    let reply = rest(&service, Method::GET, "/api/v3/orgs/acme/actions/runners", None).await;
    assert_eq!((reply.code(), reply.json()["total_count"].clone()), (200, json!(0)));
    assert!(reply.headers.contains_key("x-github-request-id"));
}
