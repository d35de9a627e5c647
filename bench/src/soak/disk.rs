//! How the disk is by itself while the service works on it: what a small sync takes that has nothing to do with it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::sample::{Latencies, Quantiles};

/// What is written and synced.
const PAGE: [u8; 4096] = [0x5a; 4096];
/// Pages of the file, which are written over again and again.
const PAGES: u64 = 1024;
/// From one sync to the next: rare enough that the disk is not busy with this.
const PAUSE: Duration = Duration::from_millis(50);
/// A sync that takes longer is a stall.
const STALL: Duration = Duration::from_millis(10);

/// How the disk was by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Syncs {
    pub took: Quantiles,
    /// For how long syncs stalled, in seconds.
    pub stalled: f64,
}

#[derive(Default)]
struct Found {
    took: Option<Latencies>,
    stalled: Duration,
}

impl Found {
    fn add(&mut self, took: Duration) {
        self.took.get_or_insert_with(Latencies::new).add(took);
        if took > STALL {
            self.stalled += took;
        }
    }
}

/// Syncs a small file now and then, until it is dropped.
pub(super) struct Disk {
    found: Arc<Mutex<Found>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Begins, with a file in `directory`.
    pub(super) fn watch(directory: &Path) -> anyhow::Result<Self> {
        let file: File =
            tempfile::tempfile_in(directory).with_context(|| format!("cannot write to {}", directory.display()))?;
        for page in 0..PAGES {
            file.write_all_at(&PAGE, page * 4096)?;
        }
        file.sync_data()?;
        let found = Arc::new(Mutex::new(Found::default()));
        let (stop, stopped) = channel();
        let told = Arc::clone(&found);
        let look = move || {
            let mut page = 0;
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let begun = Instant::now();
                let synced = file.write_all_at(&PAGE, page * 4096).and_then(|()| file.sync_data());
                if synced.is_err() {
                    return;
                }
                told.lock().unwrap_or_else(PoisonError::into_inner).add(begun.elapsed());
                page = (page + 1) % PAGES;
            }
        };
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(look)?;
        Ok(Self { found, stop: Some(stop), thread: Some(thread) })
    }

    /// What was found since this was last asked.
    pub(super) fn take(&self) -> Syncs {
        let found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        let took = found.took.and_then(|took| took.quantiles()).unwrap_or_default();
        Syncs { took, stalled: found.stalled.as_secs_f64() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It says nothing when it ends.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_add_up() {
        let mut found = Found::default();
        for millis in [1, 10, 11, 2_000] {
            found.add(Duration::from_millis(millis));
        }
        assert_eq!(found.stalled, Duration::from_millis(2_011));
    }

    #[test]
    fn each_part_has_its_own_syncs() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::watch(directory.path()).unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut parts = 0;
        while parts < 2 {
            assert!(Instant::now() < deadline, "nothing was synced");
            std::thread::yield_now();
            parts += usize::from(disk.take().took.max > 0.0);
        }
    }
}
