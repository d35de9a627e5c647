//! Stopping in two phases.

use tokio_util::sync::CancellationToken;

/// Stops what is served, in two phases. A copy is the same drain.
///
/// Phase 1 ([`start`](Self::start)): no new connection is accepted, idle ones are closed, and whoever holds a request
/// open (a long poll, a log follower) sees [`draining`](Self::draining) and answers at once. Phase 2
/// ([`abort`](Self::abort), or the drain time-out): what is still open is cut.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    draining: CancellationToken,
    aborting: CancellationToken,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins phase 1.
    pub fn start(&self) {
        self.draining.cancel();
    }

    /// Begins phase 2, and phase 1 if it has not begun.
    pub fn abort(&self) {
        self.draining.cancel();
        self.aborting.cancel();
    }

    /// Whether phase 1 has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Cancelled when phase 1 begins: for handlers that wait.
    #[must_use]
    pub const fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when phase 2 is asked for (not by the drain time-out, which each listener keeps for itself).
    #[must_use]
    pub const fn aborting(&self) -> &CancellationToken {
        &self.aborting
    }
}
