//! What is served, and how a port is bound.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use startline_daemon::{Listener, Report};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::harness::{Server, UPGRADE_TO_ECHO, echo_upgrade, patient, soon};

fn router() -> Router {
    Router::new()
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/echo", get(echo_upgrade))
        .route("/panic", get(|| async { panic!("a handler's bug") as &'static str }))
}

#[tokio::test]
async fn handlers_see_the_address_of_the_peer() {
    let server = Server::start(router(), patient()).await;
    let mut client = server.connect().await;
    let own = client.0.local_addr().unwrap().to_string();
    for _ in 0..3 {
        let response = client.get("/peer").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(&own), "{response}");
    }
    let report = server.stop().await;
    assert_eq!(report, Report { connections: 1, requests: 3, ..Report::default() });
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let server = Server::start(router(), patient()).await;
    let socket = TcpStream::connect(server.address).await.unwrap();
    let own = socket.local_addr().unwrap().to_string();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = TaskTracker::new().spawn(connection);
    for _ in 0..3 {
        let request = Request::get(format!("http://{}/peer", server.address)).body(Body::empty()).unwrap();
        let response = soon("a response", sender.send_request(request)).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), own);
    }
    // The client keeps its connection; the drain takes leave of it.
    let report = server.stop().await;
    assert_eq!(report, Report { connections: 1, requests: 3, ..Report::default() });
    soon("the goodbye", connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_can_be_upgraded() {
    let server = Server::start(router(), patient()).await;
    let mut client = server.connect().await;
    client.send(UPGRADE_TO_ECHO).await;
    let mut bytes = [0; 1024];
    let count = soon("the switch", client.0.read(&mut bytes)).await.unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{:?}", std::str::from_utf8(&bytes[..count]));
    for text in ["hello", "again"] {
        client.0.write_all(text.as_bytes()).await.unwrap();
        let count = soon("the echo", client.0.read(&mut bytes)).await.unwrap();
        assert_eq!(&bytes[..count], text.as_bytes());
    }
    drop(client);
    assert_eq!(server.stop().await.aborted, 0);
}

#[tokio::test]
async fn a_handler_that_panics_takes_only_its_connection_along() {
    let server = Server::start(router(), patient()).await;
    let mut unlucky = server.connect().await;
    unlucky.send("GET /panic HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(unlucky.rest().await, "");
    let mut other = server.connect().await;
    assert!(other.get("/peer").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(server.stop().await, Report { connections: 2, requests: 2, ..Report::default() });
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_remedy() {
    let first = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = first.local_addr();
    let text = Listener::bind(address).await.unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "failed to listen on {address}: port {} is in use by another process; stop that process, or choose another \
             port (0 takes a free one)",
            address.port()
        )
    );
    drop(first);
    Listener::bind(address).await.unwrap();
}
