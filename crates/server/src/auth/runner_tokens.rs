//! Runner tokens that were looked up lately. A runner that waits for a job shows its token once a minute, so they are
//! remembered for many minutes, and there are as many as runners.
//!
//! Only this process changes registrations and their tokens, and says so here ([`RunnerTokens::forget`]); a token's own
//! end is kept with it.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;
use startline_store::{Hash, TokenBearer};

/// How long a look-up is believed.
const TTL: SignedDuration = SignedDuration::from_mins(10);
/// How many tokens are remembered at least; at most twice as many.
const ENOUGH: usize = 131_072;

/// What a runner token says of its bearer.
#[derive(Debug)]
pub(crate) struct KnownRunner {
    pub id: RunnerId,
    pub name: String,
    pub scope: Scope,
    /// What is known here of the runner's tokens is not to be believed any more.
    is_over: AtomicBool,
}

/// Runner tokens by their hashes, in two generations of which the older goes when the younger is full.
#[derive(Debug)]
pub(crate) struct RunnerTokens {
    enough: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    young: HashMap<Hash, Known>,
    old: HashMap<Hash, Known>,
    runners: HashMap<RunnerId, Arc<KnownRunner>>,
    /// How often something was forgotten.
    forgotten: u64,
}

#[derive(Clone, Debug)]
struct Known {
    runner: Arc<KnownRunner>,
    since: Timestamp,
    expires_at: Timestamp,
}

impl Known {
    /// A clock that was set back must not lengthen an entry's life.
    fn is_good(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.since);
        !self.runner.is_over.load(Ordering::Relaxed)
            && age >= SignedDuration::ZERO
            && age < TTL
            && now < self.expires_at
    }
}

impl Inner {
    fn keep(&mut self, token: Hash, known: Known, enough: usize) {
        if self.young.len() >= enough {
            self.old = mem::take(&mut self.young);
            self.runners.retain(|_, runner| Arc::strong_count(runner) > 1);
        }
        self.young.insert(token, known);
    }
}

/// The state in which a look-up begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

impl Default for RunnerTokens {
    fn default() -> Self {
        Self::remembering(ENOUGH)
    }
}

