//! An S3-compatible object store for tests: another project's server, on a socket of its own, that checks signatures. It
//! can be made to fail.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

/// The one bucket.
pub(crate) const BUCKET: &str = "blobs";
/// The one key's name.
pub(crate) const KEY: &str = "startline";
/// The one key.
pub(crate) const SECRET: &str = "quite-secret";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with this status, and not done.
    Answer(u16),
    /// It is never answered.
    Silence,
    /// It is done, and the connection is cut instead of an answer.
    LostAnswer,
    /// The connection is cut after so many bytes of the request's body.
    CutRequest(usize),
    /// The connection is cut after so many bytes of the answer's body.
    CutAnswer(usize),
}

#[derive(Debug, Default)]
struct State {
    /// Which requests fail once: method, a part of the address, how.
    once: Vec<(Method, &'static str, Fault)>,
    /// How all fail.
    always: Option<Fault>,
    /// What was asked, without signatures.
    asked: Vec<String>,
}

/// A server that runs until it is dropped.
pub(crate) struct ObjectStore {
    root: tempfile::TempDir,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<tokio::sync::oneshot::Sender<Infallible>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ObjectStore {
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<Infallible>();
        let serving = serve(listener, service, Arc::clone(&state));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        });
        Self { root, address, state, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The files of the objects.
    pub(crate) fn objects(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// Lets the next request fail that has this method, and this in its address.
    pub(crate) fn fail_once(&self, method: Method, part: &'static str, fault: Fault) {
        self.state.lock().unwrap().once.push((method, part, fault));
    }

    /// Lets all requests fail, or none.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.state.lock().unwrap().always = fault;
    }

    /// What was asked since the last look: method, path, and those parameters that are no signature.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(listener: std::net::TcpListener, service: S3Service, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (service, state) = (service.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let service = service_fn(move |request| answer(service.clone(), Arc::clone(&state), request));
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await);
        });
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

async fn answer(service: S3Service, state: Arc<Mutex<State>>, mut request: Request<Incoming>) -> io::Result<Answer> {
    let fault = {
        let mut state = state.lock().unwrap();
        let (method, uri) = (request.method().clone(), request.uri().to_string());
        let shown = uri.split(['?', '&']).filter(|part| !part.starts_with("X-Amz-")).collect::<Vec<_>>().join(" ");
        state.asked.push(format!("{method} {shown}"));
        let place = state.once.iter().position(|(known, part, _)| *known == method && uri.contains(part));
        place.map(|place| state.once.remove(place).2).or(state.always)
    };
    let cut = || io::Error::from(io::ErrorKind::ConnectionReset);
    match fault {
        Some(Fault::Answer(status)) => {
            // An answer before the end of the request may be lost to the client, which is still sending.
            while let Some(Ok(_)) = request.body_mut().frame().await {}
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let mut answer = Response::new(body);
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(answer);
        }
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::CutRequest(most)) => {
            let mut come = 0;
            while come < most {
                let Some(Ok(frame)) = request.body_mut().frame().await else { break };
                come += frame.into_data().map_or(0, |bytes| bytes.len());
            }
            return Err(cut());
        }
        Some(Fault::LostAnswer | Fault::CutAnswer(_)) | None => {}
    }
    let answer =
        service.call(request.map(s3s::Body::from)).await.map_err(|error| io::Error::other(format!("{error:?}")))?;
    let (head, body) = answer.into_parts();
    let body = body.map_err(io::Error::other).boxed_unsync();
    match fault {
        Some(Fault::LostAnswer) => {
            drop(body.collect().await);
            Err(cut())
        }
        Some(Fault::CutAnswer(left)) => Ok(Response::from_parts(head, Cut { body, left }.boxed_unsync())),
        _ => Ok(Response::from_parts(head, body)),
    }
}

/// A body that ends in the middle.
struct Cut {
    body: UnsyncBoxBody<Bytes, io::Error>,
    left: usize,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_ok(|frame| match frame.into_data() {
            Ok(mut bytes) => {
                bytes.truncate(self.left);
                self.left -= bytes.len();
                Frame::data(bytes)
            }
            Err(frame) => frame,
        })
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
