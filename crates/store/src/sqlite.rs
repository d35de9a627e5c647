//! The SQLite engine: one thread writes and commits in groups, a few read.
//!
//! Calls never block: a step is put into a queue of bounded length, and a full queue is answered with
//! [`Error::Engine`], which is transient.

mod columns;
mod failure;
mod jobs;
mod migrations;
mod opening;
mod readers;
mod runners;
mod runs;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::mpsc::{TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::step::StepRecord;
use tokio::sync::oneshot;

use crate::record::{
    ApiTokenRecord, CompleteOutcome, Completion, Hash, JobRecord, NewApiToken, NewJob, NewRegistrationToken, NewRun,
    NewRunner, Page, Registered, RegistrationTokenRecord, RunRecord, RunnerRecord,
};
use crate::{Answer, Error, Store};
use failure::{Failure, engine};

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
}

impl Default for Options {
    fn default() -> Self {
        Self { synchronous: Synchronous::default(), readers: 4, observer: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Options");
        f.field("synchronous", &self.synchronous).field("readers", &self.readers).finish_non_exhaustive()
    }
}

/// A store in a SQLite database. Dropping it without [`Store::close`] writes what is pending and waits for that.
pub struct Sqlite {
    queues: Mutex<Option<Queues>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    closing: Closing,
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
        let connection = opening::writer(path, options, Timestamp::now())?;
        let readers = (0..options.readers.max(1)).map(|_| opening::reader(path)).collect::<Result<_, _>>()?;

        let failed = |error| engine("start a thread", &error);
        let (writes, steps) = sync_channel(QUEUE);
        let (reads, queued_reads) = sync_channel(QUEUE);
        let readers = readers::start(readers, queued_reads).map_err(failed)?;
        let observer = options.observer.clone();
        let closing = Closing::default();
        let waiter = Arc::clone(&closing);
        let thread = move || {
            writer::run(&connection, &steps, observer.as_ref());
            let ended = end(connection, readers);
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
        Ok(Self { queues, writer: Mutex::new(Some(writer)), closing })
    }

    fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        step: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        self.call(operation, |queues, answer| {
            let sent = queues.writes.try_send(writer::step(operation, answer, step));
            sent.map_err(|error| refused(operation, &error))
        })
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
fn end(connection: Connection, readers: Vec<JoinHandle<()>>) -> Result<(), Error> {
    // A panic of such a thread was reported when it happened.
    readers.into_iter().for_each(|reader| drop(reader.join()));
    let checkpoint = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    checkpoint.map_err(|error| engine("checkpoint", &error))?;
    connection.close().map_err(|(_, error)| engine("close", &error))
}

impl Store for Sqlite {
    fn create_api_token(&self, token: NewApiToken) -> Answer<ApiTokenRecord> {
        self.write("add an API token", move |db| runners::create_api_token(db, token))
    }

    fn api_token(&self, hash: Hash) -> Answer<Option<ApiTokenRecord>> {
        self.read("read an API token", move |db| runners::api_token(db, hash))
    }

    fn has_api_tokens(&self) -> Answer<bool> {
        self.read("look for API tokens", runners::has_api_tokens)
    }

    fn create_registration_token(&self, token: NewRegistrationToken) -> Answer<RegistrationTokenRecord> {
        self.write("add a registration token", move |db| runners::create_registration_token(db, token))
    }

    fn register_runner(&self, registration: Hash, runner: NewRunner, now: Timestamp) -> Answer<Registered> {
        self.write("register a runner", move |db| runners::register(db, registration, runner, now))
    }

    fn renew_runner_token(&self, runner: RunnerId, token: Hash, expires_at: Timestamp, now: Timestamp) -> Answer<()> {
        self.write("renew a runner token", move |db| runners::renew_token(db, runner, token, expires_at, now))
    }

    fn runner_by_token(&self, token: Hash, now: Timestamp) -> Answer<Option<RunnerRecord>> {
        self.read("read a runner token", move |db| runners::by_token(db, token, now))
    }

    fn update_capabilities(&self, runner: RunnerId, capabilities: Capabilities) -> Answer<()> {
        self.write("update capabilities", move |db| runners::update_capabilities(db, runner, capabilities))
    }

    fn delete_runner(&self, runner: RunnerId, now: Timestamp) -> Answer<bool> {
        self.write("delete a runner", move |db| runners::delete(db, runner, now))
    }

    fn runner(&self, runner: RunnerId) -> Answer<Option<RunnerRecord>> {
        self.read("read a runner", move |db| runners::find(db, runner))
    }

