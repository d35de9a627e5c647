//! Token buckets by key.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once, after a rest.
    pub burst: NonZeroU32,
}

/// When it may happen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; the next is welcome in {} s", self.seconds())]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// Whole seconds, at least one, as the header `Retry-After` wants them; not too early.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        let started = if self.0.subsec_nanos() > 0 { 1 } else { 0 };
        let seconds = self.0.as_secs() + started;
        if seconds == 0 { 1 } else { seconds }
    }
}

/// A token bucket for each key.
///
/// A bucket that is full says no more than one that never was, and is forgotten some time later; when room is needed, the
/// one is forgotten that will be full first. So an attacker with many keys can free others of a little of their debt, but can
/// neither fill the memory nor lock anybody out.
#[derive(Clone, Debug)]
pub struct RateLimiter<K> {
    /// The time that one token takes, and that all of them do.
    interval: i128,
    capacity: i128,
    max_keys: usize,
    buckets: HashMap<K, Place>,
    /// The same buckets, the fullest first.
    order: BTreeMap<Place, K>,
    next: u64,
}

/// How long a full bucket is kept, in nanoseconds: a clock that is set back by less gives nobody a token.
const KEPT_WHEN_FULL: i128 = 10_000_000_000;

/// When (in nanoseconds of Unix time) a bucket is full again, and a number that makes it unique.
type Place = (i128, u64);

