//! Job logs as append-only files, one per attempt of a job.
//!
//! The file's length is the only state: a restart continues where the file ends, and an upload that is sent again
//! overlaps and is ignored as far as it is there already.

mod files;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use startline_protocol::ids::JobId;
use tokio::sync::watch;

use crate::Error;

/// Why a log was not written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The bytes before the offset are not there.
    #[error("the log is missing the bytes from {wanted} on")]
    Gap {
        /// The offset to continue at: the log's length.
        wanted: u64,
    },
    /// The log would become larger than allowed; nothing was written.
    #[error("the log would be larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The file system refused.
    #[error("failed to {operation} the log {}: {message}", path.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
}

/// How logs are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Largest size of one log in bytes.
    pub limit: u64,
    /// Whether logs are to survive a loss of power; otherwise [`Logs::sync`] does nothing.
    pub durable: bool,
}

impl Default for Options {
    fn default() -> Self {
        // A gigabyte of short lines takes several with their stamps.
        Self { limit: 4 << 30, durable: true }
    }
}

/// The logs below one directory. Clones share their state; one process at a time may write there.
#[derive(Clone, Debug)]
pub struct Logs {
    shared: Arc<Shared>,
}

type Key = (JobId, u32);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    limit: u64,
    durable: bool,
    /// Logs that are being written or followed at the moment.
    open: Mutex<HashMap<Key, Arc<OpenLog>>>,
}

#[derive(Debug)]
struct OpenLog {
    path: PathBuf,
    file: Mutex<Option<files::Tail>>,
    length: Mutex<watch::Sender<u64>>,
}

impl OpenLog {
    fn file(&self) -> MutexGuard<'_, Option<files::Tail>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length(&self) -> MutexGuard<'_, watch::Sender<u64>> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells followers; a length that is not news is ignored, so that the order of callers does not matter.
    fn announce(&self, length: u64) {
        self.length().send_if_modified(|known| {
            let grown = length > *known;
            *known = length.max(*known);
            grown
        });
    }

    fn is_followed(&self) -> bool {
        self.length().receiver_count() > 0
    }
}

/// The right to use an open log; the last one to leave closes it, unless it is followed.
struct Lease<'a> {
    shared: &'a Shared,
    key: Key,
    log: Arc<OpenLog>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        // The map and this lease: nobody else can get at it while the map is locked.
        if Arc::strong_count(&self.log) == 2 && !self.log.is_followed() {
            open.remove(&self.key);
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<Key, Arc<OpenLog>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, (job, attempt): Key) -> PathBuf {
        // A thousand jobs a directory: small enough to list, and neighbours in time are neighbours on disk.
        self.directory.join(job.0.div_euclid(1000).to_string()).join(format!("{job}-{attempt}.log"))
    }

    fn lease(&self, key: Key) -> Lease<'_> {
        let log = Arc::clone(self.open().entry(key).or_insert_with(|| {
            let length = Mutex::new(watch::Sender::new(0));
            Arc::new(OpenLog { path: self.path(key), file: Mutex::new(None), length })
        }));
        Lease { shared: self, key, log }
    }

    fn append(&self, key: Key, offset: u64, bytes: &[u8]) -> Result<u64, LogError> {
        let lease = self.lease(key);
        let mut file = lease.log.file();
        // Taken out, so that a failed write leaves none behind and the next one asks the file for its length.
        let mut tail = match file.take() {
            Some(tail) => tail,
            None => files::Tail::open(&lease.log.path)?,
        };
        let length = tail.append(&lease.log.path, offset, bytes, self.limit);
        if !matches!(length, Err(LogError::Io { .. })) {
            lease.log.announce(tail.length());
            *file = Some(tail);
        }
        drop(file);
        length
    }

    fn remove(&self, key: Key) -> Result<bool, LogError> {
        let lease = self.lease(key);
        let mut file = lease.log.file();
        *file = None;
        let removed = files::remove(&lease.log.path)?;
        // Followers learn by the end of their channel; whoever writes next begins a new file.
        *lease.log.length() = watch::Sender::new(0);
        drop(file);
        Ok(removed)
    }
}

