//! The peer: hyper and nothing else, parking the same requests.
//!
//! It reads the body, drops the request, and waits for a word or a time-out, as anyone would write it. `GET /open` tells
//! how many requests are parked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstream::println;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::cli::BareHyperArgs;
use crate::descriptors;

/// How long a request is parked at most.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Parking {
    next: u64,
    parked: HashMap<u64, oneshot::Sender<()>>,
}

type Shared = Arc<Mutex<Parking>>;

/// Takes the request out of the parking when it ends, however it ends.
struct Place {
    shared: Shared,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared).parked.remove(&self.number);
    }
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Parking> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn execute(args: BareHyperArgs) -> anyhow::Result<ExitCode> {
    descriptors::raise_limit()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("listening: {}", listener.local_addr()?);
    let shared = Shared::default();
    let tasks = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let io = TokioIo::new(socket);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(Arc::clone(&shared), request));
        if args.http2 {
            let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
            tasks.spawn(async move { drop(connection.await) });
        } else {
            // Without the timer for heads, which would only make it larger.
            let mut builder = http1::Builder::new();
            let connection = builder.header_read_timeout(None).serve_connection(io, service);
            tasks.spawn(async move { drop(connection.await) });
        }
    }
}

async fn answer(shared: Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let open = lock(&shared).parked.len();
        return Ok(Response::new(Full::from(open.to_string())));
    }
    // A body that breaks off ends the connection, and this with it.
    drop(request.into_body().collect().await);
    let (sender, receiver) = oneshot::channel();
    let place = {
        let mut parking = lock(&shared);
        parking.next += 1;
        let number = parking.next;
        parking.parked.insert(number, sender);
        Place { shared: Arc::clone(&shared), number }
    };
    drop(tokio::time::timeout(TIMEOUT, receiver).await);
    drop(place);
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