impl<K: Clone + Eq + Hash> RateLimiter<K> {
    /// Without any bucket yet; keeps at most `max_keys` (and at least one).
    #[must_use]
    pub fn new(rate: Rate, max_keys: usize) -> Self {
        let interval = 1_000_000_000 / i128::from(rate.per_second.get());
        Self {
            // Above a thousand million a second there is no limit to speak of.
            interval: interval.max(1),
            capacity: interval.max(1) * i128::from(rate.burst.get()),
            max_keys: max_keys.max(1),
            buckets: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }

    /// Takes a token of `key`'s at `now`, or says when there is one. A refusal costs nothing.
    ///
    /// # Errors
    /// When the bucket is empty.
    pub fn check(&mut self, now: Timestamp, key: &K) -> Result<(), RetryAfter> {
        let full_at = self.next_full_at(now, key)?;
        self.forget_full(now);
        self.put(key, full_at);
        Ok(())
    }

    /// Whether [`check`](Self::check) would take a token; takes none.
    ///
    /// # Errors
    /// When the bucket is empty.
    pub fn peek(&self, now: Timestamp, key: &K) -> Result<(), RetryAfter> {
        self.next_full_at(now, key).map(drop)
    }

    /// Gives a token back that was taken, if its bucket is still known.
    pub fn give_back(&mut self, key: &K) {
        if let Some((full_at, _)) = self.buckets.get(key).copied() {
            self.put(key, full_at - self.interval);
        }
    }

    /// When the bucket would be full after one more token was taken.
    fn next_full_at(&self, now: Timestamp, key: &K) -> Result<i128, RetryAfter> {
        let now = now.as_nanosecond();
        // A bucket that was full before now has stayed full.
        let full_at = self.buckets.get(key).map_or(now, |(full_at, _)| (*full_at).max(now)) + self.interval;
        let wait = full_at - now - self.capacity;
        if wait > 0 {
            return Err(RetryAfter(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))));
        }
        Ok(full_at)
    }

    fn put(&mut self, key: &K, full_at: i128) {
        match self.buckets.get(key) {
            Some(place) => {
                self.order.remove(place);
            }
            None if self.buckets.len() >= self.max_keys => self.forget_first(),
            None => {}
        }
        let place = (full_at, self.next);
        self.next += 1;
        self.order.insert(place, key.clone());
        self.buckets.insert(key.clone(), place);
    }

    /// Forgets a few that have been full for long: more than come in, so that none are left after a while.
    fn forget_full(&mut self, now: Timestamp) {
        let before = now.as_nanosecond() - KEPT_WHEN_FULL;
        for _ in 0..2 {
            if self.order.first_key_value().is_none_or(|((full_at, _), _)| *full_at > before) {
                return;
            }
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, forgotten)) = self.order.pop_first() {
            self.buckets.remove(&forgotten);
        }
    }

    /// How many buckets are kept.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    fn ms(millis: i64) -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap() + SignedDuration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut limiter = RateLimiter::new(rate(10, 3), 100);
        for _ in 0..3 {
            limiter.check(ms(0), &"a").unwrap();
        }
        assert_eq!(limiter.check(ms(0), &"a"), Err(RetryAfter(Duration::from_millis(100))));
        assert_eq!(limiter.check(ms(60), &"a"), Err(RetryAfter(Duration::from_millis(40))));
        limiter.check(ms(60), &"b").unwrap();
        limiter.check(ms(100), &"a").unwrap();
        limiter.check(ms(199), &"a").unwrap_err();
        for _ in 0..3 {
            limiter.check(ms(10_000), &"a").unwrap();
        }
        limiter.check(ms(10_000), &"a").unwrap_err();
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_tokens() {
        let mut limiter = RateLimiter::new(rate(1, 1), 100);
        limiter.check(ms(10_000), &"a").unwrap();
        limiter.check(ms(0), &"a").unwrap_err();
        limiter.check(ms(11_000), &"a").unwrap();
    }

    #[test]
    fn the_fullest_bucket_is_forgotten() {
        let mut limiter = RateLimiter::new(rate(1, 2), 2);
        limiter.check(ms(0), &"busy").unwrap();
        limiter.check(ms(0), &"busy").unwrap();
        for other in ["a", "b", "c", "d"] {
            limiter.check(ms(0), &other).unwrap();
            assert_eq!(limiter.keys(), 2);
        }
        limiter.check(ms(0), &"busy").unwrap_err();
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken_again() {
        let mut limiter = RateLimiter::new(rate(1, 2), 10);
        limiter.check(ms(0), &"a").unwrap();
        limiter.check(ms(0), &"a").unwrap();
        assert_eq!(limiter.peek(ms(0), &"a"), Err(RetryAfter(Duration::from_secs(1))));
        limiter.give_back(&"a");
        limiter.give_back(&"nobody");
        assert_eq!(limiter.peek(ms(0), &"a"), Ok(()));
        limiter.check(ms(0), &"a").unwrap();
        limiter.check(ms(0), &"a").unwrap_err();
        assert_eq!(limiter.keys(), 1);
    }

    #[test]
    fn what_has_been_full_for_long_takes_no_memory() {
        let mut limiter = RateLimiter::new(rate(10, 5), 1000);
        for key in 0..500 {
            limiter.check(ms(0), &key).unwrap();
        }
        for tick in 0..400 {
            limiter.check(ms(20_000 + tick * 100), &0).unwrap();
        }
        assert_eq!(limiter.keys(), 1);
    }

    #[test]
    fn the_header_is_never_too_early() {
        for (wait, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(RetryAfter(Duration::from_millis(wait)).seconds(), seconds);
        }
    }

    proptest! {
        #[test]
        fn as_many_pass_as_a_counted_bucket_lets(
            per_second in 1_u32..50,
            burst in 1_u32..10,
            steps in prop::collection::vec((0_i64..300, 0_u8..3), 1..200),
        ) {
            let mut limiter = RateLimiter::new(rate(per_second, burst), 3);
            // The model: nanoseconds of credit by key.
            let interval = i128::from(1_000_000_000 / per_second);
            let full = interval * i128::from(burst);
            let (mut credit, mut now) = ([full; 3], ms(0));
            for (wait, key) in steps {
                now += SignedDuration::from_millis(wait);
                credit.iter_mut().for_each(|credit| *credit = (*credit + i128::from(wait) * 1_000_000).min(full));
                let left = &mut credit[usize::from(key)];
                let result = limiter.check(now, &key);
                if *left >= interval {
                    prop_assert_eq!(result, Ok(()));
                    *left -= interval;
                } else {
                    let RetryAfter(wait) = result.unwrap_err();
                    prop_assert_eq!(i128::try_from(wait.as_nanos()).unwrap(), interval - *left);
                    prop_assert!(limiter.peek(now + SignedDuration::try_from(wait).unwrap(), &key).is_ok());
                }
            }
        }

        #[test]
        fn memory_is_bounded_and_both_orders_agree(keys in prop::collection::vec(any::<u16>(), 1..300), max in 1_usize..20) {
            let mut limiter = RateLimiter::new(rate(1, 3), max);
            for (index, key) in keys.iter().enumerate() {
                let _ = limiter.check(ms(i64::try_from(index).unwrap() * 10), key);
                prop_assert!(limiter.keys() <= max);
                prop_assert_eq!(limiter.keys(), limiter.order.len());
                prop_assert!(limiter.order.iter().all(|(place, key)| limiter.buckets[key] == *place));
            }
        }
    }
}
