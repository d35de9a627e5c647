//! The streams of an HTTP/2 connection, of which each can stall for itself.
//!
//! A peer that leaves a stream's flow-control window shut keeps its answer in our memory while the socket below has
//! nothing to write. The stream's task notices that its body was asked for a chunk and was not asked again, and ends;
//! hyper resets the stream then, and its neighbours live on.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep};

use super::Shared;

tokio::task_local! {
    static UNTAKEN: Untaken;
}

/// Whether the chunk that the body of a stream gave last waits for the peer: 0 if not, otherwise the chunk's number.
#[derive(Clone, Debug, Default)]
pub(super) struct Untaken(Arc<AtomicU64>);

impl Untaken {
    /// That of the stream whose task this is; none in the task of an HTTP/1.1 connection.
    pub(super) fn current() -> Option<Self> {
        UNTAKEN.try_with(Self::clone).ok()
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
        self.0.tasks.spawn(run(stream, Arc::clone(&self.0)));
    }
}

async fn run(stream: impl Future<Output = ()>, shared: Arc<Shared>) {
    let untaken = Untaken::default();
    if until_stalled(stream, untaken, shared.options.write_timeout).await {
        tracing::debug!("stream cut: the peer does not read");
        shared.cut("write");
    }
}

/// Polls `stream` to its end, or until a chunk of its body has been waiting for `timeout`; whether it is the latter.
async fn until_stalled(stream: impl Future<Output = ()>, untaken: Untaken, timeout: Duration) -> bool {
    let mut stream = pin!(UNTAKEN.scope(untaken.clone(), stream));
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    // The chunk that the timer runs for.
    let mut timed = 0;
    std::future::poll_fn(move |cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        let waiting = untaken.waiting();
        if waiting == 0 {
            timed = 0;
            return Poll::Pending;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if waiting != timed {
            timed = waiting;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx).map(|()| true)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(60);
    const SHORTER: Duration = Duration::from_millis(40);

    #[tokio::test]
    async fn every_chunk_has_its_own_time() {
        let untaken = Untaken::default();
        let body = untaken.clone();
        let stream = async {
            let current = Untaken::current().expect("in the stream's task");
            for chunk in 1..=5 {
                current.gave(chunk);
                tokio::time::sleep(SHORTER).await;
            }
            body.gave(6);
            std::future::pending().await
        };
        let start = Instant::now();
        assert!(until_stalled(stream, untaken, TIMEOUT).await);
        assert!(start.elapsed() >= 5 * SHORTER + TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_that_has_nothing_to_give_is_not_a_stall() {
        let untaken = Untaken::default();
        let body = untaken.clone();
        let stream = async {
            body.gave(1);
            tokio::time::sleep(SHORTER).await;
            body.has_none();
            tokio::time::sleep(4 * TIMEOUT).await;
            body.gave(2);
            tokio::time::sleep(SHORTER).await;
        };
        assert!(!until_stalled(stream, untaken, TIMEOUT).await);
    }
}
