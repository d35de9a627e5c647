use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use startline_client::{AppendOutcome, JobClient};
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{CompleteRequest, JobUrls, RenewRequest, StatusRequest};
use startline_protocol::state::Conclusion;
use startline_protocol::token::JobToken;

use crate::script::{Server, answer, cut, empty, problem, problem_with, quick, transport};

fn client(server: &Server) -> JobClient {
    let url = |what: &str| format!("{}/jobs/5/{what}", server.url());
    let urls = JobUrls {
        acquire: url("acquire"),
        renew: url("renew"),
        status: url("status"),
        logs: url("logs"),
        complete: url("complete"),
    };
    JobClient::new(transport(), urls, JobToken::parse("eyJ.a.b").unwrap()).with_retry(quick(10))
}

fn complete() -> CompleteRequest {
    CompleteRequest {
        conclusion: Conclusion::Success,
        outputs: BTreeMap::new(),
        steps: Vec::new(),
        environment_url: None,
        annotations: Vec::new(),
    }
}

#[tokio::test]
async fn an_append_names_its_range_and_hears_how_far_the_log_is() {
    let server = Server::start(|_, _| async { answer(200, &json!({ "offset": 15 })) }).await;
    let outcome = client(&server).append_log(10, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(outcome, AppendOutcome::Stored { offset: 15 });
    let seen = &server.seen()[0];
    assert_eq!(seen.method, "PATCH");
    assert_eq!(seen.header("content-range"), "bytes 10-14/*");
    assert_eq!(seen.header("authorization"), "Bearer eyJ.a.b");
    assert_eq!(seen.body, b"hello");
}

#[tokio::test]
async fn a_gap_says_where_the_log_goes_on() {
    let server = Server::start(|_, _| async {
        problem_with(416, &json!({ "type": kind::LOG_GAP, "title": "bytes are missing", "status": 416, "offset": 3 }))
    })
    .await;
    let outcome = client(&server).append_log(10, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(outcome, AppendOutcome::Gap { wanted: 3 });
}

#[tokio::test]
async fn an_empty_append_asks_nothing() {
    let server = Server::start(|_, _| async { empty(500) }).await;
    let outcome = client(&server).append_log(4, Bytes::new()).await.unwrap();
    assert_eq!(outcome, AppendOutcome::Stored { offset: 4 });
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn reports_outlast_an_outage() {
    let server = Server::start(|n, _| async move {
        match n % 4 {
            0 => empty(502),
            1 => cut(200, "{"),
            2 => problem(503, kind::UNAVAILABLE),
            _ => answer(200, &json!({})),
        }
    })
    .await;
    let client = client(&server);
    client.update_job_status(&StatusRequest { steps: Vec::new() }).await.unwrap();
    client.complete_job(&complete()).await.unwrap();
    let paths: Vec<_> = server.seen().iter().map(|seen| seen.uri.path().to_owned()).collect();
    assert_eq!(paths[3], "/jobs/5/status");
    assert_eq!(paths[7], "/jobs/5/complete");
    assert_eq!(paths.len(), 8);
}

#[tokio::test]
async fn a_job_that_is_somebody_elses_is_stale_at_once() {
    let server = Server::start(|n, _| async move {
        if n == 0 { problem(409, kind::STALE_EPOCH) } else { problem(401, kind::UNAUTHENTICATED) }
    })
    .await;
    let client = client(&server);
    assert!(client.complete_job(&complete()).await.unwrap_err().is_stale());
    assert!(client.renew(&RenewRequest::default()).await.unwrap_err().is_stale());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_renewal_hears_of_a_cancel() {
    let server = Server::start(|_, _| async {
        answer(200, &json!({ "lease_expires_at": 9, "cancel_requested": true, "cancel_reason": "asked" }))
    })
    .await;
    let answer = client(&server).renew(&RenewRequest { wait_seconds: 30 }).await.unwrap();
    assert!(answer.cancel_requested);
    assert_eq!(answer.cancel_reason.as_deref(), Some("asked"));
    assert_eq!(server.seen()[0].json(), json!({ "wait_seconds": 30 }));
}
