//! What a listener relies on without saying so. Each test is named after the pitfall that it keeps out; the page
//! `docs/conformance.md` has the list.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::Signal;

use super::*;
use crate::harness::DEADLINE;
use crate::http::{Reply, Wire};

/// The places that a runner may be configured for: in its `--url`, and below `/api/v3`.
const PLACES: [(&str, &str); 3] =
    [("acme", "orgs/acme"), ("acme/demo", "repos/acme/demo"), ("enterprises/startline", "enterprises/startline")];

/// What `runner-registration` answers for each place.
async fn connections(service: &Service) -> Vec<Value> {
    let mut all = Vec::new();
    for (place, scope) in PLACES {
        let auth = format!("RemoteAuth {}", registration_token(service, scope).await);
        let body = json!({ "url": format!("{}/{place}", service.url), "runner_event": "register" });
        let reply = send(service, Method::POST, "/api/v3/actions/runner-registration", Some(&auth), Some(&body)).await;
        assert_eq!(reply.code(), 200, "{place}: {reply:?}");
        all.push(reply.json());
    }
    all
}

#[tokio::test]
async fn the_address_that_is_configured_has_a_path_or_the_configuration_fails_at_its_end() {
    let service = Service::start(&[]);
    for connection in connections(&service).await {
        let rest = path(&service, connection["url"].as_str().unwrap());
        assert!(rest.trim_matches('/').split('/').next().is_some_and(|segment| !segment.is_empty()), "{connection}");
    }
}

#[tokio::test]
async fn the_address_that_is_configured_is_that_of_the_broker_letter_by_letter() {
    let service = Service::start(&[]);
    let runner = runner(&service, "build-07").await;
    for connection in connections(&service).await {
        assert_eq!(connection["url"], runner.server_url, "or each session begins with an older protocol");
    }
}

#[tokio::test]
async fn the_registration_has_a_token_and_its_schema_though_nobody_uses_them() {
    let service = Service::start(&[]);
    for connection in connections(&service).await {
        assert_eq!(
            (&connection["token_schema"], &connection["use_v2_flow"]),
            (&json!("OAuthAccessToken"), &json!(true))
        );
        assert!(connection["token"].as_str().is_some_and(|token| !token.is_empty()), "{connection}");
    }
}

#[tokio::test]
async fn every_base_address_ends_with_a_slash_or_its_last_segment_is_lost() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let offer = runner.offer(&service).await;
    let message = runner.acquire(&service, &offer).await.json();
    let endpoint = &message["resources"]["endpoints"][0];
    let bases = [
        &connections(&service).await[0]["url"],
        &json!(runner.server_url),
        &offer["run_service_url"],
        &endpoint["url"],
        &endpoint["data"]["CacheServerUrl"],
        &endpoint["data"]["ResultsServiceUrl"],
        &endpoint["data"]["PipelinesServiceUrl"],
        &message["variables"]["system.github.results_endpoint"]["value"],
    ]
    .map(Value::clone);
    for base in bases {
        assert!(base.as_str().is_some_and(|base| base.ends_with('/')), "{base}");
    }
}

#[tokio::test]
async fn actions_are_resolved_at_the_root_of_the_host_because_their_clients_drop_the_path() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    let launch = held.message["variables"]["system.github.launch_endpoint"]["value"].as_str().unwrap();
    let (scheme, rest) = launch.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    assert_eq!(format!("{scheme}://{authority}"), service.url);
    let (plan, job) = (held.message["plan"]["planId"].as_str().unwrap(), held.message["jobId"].as_str().unwrap());
    let path = format!("/actions/build/{plan}/jobs/{job}/runnerresolve/actions");
    let bearer = format!("Bearer {}", held.token);
    let reply = send(&service, Method::POST, &path, Some(&bearer), Some(&json!({ "actions": [] }))).await;
    assert_eq!((reply.code(), reply.json()), (200, json!({ "actions": {} })), "there it is");
}

/// The two parts of a JWT that anybody can read.
fn decoded(token: &str) -> [Value; 2] {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, _] = parts[..] else { panic!("{} parts", parts.len()) };
    [header, payload].map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
}

#[tokio::test]
async fn a_jobs_bearer_reads_as_a_jwt_without_empty_claims_or_the_listener_crashes() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    for part in decoded(&held.token) {
        assert!(part.as_object().is_some_and(|claims| claims.values().all(|claim| !claim.is_null())), "{part}");
    }
}

