//! A response's body, as long as which its request is in flight.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::activity::InFlight;
use super::streams::Untaken;

/// What an HTTP/2 stream is given at a time; what a peer takes of it within the time-out is its progress.
const CHUNK: usize = 16 * 1024;

/// A response body; the request is in flight until its end.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    stream: Option<Stream>,
    #[expect(dead_code, reason = "held for its drop")]
    in_flight: InFlight,
}

/// What is kept of an answer on an HTTP/2 stream.
#[derive(Debug)]
struct Stream {
    untaken: Untaken,
    chunks: u64,
    /// Of a frame that was larger than a chunk.
    rest: Bytes,
}

impl Answer {
    /// To be called in the task that sends the answer.
    pub(super) fn new(body: Body, in_flight: InFlight) -> Self {
        let stream = Untaken::current().map(|untaken| Stream { untaken, chunks: 0, rest: Bytes::new() });
        Self { body, stream, in_flight }
    }
}

impl Stream {
    fn chunk(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = if data.len() > CHUNK { data.split_off(CHUNK) } else { Bytes::new() };
        self.chunks += 1;
        self.untaken.gave(self.chunks);
        Frame::data(data)
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let Self { body, stream: Some(stream), .. } = &mut *self else {
            return Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(cx)));
        };
        if !stream.rest.is_empty() {
            let rest = std::mem::take(&mut stream.rest);
            return Poll::Ready(Some(Ok(stream.chunk(rest))));
        }
        let polled = Pin::new(body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = polled else {
            stream.untaken.has_none();
            return polled;
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => stream.chunk(data),
            Err(other) => {
                stream.untaken.has_none();
                other
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.rest.is_empty()) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.stream.as_ref().map_or(0, |stream| stream.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
