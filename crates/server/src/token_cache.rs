//! Tokens that were looked up a moment ago, so that a caller's requests in quick succession (submission after submission; a
//! worker's reports) cost one look-up. Runner tokens are remembered apart (`auth/runner_tokens.rs`).
//!
//! What the cache says of a record may be as old as [`TTL`], for what another process changes. What this one revokes or
//! deletes is taken out at once. What a signed token says does not change, so that it is believed for longer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_store::Hash;

/// How long a look-up of a record is believed.
const TTL: SignedDuration = SignedDuration::from_secs(5);
/// How long the signature of a token is not looked at again.
const SIGNED_TTL: SignedDuration = SignedDuration::from_mins(10);
/// Most look-ups that are kept. A miss costs one read of an index, so there is nothing to gain from keeping many.
const MOST: usize = 1024;

/// What tokens stand for, by the token's hash.
#[derive(Debug)]
pub(crate) struct TokenCache<T> {
    ttl: SignedDuration,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    known: HashMap<Hash, Known<T>>,
    /// How often something was taken out.
    forgotten: u64,
}

#[derive(Debug)]
struct Known<T> {
    value: T,
    since: Timestamp,
}

impl<T> Known<T> {
    /// A clock that was set back must not lengthen an entry's life.
    fn is_fresh(&self, now: Timestamp, ttl: SignedDuration) -> bool {
        let age = now.duration_since(self.since);
        age >= SignedDuration::ZERO && age < ttl
    }
}

impl<T> Inner<T> {
    fn keep(&mut self, token: Hash, entry: Known<T>, ttl: SignedDuration) {
        if self.known.len() >= MOST {
            self.known.retain(|_, known| known.is_fresh(entry.since, ttl));
            if self.known.len() >= MOST {
                self.known.clear();
            }
        }
        self.known.insert(token, entry);
    }
}

/// The state in which a look-up begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

impl<T> Default for TokenCache<T> {
    fn default() -> Self {
        Self::with_ttl(TTL)
    }
}

impl<T> TokenCache<T> {
    /// For what signed tokens say. Whether one has expired is asked each time.
    pub(crate) fn signed() -> Self {
        Self::with_ttl(SIGNED_TTL)
    }

    fn with_ttl(ttl: SignedDuration) -> Self {
        Self { ttl, inner: Mutex::new(Inner { known: HashMap::new(), forgotten: 0 }) }
    }
}

impl<T: Clone> TokenCache<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the token stood for a moment ago; or else what [`Self::put`] wants to be given after the look-up.
    pub(crate) fn get(&self, token: &Hash, now: Timestamp) -> Result<T, Mark> {
        let inner = self.lock();
        let fresh = inner.known.get(token).filter(|known| known.is_fresh(now, self.ttl));
        fresh.map(|known| known.value.clone()).ok_or(Mark(inner.forgotten))
    }

    /// Notes the answer of a look-up, unless something was taken out since it began: it may have been this.
    pub(crate) fn put(&self, token: Hash, value: T, now: Timestamp, mark: Mark) {
        let mut inner = self.lock();
        if inner.forgotten == mark.0 {
            inner.keep(token, Known { value, since: now }, self.ttl);
        }
    }

    /// Notes what needs no look-up.
    pub(crate) fn note(&self, token: Hash, value: T, now: Timestamp) {
        self.lock().keep(token, Known { value, since: now }, self.ttl);
    }

    /// Forgets what is over.
    pub(crate) fn forget(&self, is_over: impl Fn(&T) -> bool) {
        let mut inner = self.lock();
        inner.forgotten += 1;
        inner.known.retain(|_, entry| !is_over(&entry.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: i64 = 7;
    const TOKEN: Hash = [7; 32];

    fn get(cache: &TokenCache<i64>, token: &Hash, now: Timestamp) -> Option<i64> {
        cache.get(token, now).ok()
    }

    fn put(cache: &TokenCache<i64>, token: Hash, value: i64, now: Timestamp) {
        let mark = Mark(cache.lock().forgotten);
        cache.put(token, value, now, mark);
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_look_up_is_believed_for_five_seconds() {
        let cache = TokenCache::default();
        put(&cache, TOKEN, RUNNER, at(100));
        assert_eq!(get(&cache, &TOKEN, at(104)), Some(RUNNER));
        assert_eq!(get(&cache, &TOKEN, at(105)), None);
        assert_eq!(get(&cache, &[8; 32], at(100)), None);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_an_entry() {
        let cache = TokenCache::default();
        put(&cache, TOKEN, RUNNER, at(100));
        assert_eq!(get(&cache, &TOKEN, at(99)), None);
    }

    #[test]
    fn what_is_over_is_forgotten_at_once_with_all_its_tokens() {
        let cache = TokenCache::default();
        put(&cache, TOKEN, RUNNER, at(100));
        put(&cache, [8; 32], RUNNER, at(100));
        put(&cache, [9; 32], 9, at(100));
        cache.forget(|runner| *runner == RUNNER);
        assert_eq!(get(&cache, &TOKEN, at(100)), None);
        assert_eq!(get(&cache, &[8; 32], at(100)), None);
        assert_eq!(get(&cache, &[9; 32], at(100)), Some(9));
    }

    #[test]
    fn a_look_up_that_began_before_something_was_forgotten_is_not_kept() {
        let cache = TokenCache::default();
        let mark = cache.get(&TOKEN, at(100)).unwrap_err();
        cache.forget(|runner| *runner == RUNNER);
        cache.put(TOKEN, RUNNER, at(100), mark);
        assert_eq!(get(&cache, &TOKEN, at(100)), None);
    }

    #[test]
    fn the_cache_stays_within_its_bound_and_keeps_what_is_fresh() {
        let cache = TokenCache::default();
        let token = |number: usize| {
            let mut token = [0; 32];
            token[..8].copy_from_slice(&number.to_le_bytes());
            token
        };
        for number in 0..MOST {
            put(&cache, token(number), RUNNER, at(if number == 0 { 104 } else { 100 }));
        }
        put(&cache, token(MOST), RUNNER, at(106));
        assert_eq!(cache.lock().known.len(), 2);
        assert_eq!(get(&cache, &token(0), at(106)), Some(RUNNER));
        for number in 0..3 * MOST {
            put(&cache, token(number), RUNNER, at(107));
            assert!(cache.lock().known.len() <= MOST);
        }
    }
}
