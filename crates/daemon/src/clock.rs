//! Wall time that never jumps.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time: the wall clock's at the start, moved on by the monotonic clock.
///
/// When somebody sets the wall clock, no lease or token expires early or late; the price is that the process keeps its
/// own time, also over a suspend of the machine, until it is restarted. Under Tokio's paused time it stands and moves
/// with it. A copy is the same clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Timestamp,
    origin: Instant,
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
        Self { start, origin: Instant::now() }
    }

    /// The time now; never earlier than an answer before.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.origin.elapsed()).unwrap_or(SignedDuration::MAX);
        self.start.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// When it will be `at` by this clock, for Tokio's timers; the past is now, and what lies too far ahead is thirty
    /// years from now.
    #[must_use]
    pub fn instant_at(&self, at: Timestamp) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let ahead = Duration::try_from(at.duration_since(self.now())).unwrap_or(Duration::ZERO);
        Instant::now() + ahead.min(FAR)
    }

    /// Waits until it is `at` by this clock. Cancel safe.
    pub async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep_until(self.instant_at(at)).await;
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
        let copy = clock;
        let until = at(100) + SignedDuration::from_millis(20);
        copy.sleep_until(until).await;
        assert!((until..at(160)).contains(&clock.now()), "{}", clock.now());
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
