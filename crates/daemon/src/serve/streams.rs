//! The streams of an HTTP/2 connection, of which each can stall for itself.
//!
//! A peer that leaves a stream's flow-control window shut keeps its answer in our memory while the socket below has
//! nothing to write. The stream's task notices that its body was asked for a chunk and was not asked again, and ends;
//! hyper resets the stream then, and its neighbours live on.

use std::cell::OnceCell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::Shared;

tokio::task_local! {
    /// That of the stream that is being polled, once its answer has asked for it.
    static UNTAKEN: OnceCell<Untaken>;
}

/// Whether the chunk that the body of a stream gave last waits for the peer: 0 if not, otherwise the chunk's number.
#[derive(Clone, Debug, Default)]
pub(super) struct Untaken(Arc<AtomicU64>);

impl Untaken {
    /// That of the stream whose task this is; none in the task of an HTTP/1.1 connection.
    pub(super) fn current() -> Option<Self> {
        UNTAKEN.try_with(|untaken| untaken.get_or_init(Self::default).clone()).ok()
    }

    /// The body has given chunk number `chunk`, which is not 0.
    pub(super) fn gave(&self, chunk: u64) {
        self.0.store(chunk, Ordering::Relaxed);
    }

    /// The body has no chunk at the moment: whatever it gave before was taken.
    pub(super) fn has_none(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn waiting(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the streams of HTTP/2 connections run. They end with their connection, which hyper tells them.
#[derive(Clone, Debug)]
pub(super) struct Streams(pub(super) Arc<Shared>);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let shared = Arc::clone(&self.0);
        self.0.tasks.spawn(Guarded { stream: Watched::new(stream), shared });
    }
}

pin_project! {
    /// A stream that is cut when its peer does not read. Written by hand, as an async function keeps what it is given
    /// twice, and this is kept for each long poll.
    struct Guarded<F> {
        #[pin]
        stream: Watched<F>,
        shared: Arc<Shared>,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.stream.poll_end(cx, this.shared.options.write_timeout).map(|stalled| {
            if stalled {
                tracing::debug!("stream cut: the peer does not read");
                this.shared.cut("write");
            }
        })
    }
}

pin_project! {
    /// A stream, and how long a chunk of its body has been waiting.
    struct Watched<F> {
        #[pin]
        stream: F,
        // None until there is an answer.
        untaken: Option<Untaken>,
        timer: Option<Pin<Box<Sleep>>>,
        // The chunk that the timer runs for.
        timed: u64,
    }
}

impl<F: Future<Output = ()>> Watched<F> {
    const fn new(stream: F) -> Self {
        Self { stream, untaken: None, timer: None, timed: 0 }
    }

    /// Polls the stream to its end, or until a chunk of its body has been waiting for `timeout`; whether it is the latter.
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>, timeout: Duration) -> Poll<bool> {
        let this = self.project();
        let current = this.untaken.take().map_or_else(OnceCell::new, OnceCell::from);
        let (polled, untaken) = UNTAKEN.sync_scope(current, || {
            let polled = this.stream.poll(cx);
            (polled, UNTAKEN.with(|untaken| untaken.get().cloned()))
        });
        *this.untaken = untaken;
        if polled.is_ready() {
            return Poll::Ready(false);
        }
        let waiting = this.untaken.as_ref().map_or(0, Untaken::waiting);
        if waiting == 0 {
            *this.timed = 0;
            return Poll::Pending;
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if waiting != *this.timed {
            *this.timed = waiting;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(60);
    const SHORTER: Duration = Duration::from_millis(40);

    async fn is_cut(stream: impl Future<Output = ()>) -> bool {
        let mut stream = pin!(Watched::new(stream));
        std::future::poll_fn(|cx| stream.as_mut().poll_end(cx, TIMEOUT)).await
    }

    #[tokio::test]
    async fn every_chunk_has_its_own_time() {
        let stream = async {
            let current = Untaken::current().expect("in the stream's task");
            for chunk in 1..=5 {
                current.gave(chunk);
                tokio::time::sleep(SHORTER).await;
            }
            Untaken::current().expect("the same").gave(6);
            std::future::pending().await
        };
        let start = Instant::now();
        assert!(is_cut(stream).await);
        assert!(start.elapsed() >= 5 * SHORTER + TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_that_has_nothing_to_give_is_not_a_stall() {
        let stream = async {
            tokio::time::sleep(2 * TIMEOUT).await;
            let body = Untaken::current().expect("in the stream's task");
            body.gave(1);
            tokio::time::sleep(SHORTER).await;
            body.has_none();
            tokio::time::sleep(4 * TIMEOUT).await;
            body.gave(2);
            tokio::time::sleep(SHORTER).await;
        };
        assert!(!is_cut(stream).await);
        assert!(Untaken::current().is_none());
    }

    #[test]
    fn watching_a_stream_keeps_four_words() {
        assert!(size_of::<Guarded<std::future::Pending<()>>>() <= 32);
    }
}
