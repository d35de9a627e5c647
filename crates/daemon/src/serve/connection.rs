//! One connection, from the handshake to its end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt as _};

use super::activity::{Activity, Overdue};
use super::answer::Answer;
use super::request_body::RequestBody;
use super::socket::Socket;
use super::streams::Streams;
use super::tracked::Tracked;
use super::{Open, Shared, Transport};

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
    let Some(io) = handshake(&shared, &transport, socket).await else { return };
    let activity = Activity::new();
    let io = Tracked::new(io, activity.clone(), shared.abort.clone(), (place, open, shared.tasks.token()));

    let options = &shared.options;
    let (max_head, max_headers) = (options.max_head, options.max_headers);
    let requests = (Arc::clone(&shared), activity.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, activity) = &requests;
        let in_flight = activity.request(request.version());
        // Hyper's own limits are about its memory: it counts fields on HTTP/1.1 alone, and lets a head pass that is
        // there before it has looked.
        let acceptable = request.headers().len() <= max_headers && head_size(&request) <= max_head;
        let answer = acceptable.then(|| {
            shared.request();
            let mut request = request.map(|body| RequestBody::new(body, Arc::clone(shared)));
            request.extensions_mut().insert(ConnectInfo(peer));
            service.clone().oneshot(request)
        });
        async move {
            let Some(answer) = answer else {
                let mut refusal = Response::new(Answer::new(Body::empty(), in_flight));
                *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                return Ok(refusal);
            };
            Ok::<_, S::Error>(answer.await?.map(|body| Answer::new(Body::new(body), in_flight)))
        }
    });

    // HTTP/2 counts 32 bytes more for each field (RFC 9113, 6.5.2).
    let max_list = max_head.saturating_add(max_headers.saturating_mul(32));
    let mut builder = Builder::new(Streams(Arc::clone(&shared)));
    let mut http1 = builder.http1();
    // `Activity` keeps the time of heads.
    http1.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(max_head.max(LEAST_BUFFER));
    // Above its own limit hyper allocates for each head.
    if max_headers != HYPERS_MAX_HEADERS {
        http1.max_headers(max_headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(u32::try_from(max_list).unwrap_or(u32::MAX));
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));

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

/// The bytes of a request's head, about as HTTP/1.1 writes them.
fn head_size<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len()) + uri.host().map_or(0, str::len);
    request.headers().iter().fold(target, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
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
