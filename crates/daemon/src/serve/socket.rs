//! An accepted socket that does not wait forever for a peer that does not read.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Shared;

/// An accepted socket.
///
/// A write fails with [`TimedOut`](io::ErrorKind::TimedOut) when the kernel's send buffer has been full for
/// [`Options::write_timeout`](super::Options::write_timeout) and nothing of it has reached the peer. While there is
/// nothing to send (a long poll that waits), no time runs. It lies below TLS and stays with a connection that is
/// upgraded, so that both are guarded.
#[derive(Debug)]
pub struct Socket {
    socket: TcpStream,
    shared: Arc<Shared>,
    /// Runs while a write waits for the peer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(socket: TcpStream, shared: Arc<Shared>) -> Self {
        // Answers are small and waited for; the only error is that the peer is gone already, which the next read tells.
        let _ = socket.set_nodelay(true);
        Self { socket, shared, timer: None }
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    fn timeout(&self) -> Duration {
        self.shared.options.write_timeout
    }

    /// The answer of a write of `buf`, when the kernel would not take it before.
    fn waiting(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let timeout = self.timeout();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // The kernel wakes writers when a third of the buffer is free, which takes a slow but honest peer longer than
        // any time-out; it takes bytes as soon as anything is free.
        match nix::unistd::write(&self.socket, buf) {
            Ok(count) => {
                self.timer = None;
                Poll::Ready(Ok(count))
            }
            Err(nix::Error::EAGAIN) => {
                tracing::debug!("connection cut: the peer does not read");
                self.shared.cut("write");
                // Once: a writer that comes again has to wait again.
                self.timer = None;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
            }
            Err(nix::Error::EINTR) => {
                timer.as_mut().reset(Instant::now());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(cx, buf) {
            Poll::Pending => self.waiting(cx, buf),
            ready => {
                self.timer = None;
                ready
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write_vectored(cx, bufs) {
            Poll::Pending => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                self.waiting(cx, first)
            }
            ready => {
                self.timer = None;
                ready
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
