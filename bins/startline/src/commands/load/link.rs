//! Requests without a pool: who holds a link knows which connection its request is on.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// How long to wait when the service says that requests come too fast: about what `Retry-After` says of a rate.
const TOO_FAST: Duration = Duration::from_secs(1);
/// The largest answer that is read.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// Where the service is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `host:port`.
    authority: String,
    http2: bool,
}

impl Target {
    pub(super) fn new(url: &str, http2: bool) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("`{url}` is not an http:// address; measure behind TLS from a machine of its own with another tool");
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            bail!("`{url}` is not like http://127.0.0.1:7070");
        }
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority, http2 })
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, tasks: &TaskTracker) -> anyhow::Result<Link> {
        let socket = TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("cannot connect to {}", self.authority))?;
        socket.set_nodelay(true)?;
        let io = TokioIo::new(socket);
        let sender = if self.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            // Its end is seen by the requests that are on it.
            tasks.spawn(async move { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::Http1(sender)
        };
        Ok(Link { sender, authority: self.authority.clone() })
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection, or a share of one under HTTP/2.
pub(super) struct Link {
    sender: Sender,
    authority: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body of an answer with this status.
    pub(super) fn expect<T: DeserializeOwned>(&self, status: StatusCode) -> anyhow::Result<T> {
        self.require(status)?;
        serde_json::from_slice(&self.body).with_context(|| format!("{status} without the JSON that was expected"))
    }

    pub(super) fn require(&self, status: StatusCode) -> anyhow::Result<()> {
        if self.status != status {
            bail!("answered {} instead of {status}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(())
    }
}

impl Link {
    /// The same connection for another user; `None` when it cannot be shared.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                Some(Self { sender: Sender::Http2(sender.clone()), authority: self.authority.clone() })
            }
        }
    }

    pub(super) async fn get(&mut self, path: &str, bearer: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, bearer, Bytes::new()).await
    }

    pub(super) async fn post(&mut self, path: &str, bearer: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, bearer, body.into()).await
    }

    /// Sends what sets the scene; where the service says that it came too fast, after a while again.
    pub(super) async fn insist(
        &mut self,
        method: Method,
        path: &str,
        bearer: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let body = body.into();
        loop {
            let answer = self.send(method.clone(), path, bearer, body.clone()).await?;
            if answer.status != StatusCode::TOO_MANY_REQUESTS {
                return Ok(answer);
            }
            tokio::time::sleep(TOO_FAST).await;
        }
    }

    async fn send(&mut self, method: Method, path: &str, bearer: &str, body: Bytes) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .method(method)
            .header("authorization", format!("Bearer {bearer}"))
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .header("user-agent", concat!("startline/", env!("CARGO_PKG_VERSION")));
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = request.uri(path).header("host", &self.authority).body(Full::new(body))?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                let request = request.uri(format!("http://{}{path}", self.authority)).body(Full::new(body))?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
        Ok(Answer { status, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(Target::new("http://127.0.0.1:7070/", false).unwrap().authority, "127.0.0.1:7070");
        assert_eq!(Target::new("http://ci", false).unwrap().authority, "ci:80");
        assert!(Target::new("https://ci", false).unwrap_err().to_string().contains("not an http:// address"));
        assert!(Target::new("http://ci/startline", false).is_err());
    }
}