    fn runners(&self) -> Answer<Vec<RunnerRecord>> {
        self.read("list runners", runners::all)
    }

    fn create_run(&self, run: NewRun, jobs: Vec<NewJob>) -> Answer<(RunRecord, Vec<JobRecord>)> {
        self.write("add a run", move |db| runs::create(db, run, jobs))
    }

    fn add_jobs(&self, run: RunId, jobs: Vec<NewJob>) -> Answer<Vec<JobRecord>> {
        self.write("add jobs", move |db| {
            let repository = runs::require(db, run)?.run.repository;
            jobs::add(db, run, &repository, jobs)
        })
    }

    fn release_job(&self, job: JobId, now: Timestamp) -> Answer<Option<JobRecord>> {
        self.write("release a job", move |db| jobs::release(db, job, now))
    }

    fn record_offer(&self, job: JobId, epoch: Epoch, runner: RunnerId) -> Answer<()> {
        self.write("record an offer", move |db| jobs::record_offer(db, job, epoch, runner))
    }

    fn acquire(
        &self,
        job: JobId,
        epoch: Epoch,
        runner: RunnerId,
        attempt: u32,
        now: Timestamp,
    ) -> Answer<(RunRecord, JobRecord)> {
        self.write("acquire a job", move |db| {
            let job = jobs::acquire(db, job, epoch, runner, attempt, now)?;
            Ok((runs::require(db, job.run_id)?, job))
        })
    }

    fn requeue(&self, job: JobId, epoch: Epoch, attempt: u32, requeues_left: u32, reason: String) -> Answer<JobRecord> {
        self.write("re-queue a job", move |db| jobs::requeue(db, job, epoch, attempt, requeues_left, reason))
    }

    fn update_steps(&self, job: JobId, epoch: Epoch, steps: Vec<StepRecord>) -> Answer<JobRecord> {
        self.write("update steps", move |db| jobs::update_steps(db, job, epoch, steps))
    }

    fn complete(&self, job: JobId, epoch: Epoch, completion: Completion, now: Timestamp) -> Answer<CompleteOutcome> {
        self.write("complete a job", move |db| jobs::complete(db, job, epoch, completion, now))
    }

    fn conclude(
        &self,
        job: JobId,
        epoch: Epoch,
        conclusion: Conclusion,
        reason: String,
        now: Timestamp,
    ) -> Answer<JobRecord> {
        self.write("conclude a job", move |db| jobs::conclude(db, job, epoch, conclusion, reason, now))
    }

    fn request_job_cancel(&self, job: JobId, reason: String) -> Answer<Option<JobRecord>> {
        self.write("cancel a job", move |db| jobs::request_cancel(db, job, reason))
    }

    fn request_run_cancel(&self, run: RunId) -> Answer<Option<RunRecord>> {
        self.write("cancel a run", move |db| runs::request_cancel(db, run))
    }

    fn finish_run(&self, run: RunId, conclusion: Conclusion, now: Timestamp) -> Answer<bool> {
        self.write("finish a run", move |db| runs::finish(db, run, conclusion, now))
    }

    fn run(&self, run: RunId) -> Answer<Option<RunRecord>> {
        self.read("read a run", move |db| runs::find(db, run))
    }

    fn runs(&self, before: Option<RunId>, limit: u32) -> Answer<Page<RunRecord>> {
        self.read("list runs", move |db| runs::page(db, before, limit))
    }

    fn jobs_of_run(&self, run: RunId) -> Answer<Vec<JobRecord>> {
        self.read("list the jobs of a run", move |db| jobs::of_run(db, run))
    }

    fn job(&self, job: JobId) -> Answer<Option<JobRecord>> {
        self.read("read a job", move |db| jobs::find(db, job))
    }

    fn jobs(&self, status: Option<JobStatus>, before: Option<JobId>, limit: u32) -> Answer<Page<JobRecord>> {
        self.read("list jobs", move |db| jobs::page(db, status, before, limit))
    }

    fn job_message(&self, job: JobId) -> Answer<Option<String>> {
        self.read("read a job message", move |db| jobs::message(db, job))
    }

    fn unfinished(&self) -> Answer<Vec<(RunRecord, Vec<JobRecord>)>> {
        self.read("list unfinished runs", runs::unfinished)
    }

    fn close(&self) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        let mut queues = held(&self.queues);
        if queues.is_none() {
            return Box::pin(std::future::ready(Err(Error::Closed)));
        }
        // The writer looks here when its queue has no senders left and it has drained it.
        *held(&self.closing) = Some(sender);
        *queues = None;
        Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(engine("close", &"its thread ended early"))) })
    }
}
