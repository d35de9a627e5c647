//! The long poll over a real socket: how long it lasts, how it ends, and that no end of it loses a job.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use startline_protocol::state::{Conclusion, JobStatus};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::harness::{Service, eventually};

const JOB: &str = "on: push\njobs:\n  a:\n    runs-on: held\n    steps:\n      - run: 'true'\n";
const POLL: &str = "/api/v1/runners/jobs/poll";

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }
}

/// One connection; dropping it resets what is under way.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    async fn open(url: &str) -> Self {
        let socket = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        Self { sender, task: spawn(async move { drop(connection.await) }) }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn post(&mut self, path: &str, bearer: &str, body: &Value) -> Answer {
        self.send(post(path, bearer, body)).await.unwrap()
    }

    async fn poll(&mut self, bearer: &str, seconds: u32) -> Answer {
        self.post(POLL, bearer, &json!({ "timeout_seconds": seconds, "auto_acquire": true })).await
    }

    /// Ends a job that was taken with `auto_acquire`.
    async fn complete(&mut self, job: &Value) {
        let path = format!("/api/v1/runners/jobs/{}/complete", job["job_id"]);
        let answer = self.post(&path, job["job_token"].as_str().unwrap(), &json!({ "conclusion": "success" })).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}

fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    TaskTracker::new().spawn(task)
}

fn post(path: &str, bearer: &str, body: &Value) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("host", "test").header("authorization", format!("Bearer {bearer}"));
    request.body(Full::new(body.to_string().into())).unwrap()
}

/// A registered runner that exists in this test alone.
struct Held {
    id: u64,
    token: String,
}

async fn register(service: &Service, name: &str, slots: u32) -> Held {
    let mut line = Line::open(&service.url).await;
    let minted = line.post("/api/v1/runners/registration-token", &service.token, &json!({})).await.json();
    let request = json!({
        "name": name, "labels": ["held"],
        "capabilities": { "architecture": "x64", "operating_system": "linux", "memory_gb": 1, "cpu_cores": 1,
                          "disk_space_gb": 1, "max_parallel_jobs": slots },
    });
    let answer = line.post("/api/v1/runners", minted["token"].as_str().unwrap(), &request).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let answer = answer.json();
    Held { id: answer["runner_id"].as_u64().unwrap(), token: answer["runner_token"].as_str().unwrap().to_owned() }
}

/// A poll that runs by itself.
async fn parked(service: &Service, runner: &Held, seconds: u32) -> JoinHandle<Answer> {
    let mut line = Line::open(&service.url).await;
    let token = runner.token.clone();
    spawn(async move { line.poll(&token, seconds).await })
}

async fn open_polls(service: &Service, wanted: usize) {
    eventually(&format!("{wanted} polls are open"), async || {
        let mut line = Line::open(&service.url).await;
        let request = Request::get("/metrics").header("host", "test").body(Full::default()).unwrap();
        let text = line.send(request).await.unwrap().body;
        let text = String::from_utf8_lossy(&text);
        let open = text.lines().find_map(|line| line.strip_prefix("startline_polls_open "))?;
        (open.parse() == Ok(wanted)).then_some(())
    })
    .await;
}