impl RunnerTokens {
    fn remembering(enough: usize) -> Self {
        Self { enough, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runner that the token speaks for; or else what [`Self::put`] wants to be given after the look-up.
    pub(crate) fn get(&self, token: &Hash, now: Timestamp) -> Result<Arc<KnownRunner>, Mark> {
        let mut inner = self.lock();
        let mark = Mark(inner.forgotten);
        if let Some(known) = inner.young.get(token) {
            return if known.is_good(now) { Ok(Arc::clone(&known.runner)) } else { Err(mark) };
        }
        let known = inner.old.remove(token).filter(|known| known.is_good(now)).ok_or(mark)?;
        let runner = Arc::clone(&known.runner);
        inner.keep(*token, known, self.enough);
        Ok(runner)
    }

    /// Notes the answer of a look-up, unless something was forgotten since it began: it may have been this.
    pub(crate) fn put(&self, token: Hash, bearer: TokenBearer, now: Timestamp, mark: Mark) -> Arc<KnownRunner> {
        let TokenBearer { runner, expires_at } = bearer;
        let found = KnownRunner { id: runner.id, name: runner.name, scope: runner.scope, is_over: false.into() };
        let mut inner = self.lock();
        if inner.forgotten != mark.0 {
            return Arc::new(found);
        }
        let runner = Arc::clone(inner.runners.entry(found.id).or_insert_with(|| Arc::new(found)));
        inner.keep(token, Known { runner: Arc::clone(&runner), since: now, expires_at }, self.enough);
        runner
    }

    /// The runner's registration or its tokens have changed, or are about to.
    pub(crate) fn forget(&self, runner: RunnerId) {
        let mut inner = self.lock();
        inner.forgotten += 1;
        if let Some(runner) = inner.runners.remove(&runner) {
            runner.is_over.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use startline_protocol::capabilities::Capabilities;
    use startline_store::RunnerRecord;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token(number: usize) -> Hash {
        let mut token = [0; 32];
        token[..8].copy_from_slice(&number.to_le_bytes());
        token
    }

    fn bearer(id: i64, end: i64) -> TokenBearer {
        let runner = RunnerRecord {
            id: RunnerId(id),
            name: format!("r{id}"),
            labels: Vec::new(),
            scope: Scope::Instance,
            group: "default".to_owned(),
            capabilities: Capabilities::default(),
            ephemeral: false,
            version: String::new(),
            created_at: at(0),
            last_seen_at: None,
            actions: None,
        };
        TokenBearer { runner, expires_at: at(end) }
    }

    fn put(tokens: &RunnerTokens, number: usize, id: i64, second: i64) {
        let mark = Mark(tokens.lock().forgotten);
        tokens.put(token(number), bearer(id, 1_000_000), at(second), mark);
    }

    fn get(tokens: &RunnerTokens, number: usize, second: i64) -> Option<i64> {
        tokens.get(&token(number), at(second)).ok().map(|runner| runner.id.0)
    }

    #[test]
    fn a_look_up_is_believed_for_ten_minutes_and_not_beyond_the_tokens_end() {
        let tokens = RunnerTokens::default();
        put(&tokens, 1, 7, 100);
        assert_eq!(get(&tokens, 1, 699), Some(7));
        assert_eq!(get(&tokens, 1, 700), None);
        assert_eq!(get(&tokens, 1, 99), None, "the clock was set back");
        assert_eq!(get(&tokens, 2, 100), None);
        let mark = tokens.get(&token(3), at(100)).unwrap_err();
        tokens.put(token(3), bearer(8, 110), at(100), mark);
        assert_eq!(get(&tokens, 3, 109), Some(8));
        assert_eq!(get(&tokens, 3, 110), None);
    }

    #[test]
    fn a_runner_is_forgotten_with_all_its_tokens() {
        let tokens = RunnerTokens::default();
        put(&tokens, 1, 7, 100);
        put(&tokens, 2, 7, 100);
        put(&tokens, 3, 9, 100);
        tokens.forget(RunnerId(7));
        assert_eq!(get(&tokens, 1, 100), None);
        assert_eq!(get(&tokens, 2, 100), None);
        assert_eq!(get(&tokens, 3, 100), Some(9));
        // One of its tokens is looked up anew; what was believed of the other stays forgotten.
        put(&tokens, 2, 7, 101);
        assert_eq!(get(&tokens, 2, 102), Some(7));
        assert_eq!(get(&tokens, 1, 102), None);
    }

    #[test]
    fn a_look_up_that_began_before_something_was_forgotten_is_not_kept() {
        let tokens = RunnerTokens::default();
        let mark = tokens.get(&token(1), at(100)).unwrap_err();
        tokens.forget(RunnerId(7));
        assert_eq!(tokens.put(token(1), bearer(7, 1000), at(100), mark).id, RunnerId(7));
        assert_eq!(get(&tokens, 1, 100), None);
    }

    #[test]
    fn what_is_shown_stays_and_the_rest_goes() {
        const ENOUGH: usize = 64;
        let tokens = RunnerTokens::remembering(ENOUGH);
        put(&tokens, 0, 0, 100);
        for number in 1..10_000 {
            put(&tokens, number, i64::try_from(number).unwrap(), 100);
            assert_eq!(get(&tokens, 0, 101), Some(0), "{number}");
            let inner = tokens.lock();
            assert!(inner.young.len() + inner.old.len() <= 2 * ENOUGH, "{number}");
            assert!(inner.runners.len() <= 3 * ENOUGH, "{number}");
        }
        assert_eq!(get(&tokens, 1, 101), None);
        assert_eq!(get(&tokens, 9_999, 101), Some(9_999));
    }
}
