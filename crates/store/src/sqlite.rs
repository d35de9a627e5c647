//! The SQLite engine: one thread writes and commits in groups, a few read.
//!
//! Calls never block: a step is put into a queue of bounded length, and a full queue is answered with
//! [`Error::Engine`], which is transient.

mod actions;
mod actions_runners;
mod artifacts;
mod audit;
mod caches;
mod checkpoint;
mod claims;
mod collect;
mod columns;
mod failure;
mod groups;
mod jobs;
mod migrations;
mod opening;
mod outline;
#[cfg(test)]
mod plan;
mod purge;
mod readers;
mod runners;
mod runs;
mod scale_sets;
mod steps;
mod tokens;
mod values;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::record::Digest;
use crate::{Answer, Error, Note};
use failure::{Failure, engine};
use writer::Undo;

/// Steps and reads that may wait. A batch takes milliseconds, so a queue this long means that the disk has stopped;
/// then it is better to refuse than to hoard.
const QUEUE: usize = 8192;

/// Told of each commit: how long it took and how many steps it carried. Called on the writer's thread before the
/// steps are answered, so it must be quick.
pub type Observer = Arc<dyn Fn(Duration, usize) + Send + Sync>;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// The disk: no answered step is lost when the power fails.
    #[default]
    Full,
    /// The operating system: a crash of the process loses nothing, a loss of power may lose the last steps.
    Normal,
}

/// How a database is used.
#[derive(Clone)]
pub struct Options {
    /// What a commit waits for.
    pub synchronous: Synchronous,
    /// Threads that read; at least 1.
    pub readers: usize,
    /// Told of each commit.
    pub observer: Option<Observer>,
    /// Chains the audit log: a SHA-256.
    pub digest: Digest,
}

impl Options {
    /// The usual settings.
    #[must_use]
    pub fn new(digest: Digest) -> Self {
        Self { synchronous: Synchronous::default(), readers: 4, observer: None, digest }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Options");
        f.field("synchronous", &self.synchronous).field("readers", &self.readers).finish_non_exhaustive()
    }
}

/// A store in a SQLite database. Dropping it without [`crate::Store::close`] writes what is pending and waits for that.
pub struct Sqlite {
    queues: Mutex<Option<Queues>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    closing: Closing,
    /// Nothing more is to be waited for.
    closed: Arc<AtomicBool>,
    digest: Digest,
}

/// Who waits for the writer's end.
type Closing = Arc<Mutex<Option<oneshot::Sender<Result<(), Error>>>>>;

struct Queues {
    writes: writer::Queue,
    reads: readers::Queue,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the database at `path`; makes it (mode 0600) and its directory (mode 0700) if they are not there, and
    /// brings its schema up to date. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`Error::Unusable`], which says what to do: the place cannot be written to, the file is not a database of this
    /// program or of a newer version, or another process uses it.
    pub fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        crate::directory::prepare(directory)?;
        let lock = opening::lock(path)?;
        let mut connection = opening::writer(path, options, Timestamp::now())?;
        let copier = opening::copier(path)?;
        let readers = (0..options.readers.max(1)).map(|_| opening::reader(path)).collect::<Result<_, _>>()?;

        let failed = |error| engine("start a thread", &error);
        let (writes, steps) = sync_channel(QUEUE);
        let (reads, queued_reads) = sync_channel(QUEUE);
        let mut threads = readers::start(readers, queued_reads).map_err(failed)?;
        let (mut log, copier) = checkpoint::Log::watch(&mut connection, copier).map_err(failed)?;
        threads.push(copier);
        let observer = options.observer.clone();
        let closing = Closing::default();
        let waiter = Arc::clone(&closing);
        let closed = Arc::<AtomicBool>::default();
        let is_closed = Arc::clone(&closed);
        let thread = move || {
            writer::run(&connection, &steps, observer.as_ref(), &is_closed, |connection| log.tend(connection));
            drop(log);
            let ended = end(connection, threads);
            drop(lock);
            if let Err(error) = &ended {
                tracing::warn!(%error, "the database was not closed cleanly: {error}");
            }
            if let Some(waiter) = held(&waiter).take() {
                // Whoever called may be gone.
                drop(waiter.send(ended));
            }
        };
        let writer = Builder::new().name("store-writer".to_owned()).spawn(thread).map_err(failed)?;
        let queues = Mutex::new(Some(Queues { writes, reads }));
        Ok(Self { queues, writer: Mutex::new(Some(writer)), closing, closed, digest: options.digest })
    }

    fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        step: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        self.write_as(operation, Undo::Step, step)
    }

    fn write_as<T: Send + 'static>(
        &self,
        operation: &'static str,
        undo: Undo,
        step: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        self.write_then(operation, undo, step, |done| done)
    }

    /// A step whose answer is what `then` makes of its result once that is durable, on the writer's thread.
    fn write_then<R: Send + 'static, T: Send + 'static>(
        &self,
        operation: &'static str,
        undo: Undo,
        step: impl FnOnce(&Connection) -> Result<R, Failure> + Send + 'static,
        then: impl FnOnce(R) -> T + Send + 'static,
    ) -> Answer<T> {
        self.call(operation, |queues, answer| {
            let sent = queues.writes.try_send(writer::step(operation, undo, answer, step, then));
            sent.map_err(|error| refused(operation, &error))
        })
    }

    /// A step that refuses before it writes, and writes its line of the audit log itself.
    fn write_noted<T: Send + 'static>(
        &self,
        operation: &'static str,
        note: Note<T>,
        step: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        let digest = self.digest;
        self.write_as(operation, Undo::Batch, move |db| audit::noted(db, step(db)?, note, digest))
    }

    fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        self.call(operation, |queues, answer| {
            let read = move |connection: &Connection| {
                // A caller that is gone does not miss its answer.
                drop(answer.send(read(connection).map_err(|failure| failure.during(operation))));
            };
            queues.reads.try_send(Box::new(read)).map_err(|error| refused(operation, &error))
        })
    }

    fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        send: impl FnOnce(&Queues, oneshot::Sender<Result<T, Error>>) -> Result<(), Error>,
    ) -> Answer<T> {
        let (sender, receiver) = oneshot::channel();
        let sent = held(&self.queues).as_ref().ok_or(Error::Closed).and_then(|queues| send(queues, sender));
        Box::pin(async move {
            sent?;
            receiver.await.unwrap_or_else(|_| Err(engine(operation, &"its thread ended early")))
        })
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(held(&self.queues).take());
        if let Some(writer) = held(&self.writer).take() {
            // A panic of that thread was reported when it happened.
            drop(writer.join());
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused<T>(operation: &'static str, error: &TrySendError<T>) -> Error {
    match error {
        TrySendError::Full(_) => engine(operation, &format!("overloaded: {QUEUE} others wait already")),
        TrySendError::Disconnected(_) => engine(operation, &"its thread ended early"),
    }
}

/// Moves everything from the write-ahead log into the database, once no reader needs it.
fn end(connection: Connection, threads: Vec<JoinHandle<()>>) -> Result<(), Error> {
    // A panic of such a thread was reported when it happened.
    threads.into_iter().for_each(|thread| drop(thread.join()));
    let checkpoint = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    checkpoint.map_err(|error| engine("checkpoint", &error))?;
    connection.close().map_err(|(_, error)| engine("close", &error))
}
