//! How large the head of a request may be.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use startline_daemon::Options;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::harness::{Server, patient, soon};

async fn start(options: Options) -> Server {
    Server::start(Router::new().route("/", get(|headers: HeaderMap| async move { headers.len().to_string() })), options)
        .await
}

/// The status of a request over HTTP/1.1 with these header fields besides `host`.
async fn http1(server: &Server, fields: &str) -> String {
    let mut client = server.connect().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).await;
    client.response().await.split(' ').nth(1).unwrap().to_owned()
}

/// The same over HTTP/2.
async fn http2(server: &Server, count: usize, value: &str) -> StatusCode {
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake::<_, Body>(io).await.unwrap();
    TaskTracker::new().spawn(connection);
    let mut request = Request::get("http://localhost/").body(Body::empty()).unwrap();
    for index in 0..count {
        let name = HeaderName::try_from(format!("x-{index}")).unwrap();
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    soon("the answer", sender.send_request(request)).await.unwrap().status()
}

fn fields(count: usize) -> String {
    (0..count).map(|index| format!("X-{index}: y\r\n")).collect()
}

#[tokio::test]
async fn a_head_with_too_many_fields_is_refused() {
    for max_headers in [10, 100, 150] {
        let server = start(Options { max_headers, ..patient() }).await;
        assert_eq!(http1(&server, &fields(max_headers - 1)).await, "200");
        assert_eq!(http1(&server, &fields(max_headers)).await, "431");
        assert_eq!(http2(&server, max_headers, "y").await, StatusCode::OK);
        assert_eq!(http2(&server, max_headers + 1, "y").await, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        let report = server.stop().await;
        assert_eq!(report.requests, 2, "what is refused reaches no handler");
    }
}

#[tokio::test]
async fn a_head_with_too_many_bytes_is_refused() {
    const REFUSED: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    for max_head in [300, 10_000] {
        let server = start(Options { max_head, ..patient() }).await;
        for (bytes, status) in [(max_head - 100, StatusCode::OK), (max_head, REFUSED), (2 * max_head, REFUSED)] {
            let value = "y".repeat(bytes);
            assert_eq!(http1(&server, &format!("X: {value}\r\n")).await, status.as_str());
            assert_eq!(http2(&server, 1, &value).await, status);
        }
        assert_eq!(server.stop().await.requests, 2, "what is refused reaches no handler");
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_kept() {
    let server = start(patient()).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX: ").await;
    let endless = "y".repeat(1 << 20);
    soon("the end of patience", async { while client.0.write_all(endless.as_bytes()).await.is_ok() {} }).await;
    assert_eq!(server.stop().await.requests, 0);
}

#[tokio::test]
async fn a_target_counts_as_well() {
    let server = start(Options { max_head: 300, ..patient() }).await;
    let mut client = server.connect().await;
    client.send(&format!("GET /?{} HTTP/1.1\r\nHost: test\r\n\r\n", "y".repeat(300))).await;
    assert!(client.response().await.starts_with("HTTP/1.1 431 "));
    server.stop().await;
}
