//! Peers that stop reading or sending, with and without TLS, on HTTP/1.1 and on HTTP/2.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use startline_daemon::metrics::Exposition;
use startline_daemon::serve::ConnectionMetrics;
use startline_daemon::{Drain, Listen, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::harness::{Authority, Client, SHORT, Server, Stream, eventually, patient, soon};

/// Larger than all the buffers on its way.
const BIG: usize = 32 << 20;

/// A server behind a socket or behind TLS, and what it counted.
struct Service {
    server: Server,
    exposition: Exposition,
    authority: Option<Authority>,
}

impl Service {
    /// One without TLS, then one with.
    async fn both(router: Router, options: Options) -> [Self; 2] {
        [
            Self::start(router.clone(), options.clone(), None).await,
            Self::start(router, options, Some(Authority::new())).await,
        ]
    }

    async fn start(router: Router, options: Options, authority: Option<Authority>) -> Self {
        let mut registry = Registry::default();
        let metrics = ConnectionMetrics::register(&mut registry);
        let listen = authority.as_ref().map_or(Listen::Plain, Authority::listen);
        let server = Server::start_listening(listen, Drain::new(), router, Options { metrics, ..options }).await;
        Self { server, exposition: Exposition::from(registry), authority }
    }

    async fn connect(&self, alpn: &str) -> Client<Box<dyn Stream>> {
        match &self.authority {
            None => self.server.connect().await.boxed(),
            Some(authority) => authority.connect(&self.server, "localhost", &[alpn]).await.boxed(),
        }
    }

    async fn http1(&self) -> Client<Box<dyn Stream>> {
        self.connect("http/1.1").await
    }

    /// Over HTTP/2, with small windows.
    async fn http2(&self) -> SendRequest<Body> {
        let io = TokioIo::new(self.connect("h2").await.0);
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(32 * 1024)
            .handshake(io)
            .await
            .unwrap();
        TaskTracker::new().spawn(connection);
        sender
    }

    fn was_cut(&self, reason: &str) -> bool {
        self.exposition.text().contains(&format!("connections_cut_total{{reason=\"{reason}\"}} 1\n"))
    }

    async fn cut(&self, reason: &str) {
        eventually("the cut", || self.was_cut(reason)).await;
    }

    fn was_not_cut(&self) {
        let text = self.exposition.text();
        let cuts = |line: &str| line.starts_with("connections_cut_total{") && !line.ends_with(" 0");
        assert!(!text.lines().any(cuts), "{text}");
    }
}

/// A body of pieces, with a pause before each.
struct Pieces {
    left: usize,
    pause: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Pieces {
    fn body(count: usize, pause: Duration) -> Body {
        Body::new(Self { left: count, pause, sleep: Box::pin(tokio::time::sleep(pause)) })
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.sleep.as_mut().poll(cx));
        let next = Instant::now() + self.pause;
        self.sleep.as_mut().reset(next);
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece ")))))
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/big", get(|| async { vec![0_u8; BIG] }))
        .route("/events", get(|| async { Pieces::body(3, 3 * SHORT) }))
        .route("/upload", post(|body: Bytes| async move { body.len().to_string() }))
        .route(
            "/busy",
            post(|body: Body| async move {
                tokio::time::sleep(4 * SHORT).await;
                body.collect().await.unwrap().to_bytes().len().to_string()
            }),
        )
        .route("/flood", get(flood))
}

/// Answers an upgrade, and then sends whether the peer reads or not.
async fn flood(request: Request<Body>) -> Response<Body> {
    TaskTracker::new().spawn(async move {
        let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        while io.write_all(&[0; 65_536]).await.is_ok() {}
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("flood"));
    response.headers_mut().insert(HeaderName::from_static("connection"), HeaderValue::from_static("upgrade"));
    response
}

fn impatient() -> Options {
    Options { write_timeout: SHORT, body_read_timeout: SHORT, ..patient() }
}

const GET_BIG: &str = "GET /big HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_peer_that_stops_reading_is_cut() {
    for service in Service::both(router(), impatient()).await {
        let start = Instant::now();
        let mut client = service.http1().await;
        client.send(GET_BIG).await;
        service.cut("write").await;
        assert!(start.elapsed() >= SHORT);
        assert!(client.rest().await.len() < BIG, "the whole answer arrived");
        assert_eq!(service.server.stop().await.cut_slow, 1);
    }
}

#[tokio::test]
async fn an_upgraded_peer_that_stops_reading_is_cut() {
    for service in Service::both(router(), impatient()).await {
        let mut client = service.http1().await;
        client.send("GET /flood HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: flood\r\n\r\n").await;
        service.cut("write").await;
        // Nothing of it is left that the drain would have to wait for.
        assert_eq!(service.server.stop().await.aborted, 0);
    }
}

#[tokio::test]
async fn waiting_for_an_answer_or_for_its_next_piece_is_not_slow() {
    for service in Service::both(router(), impatient()).await {
        let mut client = service.http1().await;
        client.send("GET /events HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.rest().await.matches("piece ").count(), 3);
        let request = Request::get("http://localhost/events").body(Body::empty()).unwrap();
        let response = service.http2().await.send_request(request).await.unwrap();
        let body = soon("the events", response.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(body, "piece piece piece ");
        service.was_not_cut();
        service.server.stop().await;
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_one_that_has_stopped() {
    let write_timeout = Duration::from_secs(1);
    let mut readers = Vec::new();
    // So slowly that the kernel does not call the server's buffer free again within the time-out; and not that slowly.
    for size in [16 * 1024, 128 * 1024] {
        for service in Service::both(router(), Options { write_timeout, ..patient() }).await {
            readers.push(TaskTracker::new().spawn(async move {
                let mut client = service.http1().await;
                client.send(GET_BIG).await;
                let (start, mut read, mut bytes) = (Instant::now(), 0, vec![0; size]);
                while start.elapsed() < 3 * write_timeout {
                    read += client.0.read(&mut bytes).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                assert!(read < BIG / 2, "the reader was not slow");
                let rest = client.rest().await;
                assert!(read + rest.len() > BIG, "the answer was cut after {read} + {}", rest.len());
                service.was_not_cut();
                service.server.stop().await;
            }));
        }
    }
    for reader in readers {
        soon("the end of the reader", reader).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_that_stops_is_refused_and_its_connection_closed() {
    for service in Service::both(router(), impatient()).await {
        let start = Instant::now();
        let mut client = service.http1().await;
        client.send("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 10000\r\n\r\nhello").await;
        let response = client.rest().await;
        assert!(start.elapsed() >= SHORT);
        assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("did not arrive in time"), "{response}");
        assert!(service.was_cut("body"));
        assert_eq!(service.server.stop().await.cut_slow, 1);
    }
}

#[tokio::test]
async fn a_body_of_a_byte_at_a_time_is_refused() {
    for service in Service::both(router(), impatient()).await {
        let mut client = service.http1().await;
        client.send("POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        soon("the cut", async {
            while !service.was_cut("body") {
                // The connection may be closed already, before the count is seen.
                let _ = client.0.write_all(b"1\r\nx\r\n").await;
                let _ = client.0.flush().await;
                tokio::time::sleep(SHORT / 20).await;
            }
        })
        .await;
        service.server.stop().await;
    }
}

#[tokio::test]
async fn a_slow_body_that_goes_on_is_read_to_its_end() {
    let timeout = 5 * SHORT;
    for service in Service::both(router(), Options { body_read_timeout: timeout, ..patient() }).await {
        let mut client = service.http1().await;
        let start = Instant::now();
        client.send("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 20480\r\n\r\n").await;
        let piece = "x".repeat(2048);
        for _ in 0..10 {
            client.send(&piece).await;
            client.0.flush().await.unwrap();
            tokio::time::sleep(SHORT).await;
        }
        assert!(client.response().await.ends_with("\r\n\r\n20480"));
        assert!(start.elapsed() > timeout);
        service.was_not_cut();
        service.server.stop().await;
    }
}

#[tokio::test]
async fn a_handler_that_does_not_read_yet_is_not_the_peers_fault() {
    for service in Service::both(router(), impatient()).await {
        let mut client = service.http1().await;
        client.send("POST /busy HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello").await;
        assert!(client.response().await.ends_with("\r\n\r\n5"));
        service.was_not_cut();
        service.server.stop().await;
    }
}

#[tokio::test]
async fn a_stream_of_http2_that_is_not_read_is_reset_and_its_neighbours_are_not() {
    for service in Service::both(router(), impatient()).await {
        let mut sender = service.http2().await;
        let request = Request::get("http://localhost/big").body(Body::empty()).unwrap();
        let response = soon("the answer", sender.send_request(request)).await.unwrap();
        service.cut("write").await;
        let read = soon("the reset", response.into_body().collect()).await;
        assert!(read.is_err(), "the whole answer arrived");
        let request = Request::get("http://localhost/").body(Body::empty()).unwrap();
        let response = soon("the neighbour", sender.send_request(request)).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        // The handler's answer is gone: there is nothing that the drain has to wait for.
        assert_eq!(service.server.stop().await.aborted, 0);
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole_over_http2() {
    for service in Service::both(router(), patient()).await {
        let request = Request::get("http://localhost/big").body(Body::empty()).unwrap();
        let response = soon("the answer", service.http2().await.send_request(request)).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_LENGTH], BIG.to_string());
        assert_eq!(soon("the body", response.into_body().collect()).await.unwrap().to_bytes().len(), BIG);
        service.server.stop().await;
    }
}

#[tokio::test]
async fn a_body_that_stops_on_http2_is_refused_and_its_neighbours_are_not() {
    for service in Service::both(router(), impatient()).await {
        let mut sender = service.http2().await;
        let never_ends = Pieces::body(2, Duration::from_secs(3600));
        let request = Request::post("http://localhost/upload").body(never_ends).unwrap();
        let response = soon("the refusal", sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(service.was_cut("body"));
        let request = Request::get("http://localhost/").body(Body::empty()).unwrap();
        let response = soon("the neighbour", sender.send_request(request)).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        service.server.stop().await;
    }
}
