//! Requests without a pool: who holds a link knows which connection its request is on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::socket::{setsockopt, sockopt};
use serde::de::DeserializeOwned;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::wire::Wire;

/// How long to wait when the service says that requests come too fast, or too many at once: about what `Retry-After` says.
const LATER: Duration = Duration::from_secs(1);
/// How often a request is sent whose turn does not come.
const TRIES: u32 = 30;
/// The largest answer that is read.
pub(super) const ANSWER_LIMIT: usize = 16 * 1024 * 1024;
pub(super) const AGENT: &str = concat!("startline/", env!("CARGO_PKG_VERSION"));
/// Connections that one address has ports for towards one other, with some to spare.
const PORTS: u32 = 25_000;
/// Connections that are being opened at once.
const CONNECTING: usize = 128;

/// Where the service is, and from where it is reached.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `host:port`.
    authority: Arc<str>,
    http2: bool,
    /// How many addresses of this machine to connect from; 1 leaves the choice to the system.
    sources: u32,
    opened: Arc<AtomicU32>,
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
        Ok(Self { authority: authority.into(), http2, sources: 1, opened: Arc::default() })
    }

    /// Connects from as many addresses as asked for, or as so many connections need.
    pub(super) fn with_sources(mut self, asked: Option<u32>, connections: u32) -> anyhow::Result<Self> {
        self.sources = asked.unwrap_or_else(|| connections.div_ceil(PORTS).max(1));
        let loopback = self
            .authority
            .parse::<SocketAddr>()
            .is_ok_and(|address| matches!(address.ip(), IpAddr::V4(address) if address.is_loopback()));
        ensure!(
            self.sources == 1 || loopback,
            "{connections} connections need several addresses of this machine, which only an address like \
             127.0.0.1:7070 can be reached from"
        );
        Ok(self)
    }

    /// The same for another address, as of a service that was started anew.
    pub(super) fn elsewhere(&self, url: &str) -> anyhow::Result<Self> {
        Ok(Self { authority: Self::new(url, self.http2)?.authority, ..self.clone() })
    }

    pub(super) const fn is_http2(&self) -> bool {
        self.http2
    }

    pub(super) const fn sources(&self) -> u32 {
        self.sources
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Opens a connection that nothing speaks over yet.
    pub(super) async fn open(&self) -> anyhow::Result<TcpStream> {
        let context = || format!("cannot connect to {}", self.authority);
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let stream = if self.sources == 1 {
            TcpStream::connect(&*self.authority).await.with_context(context)?
        } else {
            let socket = TcpSocket::new_v4()?;
            // The port is chosen when both ends are known, so that each pair of addresses has all of them.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            let [.., last] = (2 + number % self.sources).to_be_bytes();
            socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
            socket.connect(self.authority.parse()?).await.with_context(context)?
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, tasks: &TaskTracker) -> anyhow::Result<Link> {
        let stream = self.open().await?;
        if !self.http2 {
            return Ok(Link::Http1(Wire::new(stream, Arc::clone(&self.authority))));
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Its end is seen by the requests that are on it.
        tasks.spawn(async move { drop(connection.await) });
        Ok(Link::Http2(sender, Arc::clone(&self.authority)))
    }

    /// Opens connections for so many users, each shared by at most `shares` of them where that is possible.
    pub(super) async fn connect_many(
        &self,
        tasks: &TaskTracker,
        users: usize,
        shares: usize,
    ) -> anyhow::Result<Vec<Link>> {
        let shares = if self.http2 { shares } else { 1 };
        let mut connecting = JoinSet::new();
        let mut links = Vec::with_capacity(users);
        let mut left = users.div_ceil(shares);
        while left > 0 || !connecting.is_empty() {
            while left > 0 && connecting.len() < CONNECTING {
                left -= 1;
                let (target, tasks) = (self.clone(), tasks.clone());
                connecting.spawn(async move { target.connect(&tasks).await });
            }
            if let Some(link) = connecting.join_next().await {
                let link = link??;
                while links.len() + 1 < users
                    && (links.len() + 1) % shares != 0
                    && let Some(share) = link.share()
                {
                    links.push(share);
                }
                links.push(link);
            }
        }
        Ok(links)
    }
}

/// One request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) bearer: &'a str,
    pub(super) body: &'a [u8],
    /// For an append: where its first byte belongs.
    pub(super) range_from: Option<u64>,
}

impl Call<'_> {
    /// What an append says of its body.
    pub(super) fn content_range(&self) -> Option<String> {
        let first = self.range_from?;
        Some(format!("bytes {first}-{}/*", (first + self.body.len() as u64).saturating_sub(1)))
    }
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

/// A connection, or a share of one under HTTP/2.
pub(super) enum Link {
    Http1(Wire),
    Http2(http2::SendRequest<Full<Bytes>>, Arc<str>),
}

impl Link {
    /// The same connection for another user; `None` when it cannot be shared.
    fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender, authority) => Some(Self::Http2(sender.clone(), Arc::clone(authority))),
        }
    }

    pub(super) async fn get(&mut self, path: &str, bearer: &str) -> anyhow::Result<Answer> {
        self.send(Call { method: "GET", path, bearer, ..Call::default() }).await
    }

    pub(super) async fn post(&mut self, path: &str, bearer: &str, body: &[u8]) -> anyhow::Result<Answer> {
        self.send(Call { method: "POST", path, bearer, body, range_from: None }).await
    }

    /// Sends a request; where the service says that it came too fast, or that too many wait for their turn already, after a
    /// while again, as any runner does.
    pub(super) async fn insist(&mut self, call: Call<'_>) -> anyhow::Result<Answer> {
        let mut left = TRIES;
        loop {
            let answer = self.send(call).await?;
            match answer.status {
                StatusCode::TOO_MANY_REQUESTS => {}
                StatusCode::SERVICE_UNAVAILABLE if left > 1 => left -= 1,
                _ => return Ok(answer),
            }
            tokio::time::sleep(LATER).await;
        }
    }

    pub(super) async fn send(&mut self, call: Call<'_>) -> anyhow::Result<Answer> {
        match self {
            Self::Http1(wire) => wire.send(call).await,
            Self::Http2(sender, authority) => {
                let mut request = Request::builder()
                    .method(call.method)
                    .uri(format!("http://{authority}{}", call.path))
                    .header("authorization", format!("Bearer {}", call.bearer))
                    .header("accept", "application/json")
                    .header("content-type", "application/json")
                    .header("user-agent", AGENT);
                if let Some(range) = call.content_range() {
                    request = request.header("content-range", range);
                }
                let request = request.body(Full::new(Bytes::copy_from_slice(call.body)))?;
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let status = response.status();
                let body = http_body_util::Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
                let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
                Ok(Answer { status, body })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(&*Target::new("http://127.0.0.1:7070/", false).unwrap().authority, "127.0.0.1:7070");
        assert_eq!(&*Target::new("http://ci", false).unwrap().authority, "ci:80");
        assert!(Target::new("https://ci", false).unwrap_err().to_string().contains("not an http:// address"));
        assert!(Target::new("http://ci/startline", false).is_err());
    }

    #[test]
    fn many_connections_come_from_several_addresses_of_loopback_only() {
        let target = Target::new("http://127.0.0.1:7070", false).unwrap();
        assert_eq!(target.clone().with_sources(None, 25_000).unwrap().sources, 1);
        assert_eq!(target.clone().with_sources(None, 60_000).unwrap().sources, 3);
        assert_eq!(target.with_sources(Some(7), 10).unwrap().sources, 7);
        assert!(Target::new("http://ci:80", false).unwrap().with_sources(None, 60_000).is_err());
    }

    #[test]
    fn an_append_says_which_bytes_it_has() {
        let call = Call { body: b"1234", range_from: Some(8), ..Call::default() };
        assert_eq!(call.content_range().as_deref(), Some("bytes 8-11/*"));
        assert_eq!(Call::default().content_range(), None);
    }

    #[tokio::test]
    async fn as_many_share_a_connection_as_are_asked_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        for (http2, connections) in [(true, 3), (false, 20)] {
            let target = Target::new(&url, http2).unwrap();
            let links = target.connect_many(&TaskTracker::new(), 20, 7).await.unwrap();
            assert_eq!(links.len(), 20);
            assert_eq!(target.opened.load(Ordering::Relaxed), connections, "{http2}");
        }
    }

    #[tokio::test]
    async fn connections_take_turns_among_the_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::new(&format!("http://{}", listener.local_addr().unwrap()), false).unwrap();
        let target = target.with_sources(Some(3), 0).unwrap();
        let tasks = TaskTracker::new();
        let mut peers = Vec::new();
        for _ in 0..4 {
            let (_link, accepted) = (target.connect(&tasks).await.unwrap(), listener.accept().await.unwrap());
            peers.push(accepted.1.ip().to_string());
        }
        assert_eq!(peers, ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2"]);
    }
}
