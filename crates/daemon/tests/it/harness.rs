//! A server under test and a client that can misbehave.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::header::{HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use startline_daemon::serve::serve_with;
use startline_daemon::{Drain, Listen, Listener, Options, Report, Tls};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

/// No test waits longer than this for anything that should happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// A time-out that passes quickly.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// Time-outs so long that none of them passes in a test.
pub(crate) fn patient() -> Options {
    let hour = Duration::from_secs(3600);
    Options {
        handshake_timeout: hour,
        header_read_timeout: hour,
        write_timeout: hour,
        body_read_timeout: hour,
        idle_timeout: hour,
        drain_timeout: hour,
        ..Options::default()
    }
}

/// What should happen soon.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A server that runs in the background.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    task: JoinHandle<Report>,
}

impl Server {
    pub(crate) async fn start(router: Router, options: Options) -> Self {
        Self::start_with(Drain::new(), router, options).await
    }

    pub(crate) async fn start_with(drain: Drain, router: Router, options: Options) -> Self {
        Self::start_listening(Listen::Plain, drain, router, options).await
    }

    pub(crate) async fn start_listening(listen: Listen, drain: Drain, router: Router, options: Options) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr();
        Self::run(address, drain.clone(), serve_with(listener, listen, router, options, drain))
    }

    pub(crate) fn run(
        address: SocketAddr,
        drain: Drain,
        serving: impl Future<Output = Report> + Send + 'static,
    ) -> Self {
        Self { address, drain, task: TaskTracker::new().spawn(serving) }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Starts the drain and waits for its end.
    pub(crate) async fn stop(self) -> Report {
        self.drain.start();
        self.ended().await
    }

    /// Waits for the end of the drain.
    pub(crate) async fn ended(self) -> Report {
        soon("the end of the server", self.task).await.unwrap()
    }
}

/// A self-signed certificate for a server, and clients who trust its authority.
pub(crate) struct Authority {
    #[expect(dead_code, reason = "held for its drop")]
    dir: TempDir,
    pub(crate) ca: PathBuf,
    pub(crate) tls: Tls,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tls, ca) = Tls::self_signed(dir.path(), ["localhost"]).unwrap();
        Self { dir, ca, tls }
    }

    pub(crate) fn listen(&self) -> Listen {
        Listen::Tls(self.tls.clone())
    }

    /// Connects and shakes hands as `name`.
    pub(crate) async fn connect(&self, server: &Server, name: &str, alpn: &[&str]) -> Client<TlsStream<TcpStream>> {
        tls_connect(server, &self.ca, name, alpn).await.unwrap()
    }
}

/// Connects as a client that trusts the certificates in `ca`, and speaks the protocols in `alpn`.
pub(crate) async fn tls_connect(
    server: &Server,
    ca: &Path,
    name: &str,
    alpn: &[&str],
) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(ca).unwrap().map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(Client(soon("the handshake", connector.connect(name, socket)).await?))
}

/// A byte stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A peer that sends what it is told to.
pub(crate) struct Client<S = TcpStream>(pub(crate) S);

impl<S: Stream + 'static> Client<S> {
    pub(crate) fn boxed(self) -> Client<Box<dyn Stream>> {
        Client(Box::new(self.0))
    }
}

impl<S: Stream> Client<S> {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Asks for `path` and keeps the connection.
    pub(crate) async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        self.response().await
    }

    /// Reads one response with a `content-length`.
    pub(crate) async fn response(&mut self) -> String {
        let mut text = String::new();
        let whole = |text: &str| {
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
            (body.len() >= length).then_some(())
        };
        while whole(&text).is_none() {
            let mut byte = [0; 4096];
            let count = soon("a response", self.0.read(&mut byte)).await.unwrap();
            assert_ne!(count, 0, "the connection ended in the middle of {text:?}");
            text.push_str(std::str::from_utf8(&byte[..count]).unwrap());
        }
        text
    }

    /// Reads until the server closes the connection, however it does so.
    pub(crate) async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        let _ = soon("the end of the connection", self.0.read_to_end(&mut text)).await;
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Answers an upgrade to `echo`, and sends back what comes.
pub(crate) async fn echo_upgrade(request: Request<axum::body::Body>) -> Response<axum::body::Body> {
    TaskTracker::new().spawn(async move {
        let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut bytes = [0; 64];
        // Ends when the stream does, in order or by an abort.
        while let Ok(count @ 1..) = io.read(&mut bytes).await {
            if io.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
    });
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
    response.headers_mut().insert(HeaderName::from_static("connection"), HeaderValue::from_static("upgrade"));
    response
}

/// What a client sends to upgrade to `echo`.
pub(crate) const UPGRADE_TO_ECHO: &str =
    "GET /echo HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
