//! A bound port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait in the kernel to be accepted (at most what the system allows).
const BACKLOG: u32 = 4096;

/// A port on which connections arrive.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// The port cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {}", explain(.source, .address))]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

fn explain(error: &io::Error, address: &SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} is in use by another process; stop that process, or choose another port (0 takes a free one)",
            address.port()
        ),
        io::ErrorKind::PermissionDenied if address.port() < 1024 => format!(
            "no permission for port {}; choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine has no address {}; use one that it has, or 0.0.0.0 (or [::]) for all of them",
            address.ip()
        ),
        _ => error.to_string(),
    }
}

impl Listener {
    /// Binds `address`; connections queue up from now on. Port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound; the text says what to do about it.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        Self::open(address).map_err(|source| BindError { address, source })
    }

    fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the connections of the process before.
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it: peers that vanish without a word are noticed in the end.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that is bound, with the real port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. After an error that is ours (no descriptors, no memory) it waits, longer each time, and
    /// tries again. Cancel safe.
    pub(super) async fn accept(&self) -> (TcpStream, SocketAddr) {
        const FIRST_WAIT: Duration = Duration::from_millis(5);
        const LONGEST_WAIT: Duration = Duration::from_secs(1);
        let mut wait = FIRST_WAIT;
        loop {
            match self.listener.accept().await {
                Ok(connection) => return connection,
                // The peer was gone before we came; the next one may be there already.
                Err(error) if is_of_the_connection(&error) => tracing::debug!(%error, "connection ended before accept"),
                Err(error) => {
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(%error, server.address = %self.address, wait_ms, "failed to accept a connection");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: io::ErrorKind, address: &str) -> String {
        BindError { address: address.parse().unwrap(), source: kind.into() }.to_string()
    }

    #[test]
    fn every_usual_reason_comes_with_its_remedy() {
        let denied = text(io::ErrorKind::PermissionDenied, "127.0.0.1:80");
        assert!(denied.contains("127.0.0.1:80") && denied.contains("port from 1024 up"), "{denied}");
        let absent = text(io::ErrorKind::AddrNotAvailable, "192.0.2.1:8080");
        assert!(absent.contains("no address 192.0.2.1") && absent.contains("0.0.0.0"), "{absent}");
    }
}
