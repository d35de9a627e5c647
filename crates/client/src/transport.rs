//! The seam between the clients and the network.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::error::Error;

mod connect;
mod roots;

/// What a transport may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer, as it arrives.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// How the service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest time for a connection to stand, name look-up, proxy and TLS included.
    pub connect_timeout: Duration,
    /// A PEM file of certificate authorities that are trusted besides the system's.
    pub extra_ca: Option<PathBuf>,
    /// Proxies; none by default, because the environment is the caller's to read.
    pub proxies: Proxies,
    /// Sent as `User-Agent`.
    pub user_agent: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            extra_ca: None,
            proxies: Proxies::default(),
            user_agent: concat!("startline/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Values of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Proxy for `http:` addresses.
    pub http: Option<String>,
    /// Proxy for `https:` addresses.
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached without a proxy, separated by commas.
    pub none: Option<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A proxy's address may carry a password.
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("none", &self.none)
            .finish()
    }
}

/// Carries requests to a service and answers back. Clones are cheap and share connections.
#[derive(Clone)]
pub struct Transport {
    service: BoxCloneSyncService<Request<Bytes>, Response<ResponseBody>, BoxError>,
    user_agent: HeaderValue,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("user_agent", &self.user_agent).finish_non_exhaustive()
    }
}

impl Transport {
    /// The transport of production: pooled HTTP/1.1 and HTTP/2 connections, TLS where the address says `https`.
    ///
    /// Opens no connection. The system's certificate authorities are read at the first `https` request, so that a
    /// machine without any can still speak `http`.
    ///
    /// # Errors
    /// When `extra_ca` cannot be read, a proxy is no address, or the user agent cannot be a header.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let connector = connect::Connector::new(options)?;
        let proxies = connector.proxies();
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            // Shorter than the idle time-outs of common proxies and of our own server.
            .pool_idle_timeout(Duration::from_secs(45))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(20))
            .build(connector);
        let service = tower::service_fn(move |mut request: Request<Bytes>| {
            if let Some(credentials) = proxies.authorization(request.uri()) {
                request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, credentials);
            }
            client.request(request.map(Full::new))
        });
        let mut transport = Self::from_service(service);
        transport.user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| Error::invalid(format!("user agent {:?} cannot be a header", options.user_agent)))?;
        Ok(transport)
    }

    /// A transport over any service: the server's routes in process, a simulated network, one that injects faults.
    pub fn from_service<S, B>(service: S) -> Self
    where
        S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service
            .map_err(|error: S::Error| -> BoxError { error.into() })
            .map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        Self {
            service: BoxCloneSyncService::new(service),
            user_agent: HeaderValue::from_static(concat!("startline/", env!("CARGO_PKG_VERSION"))),
        }
    }

    pub(crate) const fn user_agent(&self) -> &HeaderValue {
        &self.user_agent
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, BoxError> {
        self.service.clone().oneshot(request).await
    }
}

/// So that a test can put itself between a client and the network: see [`Transport::from_service`].
impl Service<Request<Bytes>> for Transport {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        self.service.call(request)
    }
}

/// Which addresses go through which proxy.
#[derive(Clone)]
pub(crate) struct ProxyRules(Arc<hyper_util::client::proxy::matcher::Matcher>);

impl ProxyRules {
    fn new(proxies: &Proxies) -> Result<Self, Error> {
        for (name, value) in [("HTTP_PROXY", &proxies.http), ("HTTPS_PROXY", &proxies.https)] {
            // The matcher would silently go without a proxy whose address it cannot read or does not speak.
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty())
                && !value.parse::<http::Uri>().is_ok_and(|uri| {
                    uri.host().is_some() && uri.scheme().is_none_or(|scheme| *scheme == http::uri::Scheme::HTTP)
                })
            {
                return Err(Error::invalid(format!("{name} is not the address of a proxy, such as http://proxy:3128")));
            }
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let matcher = hyper_util::client::proxy::matcher::Matcher::builder()
            .http(text(&proxies.http))
            .https(text(&proxies.https))
            .no(text(&proxies.none))
            .build();
        Ok(Self(Arc::new(matcher)))
    }

    fn intercept(&self, uri: &http::Uri) -> Option<hyper_util::client::proxy::matcher::Intercept> {
        self.0.intercept(uri)
    }

    /// What a plain request must show to its proxy. Tunnels show it when they are dug.
    fn authorization(&self, uri: &http::Uri) -> Option<HeaderValue> {
        if uri.scheme() != Some(&http::uri::Scheme::HTTP) {
            return None;
        }
        self.intercept(uri)?.basic_auth().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_is_no_address_is_refused_by_name() {
        let proxies = Proxies { https: Some("socks5://host:1".into()), ..Proxies::default() };
        let error = Transport::new(&Options { proxies, ..Options::default() }).unwrap_err();
        assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
    }

    #[test]
    fn debug_output_has_no_proxy_password() {
        let proxies = Proxies { http: Some("http://user:hunter2@proxy:1".into()), ..Proxies::default() };
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }
}