async fn deregister(service: &Service, runner: &Held) -> Answer {
    let request = Request::delete(format!("/api/v1/runners/{}", runner.id));
    let request = request.header("host", "test").header("authorization", format!("Bearer {}", service.token));
    Line::open(&service.url).await.send(request.body(Full::default()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_poll_without_a_job_ends_when_its_time_is_over_and_never_before() {
    let service = Service::start(&[]);
    let runner = register(&service, "one", 1).await;
    let mut line = Line::open(&service.url).await;
    for seconds in [0, 1, 2] {
        let began = Instant::now();
        let answer = line.poll(&runner.token, seconds).await;
        let took = began.elapsed();
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
        let asked = Duration::from_secs(seconds.into());
        assert!(took >= asked && took < asked + Duration::from_secs(1), "asked for {asked:?}, took {took:?}");
    }
}

#[tokio::test]
async fn a_refused_poll_says_why() {
    let service = Service::start(&[]);
    let runner = register(&service, "one", 1).await;
    let mut line = Line::open(&service.url).await;
    let long = line.poll(&runner.token, 61).await;
    assert_eq!((long.status, long.kind().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid"));
    let unknown = line.post(POLL, &runner.token, &json!({ "timeout": 1 })).await;
    assert_eq!((unknown.status, unknown.kind().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid"));
    for bearer in ["nonsense", "slt_0000000000", service.token.as_str()] {
        let refused = line.poll(bearer, 0).await;
        assert_eq!((refused.status, refused.kind().as_str()), (StatusCode::UNAUTHORIZED, "unauthenticated"));
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
        assert_eq!(refused.headers["content-type"], "application/problem+json");
        let id = refused.json()["request_id"].as_str().unwrap_or_else(|| panic!("{refused:?}")).to_owned();
        assert_eq!(refused.headers["x-request-id"].to_str().unwrap(), id);
    }
    let mut named = post(POLL, "nonsense", &json!({}));
    named.headers_mut().insert("x-request-id", "mine-8".parse().unwrap());
    assert_eq!(line.send(named).await.unwrap().json()["request_id"], "mine-8");
    let bare = Request::post(POLL).header("host", "test").body(Full::default()).unwrap();
    assert_eq!(line.send(bare).await.unwrap().status, StatusCode::UNAUTHORIZED);
    let get = Request::get(POLL).header("host", "test").body(Full::default()).unwrap();
    assert_eq!(line.send(get).await.unwrap().status, StatusCode::METHOD_NOT_ALLOWED);
    let large = line.post(POLL, &runner.token, &json!({ "timeout_seconds": 0, "pad": "x".repeat(300 * 1024) })).await;
    assert_eq!((large.status, large.kind().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too-large"));
}

#[tokio::test]
async fn a_poll_is_answered_under_its_request_id() {
    let service = Service::start(&[]);
    let runner = register(&service, "one", 1).await;
    let mut line = Line::open(&service.url).await;
    let mut request = post(POLL, &runner.token, &json!({ "timeout_seconds": 0 }));
    request.headers_mut().insert("x-request-id", "mine-7".parse().unwrap());
    assert_eq!(line.send(request).await.unwrap().headers["x-request-id"], "mine-7");
    let first = line.poll(&runner.token, 0).await.headers["x-request-id"].clone();
    let second = line.poll(&runner.token, 0).await.headers["x-request-id"].clone();
    assert!(first.len() == 36 && first != second, "{first:?} {second:?}");
}

#[tokio::test]
async fn a_job_reaches_the_parked_poll_and_a_busy_runner_is_told() {
    let service = Service::start(&[]);
    let runner = register(&service, "one", 1).await;
    let mut line = Line::open(&service.url).await;
    let poll = parked(&service, &runner, 30).await;
    open_polls(&service, 1).await;
    let run = service.submit(JOB).await;
    let job = poll.await.unwrap().json();
    assert_eq!(job["job_assigned"], true);
    assert!(job["job_definition"].is_object() && job["lease_expires_at"].is_i64());
    let busy = line.poll(&runner.token, 5).await;
    assert_eq!((busy.status, busy.kind().as_str()), (StatusCode::CONFLICT, "runner-busy"));
    line.complete(&job).await;
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    open_polls(&service, 0).await;
}

#[tokio::test]
async fn a_runner_has_as_many_polls_open_as_it_has_free_slots() {
    let service = Service::start(&[]);
    let runner = register(&service, "three", 3).await;
    let mut polls = Vec::new();
    for number in 1..=3 {
        polls.push(parked(&service, &runner, 30).await);
        open_polls(&service, number).await;
    }
    // One more takes the place of the oldest, which ends without a job.
    let fourth = parked(&service, &runner, 30).await;
    assert_eq!(polls.remove(0).await.unwrap().status, StatusCode::NO_CONTENT);
    polls.push(fourth);
    open_polls(&service, 3).await;
    let runs = [service.submit(JOB).await, service.submit(JOB).await, service.submit(JOB).await];
    let mut line = Line::open(&service.url).await;
    for poll in polls {
        line.complete(&poll.await.unwrap().json()).await;
    }
    for run in runs {
        assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    }
}

#[tokio::test]
async fn the_polls_of_a_deleted_runner_end_at_once_and_its_token_with_them() {
    let service = Service::start(&[]);
    let runner = register(&service, "one", 2).await;
    let polls = [parked(&service, &runner, 30).await, parked(&service, &runner, 30).await];
    open_polls(&service, 2).await;
    let began = Instant::now();
    assert_eq!(deregister(&service, &runner).await.status, StatusCode::NO_CONTENT);
    for poll in polls {
        let answer = poll.await.unwrap();
        assert_eq!((answer.status, answer.kind().as_str()), (StatusCode::GONE, "runner-offline"));
    }
    let after = Line::open(&service.url).await.poll(&runner.token, 30).await;
    assert_eq!((after.status, after.kind().as_str()), (StatusCode::GONE, "runner-offline"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_draining_runners_poll_gets_nothing_and_ends_at_once_with_its_registration() {
    let service = Service::start(&[]);
    let runner = register(&service, "one", 1).await;
    let mut line = Line::open(&service.url).await;
    let beat = json!({ "status": "draining", "current_jobs": [] });
    let answer = line.post("/api/v1/runners/heartbeat", &runner.token, &beat).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    service.submit(JOB).await;
    let began = Instant::now();
    assert_eq!(line.poll(&runner.token, 1).await.status, StatusCode::NO_CONTENT);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let poll = parked(&service, &runner, 60).await;
    open_polls(&service, 1).await;
    let began = Instant::now();
    assert_eq!(deregister(&service, &runner).await.status, StatusCode::NO_CONTENT);
    let answer = poll.await.unwrap();
    assert_eq!((answer.status, answer.kind().as_str()), (StatusCode::GONE, "runner-offline"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_thousand_polls_dropped_under_load_lose_no_job() {
    const RUNNERS: usize = 8;
    const DROPS: usize = 1000;
    // An offer or a lease that is lost with its answer comes back by itself after this time.
    let service = Service::start(&["--offer-window", "1s", "--lease", "2s", "--requeues", "1000"]);
    let drops = Arc::new(AtomicUsize::new(0));
    let mut runs = Vec::new();
    let mut workers = JoinSet::new();
    for number in 0..RUNNERS {
        let (url, drops) = (service.url.clone(), Arc::clone(&drops));
        let runner = register(&service, &format!("runner-{number}"), 1).await;
        workers.spawn(async move {
            let mut seed = u64::try_from(number).unwrap() + 1;
            let mut line = Line::open(&url).await;
            let mut patience = 0;
            loop {
                // Offers only: what is dropped between the answer and the acquire returns after the offer window.
                let request = json!({ "timeout_seconds": 1 });
                if drops.fetch_add(1, Ordering::Relaxed) < DROPS {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let after = Duration::from_micros(seed >> 51);
                    let poll = line.send(post(POLL, &runner.token, &request));
                    drop(tokio::time::timeout(after, poll).await);
                    line = Line::open(&url).await;
                    continue;
                }
                let answer = line.post(POLL, &runner.token, &request).await;
                match answer.status {
                    StatusCode::OK => {
                        patience = 0;
                        let offer = answer.json();
                        let path = format!("/api/v1/runners/jobs/{}/acquire", offer["job_id"]);
                        let lease = line.post(&path, &runner.token, &json!({ "epoch": offer["epoch"] })).await;
                        assert_eq!(lease.status, StatusCode::OK, "{lease:?}");
                        line.complete(&lease.json()).await;
                    }
                    StatusCode::NO_CONTENT if patience == 2 => return,
                    StatusCode::NO_CONTENT => patience += 1,
                    // An offer that was dropped with its answer fills the slot until its window is over.
                    StatusCode::CONFLICT => tokio::time::sleep(Duration::from_millis(20)).await,
                    _ => panic!("{answer:?}"),
                }
            }
        });
    }
    while drops.load(Ordering::Relaxed) < DROPS {
        runs.push(service.submit(JOB).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    for run in runs {
        let detail = service.ended(run).await;
        assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:?}");
        assert_eq!(detail.jobs.len(), 1);
        assert_eq!(detail.jobs[0].status, JobStatus::Completed);
    }
}

#[tokio::test]
async fn a_stopping_service_answers_two_hundred_parked_polls_within_a_second() {
    let mut service = Service::start(&[]);
    let runner = register(&service, "many", 200).await;
    let mut polls = Vec::new();
    for _ in 0..200 {
        polls.push(parked(&service, &runner, 60).await);
    }
    open_polls(&service, 200).await;
    let began = Instant::now();
    service.process.signal(Signal::SIGTERM);
    for poll in polls {
        let answer = poll.await.unwrap();
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(answer.headers["connection"], "close");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(service.process.ended(Duration::from_secs(5)).await.success());
}

#[tokio::test]
async fn a_poll_over_http2_is_held_answered_and_reset() {
    let service = Service::start(&[]);
    let runner = register(&service, "two", 2).await;
    let socket = TcpStream::connect(service.url.trim_start_matches("http://")).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(socket)).await.unwrap();
    spawn(async move { drop(connection.await) });
    let poll = |seconds: u32| {
        let mut sender = sender.clone();
        let body = json!({ "timeout_seconds": seconds, "auto_acquire": true }).to_string();
        let request = Request::builder().method(Method::POST).uri(format!("{}{POLL}", service.url));
        let request = request.header("authorization", format!("Bearer {}", runner.token));
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        async move {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            (head.status, body.collect().await.unwrap().to_bytes())
        }
    };
    assert_eq!(poll(0).await.0, StatusCode::NO_CONTENT);
    let (first, second) = (spawn(poll(60)), spawn(poll(60)));
    open_polls(&service, 2).await;
    first.abort();
    open_polls(&service, 1).await;
    let run = service.submit(JOB).await;
    let (status, body) = second.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let job: Value = serde_json::from_slice(&body).unwrap();
    Line::open(&service.url).await.complete(&job).await;
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}
