//! A server that answers as it is told, and remembers what it was asked.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};
use startline_client::{Options, Retry, Transport};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Stops when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: JoinSet<()>,
}

impl Server {
    /// Answers the `n`th request, from 0, with `answer(n, request)`.
    pub(crate) async fn start<F, Fut>(answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answer).await
    }

    pub(crate) async fn start_at<F, Fut>(address: SocketAddr, answer: F) -> Self
    where
        F: Fn(usize, Seen) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let answer = Arc::new(move |n, seen| -> Answer { Box::pin(answer(n, seen)) });
        let remembered = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| {
            let (remembered, answer) = (Arc::clone(&remembered), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
                let request = Seen { method: head.method, uri: head.uri, headers: head.headers, body };
                let n = {
                    let mut remembered = remembered.lock().unwrap();
                    remembered.push(request.clone());
                    remembered.len() - 1
                };
                answer(n, request).await
            }
        });
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) fn transport() -> Transport {
    Transport::new(&Options::default()).unwrap()
}

/// As many tries as `times` more, without the waiting of production.
pub(crate) fn quick(times: usize) -> Retry {
    let milli = std::time::Duration::from_millis(1);
    Retry { min_delay: milli, max_delay: 4 * milli, max_times: Some(times) }
}

pub(crate) fn answer(status: u16, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

pub(crate) fn empty(status: u16) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

pub(crate) fn problem(status: u16, kind: &str) -> Response {
    problem_with(status, &json!({ "type": kind, "title": format!("told {kind}"), "status": status }))
}

pub(crate) fn problem_with(status: u16, body: &Value) -> Response {
    let mut response = answer(status, body);
    response.headers_mut().insert("content-type", "application/problem+json".parse().unwrap());
    response
}

/// An answer that breaks off in the middle of its body.
pub(crate) fn cut(status: u16, content: &str) -> Response {
    use futures_util::StreamExt as _;
    let content = bytes::Bytes::copy_from_slice(content.as_bytes());
    let pieces = futures_util::stream::iter([Ok(content)]).chain(futures_util::stream::once(async {
        // What was written goes out when the body has nothing more for the moment.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut in the middle"))
    }));
    let body = Body::from_stream(pieces);
    Response::builder().status(status).body(body).unwrap()
}
