//! The accept loop: one task a connection, time-outs against peers that dawdle, a limit, and a drain in two phases.
//!
//! ```text
//! bind → [place under the limit] → accept → task { handshake → HTTP/1.1 or HTTP/2 → service } → drain
//! ```
//!
//! The handshake runs in the connection's own task with its own time-out, so that no client can keep another from
//! being accepted. [`Plain`] has none; TLS is another [`Transport`].
//!
//! A peer may be slow, but it may not stop: where it owes a head, more of a body, or room for an answer, time runs, and
//! who lets it pass is cut. Where it owes nothing (a long poll that waits, an event stream without events), none does.

mod activity;
mod answer;
mod connection;
mod drain;
mod listener;
mod request_body;
mod socket;
mod streams;
mod tracked;
mod version;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::{BoxError, Service};
use tracing::Instrument as _;

pub use drain::Drain;
pub use listener::{BindError, Listener};
pub use request_body::{BodyError, RequestBody};
pub use socket::Socket;

/// After an abort, how long handlers may take to notice that their connection is gone.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest handshake of the transport, before any HTTP.
    pub handshake_timeout: Duration,
    /// Longest time from a connection, or from the first byte of a later request, to the end of the request's head.
    pub header_read_timeout: Duration,
    /// Longest time that a peer may leave us waiting before it has read anything more of what we send: a whole
    /// connection whose send buffer is full, or a stream of HTTP/2 whose window is shut.
    pub write_timeout: Duration,
    /// Longest time that a handler waits for more of a request's body; see [`RequestBody`].
    pub body_read_timeout: Duration,
    /// How long a connection is kept without a request. Longer than the pools of clients keep theirs, so that it is the
    /// client who closes and no request meets a connection that is just being closed.
    pub idle_timeout: Duration,
    /// Most bytes in a request's head; a larger one is answered with 431. It is also the most that is read ahead of a
    /// handler, but for the 8 KiB that always may be.
    pub max_head: usize,
    /// Most header fields in a request; more are answered with 431.
    pub max_headers: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Most connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Longest time from the start of the drain until what is still open is cut.
    pub drain_timeout: Duration,
    /// Where the listener counts, besides its [`Report`].
    pub metrics: ConnectionMetrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            body_read_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(120),
            max_head: 64 * 1024,
            max_headers: 100,
            max_streams: 200,
            max_connections: 10_000,
            drain_timeout: Duration::from_secs(30),
            metrics: ConnectionMetrics::default(),
        }
    }
}

/// What a listener did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections accepted.
    pub connections: u64,
    /// Requests that reached the service.
    pub requests: u64,
    /// Connections and requests cut because a handshake, a head or a body did not arrive in time, or an answer was not
    /// read.
    pub cut_slow: u64,
    /// Connections that were open when the drain was aborted, and were cut.
    pub aborted: u64,
    /// Connections, not among those, that a handler still held a second later; their tasks live on until they notice.
    pub left: u64,
}

/// Why connections and requests are cut.
const CUT_REASONS: [&str; 6] = ["handshake", "head", "body", "write", "idle", "drain"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabel {
    reason: &'static str,
}

/// Counts of connections, for the registry. A copy counts into the same metrics.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    open: Gauge,
    accepted: Counter,
    cut: Family<CutLabel, Counter>,
}

impl ConnectionMetrics {
    /// New metrics in `registry`, with its prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("connections_open", "Connections open at the moment", metrics.open.clone());
        registry.register("connections_accepted", "Connections accepted", metrics.accepted.clone());
        let help = "Connections and requests that were cut, by reason: handshake, head, body, write, idle, drain";
        registry.register("connections_cut", help, metrics.cut.clone());
        // There from the beginning, so that the first cut is an increase.
        for reason in CUT_REASONS {
            drop(metrics.cut.get_or_create(&CutLabel { reason }));
        }
        metrics
    }
}

/// What stands between the accepted socket and HTTP.
pub trait Transport: Clone + Send + Sync + 'static {
    /// The byte stream that HTTP is spoken on.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Makes the byte stream of an accepted socket; runs in the connection's task, under the handshake time-out.
    fn handshake(&self, socket: Socket) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// What the transport does besides, as long as its listener accepts; [`serve_with`] polls it.
    fn maintain(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// HTTP on the bare socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Transport for Plain {
    type Io = Socket;

    async fn handshake(&self, socket: Socket) -> io::Result<Socket> {
        Ok(socket)
    }
}

