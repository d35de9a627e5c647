//! Which HTTP a peer speaks, told by its first bytes.
//!
//! Hyper-util can tell too, but hands the bytes on alone: hyper then makes room for a whole read behind them and keeps a
//! buffer of twice the size for as long as the connection lives. Here they come with what follows, in one read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How every connection of HTTP/2 begins (RFC 9113, section 3.4). No request of HTTP/1.1 does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Reads until it is clear what the peer speaks; a peer that ends before speaks HTTP/1.1, which knows what to say to that.
pub(super) async fn detect<Io: AsyncRead + Unpin>(mut io: Io) -> io::Result<(Version, Prefixed<Io>)> {
    let mut prefix = Box::new(Prefix::default());
    let version = std::future::poll_fn(|cx| prefix.poll_fill(cx, Pin::new(&mut io))).await?;
    let prefix = (prefix.filled > 0).then_some(prefix);
    Ok((version, Prefixed { io, prefix }))
}

/// The bytes that were read to know the version.
#[derive(Debug, Default)]
struct Prefix {
    bytes: [u8; PREFACE.len()],
    filled: usize,
    given: usize,
}

impl Prefix {
    fn poll_fill<Io: AsyncRead>(&mut self, cx: &mut Context<'_>, mut io: Pin<&mut Io>) -> Poll<io::Result<Version>> {
        while self.filled < PREFACE.len() {
            let mut buffer = ReadBuf::new(&mut self.bytes[self.filled..]);
            ready!(io.as_mut().poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            self.filled += count;
            if count == 0 || self.bytes[..self.filled] != PREFACE[..self.filled] {
                return Poll::Ready(Ok(Version::Http1));
            }
        }
        Poll::Ready(Ok(Version::Http2))
    }
}

/// A stream from which the first bytes were read already; its first read gives them again, and what has come since.
#[derive(Debug)]
pub(super) struct Prefixed<Io> {
    io: Io,
    /// `None` once they were given.
    prefix: Option<Box<Prefix>>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Prefixed<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, prefix } = &mut *self;
        let Some(bytes) = prefix.as_mut() else { return Pin::new(io).poll_read(cx, buf) };
        let count = buf.remaining().min(bytes.filled - bytes.given);
        buf.put_slice(&bytes.bytes[bytes.given..bytes.given + count]);
        bytes.given += count;
        if bytes.given < bytes.filled {
            return Poll::Ready(Ok(()));
        }
        *prefix = None;
        if buf.remaining() > 0 {
            // There is something to give already: that no more has come is no reason to wait, and an error or the end
            // comes again with the next read.
            let _ = Pin::new(io).poll_read(cx, buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Prefixed<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// What is detected, and the stream behind it, when the peer writes these pieces one by one and ends.
    async fn detected(pieces: &[&[u8]]) -> (Version, Vec<u8>) {
        let (mut peer, io) = duplex(1024);
        let write = async {
            for piece in pieces {
                peer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(peer);
        };
        let read = async {
            let (version, mut io) = detect(io).await.unwrap();
            let mut all = Vec::new();
            io.read_to_end(&mut all).await.unwrap();
            (version, all)
        };
        let ((), read) = tokio::join!(write, read);
        read
    }

    #[tokio::test]
    async fn no_byte_is_lost_whatever_comes_in_however_many_pieces() {
        let one = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let two = [&PREFACE[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
        for (bytes, version) in [
            (&one[..], Version::Http1),
            (&two[..], Version::Http2),
            // The beginning of a preface, but no more of it.
            (&b"PRI * HTTP/1.1\r\n\r\n"[..], Version::Http1),
            (&b"PRI"[..], Version::Http1),
            (&b""[..], Version::Http1),
        ] {
            assert_eq!(detected(&[bytes]).await, (version, bytes.to_vec()));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(detected(&single).await, (version, bytes.to_vec()));
        }
    }

    #[tokio::test]
    async fn what_has_come_by_then_is_in_the_first_read() {
        let (mut peer, io) = duplex(1024);
        let request = [b'x'; 300];
        peer.write_all(&request).await.unwrap();
        let (_, mut io) = detect(io).await.unwrap();
        let mut buffer = [0; 8192];
        assert_eq!(io.read(&mut buffer).await.unwrap(), request.len());
        // And a read does not wait for more than what was read already.
        let (mut peer, io) = duplex(1024);
        peer.write_all(b"G").await.unwrap();
        let (_, mut io) = detect(io).await.unwrap();
        assert_eq!(io.read(&mut buffer).await.unwrap(), 1);
    }
}
