//! One connection, from the handshake to its end.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::{BoxError, Service, ServiceExt as _};

use super::activity::{Activity, InFlight, Overdue};
use super::tracked::Tracked;
use super::{Open, Shared, Transport};

/// Largest head, and most that is read ahead of a handler.
const MAX_BUFFER: usize = 64 * 1024;
/// How often a quiet HTTP/2 peer is asked whether it is still there, and how long it may take to say so.
const HTTP2_PING: std::time::Duration = std::time::Duration::from_secs(20);

pub(super) async fn run<T, S, B>(
    shared: Arc<Shared>,
    transport: T,
    service: S,
    socket: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    open: Open,
) where
    T: Transport,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Some(io) = handshake(&shared, &transport, socket).await else { return };
    let activity = Activity::new();
    let io = Tracked::new(io, activity.clone(), shared.abort.clone(), (place, open, shared.tasks.token()));

    let requests = (Arc::clone(&shared), activity.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (shared, activity) = &requests;
        shared.request();
        let in_flight = activity.request(request.version());
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = service.clone().oneshot(request);
        async move { Ok::<_, S::Error>(answer.await?.map(|body| Counted { body: Body::new(body), in_flight })) }
    });

    let mut builder = Builder::new(Streams(shared.tasks.clone()));
    // `Activity` keeps the time of heads.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_BUFFER);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HTTP2_PING).keep_alive_timeout(HTTP2_PING);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));

    let options = &shared.options;
    let mut closing = false;
    // Once it has been idle for too long: when it is cut if it still has not taken leave.
    let mut last_call: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = shared.abort.cancelled() => return,
            // Before the connection, so that an answer that the drain itself brings about says `connection: close`.
            () = shared.drain.draining().cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    // Of the peer's making, and none of our operator's business.
                    tracing::debug!(error = &*error, "connection ended");
                }
                return;
            }
            why = activity.overdue(options.header_read_timeout, options.idle_timeout), if last_call.is_none() => {
                match why {
                    Overdue::Head => {
                        tracing::debug!("connection cut: no complete request head in time");
                        return shared.cut("head");
                    }
                    Overdue::Idle => {
                        last_call = Some(Instant::now() + options.idle_timeout);
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
            () = sleep_until(last_call) => return shared.cut("idle"),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn handshake<T: Transport>(shared: &Shared, transport: &T, socket: TcpStream) -> Option<T::Io> {
    // Answers are small and waited for; the only error is that the peer is gone already, which the next read tells.
    let _ = socket.set_nodelay(true);
    let handshake = tokio::time::timeout(shared.options.handshake_timeout, transport.handshake(socket));
    tokio::select! {
        biased;
        // Nothing has been asked yet, so nobody waits for an answer.
        () = shared.drain.draining().cancelled() => None,
        result = handshake => match result {
            Ok(Ok(io)) => Some(io),
            Ok(Err(error)) => {
                tracing::debug!(%error, "handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("connection cut: no handshake in time");
                shared.cut("handshake");
                None
            }
        }
    }
}

/// Where the streams of HTTP/2 connections run. They end with their connection, which hyper tells them.
#[derive(Clone, Debug)]
struct Streams(TaskTracker);

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// A response body; the request is in flight until its end.
#[derive(Debug)]
struct Counted {
    body: Body,
    #[expect(dead_code, reason = "held for its drop")]
    in_flight: InFlight,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
