//! Which running jobs should stop, and why: what a held renewal waits for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use startline_protocol::ids::{Epoch, JobId};
use tokio::sync::watch;

/// A switch for each job that is in a runner's hands.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    switches: Mutex<HashMap<JobId, Switch>>,
}

/// Of one lease.
#[derive(Debug)]
struct Switch {
    epoch: Epoch,
    reason: watch::Sender<Option<String>>,
}

impl Leases {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Switch>> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a lease; readers of an earlier one are woken and find it gone. One that has begun, whose runner asks for the
    /// lost answer again, goes on, and so do its readers. `cancel` is set when the job should stop from the start, as
    /// after a restart.
    pub(crate) fn begin(&self, job: JobId, epoch: Epoch, cancel: Option<String>) {
        let mut switches = self.lock();
        if switches.get(&job).is_none_or(|switch| switch.epoch != epoch) {
            switches.insert(job, Switch { epoch, reason: watch::Sender::new(cancel) });
        }
    }

    /// Ends a lease.
    pub(crate) fn end(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Asks the holder to stop; the first reason stays.
    pub(crate) fn cancel(&self, job: JobId, reason: &str) {
        if let Some(switch) = self.lock().get(&job) {
            switch.reason.send_if_modified(|current| {
                let first = current.is_none();
                if first {
                    *current = Some(reason.to_owned());
                }
                first
            });
        }
    }

    /// The switch of a running job.
    pub(crate) fn watch(&self, job: JobId) -> Option<watch::Receiver<Option<String>>> {
        self.lock().get(&job).map(|switch| switch.reason.subscribe())
    }

    /// Whether the job should stop.
    pub(crate) fn cancel_reason(&self, job: JobId) -> Option<String> {
        self.lock().get(&job).and_then(|switch| switch.reason.borrow().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(7);

    #[test]
    fn an_acquisition_that_is_repeated_ends_no_held_renewal_and_forgets_no_cancel() {
        let leases = Leases::default();
        leases.begin(JOB, Epoch(1), None);
        let mut held = leases.watch(JOB).unwrap();
        leases.begin(JOB, Epoch(1), None);
        assert_eq!(held.has_changed().ok(), Some(false), "it is still held");
        leases.cancel(JOB, "stop");
        assert_eq!(held.borrow_and_update().as_deref(), Some("stop"));
        leases.begin(JOB, Epoch(1), None);
        assert_eq!(leases.cancel_reason(JOB).as_deref(), Some("stop"));
    }

    #[test]
    fn the_next_lease_ends_the_renewals_of_the_one_before() {
        let leases = Leases::default();
        leases.begin(JOB, Epoch(1), Some("stop".to_owned()));
        let held = leases.watch(JOB).unwrap();
        leases.begin(JOB, Epoch(2), None);
        assert!(held.has_changed().is_err(), "it is gone");
        assert_eq!(leases.cancel_reason(JOB), None);
    }
}
