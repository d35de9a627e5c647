use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::RunnerKeyPair;

/// How much nicer than the rest of the process the thread that fills the pool is.
const NICENESS: i32 = 10;

/// Key pairs made ahead, so that a burst of just-in-time runners does not wait for prime numbers.
///
/// One thread of low priority keeps `size` pairs ready from the moment on when the pool is wanted; it sleeps before that and
/// while the pool is full, and ends when the pool is dropped, which waits for the pair that it is making.
pub struct KeyPool {
    shared: Arc<Shared>,
    filler: Option<JoinHandle<()>>,
}

struct Shared {
    size: usize,
    state: Mutex<State>,
    /// That a pair was taken or added, or that the pool ends.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<RunnerKeyPair>,
    wanted: bool,
    stopped: bool,
}

impl KeyPool {
    /// A pool that keeps `size` pairs ready (some 3 KiB each) once it is wanted; one of size 0 makes every pair when it is
    /// asked for.
    ///
    /// # Panics
    /// When the operating system gives no thread.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let shared = Arc::new(Shared { size, state: Mutex::default(), changed: Condvar::new() });
        let filler = (size > 0).then(|| {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name("runner-keys".to_owned());
            thread.spawn(move || shared.fill()).expect("the operating system gives a thread")
        });
        Self { shared, filler }
    }

    /// Says that pairs will be asked for: the pool begins to fill. Taking one says so too.
    pub fn want(&self) {
        self.shared.lock().wanted = true;
        self.shared.changed.notify_all();
    }

    /// A pair, at once if one is ready; otherwise it is made here.
    ///
    /// That takes tens to hundreds of milliseconds of this thread: async code calls it in `spawn_blocking`, or calls
    /// [`KeyPool::try_take`] first.
    #[must_use]
    pub fn take(&self) -> RunnerKeyPair {
        self.try_take().unwrap_or_else(RunnerKeyPair::generate)
    }

    /// A pair if one is ready. Never waits for one to be made.
    #[must_use]
    pub fn try_take(&self) -> Option<RunnerKeyPair> {
        let pair = {
            let mut state = self.shared.lock();
            state.wanted = true;
            state.ready.pop()
        };
        self.shared.changed.notify_all();
        pair
    }

    /// How many pairs are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }
}

impl Drop for KeyPool {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(filler) = self.filler.take() {
            // It panics only when there are no random numbers, and has said so then.
            let _ = filler.join();
        }
    }
}

impl fmt::Debug for KeyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPool({} of {} ready)", self.ready(), self.shared.size)
    }
}

impl Shared {
    /// Nothing that runs under the lock can leave the pairs half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self) {
        // Of this thread alone: on Linux niceness belongs to threads. If it is refused the pool is only less polite.
        let _ = rustix::process::nice(NICENESS);
        loop {
            let full = |state: &mut State| !state.stopped && (!state.wanted || state.ready.len() >= self.size);
            let state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
            if state.stopped {
                return;
            }
            drop(state);
            let pair = RunnerKeyPair::generate();
            self.lock().ready.push(pair);
            self.changed.notify_all();
        }
    }

    /// Waits until the pool is full.
    #[cfg(test)]
    fn wait_until_full(&self) {
        let filling = |state: &mut State| state.ready.len() < self.size;
        let patience = std::time::Duration::from_secs(300);
        let waited = self.changed.wait_timeout_while(self.lock(), patience, filling);
        let (_state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the pool is not full after five minutes");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    #[test]
    fn the_pool_fills_itself_hands_out_each_pair_once_and_never_runs_dry() {
        let pool = KeyPool::new(2);
        pool.want();
        pool.shared.wait_until_full();
        let taken: Vec<String> = (0..4).map(|_| pool.take().public().fingerprint()).collect();
        for (index, fingerprint) in taken.iter().enumerate() {
            assert!(!taken[..index].contains(fingerprint), "handed out twice");
        }
        pool.shared.wait_until_full();
        assert_eq!(pool.ready(), 2, "filled again and no further");
    }

    #[test]
    fn a_pool_of_size_zero_has_nothing_ready_but_gives_keys() {
        let pool = KeyPool::new(0);
        assert!(pool.try_take().is_none());
        assert_eq!(pool.take().public().modulus().len(), 256);
    }

    #[test]
    fn the_thread_ends_with_the_pool() {
        let pool = KeyPool::new(1);
        let shared: Weak<Shared> = Arc::downgrade(&pool.shared);
        drop(pool);
        assert!(shared.upgrade().is_none(), "the thread has let go of the pool");
    }

    /// The niceness of the thread behind `/proc/<path>/stat`: field 19, counted behind the name in parentheses.
    fn niceness(path: &std::path::Path) -> Option<i32> {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(16)?.parse().ok()
    }

    #[test]
    fn the_thread_gives_way_to_the_rest_of_the_process_and_nobody_else_does() {
        let pool = KeyPool::new(1);
        assert!(pool.try_take().is_none(), "nothing is made before it is wanted");
        pool.shared.wait_until_full();
        let ours = niceness("/proc/thread-self".as_ref()).unwrap();
        let nicer = (ours + NICENESS).min(19);
        // Other tests have such threads too, some of which may end or begin just now.
        let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
        let fillers =
            threads.filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|it| it == "runner-keys\n"));
        assert!(fillers.filter_map(|path| niceness(&path)).any(|niceness| niceness == nicer));
        assert_eq!(niceness("/proc/self".as_ref()), Some(ours), "the process as a whole");
    }
}
