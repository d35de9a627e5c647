//! One connection, from the handshake to its end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::TryFutureExt as _;
use futures_util::future::Either;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tower::{BoxError, Service, ServiceExt as _};

use super::activity::{Activity, Overdue};
use super::answer::Answer;
use super::request_body::RequestBody;
use super::socket::Socket;
use super::streams::Streams;
use super::tracked::Tracked;
use super::version::{self, Prefixed, Version};
use super::{Open, Options, Shared, Transport};

/// The smallest buffer that hyper accepts.
const LEAST_BUFFER: usize = 8192;
/// Those that hyper parses in place.
const HYPERS_MAX_HEADERS: usize = 100;
/// How often a quiet HTTP/2 peer is asked whether it is still there, and how long it may take to say so.
const HTTP2_PING: Duration = Duration::from_secs(20);

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
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let socket = Socket::new(socket, Arc::clone(&shared));
    // What is over before the requests has a box of its own, so that an idle connection does not keep its place.
    let Some(io) = Box::pin(handshake(&shared, &transport, socket)).await else { return };
    let activity = Activity::new();
    let io = Tracked::new(io, activity.clone(), shared.abort.clone(), (place, open, shared.tasks.token()));
    let Some((version, io)) = Box::pin(detect(&shared, &activity, io)).await else { return };

    let options = &shared.options;
    let (max_head, max_headers) = (options.max_head, options.max_headers);
    let requests = (Arc::clone(&shared), activity.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, activity) = &requests;
        let in_flight = activity.request(request.version());
        // Hyper's own limits are about its memory: it counts fields on HTTP/1.1 alone, and lets a head pass that is
        // there before it has looked.
        if request.headers().len() > max_headers || head_size(&request) > max_head {
            let mut refusal = Response::new(Answer::new(Body::empty(), in_flight));
            *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Either::Right(Box::pin(std::future::ready(Ok(refusal))) as Rare);
        }
        shared.request();
        let mut request = request.map(|body| RequestBody::new(body, Arc::clone(shared)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = move |response: Response<B>| response.map(|body| Answer::new(Body::new(body), in_flight));
        // A service that is ready is called at once, as one that waits has to keep the request.
        let mut service = service.clone();
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Either::Left(service.call(request).map_ok(answer).map_err(Failed::of)),
            Poll::Ready(Err(error)) => Either::Right(Box::pin(std::future::ready(Err(Failed::of(error))))),
            Poll::Pending => Either::Right(Box::pin(service.oneshot(request).map_ok(answer).map_err(Failed::of))),
        }
    });

    let io = TokioIo::new(io);
    match version {
        Version::Http1 => {
            let mut connection = Box::pin(http1(options).serve_connection(io, service).with_upgrades());
            drive(&shared, &activity, connection.as_mut()).await;
        }
        Version::Http2 => {
            let mut connection = Box::pin(http2(&shared).serve_connection(io, service));
            drive(&shared, &activity, connection.as_mut()).await;
        }
    }
}

fn http1(options: &Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // `Activity` keeps the time of heads.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(options.max_head.max(LEAST_BUFFER));
    // Above its own limit hyper allocates for each head.
    if options.max_headers != HYPERS_MAX_HEADERS {
        builder.max_headers(options.max_headers);
    }
    builder
}

fn http2(shared: &Arc<Shared>) -> http2::Builder<Streams> {
    let options = &shared.options;
    // HTTP/2 counts 32 bytes more for each field (RFC 9113, 6.5.2).
    let max_list = options.max_head.saturating_add(options.max_headers.saturating_mul(32));
    let mut builder = http2::Builder::new(Streams(Arc::clone(shared)));
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(u32::try_from(max_list).unwrap_or(u32::MAX));
    builder
}

/// An answer that does not come straight from the service.
type Rare = Pin<Box<dyn Future<Output = Result<Response<Answer>, Failed>> + Send>>;

/// The service could not answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Failed(BoxError);

impl Failed {
    fn of(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

/// A connection of either version.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Answers what was asked and ends.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S, B> Connection for http1::UpgradeableConnection<TokioIo<I>, S>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Connection for http2::Connection<TokioIo<I>, S, Streams>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = B>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Polls a connection to its end, and brings that about when it is time. What it waits with is kept for each connection,
/// so it is little: one token at a time, and timers only while they run.
async fn drive<C: Connection>(shared: &Shared, activity: &Activity, mut connection: Pin<&mut C>) {
    let mut closing = false;
    // Once it has been idle for too long: when it is cut if it still has not taken leave.
    let mut last_call: Option<Pin<Box<Sleep>>> = None;
    loop {
        // Nothing is aborted that does not drain.
        let stop = if closing { &shared.abort } else { shared.drain.draining() };
        tokio::select! {
            biased;
            // Before the connection, so that an answer that the drain itself brings about says `connection: close`.
            () = stop.cancelled() => {
                if closing {
                    return;
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            result = connection.as_mut() => {
                if let Err(error) = result {
                    // Of the peer's making, and none of our operator's business.
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            why = activity.overdue(&shared.options), if last_call.is_none() => {
                match why {
                    Overdue::Head => {
                        tracing::debug!("connection cut: no complete request head in time");
                        return shared.cut("head");
                    }
                    Overdue::Idle => {
                        last_call = Some(Box::pin(tokio::time::sleep(shared.options.idle_timeout)));
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
            () = ended(&mut last_call) => return shared.cut("idle"),
        }
    }
}

async fn ended(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}

/// What the peer speaks; `None` when it has not said so in time, or the service stops first.
async fn detect<Io: AsyncRead + Unpin>(
    shared: &Shared,
    activity: &Activity,
    io: Tracked<Io>,
) -> Option<(Version, Prefixed<Tracked<Io>>)> {
    tokio::select! {
        biased;
        // Nothing has been asked yet, so nobody waits for an answer.
        () = shared.drain.draining().cancelled() => None,
        detected = version::detect(io) => {
            detected.inspect_err(|error| tracing::debug!(%error, "connection ended")).ok()
        }
        _ = activity.overdue(&shared.options) => {
            tracing::debug!("connection cut: no request in time");
            shared.cut("head");
            None
        }
    }
}

/// The bytes of a request's head, about as HTTP/1.1 writes them.
fn head_size<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len()) + uri.host().map_or(0, str::len);
    request.headers().iter().fold(target, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}

async fn handshake<T: Transport>(shared: &Shared, transport: &T, socket: Socket) -> Option<T::Io> {
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