#[tokio::test]
async fn the_bearer_names_run_and_job_and_all_jobs_of_a_run_share_its_id() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let job = "{runs-on: self-hosted, steps: [{run: 'true'}]}";
    service.submit_with(demo(&format!("on: push\njobs:\n  a: {job}\n  b: {job}\n"))).await;
    let mut plans = Vec::new();
    for _ in 0..2 {
        let held = runner.take(&service).await;
        let (plan, id) = (held.message["plan"]["planId"].clone(), held.message["jobId"].as_str().unwrap());
        let [_, claims] = decoded(&held.token);
        let wanted = format!("Actions.Results:{}:{id}", plan.as_str().unwrap());
        assert!(claims["scp"].as_str().unwrap().split(' ').any(|word| word == wanted), "{claims}");
        plans.push(plan);
        assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    }
    assert_eq!(plans[0], plans[1]);
}

#[tokio::test]
async fn the_next_job_is_never_written_into_the_busy_poll_that_dies_with_the_last_one() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let first = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    service.submit_with(demo(JOB)).await;
    // The poll is held over the completion and the time in which the worker ends.
    let complete = async {
        assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
        service.ended(first).await;
    };
    let (busy, ()) = tokio::join!(runner.poll(&service, "Busy"), complete);
    assert_eq!(busy.code(), 202, "{busy:?}");
    assert_eq!(runner.poll(&service, "Busy").await.code(), 202, "nor into one that begins after it");
    let offer = runner.offer(&service).await;
    assert_eq!(runner.acquire(&service, &offer).await.code(), 200);
}

#[tokio::test]
async fn a_runner_that_works_is_offered_nothing_whatever_it_says_of_itself() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    service.submit_with(demo(JOB)).await;
    // A second job would cancel the one that runs.
    for status in ["Online", "Busy", "Online"] {
        assert_eq!(runner.poll(&service, status).await.code(), 202, "{status}");
    }
    assert_eq!(held.renew(&service).await.code(), 200);
}

#[tokio::test]
async fn no_refusal_of_a_poll_is_a_bare_403_which_would_stop_the_runner_for_good() {
    let service = Service::start(&[&SHORT[..], &["--failed-auth-rate", "0"]].concat());
    let mut working = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let held = working.take(&service).await;
    let deleted = listening(&service, "deleted").await;
    let path = format!("/api/v3/repos/acme/demo/actions/runners/{}", deleted.id);
    assert_eq!(rest(&service, Method::DELETE, &path, None).await.code(), 204);
    let mut replaced = listening(&service, "replaced").await;
    let old = replaced.session.clone();
    replaced.listen(&service).await;
    replaced.session = old;
    let mut refusals: Vec<(&str, Reply)> = vec![
        ("of a deleted runner", deleted.poll(&service, "Online").await),
        ("of a replaced session", replaced.poll(&service, "Online").await),
        ("of an old version", working.poll_as(&service, "Online", "2.300.0").await),
    ];
    for (what, token) in [
        ("without a token", String::new()),
        ("with nonsense", "garbage".to_owned()),
        ("with a job's token", held.token.clone()),
        ("with an administrator's token", service.token.clone()),
    ] {
        working.token = token;
        refusals.push((what, working.poll(&service, "Online").await));
    }
    for (what, reply) in refusals {
        assert!(reply.status.is_client_error() && reply.code() != 403, "{what}: {reply:?}");
        assert_eq!(reply.json()["source"], "actions-broker-listener", "{what}: {reply:?}");
    }
}

#[tokio::test]
async fn the_last_polls_of_an_ephemeral_runner_meet_no_refusal_and_it_is_gone_without_having_said_so() {
    let service = Service::start(&SHORT);
    let token = registration_token(&service, "repos/acme/demo").await;
    let over = json!({ "ephemeral": true });
    let mut runner = Official::try_configure(&service, "acme/demo", &token, "once", &[], over).await.ok().unwrap();
    runner.listen(&service).await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    let (busy, done) = tokio::join!(runner.poll(&service, "Busy"), held.complete(&service, "succeeded", json!({})));
    assert_eq!((busy.code(), done.code()), (202, 204), "a 401 here would cancel its job and stop it");
    service.ended(run).await;
    assert_eq!(runner.poll(&service, "Online").await.code(), 202, "{busy:?}");
    // It never says that it leaves.
    eventually("its registration is gone", async || service.client.runners().await.unwrap().is_empty().then_some(()))
        .await;
}

