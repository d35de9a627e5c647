//! Opens connections: straight, through a proxy, with or without TLS.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};

use super::{BoxError, Options, ProxyRules, roots};
use crate::error::Error;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// From an address to a connection that carries requests for it.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: Tcp,
    timeout: Duration,
    extra_ca: Option<PathBuf>,
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Connector {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        // Polls and log lines are small and must not wait for more.
        http.set_nodelay(true);
        // A held poll whose peer vanished without a word should not look alive for hours.
        http.set_keepalive(Some(Duration::from_secs(30)));
        http.set_keepalive_interval(Some(Duration::from_secs(10)));
        http.set_keepalive_retries(Some(3));
        let tls = OnceLock::new();
        if let Some(path) = &options.extra_ca {
            let config = roots::client_config(Some(path))?;
            tls.get_or_init(|| config);
        }
        Ok(Self {
            tcp: Tcp { http, proxies: ProxyRules::new(&options.proxies)? },
            timeout: options.connect_timeout,
            extra_ca: options.extra_ca.clone(),
            tls: Arc::new(tls),
        })
    }

    pub(super) fn proxies(&self) -> ProxyRules {
        self.tcp.proxies.clone()
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let config = roots::client_config(self.extra_ca.as_deref())?;
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Stream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        let timeout = self.timeout;
        Box::pin(async move {
            let connecting = async move {
                if uri.scheme() == Some(&http::uri::Scheme::HTTPS) {
                    HttpsConnector::from((this.tcp.clone(), this.tls()?)).oneshot(uri).await
                } else {
                    this.tcp.oneshot(uri).await.map(MaybeHttpsStream::Http)
                }
            };
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {} s", timeout.as_secs_f32()),
                )
                .into()),
            }
        })
    }
}

/// TCP to the address itself or, where the rules say so, to or through a proxy.
#[derive(Clone)]
struct Tcp {
    http: HttpConnector,
    proxies: ProxyRules,
}

impl Service<Uri> for Tcp {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting<Stream>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { http, proxies } = self.clone();
        Box::pin(async move {
            let Some(proxy) = proxies.intercept(&uri) else {
                let tcp = http.oneshot(uri).await?;
                return Ok(Stream { tcp, proxied: false });
            };
            if uri.scheme() == Some(&http::uri::Scheme::HTTPS) {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), http);
                if let Some(credentials) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(credentials.clone());
                }
                let tcp = tunnel.oneshot(uri).await?;
                Ok(Stream { tcp, proxied: false })
            } else {
                let tcp = http.oneshot(proxy.uri().clone()).await?;
                Ok(Stream { tcp, proxied: true })
            }
        })
    }
}

/// A TCP connection that knows whether a proxy reads the requests on it, which must then name the whole address.
pub(super) struct Stream {
    tcp: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.tcp.connected().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }
}
