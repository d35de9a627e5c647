//! Runner tokens that were looked up a moment ago, so that a runner's calls in quick succession (a poll, an acquire, a
//! heartbeat) cost one look-up.
//!
//! What the cache says may be as old as [`TTL`]: a token that is revoked, replaced or expired is refused that much later
//! at most. A deleted registration is taken out at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_protocol::ids::RunnerId;
use startline_store::Hash;

use crate::auth::KnownRunner;

/// How long a look-up is believed.
const TTL: SignedDuration = SignedDuration::from_secs(5);
/// Most look-ups that are kept. A miss costs one read of an index, so there is nothing to gain from keeping many.
const MOST: usize = 1024;

/// The runners that tokens speak for, by the token's hash.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    known: Mutex<HashMap<Hash, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    runner: Arc<KnownRunner>,
    since: Timestamp,
}

impl Known {
    /// A clock that was set back must not lengthen an entry's life.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.since);
        age >= SignedDuration::ZERO && age < TTL
    }
}

impl TokenCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runner that the token spoke for a moment ago.
    pub(crate) fn get(&self, token: &Hash, now: Timestamp) -> Option<Arc<KnownRunner>> {
        let known = self.lock().get(token).cloned()?;
        known.is_fresh(now).then_some(known.runner)
    }

    /// Notes the answer of a look-up.
    pub(crate) fn put(&self, token: Hash, runner: Arc<KnownRunner>, now: Timestamp) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, entry| entry.is_fresh(now));
            if known.len() >= MOST {
                known.clear();
            }
        }
        known.insert(token, Known { runner, since: now });
    }

    /// Forgets the tokens of a runner whose registration is gone.
    pub(crate) fn forget(&self, runner: RunnerId) {
        self.lock().retain(|_, entry| entry.runner.id != runner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: RunnerId = RunnerId(7);
    const TOKEN: Hash = [7; 32];

    fn runner(id: i64) -> Arc<KnownRunner> {
        let id = RunnerId(id);
        Arc::new(KnownRunner { id, name: format!("vm-{id}"), scope: startline_protocol::scope::Scope::Instance })
    }

    fn get(cache: &TokenCache, token: &Hash, now: Timestamp) -> Option<RunnerId> {
        cache.get(token, now).map(|runner| runner.id)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_look_up_is_believed_for_five_seconds() {
        let cache = TokenCache::default();
        cache.put(TOKEN, runner(7), at(100));
        assert_eq!(get(&cache, &TOKEN, at(104)), Some(RUNNER));
        assert_eq!(get(&cache, &TOKEN, at(105)), None);
        assert_eq!(get(&cache, &[8; 32], at(100)), None);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_an_entry() {
        let cache = TokenCache::default();
        cache.put(TOKEN, runner(7), at(100));
        assert_eq!(get(&cache, &TOKEN, at(99)), None);
    }

    #[test]
    fn a_deleted_runner_is_forgotten_at_once_with_all_its_tokens() {
        let cache = TokenCache::default();
        cache.put(TOKEN, runner(7), at(100));
        cache.put([8; 32], runner(7), at(100));
        cache.put([9; 32], runner(9), at(100));
        cache.forget(RUNNER);
        assert_eq!(get(&cache, &TOKEN, at(100)), None);
        assert_eq!(get(&cache, &[8; 32], at(100)), None);
        assert_eq!(get(&cache, &[9; 32], at(100)), Some(RunnerId(9)));
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
            cache.put(token(number), runner(7), at(if number == 0 { 104 } else { 100 }));
        }
        cache.put(token(MOST), runner(7), at(106));
        assert_eq!(cache.lock().len(), 2);
        assert_eq!(get(&cache, &token(0), at(106)), Some(RUNNER));
        for number in 0..3 * MOST {
            cache.put(token(number), runner(7), at(107));
            assert!(cache.lock().len() <= MOST);
        }
    }
}
