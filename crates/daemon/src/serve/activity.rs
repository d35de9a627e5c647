//! What a connection is doing, so that it can be cut when it does nothing.
//!
//! Hyper's own header time-out also runs between requests and so closes kept connections under their clients; here
//! the short time-out runs only from the first byte of a head to its last, and the long one while nothing comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

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

/// The state of one connection, shared by its stream, its requests and its task.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    state: Arc<watch::Sender<State>>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::new(Instant::now()))) }
    }

    /// Bytes have come from the peer.
    pub(super) fn received(&self) {
        self.state.send_if_modified(|state| state.received(Instant::now()));
    }

    /// A request has come; it lasts as long as the answer.
    pub(super) fn request(&self, version: http::Version) -> InFlight {
        self.state.send_modify(|state| state.request(version));
        InFlight(self.clone())
    }

    /// Ends when the connection has been without a request, or with half a head, for too long. Cancel safe.
    pub(super) async fn overdue(&self, head_timeout: Duration, idle_timeout: Duration) -> Overdue {
        let mut changes = self.state.subscribe();
        loop {
            let deadline = changes.borrow_and_update().deadline(head_timeout, idle_timeout);
            let Some((deadline, why)) = deadline else {
                // Cannot fail: `self` holds the sender.
                let _ = changes.changed().await;
                continue;
            };
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(deadline) => return why,
            }
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.answered(Instant::now()));
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
}
