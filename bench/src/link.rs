//! A connection of hyper's client, for everything that is not measured itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

/// A way to the server, in the clear or within TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Any: AsyncRead + AsyncWrite + Send + Unpin> Wire for Any {}

/// Where a server is and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) http2: bool,
    /// Who is trusted, when it is spoken to within TLS.
    tls: Option<TlsConnector>,
}

impl Target {
    /// In the clear.
    pub(crate) const fn plain(address: SocketAddr, http2: bool) -> Self {
        Self { address, http2, tls: None }
    }

    /// Within TLS; the authority is a PEM file.
    pub(crate) fn tls(address: SocketAddr, http2: bool, authority: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Self { address, http2, tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Opens a connection from this address of loopback.
    pub(crate) async fn wire(&self, source: Ipv4Addr) -> anyhow::Result<Box<dyn Wire>> {
        let socket = TcpSocket::new_v4()?;
        // The port is chosen when both ends are known: those that the round before has just let go do not count.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind((source, 0).into()).with_context(|| format!("cannot connect from {source}"))?;
        let socket = socket.connect(self.address).await;
        let socket = socket.with_context(|| format!("cannot connect to {}", self.address))?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(socket)),
            Some(connector) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                Ok(Box::new(connector.connect(name, socket).await.context("no TLS was agreed")?))
            }
        }
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection, or under HTTP/2 a share of one.
pub(crate) struct Link {
    sender: Sender,
    address: SocketAddr,
    scheme: &'static str,
}

impl Link {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let io = TokioIo::new(target.wire(Ipv4Addr::LOCALHOST).await?);
        let Target { address, http2, ref tls } = *target;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tasks = TaskTracker::new();
        // The end of a connection is seen by the requests on it.
        let sender = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::Http1(sender)
        };
        Ok(Self { sender, address, scheme })
    }

    /// The same connection for another user; `None` when it cannot be shared.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                Some(Self { sender: Sender::Http2(sender.clone()), address: self.address, scheme: self.scheme })
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str, bearer: Option<&str>) -> anyhow::Result<(StatusCode, Bytes)> {
        self.send(Method::GET, path, &[], bearer, Bytes::new()).await
    }

    pub(crate) async fn post(
        &mut self,
        path: &str,
        bearer: Option<&str>,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        self.send(Method::POST, path, &[], bearer, body.into()).await
    }

    /// Sends a request and reads the answer to its end.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        bearer: Option<&str>,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = request.uri(path).header("host", self.address.to_string()).body(Full::new(body))?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                let request = request.uri(format!("{}://{}{path}", self.scheme, self.address)).body(Full::new(body))?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = response.status();
        let body = response.into_body().collect().await.context("an answer broke off")?.to_bytes();
        Ok((status, body))
    }
}
