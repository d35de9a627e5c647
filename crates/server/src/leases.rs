//! Which running jobs should stop, and why: what a held renewal waits for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use startline_protocol::ids::JobId;
use tokio::sync::watch;

/// A switch for each job that is in a runner's hands.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    switches: Mutex<HashMap<JobId, watch::Sender<Option<String>>>>,
}

impl Leases {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, watch::Sender<Option<String>>>> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a lease; readers of an earlier one are woken and find it gone. `cancel` is set when the job should stop
    /// from the start, as after a restart.
    pub(crate) fn begin(&self, job: JobId, cancel: Option<String>) {
        self.lock().insert(job, watch::Sender::new(cancel));
    }

    /// Ends a lease.
    pub(crate) fn end(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Asks the holder to stop; the first reason stays.
    pub(crate) fn cancel(&self, job: JobId, reason: &str) {
        if let Some(switch) = self.lock().get(&job) {
            switch.send_if_modified(|current| {
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
        self.lock().get(&job).map(watch::Sender::subscribe)
    }

    /// Whether the job should stop.
    pub(crate) fn cancel_reason(&self, job: JobId) -> Option<String> {
        self.lock().get(&job).and_then(|switch| switch.borrow().clone())
    }
}