#[tokio::test]
async fn renewals_are_answered_while_the_database_takes_nothing_and_the_completion_counts_after_that() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    let other = rusqlite::Connection::open(service.data.path().join("startline.db")).unwrap();
    other.busy_timeout(DEADLINE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for time in 0..5 {
        let reply = tokio::time::timeout(Duration::from_secs(20), held.renew(&service)).await.expect("held up");
        assert_eq!(reply.code(), 200, "time {time}: {reply:?}");
    }
    let complete = held.complete(&service, "succeeded", json!({}));
    tokio::pin!(complete);
    let early = tokio::select! {
        reply = &mut complete => Some(reply),
        // The lease may have ended with the completion that is not written yet.
        reply = held.renew(&service) => { assert!(matches!(reply.code(), 200 | 404), "{reply:?}"); None }
    };
    other.execute_batch("ROLLBACK").unwrap();
    // Either it waited for the database, or it said that it could not be written, and comes again.
    let reply = match early {
        Some(reply) => reply,
        None => complete.await,
    };
    if !reply.status.is_success() {
        assert_ne!(reply.code(), 404, "that would be final: {reply:?}");
        assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    }
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}

#[tokio::test]
async fn every_answer_with_a_body_says_exactly_that_it_is_json_or_the_runner_reads_nothing() {
    let service = Service::start(&SHORT);
    let mut runner = runner(&service, "build-07").await;
    let mut replies = vec![runner.exchange(&service, &runner.assertion()).await];
    runner.listen(&service).await;
    replies.push(runner.try_session(&service, "host-1").await);
    runner.session = replies[1].json()["sessionId"].as_str().unwrap().to_owned();
    service.submit_with(demo(JOB)).await;
    let offer = eventually("an offer", async || {
        let reply = runner.poll(&service, "Online").await;
        (reply.code() == 200).then_some(reply)
    })
    .await;
    let body: Value = serde_json::from_str(offer.json()["body"].as_str().unwrap()).unwrap();
    replies.push(offer);
    replies.push(runner.acquire(&service, &body).await);
    let held = Held::new(&service, replies[3].json());
    replies.push(held.renew(&service).await);
    for reply in replies {
        assert_eq!((reply.code(), &reply.headers["content-type"]), (200, &"application/json".parse().unwrap()));
    }
}

