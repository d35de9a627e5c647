//! The end, in two phases.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use startline_daemon::{Drain, Options};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::harness::{SHORT, Server, UPGRADE_TO_ECHO, echo_upgrade, patient, soon};

/// Handlers that tell when they are reached.
#[derive(Clone)]
struct Polls {
    drain: Drain,
    reached: Arc<Semaphore>,
}

impl Polls {
    async fn start(options: Options) -> (Server, Self) {
        let polls = Self { drain: Drain::new(), reached: Arc::new(Semaphore::new(0)) };
        let router = Router::new()
            .route("/poll", get(poll))
            .route("/deaf", get(deaf))
            .route("/", get(|| async { "hello" }))
            .route("/echo", get(echo_upgrade))
            .with_state(polls.clone());
        (Server::start_with(polls.drain.clone(), router, options).await, polls)
    }

    async fn reached(&self) {
        soon("the handler", self.reached.acquire()).await.unwrap().forget();
    }
}

/// A long poll as it should be: it answers when the drain begins.
async fn poll(State(polls): State<Polls>) -> &'static str {
    polls.reached.add_permits(1);
    polls.drain.draining().cancelled().await;
    "no message"
}

/// A handler that does not care.
async fn deaf(State(polls): State<Polls>) -> &'static str {
    polls.reached.add_permits(1);
    std::future::pending().await
}

#[tokio::test]
async fn an_open_long_poll_is_answered_at_once() {
    let (server, polls) = Polls::start(patient()).await;
    let mut client = server.connect().await;
    client.send("GET /poll HTTP/1.1\r\nHost: test\r\n\r\n").await;
    polls.reached().await;
    let start = Instant::now();
    let address = server.address;
    let report = server.stop().await;
    assert_eq!((report.requests, report.aborted), (1, 0));
    assert!(start.elapsed() < Duration::from_secs(5), "the drain took {:?}", start.elapsed());
    let response = client.rest().await;
    assert!(response.ends_with("no message") && response.contains("connection: close\r\n"), "{response}");
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn the_port_is_closed_while_the_drain_still_waits() {
    let (server, polls) = Polls::start(patient()).await;
    let mut client = server.connect().await;
    client.send("GET /deaf HTTP/1.1\r\nHost: test\r\n\r\n").await;
    polls.reached().await;
    server.drain.start();
    soon("the port to close", async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    server.drain.abort();
    assert_eq!(server.ended().await.aborted, 1);
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_drain_up() {
    let (server, _) = Polls::start(patient()).await;
    let mut used = server.connect().await;
    used.get("/").await;
    let mut unused = server.connect().await;
    let mut other = server.connect().await;
    other.get("/").await;
    assert_eq!(server.stop().await.aborted, 0);
    for client in [&mut used, &mut unused, &mut other] {
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn what_does_not_end_is_cut_after_the_drain_timeout() {
    let (server, polls) = Polls::start(Options { drain_timeout: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("GET /deaf HTTP/1.1\r\nHost: test\r\n\r\n").await;
    polls.reached().await;
    let start = Instant::now();
    let report = server.stop().await;
    assert!(start.elapsed() >= SHORT);
    assert_eq!((report.aborted, report.left), (1, 0));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_abort_does_not_wait_for_the_drain_timeout() {
    let (server, polls) = Polls::start(patient()).await;
    let mut client = server.connect().await;
    client.send("GET /deaf HTTP/1.1\r\nHost: test\r\n\r\n").await;
    polls.reached().await;
    server.drain.abort();
    assert_eq!(server.ended().await.aborted, 1);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn streams_of_http2_are_cut_as_well() {
    let (server, polls) = Polls::start(patient()).await;
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = TaskTracker::new().spawn(connection);
    let request = Request::get(format!("http://{}/deaf", server.address)).body(axum::body::Body::empty()).unwrap();
    let response = TaskTracker::new().spawn(sender.send_request(request));
    polls.reached().await;
    server.drain.abort();
    let report = server.ended().await;
    assert_eq!((report.aborted, report.left), (1, 0));
    assert!(soon("the error", response).await.unwrap().is_err());
    let _ = soon("the end of the connection", connection).await;
}

#[tokio::test]
async fn upgraded_connections_are_waited_for_and_cut() {
    let (server, _) = Polls::start(Options { drain_timeout: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send(UPGRADE_TO_ECHO).await;
    soon("the switch", client.0.readable()).await.unwrap();
    let start = Instant::now();
    let report = server.stop().await;
    assert!(start.elapsed() >= SHORT, "the drain did not see the upgraded connection");
    assert_eq!((report.aborted, report.left), (1, 0));
    assert!(client.rest().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn one_listeners_timeout_is_not_anothers() {
    let (impatient, polls) = Polls::start(Options { drain_timeout: SHORT, ..patient() }).await;
    let router = Router::new().route("/deaf", get(deaf)).with_state(polls.clone());
    let calm = Server::start_with(polls.drain.clone(), router, patient()).await;
    let mut client = calm.connect().await;
    client.send("GET /deaf HTTP/1.1\r\nHost: test\r\n\r\n").await;
    polls.reached().await;
    let mut other = impatient.connect().await;
    other.send("GET /deaf HTTP/1.1\r\nHost: test\r\n\r\n").await;
    polls.reached().await;
    assert_eq!(impatient.stop().await.aborted, 1);
    assert!(tokio::time::timeout(SHORT, client.0.readable()).await.is_err(), "the other listener was cut, too");
    polls.drain.abort();
    assert_eq!(calm.ended().await.aborted, 1);
}

#[tokio::test]
async fn a_drain_that_has_begun_already_serves_nobody() {
    let drain = Drain::new();
    drain.start();
    let server = Server::start_with(drain, Router::new(), patient()).await;
    assert_eq!(server.ended().await.connections, 0);
}
