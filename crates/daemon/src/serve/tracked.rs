//! The byte stream of a connection, which carries what must end when the connection ends.
//!
//! An upgraded connection (a WebSocket) leaves hyper and the connection's task; the place under the connection limit,
//! the count of the drain and the abort must go with it, and therefore live here.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Open;
use super::activity::Activity;

/// The place under the connection limit, the count of open connections, and the drain's count.
pub(super) type Held = (OwnedSemaphorePermit, Open, TaskTrackerToken);

pub(super) struct Tracked<Io> {
    io: Io,
    activity: Activity,
    abort: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Dropped with the stream, wherever that is.
    _held: Held,
}

impl<Io> Tracked<Io> {
    pub(super) fn new(io: Io, activity: Activity, abort: CancellationToken, held: Held) -> Self {
        Self { io, activity, abort: Box::pin(abort.cancelled_owned()), _held: held }
    }

    /// The answer of an operation that would wait: an error once the connection is aborted.
    fn unless_aborted<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.abort.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops")))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Tracked<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > before {
                    self.activity.received();
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.unless_aborted(cx),
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Tracked<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Pending => self.unless_aborted(cx),
            ready => ready,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.unless_aborted(cx),
            ready => ready,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Pending => self.unless_aborted(cx),
            ready => ready,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Pending => self.unless_aborted(cx),
            ready => ready,
        }
    }
}

impl<Io> fmt::Debug for Tracked<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").field("activity", &self.activity).finish_non_exhaustive()
    }
}
