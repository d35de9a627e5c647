use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use startline_client::{Credentials, Error, PollResult, Retry, RunnerClient, RunnerSession, Transport};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{
    HeartbeatRequest, PollRequest, RegisterRequest, RegisterResponse, RegistrationTokenRequest,
};
use startline_protocol::state::RunnerStatus;
use startline_protocol::token::{ApiToken, RegistrationToken, RunnerToken};

use crate::script::{Server, answer, cut, empty, problem, problem_with, quick, transport};

fn request(replace: bool) -> RegisterRequest {
    RegisterRequest {
        name: "box".into(),
        labels: vec!["linux".into()],
        capabilities: Capabilities::default(),
        ephemeral: false,
        replace,
        version: String::new(),
    }
}

fn registered() -> Value {
    json!({
        "runner_id": 7, "runner_token": "slt_first", "expires_at": 4_000_000_000_i64, "labels": ["linux"],
        "runner_group": "default", "poll_timeout_seconds": 30, "heartbeat_interval_seconds": 15,
    })
}

fn token() -> RegistrationToken {
    RegistrationToken::parse("slr_x").unwrap()
}

async fn register(transport: Transport, url: &str, replace: bool, retry: Retry) -> Result<RegisterResponse, Error> {
    RunnerClient::new(transport, url)?.with_retry(retry).register(&token(), &request(replace)).await
}

/// A session whose token is good for years, or due to be renewed at once.
fn session(url: &str, due: bool) -> RunnerSession {
    let now = Timestamp::now().as_second();
    let issued_at = if due { now - 1000 } else { now };
    RunnerClient::new(transport(), url).unwrap().with_retry(quick(3)).session(Credentials {
        runner_id: RunnerId(7),
        token: RunnerToken::parse("slt_first").unwrap(),
        issued_at,
        expires_at: now + 900,
    })
}

fn poll() -> PollRequest {
    PollRequest { timeout_seconds: 1, capabilities: None, auto_acquire: true }
}

fn heartbeat() -> HeartbeatRequest {
    HeartbeatRequest { status: RunnerStatus::Online, current_jobs: Vec::new(), system_info: None }
}

fn assignment(url: &str) -> Value {
    let url = |what: &str| format!("{url}/{what}");
    json!({
        "job_assigned": true, "job_id": 5, "workflow_run_id": 3, "attempt": 1, "epoch": 2, "timeout_minutes": 60,
        "renew_interval_seconds": 30, "offer_expires_at": 4_000_000_000_i64,
        "urls": { "acquire": url("acquire"), "renew": url("renew"), "status": url("status"), "logs": url("logs"),
                  "complete": url("complete") },
    })
}

#[tokio::test]
async fn a_poll_tells_a_job_from_no_job_from_a_lost_registration_from_a_fault() {
    let server = Server::start(|n, _| async move {
        match n {
            0 => answer(200, &assignment("http://host")),
            1 => empty(204),
            2 => problem(410, kind::RUNNER_OFFLINE),
            3 => problem(500, kind::INTERNAL),
            _ => answer(200, &json!("what?")),
        }
    })
    .await;
    let session = session(&server.url(), false);
    let PollResult::JobAssigned(job) = session.poll_for_job(&poll()).await else { panic!("no job") };
    assert_eq!((job.job_id.0, job.epoch.0), (5, 2));
    assert!(matches!(session.poll_for_job(&poll()).await, PollResult::NoJobs));
    assert!(matches!(session.poll_for_job(&poll()).await, PollResult::RunnerOffline));
    let PollResult::ServerError(error) = session.poll_for_job(&poll()).await else { panic!("no error") };
    assert!(error.is_transient());
    let PollResult::ServerError(error) = session.poll_for_job(&poll()).await else { panic!("no error") };
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    let seen = server.seen();
    assert_eq!(seen.len(), 5, "a poll is never repeated by itself");
    assert_eq!(seen[0].uri.path(), "/api/v1/runners/jobs/poll");
    assert_eq!(seen[0].header("authorization"), "Bearer slt_first");
    assert_eq!(seen[0].json(), json!({ "timeout_seconds": 1, "auto_acquire": true }));
}

