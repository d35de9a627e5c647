//! hyper and nothing else.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{Parking, WAKE};

/// hyper's smallest buffer for reading a head.
const BUFFER: usize = 16 * 1024;

pub(super) async fn serve(listener: TcpListener, http2: bool) -> anyhow::Result<()> {
    let parking = Parking::default();
    let tasks = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let io = TokioIo::new(socket);
        let parking = parking.clone();
        let service = service_fn(move |request| answer(parking.clone(), request));
        if http2 {
            let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
            tasks.spawn(async move { drop(connection.await) });
        } else {
            // Without the timer for heads, which would only make it larger.
            let mut builder = http1::Builder::new();
            let connection = builder.header_read_timeout(None).max_buf_size(BUFFER).serve_connection(io, service);
            tasks.spawn(async move { drop(connection.await) });
        }
    }
}

async fn answer(parking: Parking, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        return Ok(Response::new(Full::from(parking.open().to_string())));
    }
    let wake = request.uri().path() == WAKE;
    // A body that breaks off ends the connection, and this with it.
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if wake {
        let status = if parking.wake(body) { StatusCode::OK } else { StatusCode::NOT_FOUND };
        return Ok(with_status(status, Bytes::new()));
    }
    drop(body);
    Ok(match parking.park().await {
        Some(word) => with_status(StatusCode::OK, word),
        None => with_status(StatusCode::NO_CONTENT, Bytes::new()),
    })
}

fn with_status(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
