//! Bare servers that park requests: the least that a long poll costs with a well-kept library.
//!
//! `POST` anything parks the request until it is woken (200 with a body) or its time is over (204); its head and body are
//! dropped before. `POST /wake` wakes the one that waits longest, with the body that it brings; `GET /open` counts.

mod bare_axum;
mod bare_hyper;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anstream::println;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Duration;

/// How long a request is parked at most: longer than anybody measures.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The one path that wakes.
const WAKE: &str = "/wake";

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bare {
    Hyper,
    Axum,
}

/// All that are parked, in the order in which they came.
#[derive(Clone, Default)]
struct Parking(Arc<Mutex<VecDeque<oneshot::Sender<Bytes>>>>);

impl Parking {
    fn lock(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits to be woken; `None` when nobody did in time.
    async fn park(&self) -> Option<Bytes> {
        let (sender, receiver) = oneshot::channel();
        self.lock().push_back(sender);
        tokio::time::timeout(TIMEOUT, receiver).await.ok()?.ok()
    }

    /// Wakes the one that waits longest; one who has gone meanwhile does not count.
    fn wake(&self, mut body: Bytes) -> bool {
        loop {
            let Some(first) = self.lock().pop_front() else { return false };
            match first.send(body) {
                Ok(()) => return true,
                Err(back) => body = back,
            }
        }
    }

    fn open(&self) -> usize {
        self.lock().iter().filter(|sender| !sender.is_closed()).count()
    }
}

/// Serves on a free port of loopback until the process is ended.
pub(crate) async fn serve(bare: Bare, http2: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("listening: {}", listener.local_addr()?);
    match bare {
        Bare::Hyper => bare_hyper::serve(listener, http2).await,
        Bare::Axum => bare_axum::serve(listener).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_waits_longest_is_woken_and_those_who_have_gone_are_not() {
        let parking = Parking::default();
        assert!(!parking.wake(Bytes::new()));
        let (gone, left) = oneshot::channel();
        parking.lock().push_back(gone);
        drop(left);
        let (first, woken) = oneshot::channel();
        let (second, _waiting) = oneshot::channel();
        parking.lock().extend([first, second]);
        assert_eq!(parking.open(), 2);
        assert!(parking.wake(Bytes::from_static(b"word")));
        assert_eq!(woken.await.unwrap(), "word");
        assert_eq!(parking.open(), 1);
    }
}
