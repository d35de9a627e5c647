use std::time::Duration;

use serde_json::{Value, json};
use startline_client::{ApiClient, LogFollow};
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::problem::kind;
use startline_protocol::runs_api::{JobRequest, LogEvent, RerunRequest, SubmitRequest};
use startline_protocol::state::JobStatus;
use startline_protocol::token::ApiToken;

use crate::script::{Server, answer, cut, empty, problem, problem_with, quick, transport};

fn client(server: &Server) -> ApiClient {
    let token = ApiToken::parse("slp_x").unwrap();
    ApiClient::new(transport(), &server.url(), token).unwrap().with_retry(quick(5))
}

fn run() -> Value {
    json!({
        "run": { "id": 3, "name": "ci", "path": "ci.yml", "repository": "local/x", "event_name": "push",
                 "ref": "refs/heads/main", "status": "queued", "created_at": "2026-01-01T00:00:00Z" },
        "version": 1, "jobs": [], "pending": [],
    })
}

fn job(attempt: u32) -> Value {
    json!({
        "id": 5, "run_id": 3, "key": "build", "name": "build", "status": "running", "attempt": attempt, "labels": [],
        "queued_at": "2026-01-01T00:00:00Z",
    })
}

fn job_line(attempt: u32) -> String {
    format!("{}\n", json!({ "type": "job", "job": job(attempt) }))
}

fn log_line(attempt: u32, offset: u64, text: &str) -> String {
    format!("{}\n", json!({ "type": "log", "offset": offset, "attempt": attempt, "text": text }))
}

const END: &str = "{\"type\":\"end\"}\n";

/// All that is said until the end: text as it is, jobs as `<attempt>`.
async fn told(mut follow: LogFollow) -> String {
    let mut told = String::new();
    while let Some(event) = follow.next().await.unwrap() {
        match event {
            LogEvent::Job { job } => told.push_str(&format!("<{}>", job.attempt)),
            LogEvent::Log { text, .. } => told.push_str(&text),
            LogEvent::Console { .. } => told.push('~'),
            LogEvent::End => told.push('$'),
        }
    }
    told
}

#[tokio::test]
async fn a_log_is_followed_across_cuts_without_loss_or_repetition() {
    let server = Server::start(|n, _| async move {
        match n {
            // Cut in the middle of a line.
            0 => cut(200, &format!("{}\n{}{{\"type\":\"lo", job_line(1), log_line(1, 0, "one\n"))),
            1 => empty(502),
            // Ended politely, but before the end.
            2 => {
                let mut part = empty(200);
                *part.body_mut() = format!("{}{}", job_line(1), log_line(1, 4, "two\n")).into();
                part
            }
            // Sends something again.
            _ => cut(200, &format!("{}{}{END}", job_line(1), log_line(1, 4, "two\nthree\n"))),
        }
    })
    .await;
    let told = told(client(&server).follow_job_log(JobId(5), 0, None)).await;
    assert_eq!(told, "<1>one\n<1>two\n<1>three\n$");
    let queries: Vec<_> = server.seen().iter().map(|seen| seen.uri.query().unwrap().to_owned()).collect();
    assert_eq!(
        queries,
        [
            "follow=true&console=true&offset=0",
            "follow=true&console=true&offset=4",
            "follow=true&console=true&offset=4",
            "follow=true&console=true&offset=8"
        ]
    );
    assert_eq!(server.seen()[0].header("accept"), "application/x-ndjson");
}

#[tokio::test]
async fn a_later_attempt_that_began_during_a_cut_is_told_from_its_beginning() {
    let server = Server::start(|n, _| async move {
        match n {
            0 => cut(200, &format!("{}{}", job_line(1), log_line(1, 0, "lost attempt\n"))),
            // The service takes the offset for one in the log of the attempt that is current.
            1 => cut(200, &format!("{}{END}", job_line(2))),
            _ => cut(200, &format!("{}{}{END}", job_line(2), log_line(2, 0, "new\n"))),
        }
    })
    .await;
    let told = told(client(&server).follow_job_log(JobId(5), 0, None)).await;
    assert_eq!(told, "<1>lost attempt\n<2>new\n$");
}

#[tokio::test]
async fn a_named_attempt_is_asked_for_by_name_every_time() {
    let server = Server::start(|n, _| async move {
        if n == 0 { cut(200, &log_line(1, 7, "x\n")) } else { cut(200, &format!("{}{END}", job_line(2))) }
    })
    .await;
    let told = told(client(&server).follow_job_log(JobId(5), 7, Some(1))).await;
    assert_eq!(told, "x\n<2>$");
    let seen = server.seen();
    assert_eq!(seen[0].uri.query(), Some("follow=true&console=true&offset=7&attempt=1"));
    assert_eq!(seen[1].uri.query(), Some("follow=true&console=true&offset=9&attempt=1"));
}

