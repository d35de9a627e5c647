//! Who the client is, behind proxies.
//!
//! A proxy that forwards a request says for whom, at the end of a list that the request may have brought along. So the
//! list is read from its end, for as long as whoever has added to it is one of the proxies that are trusted; what lies
//! before that may have been written by anybody.

mod forwarded;
mod networks;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use http::{HeaderMap, HeaderName, Request, header};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tower::{Layer, Service};

pub use networks::{Networks, NotANetwork};

/// The header in which the trusted proxies say whom they forward for.
///
/// One, because a proxy that writes the one passes the other on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, which nearly every proxy writes.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ProxyHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => header::FORWARDED,
        }
    }
}

/// Finds out the address of clients. A copy is the same; as a [`Layer`] it sets [`ClientIp`].
#[derive(Clone, Debug)]
pub struct ClientAddress {
    trusted: Arc<[IpNet]>,
    header: ProxyHeader,
}

/// The address of a request's client, in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientIp(pub IpAddr);

impl ClientAddress {
    /// Trusts what proxies in these networks say in `header`; without networks, a client is whoever connects.
    #[must_use]
    pub fn new(trusted: impl IntoIterator<Item = IpNet>, header: ProxyHeader) -> Self {
        Self { trusted: trusted.into_iter().collect(), header }
    }

    /// The address of the client whose request came from `peer` with `headers`.
    ///
    /// The last address of the list that is not a trusted proxy; `peer` itself if that is none. Where the list cannot
    /// be understood, the proxy that passed that part on stands for its clients. IPv4 addresses in IPv6's clothes
    /// (`::ffff:192.0.2.1`) are IPv4 addresses.
    #[must_use]
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.is_trusted(client) {
            return client;
        }
        for line in headers.get_all(self.header.name()).iter().rev() {
            let hops = match self.header {
                ProxyHeader::XForwardedFor => forwarded::x_forwarded_for(line.as_bytes()),
                ProxyHeader::Forwarded => forwarded::forwarded(line.as_bytes()),
            };
            for hop in hops.into_iter().rev() {
                let Some(address) = hop else { return client };
                client = address.to_canonical();
                if !self.is_trusted(client) {
                    return client;
                }
            }
        }
        client
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl<S> Layer<S> for ClientAddress {
    type Service = WithClientIp<S>;

    fn layer(&self, inner: S) -> WithClientIp<S> {
        WithClientIp { inner, addresses: self.clone() }
    }
}

/// Sets [`ClientIp`] on requests that have the `ConnectInfo<SocketAddr>` that [`serve`](crate::serve()) sets.
#[derive(Clone, Debug)]
pub struct WithClientIp<S> {
    inner: S,
    addresses: ClientAddress,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for WithClientIp<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
            let client = self.addresses.resolve(peer.ip(), request.headers());
            request.extensions_mut().insert(ClientIp(client));
        }
        self.inner.call(request)
    }
}
