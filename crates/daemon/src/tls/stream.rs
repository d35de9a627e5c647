//! TLS on a byte stream, with no buffer kept while nothing is under way.
//!
//! A connection that waits for hours (a parked poll) should cost what its keys cost. rustls's own buffered connection keeps
//! the 4 KiB into which it read last; so this drives the unbuffered one ([`rustls::unbuffered`]), which leaves buffers to
//! its caller: what arrives is read into room on the stack, and only what cannot be passed on at once is kept
//! (docs/decisions/040-tls-without-buffers.md).

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The room for a read: a record of the greatest length that TLS allows.
const READ: usize = 5 + 16 * 1024 + 2048;
/// What a handshake message in several records, whose end has not come, may take up; as rustls has it for itself.
const MOST_INCOMING: usize = 0xffff;
/// What is sealed at once, so that no more than this waits for a peer that reads slowly.
const PIECE: usize = 64 * 1024;
/// More than a record takes besides what is in it; an alert takes no more either.
const RECORD: usize = 64;

/// The server's end of a TLS connection over `S`.
#[derive(Debug)]
pub struct TlsStream<S> {
    io: S,
    session: Session,
}

struct Session {
    connection: UnbufferedServerConnection,
    /// The beginning of what can only be understood when the rest has come.
    incoming: BytesMut,
    /// What the peer sent and nobody has read.
    plaintext: BytesMut,
    /// Records that have yet to be written.
    outgoing: BytesMut,
    /// Nothing follows, says the peer.
    peer_closed: bool,
    /// The peer has been told that nothing follows.
    closed: bool,
    /// Why the connection cannot go on.
    failure: Option<Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Shakes hands with the client that has connected to `io`.
    ///
    /// # Errors
    /// When the client does not speak TLS, there is nothing that both speak, or `io` fails. The client has been told why.
    pub async fn accept(config: Arc<ServerConfig>, io: S) -> io::Result<Self> {
        let mut stream = Self { io, session: Session::new(config)? };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx))?;
            self.session.check()?;
            if !self.session.connection.is_handshaking() {
                return Pin::new(&mut self.io).poll_flush(cx);
            }
            // What is sent with the last message of the handshake is kept for the first read.
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
        }
    }

    /// Reads once; what came for the reader goes to `into`, and what that has no room for is kept.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut room = [const { MaybeUninit::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            let text = "the peer closed the connection without saying so in TLS (close_notify)";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        self.session.receive(read.filled_mut(), into);
        Poll::Ready(Ok(()))
    }

    /// Writes what has been sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut self.session.outgoing;
        while !outgoing.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, outgoing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outgoing.advance(count);
        }
        *outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_write_piece(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        // What was sealed before is gone first, so that no more than one piece is ever kept.
        ready!(self.poll_send(cx))?;
        self.session.check()?;
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.session.seal(piece)?;
        // What does not go out now does so with the next write, or when the writer flushes.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(piece.len())),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither keys nor what is said.
        f.debug_struct("Session")
            .field("incoming", &self.incoming.len())
            .field("plaintext", &self.plaintext.len())
            .field("outgoing", &self.outgoing.len())
            .field("peer_closed", &self.peer_closed)
            .field("closed", &self.closed)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Session {
    fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config).map_err(io::Error::other)?,
            incoming: BytesMut::new(),
            plaintext: BytesMut::new(),
            outgoing: BytesMut::new(),
            peer_closed: false,
            closed: false,
            failure: None,
        })
    }

    fn check(&self) -> io::Result<()> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(invalid(error.clone())))
    }

    /// Takes in what arrived, with what was kept of before. A failure is kept, so that the alert can go out first.
    fn receive(&mut self, arrived: &mut [u8], into: &mut ReadBuf<'_>) {
        let mut kept = std::mem::take(&mut self.incoming);
        let records = if kept.is_empty() {
            arrived
        } else {
            kept.extend_from_slice(arrived);
            &mut kept[..]
        };
        let (done, _) = self.advance(records, into, |_, _| ());
        let rest = &records[done..];
        if self.failure.is_some() || self.peer_closed {
            return;
        }
        if rest.len() > MOST_INCOMING {
            self.failure = Some(Error::General("a handshake message is too long".to_owned()));
            return;
        }
        self.incoming.extend_from_slice(rest);
    }

    /// Goes on until more has to arrive, and does `now` when something can be sent. How many bytes of `records` are done
    /// with, and what `now` gave.
    fn advance<T>(
        &mut self,
        records: &mut [u8],
        into: &mut ReadBuf<'_>,
        now: impl FnOnce(WriteTraffic<'_, ServerConnectionData>, &mut BytesMut) -> T,
    ) -> (usize, Option<T>) {
        let mut done = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut records[done..]);
            done += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        done += record.discard;
                        pass_on(record.payload, into, &mut self.plaintext);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.outgoing),
                // It is: `outgoing` goes out in order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(traffic)) => return (done, Some(now(traffic, &mut self.outgoing))),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => return (done, None),
                // None is asked for (`ServerConfig::max_early_data_size` is 0), and no other state is known.
                Ok(other) => {
                    self.failure = Some(Error::General(format!("unexpected state {other:?}")));
                    return (done, None);
                }
                Err(error) => {
                    self.failure = Some(error);
                    self.collect_alert(&mut records[done..]);
                    return (done, None);
                }
            }
        }
    }

    /// What the peer is to be told about a failure.
    fn collect_alert(&mut self, records: &mut [u8]) {
        while self.connection.wants_write() {
            let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(data)), .. } =
                self.connection.process_tls_records(records)
            else {
                return;
            };
            encode(data, &mut self.outgoing);
        }
    }

    /// Adds what has been kept, and `send` of what may be sent now, to what goes out.
    fn send<T>(
        &mut self,
        send: impl FnOnce(WriteTraffic<'_, ServerConnectionData>, &mut BytesMut) -> T,
    ) -> io::Result<T> {
        let mut kept = std::mem::take(&mut self.incoming);
        let (done, sent) = self.advance(&mut kept, &mut ReadBuf::new(&mut []), send);
        kept.advance(done);
        self.incoming = kept;
        self.check()?;
        sent.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn seal(&mut self, piece: &[u8]) -> io::Result<()> {
        // Sixteen KiB are the most that a record holds.
        let room = piece.len() + (piece.len() / (16 * 1024) + 1) * RECORD;
        self.send(|mut traffic, outgoing| {
            append(outgoing, room, |room| traffic.encrypt(piece, room).map_err(or_more_room))
        })?
    }

    /// Says that nothing follows, once.
    fn close(&mut self) -> io::Result<()> {
        if self.closed || self.failure.is_some() {
            return Ok(());
        }
        self.closed = true;
        self.send(|mut traffic, outgoing| {
            append(outgoing, RECORD, |room| traffic.queue_close_notify(room).map_err(or_more_room))
        })?
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What [`append`] has to know of a failure: how much room is needed, or that room does not help.
fn or_more_room(error: EncryptError) -> Result<InsufficientSizeError, io::Error> {
    match error {
        EncryptError::InsufficientSize(size) => Ok(size),
        EncryptError::EncryptExhausted => Err(io::Error::other(error.to_string())),
    }
}

fn pass_on(payload: &[u8], into: &mut ReadBuf<'_>, plaintext: &mut BytesMut) {
    let fits = if plaintext.is_empty() { payload.len().min(into.remaining()) } else { 0 };
    let (now, later) = payload.split_at(fits);
    into.put_slice(now);
    plaintext.extend_from_slice(later);
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut BytesMut) {
    let encoded = append(outgoing, RECORD, |room| match data.encode(room) {
        Ok(count) => Ok(count),
        Err(EncodeError::InsufficientSize(size)) => Err(Ok(size)),
        // Once for each state.
        Err(EncodeError::AlreadyEncoded) => Err(Err(io::ErrorKind::Other.into())),
    });
    debug_assert!(encoded.is_ok(), "{encoded:?}");
}

/// Lets `write` write to the end of `outgoing`, into room for `room` bytes or, when it says so, more.
fn append(
    outgoing: &mut BytesMut,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Result<InsufficientSizeError, io::Error>>,
) -> io::Result<()> {
    let begin = outgoing.len();
    let mut room = room;
    loop {
        outgoing.resize(begin + room, 0);
        match write(&mut outgoing[begin..]) {
            Ok(count) => {
                outgoing.truncate(begin + count);
                return Ok(());
            }
            Err(Ok(InsufficientSizeError { required_size })) if required_size > room => room = required_size,
            Err(error) => {
                outgoing.truncate(begin);
                return Err(error.err().unwrap_or_else(|| io::ErrorKind::Other.into()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        let before = buf.filled().len();
        loop {
            let kept = &mut stream.session.plaintext;
            if !kept.is_empty() {
                let count = kept.len().min(buf.remaining());
                buf.put_slice(&kept[..count]);
                kept.advance(count);
                if kept.is_empty() {
                    *kept = BytesMut::new();
                }
            }
            if buf.filled().len() > before || buf.remaining() == 0 || stream.session.peer_closed {
                return Poll::Ready(Ok(()));
            }
            stream.session.check()?;
            ready!(stream.poll_receive(cx, buf))?;
            // Answers of TLS itself (an alert, new keys). Whoever waits for what else is sent asks for it, and what has come is
            // read even if nothing can be sent any more.
            if let Poll::Ready(Err(error)) = stream.poll_send(cx)
                && buf.filled().len() == before
            {
                stream.session.check()?;
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_piece(cx, &buf[..buf.len().min(PIECE)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One record rather than one for each: a head and its body.
        let mut piece = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum::<usize>().min(PIECE));
        for buf in bufs {
            let left = PIECE - piece.len();
            piece.extend_from_slice(&buf[..buf.len().min(left)]);
        }
        self.poll_write_piece(cx, &piece)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.close()?;
        ready!(self.poll_send(cx))?;
        match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
