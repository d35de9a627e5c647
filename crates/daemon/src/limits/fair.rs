//! Turns by key.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Lets so many in at once, and those who wait in turns: one of each key, whoever has been waiting longest of it.
///
/// Who has a hundred waiting gets as many turns as who has one, so that a key slows only itself: between two turns of
/// a key that waits, every other key has one at most. A copy is the same gate.
pub struct FairGate<K> {
    gate: Arc<Gate<K>>,
}

impl<K> fmt::Debug for FairGate<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.gate.lock();
        f.debug_struct("FairGate").field("free", &state.free).field("turns", &state.turns.len()).finish()
    }
}

impl<K> Clone for FairGate<K> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate) }
    }
}

/// A place behind the gate, until it is dropped.
#[must_use = "the place is given back when this is dropped"]
pub struct Permit {
    /// None once it is given back.
    gate: Option<Arc<dyn Release>>,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.release();
        }
    }
}

/// A gate, whatever its keys are.
trait Release: Send + Sync {
    /// Gives a place to whoever has the next turn.
    fn release(self: Arc<Self>);
}

/// Too many of the same key wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests of the same kind are waiting already")]
pub struct Overloaded {
    /// How many.
    pub waiting: usize,
}

struct Gate<K> {
    max_waiting: usize,
    state: Mutex<State<K>>,
}

struct State<K> {
    /// Places that nobody has. None are free while anybody waits.
    free: usize,
    queues: HashMap<K, VecDeque<Waiter>>,
    /// The keys that have a queue, the next one to be served first.
    turns: VecDeque<K>,
    next: u64,
}

struct Waiter {
    /// Rises within a queue.
    number: u64,
    turn: oneshot::Sender<Permit>,
}

impl<K: Clone + Eq + Hash + Send + 'static> FairGate<K> {
    /// Lets `places` (at least one) in at once, and has at most `max_waiting` of each key wait.
    #[must_use]
    pub fn new(places: usize, max_waiting: usize) -> Self {
        let state = State { free: places.max(1), queues: HashMap::new(), turns: VecDeque::new(), next: 0 };
        Self { gate: Arc::new(Gate { max_waiting, state: Mutex::new(state) }) }
    }

    /// Waits for a turn of `key`'s. Cancel safe: who gives up leaves its place to the next.
    ///
    /// # Errors
    /// At once, when too many of the same key are waiting.
    pub async fn acquire(&self, key: K) -> Result<Permit, Overloaded> {
        let (mut queued, turn) = {
            let mut state = self.gate.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Permit { gate: Some(Arc::clone(&self.gate) as Arc<dyn Release>) });
            }
            let waiting = state.queues.get(&key).map_or(0, VecDeque::len);
            if waiting >= self.gate.max_waiting {
                return Err(Overloaded { waiting });
            }
            let (sender, turn) = oneshot::channel();
            (Queued { gate: &self.gate, number: state.push(key.clone(), sender), key, waits: true }, turn)
        };
        let permit = turn.await.expect("a waiter leaves the queue with a permit or by giving up");
        queued.waits = false;
        Ok(permit)
    }

    /// How many places nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.gate.lock().free
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.gate.lock().queues.values().map(VecDeque::len).sum()
    }
}

/// A place in a queue, which is left when this is dropped. (A permit that was sent and not received is dropped with
/// its channel, and so given back.)
struct Queued<'a, K: Clone + Eq + Hash> {
    gate: &'a Gate<K>,
    key: K,
    number: u64,
    waits: bool,
}

impl<K: Clone + Eq + Hash> Drop for Queued<'_, K> {
    fn drop(&mut self) {
        if self.waits {
            self.gate.lock().give_up(&self.key, self.number);
        }
    }
}

impl<K> Gate<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Release for Gate<K> {
    fn release(self: Arc<Self>) {
        let mut permit = Permit { gate: Some(Arc::clone(&self) as Arc<dyn Release>) };
        let mut state = self.lock();
        while let Some(waiter) = state.pop() {
            match waiter.turn.send(permit) {
                Ok(()) => return,
                // It is just going, and has not come to say so.
                Err(unused) => permit = unused,
            }
        }
        state.free += 1;
        // Or its drop would give it back once more.
        permit.gate = None;
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn push(&mut self, key: K, turn: oneshot::Sender<Permit>) -> u64 {
        let number = self.next;
        self.next += 1;
        let queue = self.queues.entry(key.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(key);
        }
        queue.push_back(Waiter { number, turn });
        number
    }

    /// Whoever has the next turn.
    fn pop(&mut self) -> Option<Waiter> {
        let key = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        waiter
    }

    fn give_up(&mut self, key: &K, number: u64) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let Ok(index) = queue.binary_search_by_key(&number, |waiter| waiter.number) else { return };
        queue.remove(index);
        if queue.is_empty() {
            self.queues.remove(key);
            self.turns.retain(|other| other != key);
        }
    }
}
