//! The service as a runner sees it, without anything behind it.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the service holds and has heard; changes wake whoever waits for them.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Jobs that polls are given, in order.
    pub(crate) queue: VecDeque<Value>,
    /// Requests as `METHOD path`.
    pub(crate) asked: Vec<String>,
    pub(crate) heartbeats: Vec<Value>,
    pub(crate) polls: Vec<Value>,
    /// Polls that are held now.
    pub(crate) held: usize,
    /// Polls that are to be answered with 503.
    pub(crate) refuse: usize,
    pub(crate) renewals: Vec<Value>,
    pub(crate) completions: Vec<Value>,
    /// The job's log.
    pub(crate) log: Vec<u8>,
    /// Why the job should stop.
    pub(crate) cancel: Option<String>,
    /// Leases are over.
    pub(crate) stale: bool,
    /// How many calls were told so.
    pub(crate) told_stale: usize,
    /// The registration is gone.
    pub(crate) gone: bool,
}

/// Lives on at the same address when it is stopped and started again. Has a runtime of its own, because only with its
/// runtime do all its connections end.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    runtime: Mutex<Option<Runtime>>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let service = Self { address, state: Arc::default(), runtime: Mutex::default() };
        service.serve(listener);
        service
    }

    fn serve(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let router = Router::new().fallback(move |request| answer(Arc::clone(&state), request));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        *self.runtime.lock().unwrap() = Some(runtime);
    }

    /// Stops listening and cuts every connection.
    pub(crate) async fn stop(&self) {
        let runtime = self.runtime.lock().unwrap().take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }

    pub(crate) fn restart(&self) {
        self.serve(TcpListener::bind(self.address).unwrap());
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.borrow())
    }

    /// Waits until `wanted` holds.
    pub(crate) async fn until(&self, what: &str, wanted: impl FnMut(&State) -> bool) {
        let mut receiver = self.state.subscribe();
        let waited = timeout(PATIENCE, receiver.wait_for(wanted)).await;
        assert!(waited.is_ok(), "waited in vain until {what}; {:?}", self.state.borrow());
    }

    /// Queues a job that is to be renewed every second.
    pub(crate) fn queue_job(&self, job_id: i64) {
        self.queue_job_with(job_id, &json!({}));
    }

    /// Queues a job whose assignment has these members too.
    pub(crate) fn queue_job_with(&self, job_id: i64, more: &Value) {
        let url = |what: &str| format!("{}/api/v1/runners/jobs/{job_id}/{what}", self.url());
        let mut job = json!({
            "job_assigned": true, "job_id": job_id, "workflow_run_id": 3, "attempt": 1, "epoch": 2,
            "timeout_minutes": 60, "renew_interval_seconds": 1, "lease_expires_at": 4_000_000_000_i64,
            "job_token": "eyJ.secret.token", "secrets": { "PASSWORD": "hunter2" },
            "urls": { "acquire": url("acquire"), "renew": url("renew"), "status": url("status"), "logs": url("logs"),
                      "complete": url("complete") },
        });
        for (name, value) in more.as_object().unwrap() {
            job[name] = value.clone();
        }
        self.change(|state| state.queue.push_back(job));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(shared: Arc<watch::Sender<State>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = head.uri.path().to_owned();
    let json_body = || serde_json::from_slice::<Value>(&body).unwrap();
    let note = |change: &mut dyn FnMut(&mut State)| {
        shared.send_modify(|state| {
            state.asked.push(format!("{} {path}", head.method));
            change(state);
        });
    };
    let last = path.rsplit('/').next().unwrap().to_owned();
    match (&head.method, &*last) {
        (&Method::POST, "runners") => {
            note(&mut |_| ());
            let answer = json!({
                "runner_id": 7, "runner_token": "slt_first", "expires_at": 4_000_000_000_i64, "labels": ["linux"],
                "runner_group": "default", "poll_timeout_seconds": 30, "heartbeat_interval_seconds": 1,
            });
            reply(StatusCode::CREATED, &answer)
        }
        (&Method::DELETE, _) => {
            note(&mut |_| ());
            reply(StatusCode::NO_CONTENT, &Value::Null)
        }
        (&Method::POST, "heartbeat") => {
            note(&mut |state| state.heartbeats.push(json_body()));
            reply(StatusCode::OK, &json!({ "commands": [] }))
        }
        (&Method::POST, "poll") => {
            let mut refused = false;
            note(&mut |state| {
                state.polls.push(json_body());
                refused = state.refuse > 0;
                state.refuse = state.refuse.saturating_sub(1);
            });
            if refused {
                return problem(503, "unavailable");
            }
            let ready = |state: &State| state.gone || !state.queue.is_empty();
            let held = Duration::from_secs(json_body()["timeout_seconds"].as_u64().unwrap());
            let mut receiver = shared.subscribe();
            let _held = Held::new(&shared);
            let job = timeout(held, async {
                loop {
                    let _ = receiver.wait_for(ready).await;
                    let mut job = None;
                    shared.send_modify(|state| job = state.queue.pop_front());
                    // Several polls may have heard of one job.
                    if job.is_some() || shared.borrow().gone {
                        return job;
                    }
                }
            });
            let job = job.await.unwrap_or_default();
            if shared.borrow().gone {
                return problem(410, "runner-offline");
            }
            job.map_or_else(|| reply(StatusCode::NO_CONTENT, &Value::Null), |job| reply(StatusCode::OK, &job))
        }
        (&Method::POST, "renew") => {
            note(&mut |state| state.renewals.push(json_body()));
            let held = Duration::from_secs(json_body()["wait_seconds"].as_u64().unwrap());
            let mut receiver = shared.subscribe();
            let _ = timeout(held, receiver.wait_for(|state| state.stale || state.cancel.is_some())).await;
            if stale(&shared) {
                return problem(409, "stale-epoch");
            }
            let cancel = shared.borrow().cancel.clone();
            let wanted = cancel.is_some();
            let lease = json!({ "lease_expires_at": 9, "cancel_requested": wanted, "cancel_reason": cancel });
            reply(StatusCode::OK, &lease)
        }
        (&Method::PATCH, "logs") => {
            if stale(&shared) {
                return problem(409, "stale-epoch");
            }
            let range = head.headers["content-range"].to_str().unwrap();
            let first: usize = range.trim_start_matches("bytes ").split('-').next().unwrap().parse().unwrap();
            let held = shared.borrow().log.len();
            if first > held {
                let gap = json!({ "type": "log-gap", "title": "gap", "status": 416, "offset": held });
                return with_type(reply(StatusCode::RANGE_NOT_SATISFIABLE, &gap));
            }
            note(&mut |state| {
                state.log.truncate(first);
                state.log.extend_from_slice(&body);
            });
            reply(StatusCode::OK, &json!({ "offset": first + body.len() }))
        }
        (&Method::POST, "complete") => {
            if stale(&shared) {
                return problem(409, "stale-epoch");
            }
            note(&mut |state| state.completions.push(json_body()));
            reply(StatusCode::OK, &json!({}))
        }
        _ => problem(404, "not-found"),
    }
}

/// Counts a poll as held, until it is answered or aborted.
struct Held(Arc<watch::Sender<State>>);

impl Held {
    fn new(shared: &Arc<watch::Sender<State>>) -> Self {
        shared.send_modify(|state| state.held += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.held -= 1);
    }
}

fn stale(shared: &watch::Sender<State>) -> bool {
    let stale = shared.borrow().stale;
    if stale {
        shared.send_modify(|state| state.told_stale += 1);
    }
    stale
}

fn reply(status: StatusCode, body: &Value) -> Response {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn problem(status: u16, kind: &str) -> Response {
    let body = json!({ "type": kind, "title": format!("told {kind}"), "status": status });
    with_type(reply(StatusCode::from_u16(status).unwrap(), &body))
}

fn with_type(mut response: Response) -> Response {
    response.headers_mut().insert("content-type", "application/problem+json".parse().unwrap());
    response
}
