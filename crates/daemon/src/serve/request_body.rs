//! A request's body that does not wait forever for its peer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::Shared;

/// What must arrive within one time-out. Less is a stall, or somebody who sends a byte at a time to stay.
const PROGRESS: usize = 1024;

/// The body of a request.
///
/// It fails with [`BodyError::Stalled`] when a reader has waited for longer than
/// [`Options::body_read_timeout`](super::Options::body_read_timeout) without 1 KiB more having arrived; only that
/// waiting counts, not the time in which the reader does something else. On HTTP/1.1 the connection ends with the
/// answer then, on HTTP/2 the other streams live on.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    shared: Arc<Shared>,
    /// None until a reader has to wait for the first time, as most never do.
    patience: Option<Box<Patience>>,
    failed: bool,
}

/// The body of a request cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer has gone, or does not speak HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The peer stopped sending.
    #[error("the request's body did not arrive in time")]
    Stalled,
}

impl RequestBody {
    pub(super) const fn new(body: Incoming, shared: Arc<Shared>) -> Self {
        Self { body, shared, patience: None, failed: false }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let Some(patience) = &mut self.patience else { return Poll::Ready(frame.map(|frame| Ok(frame?))) };
                let received = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
                patience.budget.received(Instant::now(), received);
                Poll::Ready(frame.map(|frame| Ok(frame?)))
            }
            Poll::Pending => {
                let timeout = self.shared.options.body_read_timeout;
                let patience = self.patience.get_or_insert_with(|| Box::new(Patience::new(timeout)));
                if patience.poll_ended(cx).is_pending() {
                    return Poll::Pending;
                }
                tracing::debug!("request cut: its body does not arrive");
                self.shared.cut("body");
                self.failed = true;
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[derive(Debug)]
struct Patience {
    budget: Budget,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    fn new(timeout: Duration) -> Self {
        Self { budget: Budget::new(timeout), timer: Box::pin(tokio::time::sleep(timeout)) }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.budget.deadline(Instant::now());
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }
}

/// How long a reader may still wait.
#[derive(Debug)]
struct Budget {
    timeout: Duration,
    left: Duration,
    /// Bytes that came since it was full.
    received: usize,
    waiting_since: Option<Instant>,
}

impl Budget {
    const fn new(timeout: Duration) -> Self {
        Self { timeout, left: timeout, received: 0, waiting_since: None }
    }

    /// The reader waits, or still waits; until when.
    fn deadline(&mut self, now: Instant) -> Instant {
        *self.waiting_since.get_or_insert(now) + self.left
    }

    fn received(&mut self, now: Instant, bytes: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
        self.received += bytes;
        if self.received >= PROGRESS {
            self.received = 0;
            self.left = self.timeout;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_byte_at_a_time_does_not_buy_time() {
        let start = Instant::now();
        let mut budget = Budget::new(30 * SECOND);
        for second in 0..10 {
            let now = start + second * SECOND;
            assert_eq!(budget.deadline(now), start + 30 * SECOND);
            budget.received(now + SECOND, 1);
        }
    }

    #[test]
    fn progress_does() {
        let start = Instant::now();
        let mut budget = Budget::new(30 * SECOND);
        budget.deadline(start);
        budget.received(start + 29 * SECOND, PROGRESS);
        assert_eq!(budget.deadline(start + 29 * SECOND), start + 59 * SECOND);
    }

    #[test]
    fn time_in_which_the_reader_does_not_wait_is_not_the_peers() {
        let start = Instant::now();
        let mut budget = Budget::new(30 * SECOND);
        budget.deadline(start);
        budget.received(start + 10 * SECOND, 1);
        assert_eq!(budget.deadline(start + 100 * SECOND), start + 120 * SECOND);
    }
}