impl Logs {
    /// Uses the logs below `directory`, which is made (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it cannot be made or written to.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, Error> {
        crate::directory::prepare(directory)?;
        let Options { limit, durable } = *options;
        let shared = Shared { directory: directory.to_owned(), limit, durable, open: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Adds `bytes` at `offset` and answers the log's new length. Bytes before the present length are ignored, so an
    /// append may be repeated. Appends to one log happen one after the other. Once begun it is done, even when the
    /// future is dropped.
    ///
    /// # Errors
    /// [`LogError::Gap`] when `offset` is behind the end, [`LogError::TooLarge`] beyond the limit (both write
    /// nothing), and [`LogError::Io`], after which the log may have grown by a part: ask for its length.
    pub async fn append(&self, job: JobId, attempt: u32, offset: u64, bytes: &[u8]) -> Result<u64, LogError> {
        let bytes = bytes.to_vec();
        self.blocking((job, attempt), "append to", move |shared, key| shared.append(key, offset, &bytes)).await
    }

    /// The log's length; 0 when there is none.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub async fn length(&self, job: JobId, attempt: u32) -> Result<u64, LogError> {
        self.blocking((job, attempt), "measure", |shared, key| files::length(&shared.path(key))).await
    }

    /// At most `max` bytes from `offset` on; empty at the end and when there is no log.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub async fn read(&self, job: JobId, attempt: u32, offset: u64, max: usize) -> Result<Vec<u8>, LogError> {
        self.blocking((job, attempt), "read", move |shared, key| files::read(&shared.path(key), offset, max)).await
    }

    /// Makes what was appended survive a loss of power; for the end of a job.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub async fn sync(&self, job: JobId, attempt: u32) -> Result<(), LogError> {
        // A job that wrote nothing is not worth a thread.
        if !self.shared.durable || matches!(self.shared.path((job, attempt)).try_exists(), Ok(false)) {
            return Ok(());
        }
        self.blocking((job, attempt), "sync", |shared, key| files::sync(&shared.path(key))).await
    }

    /// Deletes the log; false when there is none. Its followers' channels end.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub async fn remove(&self, job: JobId, attempt: u32) -> Result<bool, LogError> {
        self.blocking((job, attempt), "remove", Shared::remove).await
    }

    /// Deletes the logs of all attempts of these jobs, in the way of [`Logs::remove`]; answers how many there were.
    ///
    /// # Errors
    /// [`LogError::Io`], after which some of them are deleted; to do it again does no harm.
    pub async fn remove_all(&self, jobs: Vec<(JobId, u32)>) -> Result<u32, LogError> {
        let Some((first, _)) = jobs.first().copied() else { return Ok(0) };
        let remove = move |shared: &Shared, _| {
            let mut removed = 0;
            for (job, attempts) in jobs {
                for attempt in 1..=attempts {
                    removed += u32::from(shared.remove((job, attempt))?);
                }
                files::remove_shard(&shared.path((job, 1)));
            }
            Ok(removed)
        };
        self.blocking((first, 1), "remove", remove).await
    }

    /// The log's length as it grows, beginning with the present one; the log need not exist yet. The channel ends when
    /// the log is removed. Dropping the receiver is all it takes to stop. Looks at one file's metadata, no more.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn subscribe(&self, job: JobId, attempt: u32) -> Result<watch::Receiver<u64>, LogError> {
        let lease = self.shared.lease((job, attempt));
        let receiver = lease.log.length().subscribe();
        lease.log.announce(files::length(&lease.log.path)?);
        drop(lease);
        // Followers of logs that nobody wrote since leave their entries behind; they go here.
        self.shared.open().retain(|_, log| Arc::strong_count(log) > 1 || log.is_followed());
        Ok(receiver)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        key: Key,
        operation: &'static str,
        task: impl FnOnce(&Shared, Key) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || task(&shared, key)).await {
            Ok(result) => result,
            Err(error) => Err(LogError::Io { operation, path: self.shared.path(key), message: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests;
