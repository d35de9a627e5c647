//! Requests as bytes on a socket, so that a test may send what no client of ours would.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub(crate) fn code(&self) -> u16 {
        self.status.as_u16()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One connection.
pub(crate) struct Wire {
    sender: SendRequest<Full<Bytes>>,
}

impl Wire {
    pub(crate) async fn open(url: &str) -> Self {
        let socket = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        TaskTracker::new().spawn(async move { drop(connection.await) });
        Self { sender }
    }

    /// Sends with these headers besides `Host`, which they may replace.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.try_send(method, path, bearer, headers, body).await.unwrap()
    }

    /// The same, to a service that may die before it has answered.
    pub(crate) async fn try_send(
        &mut self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> hyper::Result<Reply> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "test");
        }
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    pub(crate) async fn get(&mut self, path: &str, bearer: &str) -> Reply {
        self.send(Method::GET, path, Some(bearer), &[], b"").await
    }

    pub(crate) async fn delete(&mut self, path: &str, bearer: &str) -> Reply {
        self.send(Method::DELETE, path, Some(bearer), &[], b"").await
    }

    pub(crate) async fn post(&mut self, path: &str, bearer: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, Some(bearer), &[], body.to_string().as_bytes()).await
    }
}
