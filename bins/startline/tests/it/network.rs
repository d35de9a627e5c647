//! Between a runner and the service: proxies, TLS, authorities of one's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use startline_client::{ApiClient, Options, Proxies, Transport};
use startline_protocol::state::Conclusion;
use startline_protocol::token::ApiToken;

use crate::harness::{Service, eventually, run};

const HELLO: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hello\n";

/// Nothing resolves this name (RFC 6761, section 6.2): whoever reaches it was led there.
const NAME: &str = "startline.test";

/// A proxy that leads everybody to one address, whatever they ask for, and remembers what they asked.
struct Proxy {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (target, asked) = (Arc::<Mutex<Option<SocketAddr>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (to, heard) = (Arc::clone(&target), Arc::clone(&asked));
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let (to, heard) = (Arc::clone(&to), Arc::clone(&heard));
                // A client that goes away is none of our business.
                thread::spawn(move || lead(near, &to, &heard).ok());
            }
        });
        Self { address, target, asked }
    }

    /// The first line of what was first asked on each connection.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn lead(mut near: TcpStream, to: &Mutex<Option<SocketAddr>>, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        near.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let is_tunnel = line.starts_with("CONNECT ");
    heard.lock().unwrap().push(line);
    let target = to.lock().unwrap().ok_or_else(|| std::io::Error::other("nobody to lead to yet"))?;
    let mut far = TcpStream::connect(target)?;
    if is_tunnel {
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        far.write_all(&head)?;
    }
    let (mut near_reader, mut far_writer) = (near.try_clone()?, far.try_clone()?);
    let up = thread::spawn(move || {
        let copied = std::io::copy(&mut near_reader, &mut far_writer);
        drop(far_writer.shutdown(std::net::Shutdown::Write));
        copied
    });
    std::io::copy(&mut far, &mut near)?;
    drop(near.shutdown(std::net::Shutdown::Both));
    drop(up.join());
    Ok(())
}

/// A service that can be reached by [`NAME`] through the proxy alone.
async fn behind(proxy: &Proxy, scheme: &str, flags: &[&str]) -> Service {
    let url = format!("{scheme}://{NAME}");
    let mut service = Service::start(&[&["--public-url", &url], flags].concat());
    let port = eventually("the service says where it listens", async || {
        let errors = service.process.errors();
        let (_, rest) = errors.split_once("server.address=127.0.0.1:")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    })
    .await;
    *proxy.target.lock().unwrap() = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let address = format!("http://{}", proxy.address);
    let variable = if scheme == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    service.env.push((variable, address.clone()));
    let proxies = Proxies { http: Some(address.clone()), https: Some(address), none: None };
    let transport = Transport::new(&Options { proxies, extra_ca: service.ca.clone(), ..Options::default() }).unwrap();
    service.client = ApiClient::new(transport, &url, ApiToken::parse(service.token.clone()).unwrap()).unwrap();
    service
}

async fn executes_a_job(service: &Service) {
    let _runner = service.runner("one", &[]);
    let run = service.submit(HELLO).await;
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    let log = service.log(detail.jobs[0].id).await;
    assert!(log.lines().any(|line| line.ends_with("hello")), "{log}");
}

#[tokio::test]
async fn a_runner_behind_a_proxy_that_tunnels_executes_a_job() {
    let proxy = Proxy::start();
    let service = behind(&proxy, "https", &["--tls-self-signed"]).await;
    executes_a_job(&service).await;
    let asked = proxy.asked();
    // The test, the registration, the runner and its worker are processes of their own.
    assert!(asked.len() >= 4, "{asked:?}");
    assert!(asked.iter().all(|line| line == "CONNECT startline.test:443 HTTP/1.1"), "{asked:?}");
}

#[tokio::test]
async fn a_runner_behind_a_proxy_that_reads_along_executes_a_job() {
    let proxy = Proxy::start();
    let service = behind(&proxy, "http", &[]).await;
    executes_a_job(&service).await;
    let asked = proxy.asked();
    assert!(asked.len() >= 4, "{asked:?}");
    assert!(asked.iter().all(|line| line.contains(" http://startline.test/api/v1/")), "{asked:?}");
}

#[tokio::test]
async fn a_runner_that_trusts_the_services_own_authority_executes_a_job_and_another_is_told_what_is_missing() {
    let mut service = Service::start(&["--tls-self-signed"]);
    assert!(service.url.starts_with("https://127.0.0.1:"), "{}", service.url);
    executes_a_job(&service).await;
    assert_eq!(service.says(&["runners"]).code, Some(0));
    service.env.clear();
    let said = service.says(&["runners"]);
    assert!(said.code == Some(3) && said.err.contains("certificate"), "{said:?}");
    // The flag does what the variable does.
    let ca = service.ca.clone().unwrap();
    let said = service.says(&["runners", "--ca-file", ca.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_certificate_from_files_is_replaced_without_a_restart() {
    let authorities = [Service::start(&["--tls-self-signed"]), Service::start(&["--tls-self-signed"])];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("server.pem");
    let path = file.to_str().unwrap();
    let put = |number: usize| {
        let fresh = directory.path().join("fresh.pem");
        std::fs::copy(authorities[number].data.path().join("tls/server.pem"), &fresh).unwrap();
        std::fs::rename(fresh, &file).unwrap();
    };
    put(0);
    let service = Service::start(&["--tls-cert", path, "--tls-key", path]);
    let trusts = async |number: usize| {
        // A client of its own, so that there is a handshake.
        let options = Options { extra_ca: authorities[number].ca.clone(), ..Options::default() };
        let token = ApiToken::parse(service.token.clone()).unwrap();
        ApiClient::new(Transport::new(&options).unwrap(), &service.url, token).unwrap().health().await.is_ok()
    };
    assert!(trusts(0).await && !trusts(1).await);
    put(1);
    eventually("the new certificate is shown", async || trusts(1).await.then_some(())).await;
    assert!(!trusts(0).await);
}

#[test]
fn half_a_certificate_and_a_missing_one_are_named() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    for (flags, code, wanted) in [
        (&["--tls-cert", "/nowhere.pem"][..], 2, "--tls-key"),
        (&["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], 3, "/nowhere.pem"),
        (&["--trusted-proxies", "proxy.example.com"], 2, "is not a network"),
        (&["--listen", "0.0.0.0:0"], 2, "--tls-self-signed"),
    ] {
        let said = run(&[&["server", "--data-dir", data, "--listen", "127.0.0.1:0"][..3], flags].concat());
        assert!(said.code == Some(code) && said.err.contains(wanted), "{flags:?}: {said:?}");
    }
}

/// Asks for something with a wrong token, as a proxy at 127.0.0.1 would pass it on.
fn refused_for(service: &Service, client: &str) {
    let host = service.url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(host).unwrap();
    let request = format!(
        "GET /api/v1/runs HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-forwarded-for: {client}\r\n\
         authorization: Bearer slp_wrong\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn the_audit_log_has_the_client_behind_a_trusted_proxy_and_believes_nobody_else() {
    for (flags, wanted) in [(&["--trusted-proxies", "127.0.0.0/8"][..], "198.51.100.7"), (&[], "127.0.0.1")] {
        let service = Service::start(flags);
        refused_for(&service, "198.51.100.7");
        let seen = eventually("the refusal is in the audit log", async || {
            let page = service.client.audit_page(&Default::default(), None, None).await.unwrap();
            page.records.into_iter().find(|record| record.outcome.starts_with("refused"))
        })
        .await;
        assert_eq!(seen.address.as_deref(), Some(wanted), "{seen:?}");
    }
}
