//! Tells waiting readers that a run has changed.
//!
//! Level-triggered: a version says only *that* something changed; whoever wakes reads the state anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use startline_protocol::ids::RunId;
use tokio::sync::watch;

/// Versions of the runs that somebody may wait for.
#[derive(Debug)]
pub(crate) struct Changes {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Counts over all runs, so that a version is never used twice in a process. Starts at a time, so that it is not
    /// used again by the next process either.
    counter: u64,
    active: HashMap<RunId, watch::Sender<u64>>,
}

impl Changes {
    pub(crate) fn new(start: u64) -> Self {
        Self { inner: Mutex::new(Inner { counter: start, active: HashMap::new() }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a run known, so that it can be waited for.
    pub(crate) fn begin(&self, run: RunId) {
        let mut inner = self.lock();
        inner.counter += 1;
        let version = inner.counter;
        inner.active.insert(run, watch::Sender::new(version));
    }

    /// Notes a change of `run`; nothing happens when it is finished, as nobody can wait for it any more.
    pub(crate) fn bump(&self, run: RunId) {
        let mut inner = self.lock();
        inner.counter += 1;
        if let Some(sender) = inner.active.get(&run) {
            sender.send_replace(inner.counter);
        }
    }

    /// Notes the last change of `run` and forgets it; readers that wait are woken and see its end.
    pub(crate) fn finish(&self, run: RunId) {
        let mut inner = self.lock();
        inner.counter += 1;
        let version = inner.counter;
        if let Some(sender) = inner.active.remove(&run) {
            sender.send_replace(version);
        }
    }

    /// The run's version and a way to wait for the next; `None` once the run is finished.
    pub(crate) fn subscribe(&self, run: RunId) -> Option<watch::Receiver<u64>> {
        self.lock().active.get(&run).map(watch::Sender::subscribe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_sees_each_change_and_the_end() {
        let changes = Changes::new(100);
        let run = RunId(1);
        assert!(changes.subscribe(run).is_none());
        changes.begin(run);
        let mut reader = changes.subscribe(run).unwrap();
        let before = *reader.borrow_and_update();
        changes.bump(run);
        reader.changed().await.unwrap();
        assert!(*reader.borrow_and_update() > before);
        changes.finish(run);
        reader.changed().await.unwrap();
        assert!(reader.changed().await.is_err(), "the sender is gone");
        changes.bump(run);
        assert!(changes.subscribe(run).is_none(), "a late change does not bring it back");
    }
}