/// Answers the connections of `listener` with `service` until `drain` is over.
///
/// HTTP/1.1 and HTTP/2 with prior knowledge; upgrades are allowed and count as connections until they end. Each request
/// carries `axum::extract::ConnectInfo<SocketAddr>` with the peer's address. When the drain starts, the port is closed
/// and the rest as [`Drain`] says. Dropping the future leaves the connections running without a drain; cancel by
/// [`Drain::abort`].
pub async fn serve<S, B>(listener: Listener, service: S, options: Options, drain: Drain) -> Report
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    serve_with(listener, Plain, service, options, drain).await
}

/// [`serve()`] over another transport than the bare socket.
pub async fn serve_with<T, S, B>(listener: Listener, transport: T, service: S, options: Options, drain: Drain) -> Report
where
    T: Transport,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let drain_timeout = options.drain_timeout;
    let places = Arc::new(Semaphore::new(options.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let shared = Arc::new(Shared {
        options,
        counts: Counts::default(),
        // Also cancelled by the time-out below, which is not the business of other listeners of the same drain.
        abort: drain.aborting().child_token(),
        drain,
        tasks: TaskTracker::new(),
    });

    tracing::info!(server.address = %listener.local_addr(), "listening");
    let maintenance = transport.clone();
    // Never ends without a panic; if it did, there would be nothing more to maintain.
    let mut maintenance = pin!(async move {
        maintenance.maintain().await;
        std::future::pending::<()>().await;
    });
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, (socket, peer)) = tokio::select! {
            biased;
            () = shared.drain.draining().cancelled() => break,
            accepted = accept => accepted,
            () = &mut maintenance => continue,
        };
        let open = Open::new(&shared);
        let span = tracing::debug_span!("connection", client.addr = %peer);
        let connection =
            connection::run(Arc::clone(&shared), transport.clone(), service.clone(), socket, peer, place, open);
        shared.tasks.spawn(connection.instrument(span));
    }
    // Closes the port: whoever comes now is refused at once instead of waiting for nobody.
    drop(listener);
    shared.finish(drain_timeout).await
}

/// What the connections of one listener share.
#[derive(Debug)]
struct Shared {
    options: Options,
    counts: Counts,
    drain: Drain,
    abort: tokio_util::sync::CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    async fn finish(&self, drain_timeout: Duration) -> Report {
        self.tasks.close();
        let orderly = tokio::select! {
            biased;
            () = self.tasks.wait() => true,
            () = self.abort.cancelled() => false,
            () = tokio::time::sleep(drain_timeout) => false,
        };
        if !orderly {
            tracing::debug!("cutting what is still open");
            self.abort.cancel();
            // What is left after this is in the report.
            let _ = tokio::time::timeout(ABORT_GRACE, self.tasks.wait()).await;
        }
        let report = self.counts.report();
        let Report { connections, requests, aborted, left, .. } = report;
        tracing::info!(connections, requests, aborted, left, "stopped listening");
        report
    }

    fn request(&self) {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn cut(&self, reason: &'static str) {
        if matches!(reason, "handshake" | "head" | "body" | "write") {
            self.counts.cut_slow.fetch_add(1, Ordering::Relaxed);
        }
        self.options.metrics.cut.get_or_create(&CutLabel { reason }).inc();
    }
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    cut_slow: AtomicU64,
    aborted: AtomicU64,
    open: AtomicU64,
}

impl Counts {
    fn report(&self) -> Report {
        Report {
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            cut_slow: self.cut_slow.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
            left: self.open.load(Ordering::Relaxed),
        }
    }
}

/// Counts a connection as open for as long as it exists.
#[derive(Debug)]
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.counts.connections.fetch_add(1, Ordering::Relaxed);
        shared.counts.open.fetch_add(1, Ordering::Relaxed);
        shared.options.metrics.accepted.inc();
        shared.options.metrics.open.inc();
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Wherever the connection was: in the handshake, in HTTP, or upgraded and in a handler's hands.
        if self.0.abort.is_cancelled() {
            self.0.counts.aborted.fetch_add(1, Ordering::Relaxed);
            self.0.cut("drain");
        }
        self.0.counts.open.fetch_sub(1, Ordering::Relaxed);
        self.0.options.metrics.open.dec();
    }
}
