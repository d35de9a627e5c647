//! How long the dispatcher waits for what, and how much it hands out.

use jiff::{SignedDuration, Timestamp};

/// The dispatcher's times, thresholds and limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How long an offer stays open; not acquired by then, the job goes back to the queue.
    pub offer_window: SignedDuration,
    /// How long a lease lives without being renewed.
    pub lease_duration: SignedDuration,
    /// How long a runner may be silent before it counts as offline.
    pub offline_after: SignedDuration,
    /// When a mass expiry is taken for a fault of the service.
    pub brake: Brake,
    /// How many requirement classes without jobs are remembered, so that a class whose jobs come and go is not matched
    /// with all runners anew each time.
    pub idle_classes: usize,
    /// Most jobs of one repository in runners' hands at the same time; can be changed later with
    /// [`Dispatcher::set_max_running_jobs_per_repository`](crate::Dispatcher::set_max_running_jobs_per_repository).
    pub max_running_jobs_per_repository: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            offer_window: SignedDuration::from_mins(2),
            lease_duration: SignedDuration::from_secs(90),
            offline_after: SignedDuration::from_secs(60),
            brake: Brake::default(),
            idle_classes: 256,
            max_running_jobs_per_repository: None,
        }
    }
}

/// The mass-expiry brake: when very many leases (or signs of life) run out within one window, the fault is more
/// likely the service's than everybody else's, so each of them is extended once instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Brake {
    /// It trips when more than this share, in per cent, would run out within one window.
    pub share_percent: u8,
    /// Nor does it trip below this number.
    pub at_least: usize,
    /// How far ahead one looks when something is due. Never more than a third of the time that runs out, lest
    /// leases in good health be counted.
    pub window: SignedDuration,
}

impl Default for Brake {
    fn default() -> Self {
        Self { share_percent: 50, at_least: 5, window: SignedDuration::from_secs(30) }
    }
}

impl Brake {
    /// How far ahead to look for things that live `lifetime`.
    pub(crate) fn window_for(&self, lifetime: SignedDuration) -> SignedDuration {
        self.window.min(lifetime / 3)
    }

    /// Whether `lapsing` out of `all` is too many to be their own fault.
    pub(crate) fn trips(&self, lapsing: usize, all: usize) -> bool {
        lapsing >= self.at_least && lapsing * 100 > all * usize::from(self.share_percent)
    }
}

/// `now` plus `duration`, or the end of time.
pub(crate) fn later(now: Timestamp, duration: SignedDuration) -> Timestamp {
    now.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
