//! What a connection is doing, so that it can be cut when it does nothing.
//!
//! Hyper's own header time-out also runs between requests and so closes kept connections under their clients; here
//! the short time-out runs only from the first byte of a head to its last, and the long one while nothing comes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Options;

/// What a connection is doing at the moment.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Requests whose response is not finished.
    in_flight: usize,
    /// When it began to wait for a request.
    idle_since: Instant,
    /// When the first byte of a head came.
    head_since: Option<Instant>,
    /// HTTP/2 speaks without requests (settings, pings), so that bytes do not mean a head.
    multiplexed: bool,
}

/// Why time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The request's head did not arrive in time.
    Head,
    /// No request came for long.
    Idle,
}

impl State {
    fn new(now: Instant) -> Self {
        // A new connection owes a head at once.
        Self { in_flight: 0, idle_since: now, head_since: Some(now), multiplexed: false }
    }

    /// Bytes have come from the peer; whether that changes anything.
    fn received(&mut self, now: Instant) -> bool {
        let is_head = self.in_flight == 0 && self.head_since.is_none() && !self.multiplexed;
        if is_head {
            self.head_since = Some(now);
        }
        is_head
    }

    fn request(&mut self, version: http::Version) {
        self.in_flight += 1;
        self.head_since = None;
        self.multiplexed = version == http::Version::HTTP_2;
    }

    fn answered(&mut self, now: Instant) {
        self.in_flight -= 1;
        self.idle_since = now;
    }

    /// When time is up, if nothing changes before.
    fn deadline(&self, head_timeout: Duration, idle_timeout: Duration) -> Option<(Instant, Overdue)> {
        match (self.in_flight, self.head_since) {
            (0, Some(since)) => Some((since + head_timeout, Overdue::Head)),
            (0, None) => Some((self.idle_since + idle_timeout, Overdue::Idle)),
            _ => None,
        }
    }
}

/// The state of one connection, shared by its stream, its requests and its task. Small, as every connection has one.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<Watched>>);

#[derive(Debug)]
struct Watched {
    state: State,
    /// The connection's task, while it waits for [`Activity::overdue`].
    waiter: Option<Waker>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Watched { state: State::new(Instant::now()), waiter: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let waiter = {
            let mut watched = self.lock();
            if change(&mut watched.state) { watched.waiter.take() } else { None }
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Bytes have come from the peer.
    pub(super) fn received(&self) {
        self.change(|state| state.received(Instant::now()));
    }

    /// A request has come; it lasts as long as the answer.
    pub(super) fn request(&self, version: http::Version) -> InFlight {
        self.change(|state| {
            state.request(version);
            true
        });
        InFlight(self.clone())
    }

    /// Ends when the connection has been without a request, or with half a head, for too long. One at a time, in the
    /// connection's task. Cancel safe.
    pub(super) const fn overdue<'a>(&'a self, options: &'a Options) -> WhenOverdue<'a> {
        WhenOverdue { activity: self, options, timer: None }
    }
}

/// See [`Activity::overdue`].
#[derive(Debug)]
pub(super) struct WhenOverdue<'a> {
    activity: &'a Activity,
    options: &'a Options,
    /// None while a request is in flight: a connection that is parked on one keeps no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Future for WhenOverdue<'_> {
    type Output = Overdue;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Overdue> {
        let this = &mut *self;
        let deadline = {
            let mut watched = this.activity.lock();
            match &mut watched.waiter {
                Some(waiter) => waiter.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            watched.state.deadline(this.options.header_read_timeout, this.options.idle_timeout)
        };
        let Some((deadline, why)) = deadline else {
            this.timer = None;
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| why)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.answered(Instant::now());
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(120);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_peer_has_the_time_of_a_head() {
        let start = Instant::now();
        let mut state = State::new(start);
        state.received(start + 9 * SECOND);
        assert_eq!(state.deadline(HEAD, IDLE), Some((start + HEAD, Overdue::Head)));
    }

    #[test]
    fn a_request_in_flight_is_never_overdue() {
        let start = Instant::now();
        let mut state = State::new(start);
        state.request(http::Version::HTTP_11);
        state.received(start + SECOND);
        assert_eq!(state.deadline(HEAD, IDLE), None);
        state.answered(start + 2 * SECOND);
        assert_eq!(state.deadline(HEAD, IDLE), Some((start + 2 * SECOND + IDLE, Overdue::Idle)));
    }

    #[test]
    fn trickling_bytes_do_not_renew_the_time_of_a_head() {
        let start = Instant::now();
        let mut state = State::new(start);
        state.request(http::Version::HTTP_11);
        state.answered(start + SECOND);
        assert!(state.received(start + 20 * SECOND));
        assert!(!state.received(start + 29 * SECOND));
        assert_eq!(state.deadline(HEAD, IDLE), Some((start + 20 * SECOND + HEAD, Overdue::Head)));
    }

    #[test]
    fn pings_of_http2_neither_begin_a_head_nor_keep_the_connection() {
        let start = Instant::now();
        let mut state = State::new(start);
        state.request(http::Version::HTTP_2);
        state.answered(start + SECOND);
        assert!(!state.received(start + 70 * SECOND));
        assert_eq!(state.deadline(HEAD, IDLE), Some((start + SECOND + IDLE, Overdue::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_meanwhile_is_seen_by_who_waits_already() {
        let options = Options { header_read_timeout: HEAD, idle_timeout: IDLE, ..Options::default() };
        let activity = Activity::new();
        let start = Instant::now();
        let (why, ()) = tokio::join!(activity.overdue(&options), async {
            tokio::time::sleep(HEAD - SECOND).await;
            let request = activity.request(http::Version::HTTP_11);
            tokio::time::sleep(10 * IDLE).await;
            drop(request);
        });
        assert_eq!((why, start.elapsed().as_secs()), (Overdue::Idle, (HEAD - SECOND + 11 * IDLE).as_secs()));
    }
}
