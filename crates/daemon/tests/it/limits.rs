//! What peers may not do.

use std::fs;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use startline_daemon::metrics::Exposition;
use startline_daemon::serve::{ConnectionMetrics, Socket, Transport, serve_with};
use startline_daemon::{Drain, Listener, Options};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use crate::harness::{SHORT, Server, UPGRADE_TO_ECHO, echo_upgrade, eventually, patient, soon};

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", get(echo_upgrade))
        .route("/body", post(|body: Bytes| async move { body.len().to_string() }))
        .route(
            "/slow",
            get(|| async {
                // Longer than the time-outs under test: the answer itself takes this long.
                tokio::time::sleep(4 * SHORT).await;
                "slow"
            }),
        )
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut() {
    let server = Server::start(router(), Options { header_read_timeout: SHORT, ..patient() }).await;
    for beginning in ["", "GET / HT", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let start = Instant::now();
        let mut client = server.connect().await;
        client.send(beginning).await;
        client.rest().await;
        assert!(start.elapsed() >= SHORT, "{beginning:?} was cut at once");
    }
    assert_eq!(server.stop().await.cut_slow, 4);
}

#[tokio::test]
async fn every_byte_more_does_not_buy_more_time() {
    let server = Server::start(router(), Options { header_read_timeout: SHORT, ..patient() }).await;
    let client = server.connect().await;
    let start = Instant::now();
    let head = "GET / HTTP/1.1\r\nHost: test\r\nX: ".to_owned() + &"x".repeat(100_000);
    let mut bytes = head.bytes();
    eventually("the cut", || {
        let byte = bytes.next().expect("cut long before");
        client.0.try_write(&[byte]).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    })
    .await;
    assert!(start.elapsed() >= SHORT);
    assert_eq!(server.stop().await.cut_slow, 1);
}

