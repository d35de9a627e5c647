//! Wall time that never jumps.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

/// Tells the time: the wall clock's at the start, moved on by the monotonic clock.
///
/// When somebody sets the wall clock, no lease or token expires early or late; the price is that the process keeps its
/// own time, also over a suspend of the machine, until it is restarted. Under Tokio's paused time it stands and moves
/// with it; one that is turned by hand stands while everything else goes on. A clone is the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Timestamp,
    pace: Pace,
}

/// What moves a clock on.
#[derive(Clone, Debug)]
enum Pace {
    /// The monotonic clock, since then.
    Since(Instant),
    /// A [`Hand`], by so much until now.
    Hand(watch::Receiver<SignedDuration>),
}

/// Turns a clock forward: see [`Clock::by_hand`].
#[derive(Debug)]
pub struct Hand(watch::Sender<SignedDuration>);

impl Hand {
    /// Moves the clock and all its clones on by `by`, and wakes who waits for a time until then.
    pub fn turn(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.0.send_modify(|turned| *turned = turned.saturating_add(by));
    }
}

impl Clock {
    /// The clock that starts at the wall clock's time.
    #[must_use]
    pub fn system() -> Self {
        Self::fixed(Timestamp::now())
    }

    /// The clock that starts at `start`; with paused time it stands there until time is advanced.
    #[must_use]
    pub fn fixed(start: Timestamp) -> Self {
        Self { start, pace: Pace::Since(Instant::now()) }
    }

    /// The clock that stands at `start` and moves when its hand is turned, while sockets, threads and Tokio's timers go
    /// on as ever: for tests that look at what happens after a time over real sockets. It stands for ever when the hand
    /// is gone.
    #[must_use]
    pub fn by_hand(start: Timestamp) -> (Self, Hand) {
        let (hand, turned) = watch::channel(SignedDuration::ZERO);
        (Self { start, pace: Pace::Hand(turned) }, Hand(hand))
    }

    /// The time now; never earlier than an answer before.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = match &self.pace {
            Pace::Since(origin) => SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::MAX),
            Pace::Hand(turned) => *turned.borrow(),
        };
        self.start.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// When it will be `at` by this clock, for Tokio's timers; the past is now, and what lies too far ahead is thirty
    /// years from now. Nobody knows that of a clock that is turned by hand, so it is taken to move on by itself.
    #[must_use]
    pub fn instant_at(&self, at: Timestamp) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let ahead = Duration::try_from(at.duration_since(self.now())).unwrap_or(Duration::ZERO);
        Instant::now() + ahead.min(FAR)
    }

    /// Waits until it is `at` by this clock. Cancel safe.
    pub async fn sleep_until(&self, at: Timestamp) {
        match &self.pace {
            Pace::Since(_) => tokio::time::sleep_until(self.instant_at(at)).await,
            Pace::Hand(turned) => {
                let due = |turned: &SignedDuration| self.start.saturating_add(*turned).is_ok_and(|now| now >= at);
                if turned.clone().wait_for(due).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn a_clock_moves_on_from_its_start_and_copies_agree() {
        let clock = Clock::fixed(at(100));
        let copy = clock.clone();
        let until = at(100) + SignedDuration::from_millis(20);
        copy.sleep_until(until).await;
        assert!((until..at(160)).contains(&clock.now()), "{}", clock.now());
    }

    #[tokio::test]
    async fn a_clock_by_hand_stands_until_it_is_turned_and_wakes_who_waits() {
        let (clock, hand) = Clock::by_hand(at(100));
        let copy = clock.clone();
        let mut waiting = std::pin::pin!(copy.sleep_until(at(160)));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "it stands");
        hand.turn(Duration::from_secs(59));
        assert_eq!(clock.now(), at(159));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "too early");
        hand.turn(Duration::from_secs(1));
        waiting.await;
        assert_eq!(clock.now(), at(160));
    }

    #[tokio::test]
    async fn the_past_is_not_waited_for() {
        let clock = Clock::fixed(at(1_000));
        let start = Instant::now();
        clock.sleep_until(at(-5)).await;
        clock.sleep_until(Timestamp::MIN).await;
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(clock.instant_at(at(2_000)) > start + Duration::from_secs(900));
    }

    #[test]
    fn the_system_clock_starts_at_the_wall_clocks_time() {
        let before = Timestamp::now();
        let now = Clock::system().now();
        assert!(before <= now && now <= before + SignedDuration::from_secs(60));
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let clock = Clock::fixed(Timestamp::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
        assert!(Clock::fixed(Timestamp::MIN).instant_at(Timestamp::MAX) > Instant::now());
    }
}
