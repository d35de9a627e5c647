use std::collections::{BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;

use crate::sha256;

/// Which assertions were used: by client and id, until they are not accepted any more.
///
/// It remembers at most `capacity` (some 150 bytes each, however long the ids are) and forgets those that end soonest
/// when there are more. It is in memory alone: after a restart an assertion could be used once more while it lasts.
pub struct ReplayCache {
    capacity: usize,
    until: HashMap<Digest, Timestamp>,
    by_end: BTreeSet<(Timestamp, Digest)>,
}

type Digest = [u8; 32];

impl ReplayCache {
    /// A cache that remembers `capacity` assertions, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), until: HashMap::new(), by_end: BTreeSet::new() }
    }

    /// Whether the assertion `jti` of `client` was not used before; from now on it was.
    ///
    /// `until` is [`Assertion::accepted_until`](super::Assertion::accepted_until): `exp` alone would let an assertion
    /// be used again within the leeway.
    #[must_use]
    pub fn check_and_insert(&mut self, client: &str, jti: &str, until: Timestamp, now: Timestamp) -> bool {
        while let Some((end, _)) = self.by_end.first()
            && *end <= now
        {
            self.forget_first();
        }
        let digest = digest(client, jti);
        if self.until.contains_key(&digest) {
            return false;
        }
        if self.until.len() >= self.capacity {
            self.forget_first();
        }
        self.until.insert(digest, until);
        self.by_end.insert((until, digest));
        true
    }

    /// How many assertions it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    fn forget_first(&mut self) {
        if let Some((_, digest)) = self.by_end.pop_first() {
            self.until.remove(&digest);
        }
    }
}

impl fmt::Debug for ReplayCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayCache({} of {})", self.len(), self.capacity)
    }
}

/// The length keeps `("a", "bc")` apart from `("ab", "c")`.
fn digest(client: &str, jti: &str) -> Digest {
    sha256(&[&client.len().to_be_bytes(), client.as_bytes(), jti.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_assertion_is_good_once_while_it_lasts() {
        let mut cache = ReplayCache::new(10);
        assert!(cache.check_and_insert("a", "1", at(100), at(50)));
        assert!(!cache.check_and_insert("a", "1", at(100), at(50)));
        assert!(!cache.check_and_insert("a", "1", at(100), at(99)));
        assert!(cache.check_and_insert("b", "1", at(100), at(50)), "another client's");
        assert!(cache.check_and_insert("a", "2", at(100), at(50)), "another id");
        assert!(cache.check_and_insert("", "a1", at(100), at(50)), "the same letters, divided otherwise");
        assert!(cache.check_and_insert("a", "3", at(200), at(100)));
        assert_eq!(cache.len(), 1, "those that are over are forgotten");
    }

    #[test]
    fn a_full_cache_forgets_what_ends_soonest_and_never_the_newest() {
        let mut cache = ReplayCache::new(2);
        assert!(cache.check_and_insert("a", "late", at(300), at(0)));
        assert!(cache.check_and_insert("a", "soon", at(100), at(0)));
        assert!(cache.check_and_insert("a", "sooner", at(50), at(0)));
        assert!(!cache.check_and_insert("a", "late", at(300), at(0)));
        assert!(!cache.check_and_insert("a", "sooner", at(50), at(0)));
        assert!(cache.check_and_insert("a", "soon", at(100), at(0)), "this one had to go");
    }

    proptest! {
        #[test]
        fn every_history_is_that_of_the_naive_cache(
            capacity in 1usize..6,
            words in proptest::collection::vec((0u8..3, 0u8..4, 1i64..30, 0i64..4), 0..80),
        ) {
            let mut cache = ReplayCache::new(capacity);
            let mut naive: Vec<(String, String, i64)> = Vec::new();
            let mut now = 0;
            for (client, jti, life, step) in words {
                now += step;
                let (client, jti, until) = (client.to_string(), jti.to_string(), now + life);
                naive.retain(|(_, _, until)| *until > now);
                let fresh = !naive.iter().any(|(one, two, _)| (one, two) == (&client, &jti));
                // Which of several with the same end goes is not promised: give each an end of its own.
                let until = (until..).find(|end| naive.iter().all(|(_, _, other)| other != end)).unwrap();
                prop_assert_eq!(cache.check_and_insert(&client, &jti, at(until), at(now)), fresh);
                if fresh {
                    if naive.len() == capacity {
                        let first = (0..naive.len()).min_by_key(|index| naive[*index].2).unwrap();
                        naive.remove(first);
                    }
                    naive.push((client, jti, until));
                }
                prop_assert!(cache.len() <= capacity);
                prop_assert_eq!(cache.len(), naive.len());
                prop_assert_eq!(cache.by_end.len(), cache.until.len());
            }
        }
    }
}
