//! Where a request comes from, as the audit log tells it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, MatchedPath};
use http::request::Parts;
use http::{Extensions, HeaderValue};
use startline_daemon::ClientIp;
use startline_daemon::trace::TraceContext;

/// The id under which a request is answered, in its extensions.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub HeaderValue);

/// A request's sender and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The client, which may stand behind proxies.
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
    /// Method and path as the router knows it, such as `GET /api/v1/jobs/{id}`.
    pub route: Cow<'static, str>,
    /// The request's span, where it is sampled.
    pub trace: Option<TraceContext>,
}

impl Origin {
    pub(crate) fn of(parts: &Parts) -> Self {
        let path = parts.extensions.get::<MatchedPath>().map_or_else(|| parts.uri.path(), MatchedPath::as_str);
        let id = parts.extensions.get::<RequestId>().and_then(|RequestId(id)| id.to_str().ok());
        Self::new(format!("{} {path}", parts.method).into(), &parts.extensions, id)
    }

    pub(crate) fn new(route: Cow<'static, str>, extensions: &Extensions, request_id: Option<&str>) -> Self {
        Self {
            address: Self::address_in(extensions),
            request_id: request_id.map(str::to_owned),
            route,
            trace: extensions.get().copied(),
        }
    }

    /// The client's address, of a request with these extensions.
    pub(crate) fn address_in(extensions: &Extensions) -> Option<IpAddr> {
        let client = extensions.get::<ClientIp>().map(|ClientIp(address)| *address);
        let peer = || extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
        client.or_else(peer)
    }
}
