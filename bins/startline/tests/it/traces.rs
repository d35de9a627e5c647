//! Traces, as a collector sees them.

pub(crate) mod collector;

use std::collections::BTreeMap;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::json;
use startline_protocol::state::Conclusion;

use crate::harness::{DEADLINE, Service, eventually};
use crate::http::Wire;
use collector::{Collector, Span};

const HELLO: &str =
    "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hello\n      - run: 'true'\n";
/// A caller's span.
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Submits a workflow as a part of the caller's trace, and waits for its end.
async fn run_traced(service: &Service, traceparent: &str) {
    let body = json!({"workflow": HELLO}).to_string();
    let headers = [("traceparent", traceparent), ("x-request-id", "from-the-caller")];
    let mut wire = Wire::open(&service.url).await;
    let reply = wire.send(http::Method::POST, "/api/v1/runs", Some(&service.token), &headers, body.as_bytes()).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let run = serde_json::from_value(reply.json()["run"]["id"].clone()).unwrap();
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}

#[tokio::test]
async fn a_jobs_whole_way_is_one_trace_under_its_callers() {
    let collector = Collector::start();
    let service = Service::start(&[
        "--otlp-endpoint",
        &collector.url,
        "--otlp-headers",
        "x-api-key=hidden",
        "--otlp-service-name",
        "ci",
    ]);
    let _runner = service.runner("one", &[]);
    run_traced(&service, CALLER).await;

    let trace = |spans: &[Span]| -> Vec<Span> {
        spans.iter().filter(|span| span.trace == "0af7651916cd43dd8448eb211c80319c").cloned().collect()
    };
    let spans = eventually("the whole trace arrives", async || {
        let spans = trace(&collector.spans());
        let whole = ["job", "run", "dispatch", "acquire", "POST /api/v1/runners/jobs/{id}/complete"];
        whole.iter().all(|name| spans.iter().any(|span| span.name == *name)).then_some(spans)
    })
    .await;
    let one = |name: &str| {
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        found[0]
    };
    let submission = one("POST /api/v1/runs");
    assert_eq!(submission.parent, "b7ad6b7169203331");
    let said = |span: &Span, key: &str| span.attributes.get(key).cloned().unwrap_or_else(|| panic!("{key}: {span:?}"));
    assert_eq!(said(submission, "http.route"), "/api/v1/runs");
    assert_eq!(said(submission, "http.request.method"), "POST");
    assert_eq!(said(submission, "http.response.status_code"), "201");
    assert_eq!(said(submission, "startline.request.id"), "from-the-caller");
    assert_eq!(said(submission, "startline.principal.kind"), "api");
    assert_eq!(submission.service, "ci");

    let (job, run) = (one("job"), one("run"));
    assert_eq!(job.parent, submission.id);
    for part in [one("dispatch"), one("acquire"), run] {
        assert_eq!(part.parent, job.id, "{part:?}");
        assert!(job.start <= part.start && part.start <= part.end, "{job:?} {part:?}");
    }
    assert!(one("dispatch").start <= one("acquire").start && one("acquire").start <= run.end);
    assert_eq!(said(job, "cicd.pipeline.task.run.result"), "success");
    assert_eq!(said(run, "cicd.worker.name"), "one");
    // What the worker and its runner say is a part of the run; so are the steps.
    let complete = one("POST /api/v1/runners/jobs/{id}/complete");
    assert_eq!(
        (complete.parent.as_str(), said(complete, "startline.principal.kind").as_str()),
        (run.id.as_str(), "job")
    );
    let steps: BTreeMap<String, &Span> =
        spans.iter().filter(|span| span.name == "step").map(|span| (said(span, "startline.step.name"), span)).collect();
    assert!(steps.contains_key("Run echo hello") && steps.values().all(|step| step.parent == run.id), "{steps:#?}");

    // No trace has what opens doors.
    let raw = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for prefix in ["slp_", "slr_", "slt_", "eyJ", "hidden"] {
        assert!(!raw.contains(prefix), "{prefix}");
    }
    assert_eq!(collector.header("x-api-key").as_deref(), Some("hidden"));
}

#[tokio::test]
async fn what_was_not_exported_when_the_service_stops_is_exported_then() {
    let collector = Collector::start();
    let mut service = Service::start(&["--otlp-endpoint", &collector.url]);
    let mut wire = Wire::open(&service.url).await;
    assert_eq!(wire.get("/api/v1/runners", &service.token).await.code(), 200);
    service.process.signal(Signal::SIGTERM);
    assert!(service.process.ended(DEADLINE).await.success());
    assert!(collector.spans().iter().any(|span| span.name == "GET /api/v1/runners"), "{:?}", collector.spans());
}

#[tokio::test]
async fn callers_that_do_not_sample_are_not_traced_and_neither_are_their_jobs() {
    let collector = Collector::start();
    let mut service = Service::start(&["--otlp-endpoint", &collector.url, "--otlp-sample-ratio", "0"]);
    let _runner = service.runner("one", &[]);
    run_traced(&service, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").await;
    service.process.signal(Signal::SIGTERM);
    assert!(service.process.ended(DEADLINE).await.success());
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_dead_collector_changes_nothing() {
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    // Nobody listens there.
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for url in [silent, gone] {
        let mut service = Service::start(&["--otlp-endpoint", &url]);
        let _runner = service.runner("one", &[]);
        run_traced(&service, CALLER).await;
        service.process.signal(Signal::SIGTERM);
        assert!(service.process.ended(DEADLINE).await.success(), "{}", service.process.errors());
    }
}

#[tokio::test]
async fn spans_that_the_collector_refuses_are_dropped_and_counted() {
    let collector = Collector::start();
    collector.refuse();
    let service = Service::start(&["--otlp-endpoint", &collector.url]);
    let mut wire = Wire::open(&service.url).await;
    eventually("the drop is counted", async || {
        wire.get("/api/v1/runners", &service.token).await;
        let text = wire.get("/metrics", "").await.text();
        let line =
            text.lines().find(|line| line.starts_with("startline_trace_spans_dropped_total{reason=\"collector\"}"));
        (!line.unwrap().ends_with(" 0")).then_some(())
    })
    .await;
}