#[tokio::test]
async fn every_refusal_of_the_token_endpoint_is_a_400_with_an_error_or_the_runner_goes_on_without_a_token() {
    let service = Service::start(&[]);
    let runner = runner(&service, "build-07").await;
    let deleted = self::runner(&service, "deleted").await;
    let path = format!("/api/v3/repos/acme/demo/actions/runners/{}", deleted.id);
    assert_eq!(rest(&service, Method::DELETE, &path, None).await.code(), 204);
    let unknown =
        runner.assertion_with(&json!({ "iss": uuid::Uuid::from_u128(4711), "sub": uuid::Uuid::from_u128(4711) }));
    let forged = format!("{}A", runner.assertion().rsplit_once('.').unwrap().0);
    for (what, assertion) in [
        ("of nobody", unknown.as_str()),
        ("of a deleted runner", &deleted.assertion()),
        ("with another signature", &forged),
        ("that is none", "garbage"),
        ("that is empty", ""),
    ] {
        let reply = runner.exchange(&service, assertion).await;
        assert_eq!((reply.code(), &reply.json()["error"]), (400, &json!("invalid_client")), "{what}: {reply:?}");
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    // What is no request of a runner's at all must not tell one that it is unknown.
    let large = format!("client_assertion={}", "x".repeat(100_000));
    for body in ["", "{}", "grant_type=password&client_assertion=x", large.as_str()] {
        let mut wire = Wire::open(&service.url).await;
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let endpoint = super::path(&service, &runner.authorization_url);
        let reply = wire.send(Method::POST, endpoint, None, &headers, body.as_bytes()).await;
        assert_eq!((reply.code(), &reply.json()["error"]), (400, &json!("invalid_request")), "{reply:?}");
    }
}

#[tokio::test]
async fn assertions_need_neither_kid_nor_iat_and_are_signed_with_pss_unless_configured_otherwise() {
    let service = Service::start(&[]);
    let runner = runner(&service, "build-07").await;
    assert_eq!(runner.padding, Padding::Pss);
    let assertion = runner.assertion();
    let [header, claims] = decoded(&assertion);
    assert_eq!(header, json!({ "typ": "JWT", "alg": "PS256" }));
    assert!(claims.get("iat").is_none());
    assert_eq!(runner.exchange(&service, &assertion).await.code(), 200);
}

#[tokio::test]
async fn each_scope_has_a_default_group_that_is_not_hosted() {
    let service = Service::start(&[]);
    for (_, scope) in PLACES {
        let auth = format!("RemoteAuth {}", registration_token(&service, scope).await);
        let reply =
            send(&service, Method::GET, &format!("/api/v3/{scope}/actions/runner-groups"), Some(&auth), None).await;
        let groups = reply.json()["runner_groups"].as_array().unwrap().clone();
        let fits = groups.iter().filter(|group| group["default"] == true && group["is_hosted"] == false);
        assert_eq!(fits.count(), 1, "{scope}: {groups:?}");
        assert!(groups.iter().all(|group| group["id"].is_i64() && group["name"].is_string()));
    }
}

#[tokio::test]
async fn a_poll_that_is_held_when_the_service_stops_ends_empty_and_is_no_error_to_count() {
    let service = Service::start(&[]);
    let runner = listening(&service, "build-07").await;
    let poll = runner.poll(&service, "Online");
    tokio::pin!(poll);
    eventually("the poll is held", async || {
        let mut wire = Wire::open(&service.url).await;
        tokio::select! {
            reply = &mut poll => panic!("{reply:?}"),
            reply = wire.get("/metrics", "") => reply.text().contains("startline_polls_open 1").then_some(()),
        }
    })
    .await;
    service.process.signal(Signal::SIGTERM);
    let reply = tokio::time::timeout(DEADLINE, poll).await.expect("it is held to its end");
    assert_eq!((reply.code(), reply.body.len()), (202, 0), "{reply:?}");
}

#[tokio::test]
async fn a_runner_that_was_silent_or_met_a_restart_is_never_told_that_it_is_unknown() {
    let mut service = Service::start(&[&SHORT[..], &["--offline-after", "2s", "--heartbeat-interval", "1s"]].concat());
    let runner = listening(&service, "build-07").await;
    // Told that it does not exist, it would delete its configuration.
    for _ in 0..2 {
        service.process.crash();
        service.restart();
        assert_eq!(runner.poll(&service, "Online").await.code(), 202);
        let mut fresh = runner_twin(&service, &runner).await;
        // Whose the session is that goes on, the service has forgotten; another process waits for its silence.
        let reply = fresh.try_session(&service, "host-1").await;
        assert!(matches!(reply.code(), 200 | 409), "{reply:?}");
    }
}

#[tokio::test]
async fn a_session_ends_when_its_listener_says_so_and_saying_it_again_is_no_error() {
    let service = Service::start(&SHORT);
    let mut runner = listening(&service, "build-07").await;
    for _ in 0..2 {
        assert!(runner.leave(&service).await.status.is_success());
    }
    assert_eq!(runner.try_session(&service, "elsewhere").await.code(), 200, "it is free at once");
}

#[tokio::test]
async fn an_acknowledgement_may_come_twice_late_and_for_nothing() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let offer = runner.offer(&service).await;
    assert_eq!(offer["should_acknowledge"], true);
    for offer in [&offer, &offer, &json!({ "runner_request_id": "3c9a" })] {
        assert!(runner.acknowledge(&service, offer).await.status.is_success());
    }
    assert_eq!(runner.acquire(&service, &offer).await.code(), 200, "it is an answer to nothing but a question");
    assert!(runner.acknowledge(&service, &offer).await.status.is_success());
}

#[tokio::test]
async fn a_renewal_says_until_when_in_words_that_the_runner_reads() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    let until: jiff::Timestamp = held.renew(&service).await.json()["lockedUntil"].as_str().unwrap().parse().unwrap();
    let left = until.duration_since(jiff::Timestamp::now());
    assert!(left >= jiff::SignedDuration::from_secs(240), "one blip with its repeats takes minutes: {left}");
}

#[tokio::test]
async fn the_first_completion_counts_and_another_word_changes_nothing() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    let held = runner.take(&service).await;
    assert_eq!(held.complete(&service, "succeededWithIssues", json!({})).await.code(), 204);
    // What a listener says of a worker that ended with an error after it had reported.
    let over = json!({ "annotations": [{ "level": "failure", "message": "The worker crashed." }] });
    let late = held.complete(&service, "failed", over).await;
    assert!(late.status.is_success() || late.code() == 404, "final either way: {late:?}");
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}