#[tokio::test]
async fn following_ends_with_a_refusal_and_with_an_outage_that_does_not() {
    let server = Server::start(|n, _| async move { if n == 0 { problem(404, kind::NOT_FOUND) } else { empty(503) } });
    let server = server.await;
    let client = client(&server);
    let mut follow = client.follow_job_log(JobId(5), 0, None);
    assert_eq!(follow.next().await.unwrap_err().kind(), Some(kind::NOT_FOUND));
    assert!(follow.next().await.unwrap().is_none(), "nothing follows an error");
    let mut follow = client.follow_job_log(JobId(5), 0, None);
    assert_eq!(follow.next().await.unwrap_err().status(), Some(503));
    assert_eq!(server.seen().len(), 1 + 6, "one try and as many more as the client's policy says");
}

#[tokio::test]
async fn a_workflow_with_mistakes_comes_back_with_all_of_them() {
    let server = Server::start(|_, _| async {
        let found =
            json!({ "code": "x", "severity": "error", "message": "m", "line": 1, "column": 2, "rendered": "r" });
        problem_with(
            422,
            &json!({ "type": kind::WORKFLOW_INVALID, "title": "t", "status": 422, "diagnostics": [found, found] }),
        )
    })
    .await;
    let error = client(&server).submit_run(&SubmitRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), Some(kind::WORKFLOW_INVALID));
    assert_eq!(error.problem().unwrap().diagnostics.len(), 2);
}

#[tokio::test]
async fn submissions_are_repeated_under_one_key_for_each_call() {
    let server = Server::start(|n, seen| async move {
        match n % 3 {
            0 => problem(503, kind::UNAVAILABLE),
            1 => cut(201, "{"),
            _ if seen.uri.path() == "/api/v1/jobs" => answer(201, &job(1)),
            _ => answer(201, &run()),
        }
    })
    .await;
    let client = client(&server);
    client.submit_run(&SubmitRequest::default()).await.unwrap();
    client.rerun_run(RunId(3), RerunRequest { failed_only: true }).await.unwrap();
    client.submit_job(&JobRequest::default()).await.unwrap();
    let seen = server.seen();
    let paths: Vec<_> = seen.chunks(3).map(|tries| tries[2].uri.path()).collect();
    assert_eq!(paths, ["/api/v1/runs", "/api/v1/runs/3/rerun", "/api/v1/jobs"]);
    assert_eq!(seen[5].json(), json!({ "failed_only": true }));
    let mut keys = Vec::new();
    for tries in seen.chunks(3) {
        let key = tries[0].header("idempotency-key");
        assert!(!key.is_empty() && tries.iter().all(|seen| seen.header("idempotency-key") == key), "{key:?}");
        keys.push(key);
    }
    keys.dedup();
    assert_eq!(keys.len(), 3, "each call has its own key");
}

#[tokio::test]
async fn every_call_goes_where_the_api_says() {
    let server = Server::start(|_, seen| async move {
        match seen.uri.path() {
            "/api/v1/runs" => answer(200, &json!({ "runs": [] })),
            "/api/v1/runs/3" => answer(200, &run()),
            "/api/v1/jobs" => answer(200, &json!({ "jobs": [] })),
            "/api/v1/jobs/5" => answer(200, &job(1)),
            "/api/v1/jobs/5/explain" => answer(200, &json!({ "status": "queued", "summary": "s", "candidates": [] })),
            "/api/v1/jobs/5/logs" => {
                let mut log = empty(200);
                *log.body_mut() = "text\n".into();
                log
            }
            "/api/v1/runners" if seen.uri.query().is_none() => {
                answer(200, &json!({ "runners": [], "next_cursor": "2" }))
            }
            "/api/v1/runners" => answer(200, &json!({ "runners": [] })),
            "/api/v1/runs/3/cancel" => answer(200, &json!({})),
            "/readyz" => empty(200),
            _ => empty(204),
        }
    })
    .await;
    let client = client(&server);
    client.health().await.unwrap();
    client.runs(Some("a b"), Some(5)).await.unwrap();
    client.run(RunId(3), None, Duration::ZERO).await.unwrap();
    client.run(RunId(3), Some(7), Duration::from_secs(90)).await.unwrap();
    client.cancel_run(RunId(3)).await.unwrap();
    client.jobs(Some(JobStatus::Queued), None, None).await.unwrap();
    client.job(JobId(5)).await.unwrap();
    client.explain(JobId(5)).await.unwrap();
    assert_eq!(client.job_log_text(JobId(5), Some(2)).await.unwrap(), "text\n");
    assert!(client.runners().await.unwrap().is_empty());
    client.delete_runner(RunnerId(7), true).await.unwrap();
    let seen: Vec<_> = server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.uri)).collect();
    assert_eq!(
        seen,
        [
            "GET /readyz",
            "GET /api/v1/runs?cursor=a%20b&limit=5",
            "GET /api/v1/runs/3",
            "GET /api/v1/runs/3?after_version=7&timeout_seconds=60",
            "POST /api/v1/runs/3/cancel",
            "GET /api/v1/jobs?status=queued",
            "GET /api/v1/jobs/5",
            "GET /api/v1/jobs/5/explain",
            "GET /api/v1/jobs/5/logs?attempt=2",
            "GET /api/v1/runners",
            "GET /api/v1/runners?cursor=2",
            "DELETE /api/v1/runners/7?force=true",
        ]
    );
}
