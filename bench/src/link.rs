//! A connection of hyper's client, for everything that is not measured itself.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection, or under HTTP/2 a share of one.
pub(crate) struct Link {
    sender: Sender,
    address: SocketAddr,
}

impl Link {
    pub(crate) async fn open(address: SocketAddr, http2: bool) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        let io = TokioIo::new(socket);
        let tasks = TaskTracker::new();
        // The end of a connection is seen by the requests on it.
        let sender = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::Http1(sender)
        };
        Ok(Self { sender, address })
    }

    /// The same connection for another user; `None` when it cannot be shared.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self { sender: Sender::Http2(sender.clone()), address: self.address }),
        }
    }

    pub(crate) async fn get(&mut self, path: &str, bearer: Option<&str>) -> anyhow::Result<(StatusCode, Bytes)> {
        self.send(Method::GET, path, &[], bearer, Bytes::new()).await
    }

    pub(crate) async fn post(
        &mut self,
        path: &str,
        bearer: Option<&str>,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        self.send(Method::POST, path, &[], bearer, body.into()).await
    }

    /// Sends a request and reads the answer to its end.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        bearer: Option<&str>,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = request.uri(path).header("host", self.address.to_string()).body(Full::new(body))?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                let request = request.uri(format!("http://{}{path}", self.address)).body(Full::new(body))?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = response.status();
        let body = response.into_body().collect().await.context("an answer broke off")?.to_bytes();
        Ok((status, body))
    }
}
