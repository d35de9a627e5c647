//! HTTP or HTTPS, chosen when the process runs.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Tls, TlsStream};
use crate::serve::{Socket, Transport};

/// What a listener speaks.
#[derive(Clone, Debug, Default)]
pub enum Listen {
    /// HTTP on the bare socket.
    #[default]
    Plain,
    /// HTTPS.
    Tls(Tls),
}

impl Listen {
    /// `http` or `https`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls(_) => "https",
        }
    }
}

impl From<Option<Tls>> for Listen {
    fn from(tls: Option<Tls>) -> Self {
        tls.map_or(Self::Plain, Self::Tls)
    }
}

/// The byte stream of a [`Listen`].
#[derive(Debug)]
pub enum Stream {
    /// The socket itself.
    Plain(Socket),
    /// Boxed, because it is large and the other is not.
    Tls(Box<TlsStream<Socket>>),
}

impl Transport for Listen {
    type Io = Stream;

    async fn handshake(&self, socket: Socket) -> io::Result<Stream> {
        match self {
            Self::Plain => Ok(Stream::Plain(socket)),
            Self::Tls(tls) => Ok(Stream::Tls(Box::new(tls.handshake(socket).await?))),
        }
    }

    async fn maintain(&self) {
        if let Self::Tls(tls) = self {
            tls.maintain().await;
        }
    }
}

macro_rules! either {
    ($stream:expr, $io:ident => $result:expr) => {
        match $stream.get_mut() {
            Stream::Plain($io) => {
                let $io = Pin::new($io);
                $result
            }
            Stream::Tls($io) => {
                let $io = Pin::new($io);
                $result
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}