#[tokio::test]
async fn a_kept_connection_may_rest_but_not_dawdle_over_its_next_head() {
    let server = Server::start(router(), Options { header_read_timeout: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.get("/").await;
    // Rest for longer than a head may take.
    let answered = soon("the rest", tokio::time::timeout(4 * SHORT, client.0.readable())).await;
    assert!(answered.is_err(), "the connection was closed while it was idle");
    assert!(client.get("/").await.ends_with("hello"));
    client.send("GET / HT").await;
    assert_eq!(client.rest().await, "");
    assert_eq!(server.stop().await.cut_slow, 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_order() {
    let mut registry = Registry::default();
    let metrics = ConnectionMetrics::register(&mut registry);
    let server = Server::start(router(), Options { idle_timeout: SHORT, metrics, ..patient() }).await;
    let mut client = server.connect().await;
    client.get("/").await;
    assert_eq!(client.rest().await, "");
    let report = server.stop().await;
    assert_eq!((report.cut_slow, report.aborted), (0, 0));
    let text = Exposition::from(registry).text();
    let cuts = |line: &str| line.starts_with("connections_cut_total{") && !line.ends_with(" 0");
    assert!(!text.lines().any(cuts), "it was cut instead: {text}");
}

#[tokio::test]
async fn neither_a_slow_answer_nor_a_slow_body_is_cut_here() {
    let options = Options { header_read_timeout: SHORT, idle_timeout: SHORT, ..patient() };
    let server = Server::start(router(), options).await;
    let mut client = server.connect().await;
    assert!(client.get("/slow").await.ends_with("slow"));
    let mut upload = server.connect().await;
    upload.send("POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nab").await;
    assert!(tokio::time::timeout(4 * SHORT, upload.0.readable()).await.is_err());
    upload.send("cd").await;
    assert!(upload.response().await.ends_with("\r\n\r\n4"));
    assert_eq!(server.stop().await.cut_slow, 0);
}

#[tokio::test]
async fn silent_clients_do_not_stall_others() {
    let server = Server::start(router(), patient()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(server.connect().await);
    }
    assert!(server.connect().await.get("/").await.ends_with("hello"));
    // None of them has asked for anything, so that the drain need not wait for them either.
    let report = server.stop().await;
    assert_eq!((report.connections, report.aborted), (51, 0));
}

/// Wants one byte before HTTP, as TLS wants its hello.
#[derive(Clone)]
struct Knock;

impl Transport for Knock {
    type Io = Socket;

    async fn handshake(&self, mut socket: Socket) -> io::Result<Socket> {
        socket.read_u8().await?;
        Ok(socket)
    }
}

#[tokio::test]
async fn a_slow_handshake_stalls_nobody_and_is_cut() {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let (address, drain) = (listener.local_addr(), Drain::new());
    let options = Options { handshake_timeout: 5 * SHORT, ..patient() };
    let server = Server::run(address, drain.clone(), serve_with(listener, Knock, router(), options, drain.clone()));
    let start = Instant::now();
    let mut slow = server.connect().await;
    let mut quick = server.connect().await;
    quick.send("!").await;
    assert!(quick.get("/").await.ends_with("hello"));
    assert_eq!(slow.rest().await, "");
    assert!(start.elapsed() >= 5 * SHORT);
    assert_eq!(server.stop().await.cut_slow, 1);
}

#[tokio::test]
async fn a_connection_above_the_limit_waits_for_a_place() {
    let mut registry = Registry::default();
    let metrics = ConnectionMetrics::register(&mut registry);
    let server = Server::start(router(), Options { max_connections: 2, metrics, ..patient() }).await;
    let exposition = Exposition::from(registry);

    let mut first = server.connect().await;
    first.get("/").await;
    // An upgraded connection keeps its place, though it is not HTTP any more.
    let mut upgraded = server.connect().await;
    upgraded.send(UPGRADE_TO_ECHO).await;
    let mut bytes = [0; 12];
    soon("the switch", upgraded.0.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 101");

    let mut third = server.connect().await;
    third.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(tokio::time::timeout(2 * SHORT, third.0.readable()).await.is_err(), "there were three at once");
    assert!(exposition.text().contains("connections_open 2\n"), "{}", exposition.text());

    drop(upgraded);
    assert!(third.response().await.ends_with("hello"));
    let text = exposition.text();
    assert!(text.contains("connections_accepted_total 3\n"), "{text}");
    // There before anything is cut, so that the first cut is an increase.
    assert!(text.contains("connections_cut_total{reason=\"head\"} 0\n"), "{text}");
    server.stop().await;
    assert!(exposition.text().contains("connections_open 0\n"));
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answer_is_cut() {
    // Large enough to fill the sockets' buffers, small enough that hyper holds the rest and the body is finished.
    let big = Router::new().route("/", get(|| async { vec![0_u8; 16 << 20] }));
    let mut registry = Registry::default();
    let metrics = ConnectionMetrics::register(&mut registry);
    let server = Server::start(big, Options { idle_timeout: SHORT, metrics, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let exposition = Exposition::from(registry);
    eventually("the cut", || exposition.text().contains("connections_cut_total{reason=\"idle\"} 1\n")).await;
    assert!(client.rest().await.len() < 16 << 20, "the whole answer arrived");
    server.stop().await;
}

/// Set in the child process of the test below.
const FEW_FILES: &str = "STARTLINE_TEST_FEW_FILES";

#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    if std::env::var_os(FEW_FILES).is_none() {
        // The limit is the whole process's, so that this needs one of its own.
        let mut child = tokio::process::Command::new("sh");
        child.args(["-c", "ulimit -n 64 && exec \"$0\" --exact limits::running_out_of_descriptors_is_survived"]);
        child.arg(std::env::current_exe().unwrap()).env(FEW_FILES, "1").kill_on_drop(true);
        let output = soon("the end of the child", child.output()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let server = Server::start(router(), patient()).await;
    let mut first = server.connect().await;
    first.get("/").await;

    let mut hogs: Vec<fs::File> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    // One descriptor for the client's end, none for the server's.
    hogs.pop();
    let mut second = server.connect().await;
    second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(tokio::time::timeout(2 * SHORT, second.0.readable()).await.is_err(), "there was a descriptor left");
    assert!(first.get("/").await.ends_with("hello"), "connections that are open are served all the time");

    drop(hogs);
    assert!(second.response().await.ends_with("hello"));
    assert_eq!(server.stop().await.connections, 2);
}
