//! The two ways to ask a runner to stop.

use tokio_util::sync::CancellationToken;

/// Asks a runner to stop. Clones ask the same runner.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    cancel: CancellationToken,
}

impl Shutdown {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Take no new job, finish those that run, then end.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Cancel the jobs that run, and end as soon as they have.
    pub fn cancel(&self) {
        self.drain.cancel();
        self.cancel.cancel();
    }

    /// What a signal means: the first drains, every later one cancels.
    pub fn escalate(&self) {
        if self.drain.is_cancelled() { self.cancel() } else { self.drain() }
    }

    pub(crate) const fn draining(&self) -> &CancellationToken {
        &self.drain
    }

    pub(crate) const fn cancelling(&self) -> &CancellationToken {
        &self.cancel
    }
}
