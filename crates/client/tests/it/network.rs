//! TLS and proxies, as far as they are this crate's doing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use startline_client::{ApiClient, Error, Options, Proxies, Transport};
use startline_protocol::token::ApiToken;

use crate::script::{Server, empty};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name)
}

/// Answers one request on each of `connections` TLS connections.
fn tls_server(connections: usize) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_file(data("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data("server.key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for _ in 0..connections {
            let (tcp, _) = listener.accept().unwrap();
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, tcp);
            // A client that does not trust this server ends the handshake.
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        }
    });
    address
}

/// A proxy that lets one CONNECT through, and gives the request's head.
fn tunnel(target: SocketAddr) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let head = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&head);
    thread::spawn(move || {
        let (mut near, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            near.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        *heard.lock().unwrap() = String::from_utf8(request).unwrap();
        let mut far = TcpStream::connect(target).unwrap();
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut near_reader, mut far_writer) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let up = thread::spawn(move || drop(std::io::copy(&mut near_reader, &mut far_writer)));
        let _ = std::io::copy(&mut far, &mut near);
        drop(near);
        let _ = up.join();
    });
    (address, head)
}

fn client(options: &Options, url: &str) -> ApiClient {
    ApiClient::new(Transport::new(options).unwrap(), url, ApiToken::parse("slp_x").unwrap()).unwrap()
}

#[tokio::test]
async fn a_server_with_a_certificate_of_the_extra_authority_is_trusted_and_only_then() {
    let address = tls_server(2);
    let url = format!("https://localhost:{}", address.port());
    let trusting = Options { extra_ca: Some(data("ca.pem")), ..Options::default() };
    client(&trusting, &url).health().await.unwrap();
    let error = client(&Options::default(), &url).health().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. } | Error::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn https_goes_through_a_tunnel_of_the_proxy() {
    let (proxy, head) = tunnel(tls_server(1));
    let proxies = Proxies { https: Some(format!("http://user:pw@{proxy}")), ..Proxies::default() };
    let options = Options { extra_ca: Some(data("ca.pem")), proxies, ..Options::default() };
    client(&options, "https://localhost:7443").health().await.unwrap();
    let head = head.lock().unwrap().to_lowercase();
    assert!(head.starts_with("connect localhost:7443 http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwdw=="), "{head}");
}

#[tokio::test]
async fn http_is_asked_of_the_proxy_by_whole_address_unless_the_host_is_excepted() {
    let proxy = Server::start(|_, _| async { empty(200) }).await;
    let server = Server::start(|_, _| async { empty(200) }).await;
    let proxies = Proxies {
        http: Some(format!("http://user:pw@{}", proxy.address)),
        none: Some("127.0.0.0/8".into()),
        ..Proxies::default()
    };
    let options = Options { proxies, ..Options::default() };
    client(&options, "http://service.invalid/base").health().await.unwrap();
    client(&options, &server.url()).health().await.unwrap();
    let seen = proxy.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].uri.to_string(), "http://service.invalid/base/readyz");
    assert_eq!(seen[0].header("proxy-authorization"), "Basic dXNlcjpwdw==");
    assert_eq!(server.seen().len(), 1);
    assert_eq!(server.seen()[0].header("proxy-authorization"), "");
}
