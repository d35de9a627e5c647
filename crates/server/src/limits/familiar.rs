//! Bearers that have been good lately.

use std::collections::HashSet;
use std::mem;

/// How many are remembered at least; at most twice as many.
const ENOUGH: usize = 65_536;

/// A set that forgets what has not been seen for longest, roughly: in two generations, of which the older goes when the
/// younger is full.
#[derive(Debug, Default)]
pub(super) struct Familiar {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Familiar {
    /// Whether it was good; if so it is remembered for longer.
    pub(super) fn knows(&mut self, bearer: u64) -> bool {
        if self.young.contains(&bearer) {
            return true;
        }
        let known = self.old.remove(&bearer);
        if known {
            self.add(bearer);
        }
        known
    }

    /// Remembers it; whether it is new.
    pub(super) fn insert(&mut self, bearer: u64) -> bool {
        let new = !self.knows(bearer);
        if new {
            self.add(bearer);
        }
        new
    }

    pub(super) fn remove(&mut self, bearer: u64) {
        self.young.remove(&bearer);
        self.old.remove(&bearer);
    }

    fn add(&mut self, bearer: u64) {
        if self.young.len() >= ENOUGH {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(bearer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays_and_the_rest_goes() {
        let mut familiar = Familiar::default();
        assert!(familiar.insert(0) && familiar.insert(1) && !familiar.insert(1));
        for bearer in 2..1_000_000 {
            assert!(familiar.insert(bearer));
            assert!(familiar.knows(0), "{bearer}");
            assert!(familiar.young.len() + familiar.old.len() <= 2 * ENOUGH);
        }
        assert!(!familiar.knows(1));
        familiar.remove(0);
        assert!(!familiar.knows(0));
    }
}
