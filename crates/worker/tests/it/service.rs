//! The service as a worker sees it: it checks what it is told, can be cut off, restarted, slowed down and made stale.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, post};
use startline_protocol::problem::{self, Problem, kind};
use startline_protocol::runner_api::{CompleteRequest, JobUrls, LogOffset, StatusRequest};
use startline_protocol::step::StepRecord;

/// What was heard, in order.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Steps(Vec<StepRecord>),
    /// The log reached this length.
    Log(u64),
    Completed,
}

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) log: Vec<u8>,
    pub(crate) heard: Vec<Heard>,
    pub(crate) completion: Option<CompleteRequest>,
    /// What the worker did against the protocol.
    pub(crate) violations: Vec<String>,
    /// Answers that the job is somebody else's.
    pub(crate) stale: bool,
    /// Refuses so many requests with 503 first.
    pub(crate) unavailable: u32,
    /// Stores so many appends without answering that it did.
    pub(crate) forgetful: u32,
    /// Refuses logs for good.
    pub(crate) log_full: bool,
    /// Takes that long for an append.
    pub(crate) delay: Duration,
}

impl Told {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.log.clone()).expect("a log is UTF-8")
    }

    /// The steps as last reported.
    pub(crate) fn steps(&self) -> Vec<StepRecord> {
        let reports = self.heard.iter().rev();
        reports
            .filter_map(|heard| if let Heard::Steps(steps) = heard { Some(steps.clone()) } else { None })
            .next()
            .unwrap_or_default()
    }
}

pub(crate) struct Service {
    told: Arc<Mutex<Told>>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut service = Self { told: Arc::default(), address: any, runtime: None };
        service.restart();
        service
    }

    /// Comes up, after `stop` at the same address and with all it was told.
    pub(crate) fn restart(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).expect("the address is free");
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let routes = Router::new()
            .route("/status", post(status))
            .route("/logs", patch(logs))
            .route("/complete", post(complete))
            .layer(DefaultBodyLimit::max(4 * 1024 * 1024))
            .with_state(Arc::clone(&self.told));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, routes).await
        });
        self.runtime = Some(runtime);
    }

    /// Dies with all connections, as by a kill.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // The listener is closed when its task is dropped, which may take a moment.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(self.address).is_ok() {
            assert!(tokio::time::Instant::now() < deadline, "the service does not stop");
            std::thread::yield_now();
        }
    }

    pub(crate) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    pub(crate) fn urls(&self) -> JobUrls {
        let url = |path: &str| format!("http://{}/{path}", self.address);
        JobUrls {
            acquire: url("acquire"),
            renew: url("renew"),
            status: url("status"),
            logs: url("logs"),
            complete: url("complete"),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Shared = Arc<Mutex<Told>>;

fn problem(status: StatusCode, kind: &str, offset: Option<u64>) -> Response {
    let problem = Problem {
        kind: kind.to_owned(),
        title: kind.to_owned(),
        status: status.as_u16(),
        detail: None,
        request_id: None,
        offset,
        diagnostics: Vec::new(),
    };
    let body = serde_json::to_string(&problem).unwrap();
    (status, [(header::CONTENT_TYPE, problem::CONTENT_TYPE)], body).into_response()
}

/// What stands before every route.
fn refuse(told: &mut Told) -> Option<Response> {
    if told.stale {
        return Some(problem(StatusCode::CONFLICT, kind::STALE_EPOCH, None));
    }
    if told.unavailable > 0 {
        told.unavailable -= 1;
        return Some(problem(StatusCode::SERVICE_UNAVAILABLE, kind::UNAVAILABLE, None));
    }
    if told.completion.is_some() {
        told.violations.push("a report after the completion".to_owned());
    }
    None
}

async fn status(State(told): State<Shared>, body: Bytes) -> Response {
    let mut told = told.lock().unwrap();
    if let Some(refusal) = refuse(&mut told) {
        return refusal;
    }
    let request: StatusRequest = serde_json::from_slice(&body).expect("a status request");
    told.heard.push(Heard::Steps(request.steps));
    StatusCode::NO_CONTENT.into_response()
}

async fn logs(State(told): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let delay = told.lock().unwrap().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let mut told = told.lock().unwrap();
    if let Some(refusal) = refuse(&mut told) {
        return refusal;
    }
    if told.log_full {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, None);
    }
    let range = headers[header::CONTENT_RANGE].to_str().unwrap();
    let start: usize = range.strip_prefix("bytes ").unwrap().split_once('-').unwrap().0.parse().unwrap();
    let held = told.log.len();
    if start > held {
        return problem(StatusCode::RANGE_NOT_SATISFIABLE, kind::LOG_GAP, Some(held as u64));
    }
    let known = (held - start).min(body.len());
    if told.log[start..start + known] != body[..known] {
        told.violations.push(format!("bytes {start} to {} were changed", start + known));
    }
    told.log.extend_from_slice(&body[known..]);
    let length = told.log.len() as u64;
    told.heard.push(Heard::Log(length));
    if told.forgetful > 0 {
        told.forgetful -= 1;
        return problem(StatusCode::BAD_GATEWAY, "", None);
    }
    axum::Json(LogOffset { offset: length }).into_response()
}

async fn complete(State(told): State<Shared>, body: Bytes) -> Response {
    let mut told = told.lock().unwrap();
    if let Some(refusal) = refuse(&mut told) {
        return refusal;
    }
    told.heard.push(Heard::Completed);
    told.completion = Some(serde_json::from_slice(&body).expect("a completion"));
    StatusCode::NO_CONTENT.into_response()
}
