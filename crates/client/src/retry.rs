//! How often and how patiently an operation is tried again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder, Retryable};

use crate::error::Error;

/// The longest that a `Retry-After` is obeyed; a service that is back earlier should not stay unnoticed for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// When an operation is tried again: delays double from `min_delay` to `max_delay`, and each is stretched by a random
/// part of itself, so that a fleet does not come back in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Delay before the second try.
    pub min_delay: Duration,
    /// Delays grow no further than this (and its jitter, so at most twice this).
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

    fn builder(self) -> ExponentialBuilder {
        let builder =
            ExponentialBuilder::new().with_jitter().with_min_delay(self.min_delay).with_max_delay(self.max_delay);
        match self.max_times {
            Some(times) => builder.with_max_times(times),
            None => builder.without_max_times(),
        }
    }

    /// Runs `operation` until it succeeds, `again` says no, or the tries are used up.
    pub(crate) async fn run<T, F, Fut>(self, again: fn(&Error) -> bool, operation: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        operation
            .retry(self.builder())
            .when(again)
            .adjust(|error, delay| delay.map(|delay| stretch(delay, error.retry_after())))
            .notify(|error, delay| tracing::warn!(%error, ?delay, "will try again"))
            .await
    }
}

/// The delays of a loop that has no last try of its own, such as a runner's polls.
#[derive(Debug)]
pub struct Backoff {
    retry: Retry,
    delays: Option<ExponentialBackoff>,
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
        let delays = self.delays.get_or_insert_with(|| self.retry.builder().build());
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
    fn delays_double_with_jitter_up_to_the_cap() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(Retry { min_delay: seconds(1), max_delay: seconds(30), max_times: None });
        let delays: Vec<_> = (0..50).filter_map(|_| backoff.next(None)).collect();
        assert_eq!(delays.len(), 50);
        assert!(delays[0] >= seconds(1) && delays[0] < seconds(2), "{:?}", delays[0]);
        assert!(delays.iter().all(|delay| *delay <= seconds(60)), "{delays:?}");
        assert!(delays[49] >= seconds(30));
        backoff.reset();
        assert!(backoff.next(None).is_some_and(|delay| delay < seconds(2)));
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
