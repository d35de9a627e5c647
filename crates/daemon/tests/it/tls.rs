//! HTTPS over real sockets.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use startline_daemon::{Drain, Listen, Options, Report, Tls};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::harness::{Authority, Client, SHORT, Server, eventually, patient, soon, tls_connect};

const INTERVAL: Duration = Duration::from_millis(5);

async fn start(listen: Listen, options: Options) -> Server {
    let router =
        Router::new().route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }));
    Server::start_listening(listen, Drain::new(), router, options).await
}

#[tokio::test]
async fn the_client_chooses_the_version_of_http() {
    let authority = Authority::new();
    let server = start(authority.listen(), patient()).await;

    for alpn in [&["http/1.1"][..], &[]] {
        let mut client = authority.connect(&server, "localhost", alpn).await;
        let own = client.0.get_ref().0.local_addr().unwrap().to_string();
        let response = client.get("/peer").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(&own), "{response}");
    }

    let client = authority.connect(&server, "127.0.0.1", &["http/1.1", "h2"]).await;
    assert_eq!(client.0.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client.0)).await.unwrap();
    let connection = TaskTracker::new().spawn(connection);
    let request = Request::get("https://localhost/peer").body(Body::empty()).unwrap();
    let response = soon("a response", sender.send_request(request)).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    response.into_body().collect().await.unwrap();

    let report = server.stop().await;
    assert_eq!(report, Report { connections: 3, requests: 3, ..Report::default() });
    soon("the goodbye", connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_takes_the_certificate_who_does_not_trust_the_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = start(authority.listen(), patient()).await;
    for (ca, name) in [(&other.ca, "localhost"), (&authority.ca, "example.com")] {
        let error = tls_connect(&server, ca, name, &[]).await.err().expect("refused");
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    }
    tls_connect(&server, &authority.ca, "::1", &[]).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_drain_takes_leave_as_tls_wants_it() {
    let authority = Authority::new();
    let server = start(authority.listen(), patient()).await;
    let mut client = authority.connect(&server, "localhost", &[]).await;
    client.get("/peer").await;
    assert_eq!(server.stop().await.aborted, 0);
    // Without the goodbye, this would be an error.
    assert_eq!(soon("the end", client.0.read(&mut [0; 16])).await.unwrap(), 0);
}

#[tokio::test]
async fn those_who_do_not_speak_tls_stall_nobody() {
    let authority = Authority::new();
    let server = start(authority.listen(), Options { handshake_timeout: 5 * SHORT, ..patient() }).await;
    let begin = Instant::now();
    let mut silent = server.connect().await;
    let mut plain = server.connect().await;
    plain.send("GET /peer HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(!plain.rest().await.contains("200 OK"));
    let mut good = authority.connect(&server, "localhost", &[]).await;
    assert!(good.get("/peer").await.starts_with("HTTP/1.1 200 OK\r\n"));
    silent.rest().await;
    assert!(begin.elapsed() >= 5 * SHORT);
    assert_eq!(server.stop().await.cut_slow, 1);
}

/// Two files that an operator replaces.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.replace();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tls(&self) -> Tls {
        Tls::from_files(self.path("cert.pem"), self.path("key.pem")).unwrap().reload_every(INTERVAL)
    }

    /// Puts another pair there; the certificate is its own authority.
    fn replace(&self) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
    }

    /// Whether a new connection meets the certificate that is in the file now.
    async fn is_served(&self, server: &Server) -> bool {
        tls_connect(server, &self.path("cert.pem"), "localhost", &[]).await.is_ok()
    }
}

async fn served(files: &Files, server: &Server) {
    soon("the new certificate", async {
        while !files.is_served(server).await {
            tokio::time::sleep(INTERVAL).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_replaced_certificate_is_served_without_a_restart() {
    let files = Files::new();
    let server = start(Listen::Tls(files.tls()), patient()).await;
    let mut old = tls_connect(&server, &files.path("cert.pem"), "localhost", &[]).await.unwrap();
    old.get("/peer").await;
    files.replace();
    served(&files, &server).await;
    assert!(old.get("/peer").await.starts_with("HTTP/1.1 200 OK\r\n"), "connections that are open live on");
    server.stop().await;
}

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// One for all tests: whether a line is logged at all is decided once, whoever comes to it first.
    fn get() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
            log
        })
    }

    /// How many lines have both.
    fn count(&self, text: &str, path: &Path) -> usize {
        let path = path.display().to_string();
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text) && line.contains(&path)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_broken_new_certificate_keeps_the_old_one_and_is_logged_once() {
    let log = Log::get();
    let files = Files::new();
    let server = start(Listen::Tls(files.tls()), patient()).await;
    let old = files.path("old.pem");
    fs::copy(files.path("cert.pem"), &old).unwrap();
    let complaints = || log.count("the new TLS certificate cannot be used", files.dir.path());

    fs::write(files.path("cert.pem"), "half a certificate").unwrap();
    eventually("the complaint", || complaints() == 1).await;
    // It is looked at many times more.
    tokio::time::sleep(40 * INTERVAL).await;
    assert_eq!(complaints(), 1);
    tls_connect(&server, &old, "localhost", &[]).await.unwrap();

    fs::remove_file(files.path("cert.pem")).unwrap();
    eventually("another complaint about something else", || complaints() == 2).await;

    files.replace();
    served(&files, &server).await;
    // A pair is not replaced at once; that its halves do not fit for a moment may have been seen.
    assert!((2..=3).contains(&complaints()));
    // It is served a moment before it is logged.
    eventually("the note", || log.count("the TLS certificate was replaced", files.dir.path()) == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_plain_listener_serves_plain_http() {
    let server = start(None.into(), patient()).await;
    let mut client: Client = server.connect().await;
    assert!(client.get("/peer").await.starts_with("HTTP/1.1 200 OK\r\n"));
    server.stop().await;
}