#[tokio::test]
async fn a_registration_rides_out_three_refused_connections() {
    let address = {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        unused.local_addr().unwrap()
    };
    // The server starts after the third connection was refused.
    let tries = Arc::new(AtomicUsize::new(0));
    let server = Arc::new(tokio::sync::Mutex::new(None));
    let (counted, started) = (Arc::clone(&tries), Arc::clone(&server));
    let network = transport();
    let transport = Transport::from_service(tower::service_fn(move |request| {
        let (counted, started, mut network) = (Arc::clone(&counted), Arc::clone(&started), network.clone());
        async move {
            if counted.fetch_add(1, Ordering::SeqCst) == 3 {
                let server = Server::start_at(address, |_, _| async { answer(201, &registered()) }).await;
                *started.lock().await = Some(server);
            }
            tower::Service::call(&mut network, request).await
        }
    }));
    let response = register(transport, &format!("http://{address}"), false, quick(5)).await.unwrap();
    assert_eq!(response.runner_id, RunnerId(7));
    assert_eq!(tries.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_remedy() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let error = register(transport(), &format!("http://{address}/x"), false, Retry::NEVER).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot connect to http://{address}: ")), "{text}");
    assert!(text.contains("refused") && text.ends_with("is `startline server` running there?"), "{text}");
}

#[tokio::test]
async fn a_busy_service_is_asked_again_when_it_said() {
    let server = Server::start(|n, _| async move {
        if n == 0 {
            let mut busy = problem(503, kind::UNAVAILABLE);
            busy.headers_mut().insert("retry-after", "1".parse().unwrap());
            busy
        } else {
            answer(201, &registered())
        }
    })
    .await;
    let begin = tokio::time::Instant::now();
    register(transport(), &server.url(), false, quick(2)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_registration_whose_answer_was_lost_is_repeated_only_when_it_replaces() {
    let server = Server::start(|n, _| async move { if n == 1 { answer(201, &registered()) } else { cut(201, "{") } });
    let server = server.await;
    let error = register(transport(), &server.url(), false, quick(3)).await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
    register(transport(), &server.url(), true, quick(3)).await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_refusal_keeps_everything_that_the_service_said() {
    let server = Server::start(|_, _| async {
        problem_with(
            409,
            &json!({ "type": kind::NAME_TAKEN, "title": "another runner is named box", "status": 409,
                     "detail": "choose another name", "request_id": "r-1" }),
        )
    })
    .await;
    let error = register(transport(), &server.url(), true, quick(3)).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (Some(kind::NAME_TAKEN), Some(409)));
    assert_eq!(error.problem().unwrap().detail.as_deref(), Some("choose another name"));
    assert!(error.to_string().contains("another runner is named box"), "{error}");
    assert_eq!(server.seen().len(), 1, "a refusal is final");
}

#[tokio::test]
async fn an_error_that_is_not_the_services_own_has_no_kind() {
    let server = Server::start(|_, _| async {
        let mut page = empty(404);
        *page.body_mut() = "<html>no backend</html>".into();
        page
    })
    .await;
    let error = register(transport(), &server.url(), false, quick(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.is_stale()), (None, Some(404), false));
}

#[tokio::test]
async fn a_registration_token_is_asked_for_with_the_api_token() {
    let server =
        Server::start(|_, _| async { answer(200, &json!({ "token": "slr_new", "expires_at": 4_000_000_000_i64 })) });
    let server = server.await;
    let client = RunnerClient::new(transport(), &format!("{}/prefix/", server.url())).unwrap();
    let api = ApiToken::parse("slp_admin").unwrap();
    let answer = client.request_registration_token(&api, &RegistrationTokenRequest::default()).await.unwrap();
    assert_eq!(answer.token.expose(), "slr_new");
    let seen = &server.seen()[0];
    assert_eq!(seen.uri.path(), "/prefix/api/v1/runners/registration-token");
    assert_eq!(seen.header("authorization"), "Bearer slp_admin");
    assert!(seen.header("user-agent").starts_with("startline/"));
    uuid::Uuid::parse_str(seen.header("x-request-id")).unwrap();
}

#[tokio::test]
async fn an_offer_is_acquired_under_its_epoch() {
    let server = Server::start(|_, _| async { answer(200, &assignment("http://host")) }).await;
    let offer = serde_json::from_value(assignment(&server.url())).unwrap();
    session(&server.url(), false).acquire(&offer).await.unwrap();
    assert_eq!(server.seen()[0].uri.path(), "/acquire");
    assert_eq!(server.seen()[0].json(), json!({ "epoch": 2 }));
}

#[tokio::test]
async fn a_token_past_its_half_life_is_renewed_once_for_all_concurrent_calls() {
    let server = Server::start(|_, seen| async move {
        match seen.uri.path() {
            "/api/v1/runners/token" => {
                answer(200, &json!({ "runner_token": "slt_second", "expires_at": 4_000_000_000_i64 }))
            }
            _ => answer(200, &json!({ "commands": [] })),
        }
    })
    .await;
    let session = session(&server.url(), true);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    session.on_renewed(move |credentials| keep.lock().unwrap().push(credentials.token.expose().to_owned()));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let session = session.clone();
        calls.spawn(async move { session.send_heartbeat(&heartbeat()).await.unwrap() });
    }
    calls.join_all().await;
    session.send_heartbeat(&heartbeat()).await.unwrap();
    assert_eq!(*kept.lock().unwrap(), ["slt_second"]);
    assert_eq!(session.credentials().token.expose(), "slt_second");
    let seen = server.seen();
    assert_eq!(seen.iter().filter(|seen| seen.uri.path().ends_with("/token")).count(), 1);
    assert_eq!(seen.last().unwrap().header("authorization"), "Bearer slt_second");
}

#[tokio::test]
async fn a_renewal_that_fails_does_not_stop_the_call() {
    let server = Server::start(|_, seen| async move {
        if seen.uri.path().ends_with("/token") { empty(503) } else { answer(200, &json!({ "commands": [] })) }
    })
    .await;
    let session = session(&server.url(), true);
    session.send_heartbeat(&heartbeat()).await.unwrap();
    session.send_heartbeat(&heartbeat()).await.unwrap();
    let paths: Vec<_> = server.seen().iter().map(|seen| seen.uri.path().to_owned()).collect();
    assert_eq!(paths.iter().filter(|path| path.ends_with("/token")).count(), 1, "it is left alone for a while");
}

#[tokio::test]
async fn a_call_that_was_overtaken_by_a_renewal_is_sent_again_with_the_new_token() {
    let renewed = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&renewed);
    let server = Server::start(move |_, seen| {
        let wait = Arc::clone(&wait);
        async move {
            match (seen.uri.path(), seen.header("authorization")) {
                ("/api/v1/runners/token", _) => {
                    answer(200, &json!({ "runner_token": "slt_second", "expires_at": 4_000_000_000_i64 }))
                }
                (_, "Bearer slt_first") => {
                    wait.notified().await;
                    problem(401, kind::UNAUTHENTICATED)
                }
                _ => empty(204),
            }
        }
    })
    .await;
    let session = session(&server.url(), false);
    let poll = poll();
    let (answer, ()) = tokio::join!(session.poll_for_job(&poll), async {
        session.renew_token().await.unwrap();
        renewed.notify_one();
    });
    assert!(matches!(answer, PollResult::NoJobs), "{answer:?}");
}

#[tokio::test]
async fn a_registration_that_is_gone_counts_as_removed() {
    let server = Server::start(|n, _| async move {
        match n {
            0 => problem(404, kind::NOT_FOUND),
            _ => problem(409, kind::RUNNER_BUSY),
        }
    })
    .await;
    let session = session(&server.url(), false);
    session.deregister(false).await.unwrap();
    let error = session.deregister(true).await.unwrap_err();
    assert_eq!(error.kind(), Some(kind::RUNNER_BUSY));
    assert_eq!(server.seen()[0].uri.to_string(), "/api/v1/runners/7");
    assert_eq!(server.seen()[1].uri.to_string(), "/api/v1/runners/7?force=true");
}
