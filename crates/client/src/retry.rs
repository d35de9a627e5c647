//! How often and how patiently an operation is tried again.

use std::time::Duration;

use backon::Retryable;
use uuid::Uuid;

use crate::error::Error;

/// The longest that a `Retry-After` is obeyed; a service that is back earlier should not stay unnoticed for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// When an operation is tried again: each delay is drawn between `min_delay` and three times the one before, up to
/// `max_delay` (decorrelated jitter), so that a fleet that lost its service in one moment does not come back in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Delay before the second try.
    pub min_delay: Duration,
    /// Delays grow no further than this.
    pub max_delay: Duration,
    /// How many more tries; `None` means until an answer comes or the caller drops the call.
    pub max_times: Option<usize>,
}

impl Retry {
    /// For somebody who waits at a terminal: about 5 s in all.
    pub const BRIEF: Self =
        Self { min_delay: Duration::from_millis(200), max_delay: Duration::from_secs(2), max_times: Some(4) };
    /// For an unattended start, such as registration: several minutes.
    pub const PATIENT: Self =
        Self { min_delay: Duration::from_millis(250), max_delay: Duration::from_secs(30), max_times: Some(12) };
    /// For reports of a running job, which must outlast any outage of the service.
    pub const ENDLESS: Self =
        Self { min_delay: Duration::from_millis(250), max_delay: Duration::from_secs(15), max_times: None };
    /// For renewals, which must reach a returning service well within a lease.
    pub const RENEWAL: Self =
        Self { min_delay: Duration::from_millis(250), max_delay: Duration::from_secs(4), max_times: None };
    /// One try only.
    pub const NEVER: Self = Self { min_delay: Duration::ZERO, max_delay: Duration::ZERO, max_times: Some(0) };

    const fn delays(self) -> Delays {
        Delays { retry: self, previous: self.min_delay, left: self.max_times }
    }

    /// Runs `operation` until it succeeds, `again` says no, or the tries are used up.
    pub(crate) async fn run<T, F, Fut>(self, again: fn(&Error) -> bool, operation: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        operation
            .retry(self.delays())
            .when(again)
            .adjust(|error, delay| delay.map(|delay| stretch(delay, error.retry_after())))
            .notify(|error, delay| tracing::warn!(%error, ?delay, "will try again"))
            .await
    }
}

/// The delays between tries, one after the other.
#[derive(Clone, Copy, Debug)]
struct Delays {
    retry: Retry,
    previous: Duration,
    left: Option<usize>,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let Retry { min_delay, max_delay, .. } = self.retry;
        let reach = self.previous.saturating_mul(3).saturating_sub(min_delay);
        self.previous = (min_delay + reach.mul_f64(chance())).min(max_delay);
        Some(self.previous)
    }
}

/// From 0 to below 1, by the system's random numbers: another sequence in each process.
fn chance() -> f64 {
    // The low bits of a version 4 UUID are all random; so many fit into the fraction of a number.
    let bits = Uuid::new_v4().as_u128() & ((1 << 32) - 1);
    u32::try_from(bits).map_or(0.0, |bits| f64::from(bits) / (f64::from(u32::MAX) + 1.0))
}

/// The delays of a loop that has no last try of its own, such as a runner's polls.
#[derive(Debug)]
pub struct Backoff {
    retry: Retry,
    delays: Option<Delays>,
}

impl Backoff {
    /// Delays as `retry` says.
    #[must_use]
    pub const fn new(retry: Retry) -> Self {
        Self { retry, delays: None }
    }

    /// The time to wait after one more failure, or `None` when the tries are used up. Never shorter than the
    /// service asked for in `retry_after`, up to a minute.
    pub fn next(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        let delays = self.delays.get_or_insert_with(|| self.retry.delays());
        delays.next().map(|delay| stretch(delay, retry_after))
    }

    /// Something succeeded: the next failure is the first again.
    pub fn reset(&mut self) {
        self.delays = None;
    }
}

fn stretch(delay: Duration, retry_after: Option<Duration>) -> Duration {
    match retry_after {
        Some(asked) => delay.max(asked.min(LONGEST_RETRY_AFTER)),
        None => delay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_between_their_bounds_and_start_anew_after_a_success() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(Retry { min_delay: seconds(1), max_delay: seconds(30), max_times: None });
        let delays: Vec<_> = (0..200).filter_map(|_| backoff.next(None)).collect();
        assert_eq!(delays.len(), 200);
        assert!(delays.iter().all(|delay| (seconds(1)..=seconds(30)).contains(delay)), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay > seconds(15)), "they grow: {delays:?}");
        assert!(delays.windows(2).all(|pair| pair[1] <= 3 * pair[0]), "{delays:?}");
        backoff.reset();
        assert!(backoff.next(None).is_some_and(|delay| delay <= seconds(3)));
        let mut few = Backoff::new(Retry { max_times: Some(2), ..Retry::BRIEF });
        assert_eq!((0..5).filter_map(|_| few.next(None)).count(), 2);
    }

    #[test]
    fn a_fleet_does_not_come_back_in_step() {
        let fleet = (0..1000).map(|_| Backoff::new(Retry::BRIEF).next(None).unwrap());
        let moments: std::collections::HashSet<_> = fleet.map(|delay| delay.as_millis()).collect();
        assert!(moments.len() > 200, "{} moments within 400 ms", moments.len());
    }

    #[test]
    fn a_retry_after_lengthens_a_delay_but_not_beyond_a_minute() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(Retry::BRIEF);
        assert_eq!(backoff.next(Some(seconds(20))), Some(seconds(20)));
        assert_eq!(backoff.next(Some(seconds(7200))), Some(seconds(60)));
    }

    #[tokio::test]
    async fn an_operation_waits_as_long_as_the_service_asks() {
        let begin = tokio::time::Instant::now();
        let mut tries = 0;
        let retry = Retry { min_delay: Duration::from_millis(1), ..Retry::BRIEF };
        let answer = retry
            .run(Error::is_transient, || {
                tries += 1;
                let busy = tries < 3;
                async move { if busy { Err(unavailable(Duration::from_millis(90))) } else { Ok(tries) } }
            })
            .await;
        assert_eq!(answer.unwrap(), 3);
        assert!(begin.elapsed() >= Duration::from_millis(180), "{:?}", begin.elapsed());
    }

    fn unavailable(retry_after: Duration) -> Error {
        use startline_protocol::problem::{Problem, kind};
        Error::Problem {
            status: 503,
            url: String::new(),
            problem: Box::new(Problem {
                kind: kind::UNAVAILABLE.into(),
                title: "busy".into(),
                status: 503,
                detail: None,
                request_id: None,
                offset: None,
                diagnostics: Vec::new(),
            }),
            retry_after: Some(retry_after),
        }
    }
}
