//! The thread that owns the write connection, and its group commit.
//!
//! A batch is whatever came while the last one was being committed. Where batches are of several steps, the next one begins
//! half a millisecond after the last at the earliest, so that more come together; a lone step waits for nobody.
//!
//! While the file cannot be written (another process holds it, the disk does not answer) the writer waits and tries again,
//! and what is queued waits with it in its order: a step that was refused in between would let those after it overtake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Observer;
use super::failure::{Failure, engine};
use crate::Error;

/// Most steps of one commit: as many as come while a slow disk syncs. What one step costs is small beside that, so that
/// the first of a full batch waits little for the last.
const BATCH: usize = 1024;
/// From so many steps on a batch says that more are on their way.
const MANY: usize = 4;
/// How soon a batch begins after one of many steps did, at the earliest. What a commit costs by itself (its sync, and the pages
/// that each batch changes again) is shared by more steps then; a disk that takes longer to sync waits for nothing more.
const PACE: Duration = Duration::from_micros(500);
/// How long the writer waits before it tries again to begin, besides the engine's own waiting for a lock.
const PAUSE: Duration = Duration::from_millis(100);

/// A step that waits for the writer.
pub(super) struct Step {
    undo: Undo,
    /// It is given the connection or, when its batch is lost already, the reason.
    run: Run,
}

type Run = Box<dyn FnOnce(Result<&Connection, Error>) -> Ending + Send>;

/// What becomes of the changes of a step that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    /// They are undone alone, at the price of a savepoint and of copies of the pages that are changed.
    Step,
    /// There are none: the step refuses before it writes. If the engine fails it all the same, its batch is undone.
    Batch,
}

/// A step that was executed and waits for the commit.
pub(super) struct Ending {
    /// Its changes are to be kept.
    keep: bool,
    /// Tells the caller, given how the commit went.
    answer: Box<dyn FnOnce(Result<(), Error>) + Send>,
}

pub(super) type Queue = SyncSender<Step>;

/// Packs a step and the way to its answer, which is what `then` makes of the step's result when that is durable. If it
/// never will be, the result is dropped before a later batch begins.
pub(super) fn step<R: Send + 'static, T: Send + 'static>(
    operation: &'static str,
    undo: Undo,
    answer: oneshot::Sender<Result<T, Error>>,
    step: impl FnOnce(&Connection) -> Result<R, Failure> + Send + 'static,
    then: impl FnOnce(R) -> T + Send + 'static,
) -> Step {
    let run = Box::new(move |connection: Result<&Connection, Error>| {
        let result = connection.and_then(|connection| step(connection).map_err(|failure| failure.during(operation)));
        let keep = result.is_ok();
        // A refusal too waits for the commit: it may rest on what an earlier step of the batch did. A caller that is
        // gone does not miss its answer.
        let answer = move |committed: Result<(), Error>| drop(answer.send(committed.and(result).map(then)));
        Ending { keep, answer: Box::new(answer) }
    });
    Step { undo, run }
}

/// Executes steps until all senders are gone and nothing is left. Waits for a file that cannot be written until
/// `closing`. `then` is called when a batch is answered.
pub(super) fn run(
    connection: &Connection,
    steps: &Receiver<Step>,
    observer: Option<&Observer>,
    closing: &AtomicBool,
    mut then: impl FnMut(&Connection),
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut last: Option<(usize, Instant)> = None;
    while let Ok(first) = steps.recv() {
        if let Some((size, begun)) = last {
            std::thread::sleep(pause(size, begun.elapsed()));
        }
        let begun = Instant::now();
        batch.push(first);
        batch.extend(steps.try_iter().take(BATCH - 1));
        let size = batch.len();
        last = Some((size, begun));
        let (answers, committed) = execute(connection, &mut batch, closing);
        if let (Some(observer), Ok(duration)) = (observer, &committed) {
            observer(*duration, size);
        }
        let committed = committed.map(drop);
        answers.into_iter().for_each(|answer| answer(committed.clone()));
        then(connection);
    }
}

/// How long to wait for more steps, when a batch of `size` steps began so long ago.
const fn pause(size: usize, ago: Duration) -> Duration {
    if size < MANY { Duration::ZERO } else { PACE.saturating_sub(ago) }
}

type Answers = Vec<Box<dyn FnOnce(Result<(), Error>) + Send>>;

fn execute(connection: &Connection, batch: &mut Vec<Step>, closing: &AtomicBool) -> (Answers, Result<Duration, Error>) {
    let mut state = begin(connection, closing);
    let mut answers = Vec::with_capacity(batch.len());
    for step in batch.drain(..) {
        let before = connection.total_changes();
        if state.is_ok() && step.undo == Undo::Step {
            state = control(connection, "set a savepoint", "SAVEPOINT step");
        }
        let ending = (step.run)(state.clone().map(|()| connection));
        answers.push(ending.answer);
        if state.is_ok() {
            let has_written = connection.total_changes() != before;
            state = settle(connection, step.undo, ending.keep, has_written);
        }
    }
    let started = Instant::now();
    let committed = state.and_then(|()| control(connection, "commit", "COMMIT"));
    if committed.is_err() && !connection.is_autocommit() {
        // When this fails too, the next BEGIN does and says why.
        drop(control(connection, "roll back", "ROLLBACK"));
    }
    (answers, committed.map(|()| started.elapsed()))
}

/// Begins a transaction as soon as there can be one.
fn begin(connection: &Connection, closing: &AtomicBool) -> Result<(), Error> {
    let mut is_told = false;
    loop {
        let begun = connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut statement| statement.execute([]));
        match begun {
            Ok(_) if is_told => {
                tracing::info!("the database takes what is written again");
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(error) if passes(&error) && !closing.load(Ordering::Relaxed) => {
                if !is_told {
                    tracing::error!(%error, "the database cannot be written; what is to be written waits");
                    is_told = true;
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(engine("begin a transaction", &error)),
        }
    }
}

/// Whether the reason is outside, and may go away.
fn passes(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, SystemIoFailure};
    let Some(code) = error.sqlite_error_code() else { return false };
    matches!(code, CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | FileLockingProtocolFailed | SystemIoFailure)
}

/// Keeps or undoes the last step alone; an error undoes its batch.
fn settle(connection: &Connection, undo: Undo, keep: bool, has_written: bool) -> Result<(), Error> {
    if connection.is_autocommit() {
        // A full disk or an I/O error makes SQLite roll back everything, the earlier steps included.
        return Err(engine("keep the transaction", &"the engine rolled it back"));
    }
    match undo {
        Undo::Batch if keep || !has_written => Ok(()),
        Undo::Batch => Err(engine("undo a step", &"it failed after it had written")),
        Undo::Step => {
            if !keep {
                control(connection, "roll back a step", "ROLLBACK TO step")?;
            }
            control(connection, "release a savepoint", "RELEASE step")
        }
    }
}

fn control(connection: &Connection, operation: &'static str, sql: &str) -> Result<(), Error> {
    let done = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    done.map(drop).map_err(|error| engine(operation, &error))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::sync::{Arc, Mutex};

    use super::*;

    type Reply = oneshot::Receiver<Result<(), Error>>;

    /// Steps that are queued before the writer begins, so that the batches are known.
    struct Bench {
        connection: Connection,
        queue: Vec<Step>,
        replies: Vec<Reply>,
    }

    impl Bench {
        fn new() -> Self {
            let connection = Connection::open_in_memory().unwrap();
            let schema = "PRAGMA foreign_keys = ON; CREATE TABLE a (x INTEGER PRIMARY KEY); \
                          CREATE TABLE b (x INTEGER REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED)";
            connection.execute_batch(schema).unwrap();
            Self { connection, queue: Vec::new(), replies: Vec::new() }
        }

        fn sql(&mut self, sql: &'static str) {
            self.sql_with(Undo::Step, sql);
        }

        fn sql_with(&mut self, undo: Undo, sql: &'static str) {
            let (answer, reply) = oneshot::channel();
            self.queue.push(step("test", undo, answer, move |db| Ok(db.execute_batch(sql)?), |()| ()));
            self.replies.push(reply);
        }

        /// Runs what is queued; answers the batches, and which steps succeeded.
        fn run(&mut self) -> (Vec<usize>, Vec<bool>) {
            let (queue, steps) = sync_channel(2 * BATCH);
            self.queue.drain(..).for_each(|step| queue.try_send(step).unwrap_or_else(|_| panic!("queue is full")));
            drop(queue);
            let batches = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&batches);
            let observer: Observer = Arc::new(move |_, size| seen.lock().unwrap().push(size));
            run(&self.connection, &steps, Some(&observer), &AtomicBool::new(false), |_| ());
            let succeeded = self.replies.drain(..).map(|mut reply| reply.try_recv().unwrap().is_ok()).collect();
            (batches.lock().unwrap().clone(), succeeded)
        }

        fn rows(&self) -> Vec<i64> {
            let mut select = self.connection.prepare("SELECT x FROM a ORDER BY x").unwrap();
            select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        }
    }

    #[test]
    fn a_batch_has_its_limit() {
        let mut bench = Bench::new();
        for _ in 0..(BATCH + 3) {
            bench.sql("INSERT INTO a DEFAULT VALUES");
        }
        assert_eq!(bench.run().0, [BATCH, 3]);
        assert_eq!(bench.rows().len(), BATCH + 3);
    }

    #[test]
    fn a_batch_of_many_steps_is_followed_by_the_next_after_a_pause() {
        let long_ago = PACE * 2;
        assert_eq!(pause(MANY - 1, Duration::ZERO), Duration::ZERO, "a lone step waits for nobody");
        assert_eq!((pause(MANY, Duration::ZERO), pause(MANY, PACE / 4)), (PACE, PACE * 3 / 4));
        assert_eq!(pause(BATCH, long_ago), Duration::ZERO, "the disk was slower");

        let bench = Bench::new();
        let (queue, steps) = sync_channel(BATCH);
        let (ran, times) = sync_channel(BATCH);
        let timed = move || {
            let ran = ran.clone();
            let told = move |_: &Connection| {
                ran.send(Instant::now()).unwrap();
                Ok(())
            };
            step("test", Undo::Batch, oneshot::channel().0, told, |()| ())
        };
        (0..MANY).for_each(|_| queue.try_send(timed()).unwrap_or_else(|_| panic!("queue is full")));
        // The next one comes as soon as these are committed.
        let next = Mutex::new(Some((queue, timed())));
        let observer: Observer = Arc::new(move |_, _| {
            if let Some((queue, step)) = next.lock().unwrap().take() {
                queue.try_send(step).unwrap_or_else(|_| panic!("queue is full"));
            }
        });
        let begun = Instant::now();
        run(&bench.connection, &steps, Some(&observer), &AtomicBool::new(false), |_| ());
        let times: Vec<Instant> = times.try_iter().collect();
        assert_eq!(times.len(), MANY + 1);
        assert!(times[MANY].duration_since(begun) >= PACE);
    }

    #[test]
    fn a_step_that_fails_is_undone_alone_and_whole() {
        let mut bench = Bench::new();
        bench.sql("INSERT INTO a VALUES (1)");
        bench.sql("INSERT INTO a VALUES (2); INSERT INTO a VALUES (1)");
        bench.sql("INSERT INTO a VALUES (3)");
        assert_eq!(bench.run(), (vec![3], vec![true, false, true]));
        assert_eq!(bench.rows(), [1, 3]);
    }

    #[test]
    fn a_step_that_refuses_before_it_writes_fails_alone_without_a_savepoint() {
        let mut bench = Bench::new();
        bench.sql_with(Undo::Batch, "INSERT INTO a VALUES (1)");
        bench.sql_with(Undo::Batch, "INSERT INTO nowhere VALUES (2)");
        bench.sql_with(Undo::Batch, "INSERT INTO a VALUES (3)");
        assert_eq!(bench.run(), (vec![3], vec![true, false, true]));
        assert_eq!(bench.rows(), [1, 3]);
    }

    #[test]
    fn nothing_of_a_step_without_a_savepoint_is_kept_when_it_fails_after_it_has_written() {
        let mut bench = Bench::new();
        bench.sql("INSERT INTO a VALUES (1)");
        bench.sql_with(Undo::Batch, "INSERT INTO a VALUES (2); INSERT INTO a VALUES (1)");
        bench.sql("INSERT INTO a VALUES (3)");
        assert_eq!(bench.run(), (vec![], vec![false, false, false]));
        assert!(bench.rows().is_empty());
        bench.sql("INSERT INTO a VALUES (4)");
        assert_eq!(bench.run(), (vec![1], vec![true]), "the next batch is not concerned");
    }

    #[test]
    fn a_commit_that_fails_fails_every_step_of_its_batch() {
        let mut bench = Bench::new();
        bench.sql("INSERT INTO a VALUES (1)");
        bench.sql("INSERT INTO b VALUES (404)");
        bench.sql("INSERT INTO nowhere VALUES (1)");
        assert_eq!(bench.run(), (vec![], vec![false, false, false]));
        assert!(bench.rows().is_empty());
        bench.sql("INSERT INTO a VALUES (2)");
        assert_eq!(bench.run(), (vec![1], vec![true]), "the next batch is not concerned");
        assert_eq!(bench.rows(), [2]);
    }

    #[test]
    fn the_result_of_a_step_whose_commit_failed_is_dropped_before_the_next_batch() {
        /// Says that it was dropped.
        struct Result(Arc<Mutex<Vec<&'static str>>>);

        impl Drop for Result {
            fn drop(&mut self) {
                self.0.lock().unwrap().push("dropped");
            }
        }

        let mut bench = Bench::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut push = |sql: &'static str, told: &Arc<Mutex<Vec<&'static str>>>| {
            let (answer, reply) = oneshot::channel();
            let (on, then) = (Arc::clone(told), Arc::clone(told));
            let run = move |db: &Connection| {
                db.execute_batch(sql)?;
                on.lock().unwrap().push("executed");
                Ok(Result(Arc::clone(&on)))
            };
            let then = move |result: Result| {
                then.lock().unwrap().push("durable");
                drop(result);
            };
            bench.queue.push(step("test", Undo::Batch, answer, run, then));
            bench.replies.push(reply);
        };
        push("INSERT INTO b VALUES (404)", &told);
        let silent = Arc::new(Mutex::new(Vec::new()));
        (1..BATCH).for_each(|_| push("SELECT 1", &silent));
        push("INSERT INTO a VALUES (1)", &told);
        let (batches, succeeded) = bench.run();
        assert_eq!((batches, succeeded.last()), (vec![1], Some(&true)));
        assert!(succeeded[..BATCH].iter().all(|succeeded| !succeeded));
        assert_eq!(*told.lock().unwrap(), ["executed", "dropped", "executed", "durable", "dropped"]);
    }

    #[test]
    fn a_transaction_that_is_lost_on_the_way_fails_every_step_of_its_batch() {
        let mut bench = Bench::new();
        bench.sql("INSERT INTO a VALUES (1)");
        bench.sql("ROLLBACK");
        bench.sql("INSERT INTO a VALUES (2)");
        assert_eq!(bench.run(), (vec![], vec![false, false, false]));
        assert!(bench.rows().is_empty(), "nothing was written outside of a transaction");
        bench.sql("INSERT INTO a VALUES (3)");
        assert_eq!(bench.run(), (vec![1], vec![true]));
    }

    #[test]
    fn a_transaction_that_cannot_begin_fails_every_step_of_its_batch() {
        let mut bench = Bench::new();
        bench.connection.execute_batch("PRAGMA query_only = ON").unwrap();
        bench.sql("INSERT INTO a VALUES (1)");
        assert!(!bench.run().1[0]);
        bench.connection.execute_batch("PRAGMA query_only = OFF").unwrap();
        bench.connection.execute_batch("BEGIN").unwrap();
        bench.sql("SELECT 1");
        assert_eq!(bench.run(), (vec![], vec![false]));
    }

    #[test]
    fn what_is_queued_while_another_process_holds_the_file_is_written_afterwards_in_its_order() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.db");
        let holder = Connection::open(&path).unwrap();
        holder
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (x INTEGER PRIMARY KEY); BEGIN IMMEDIATE")
            .unwrap();
        let (queue, steps) = sync_channel(1000);
        let closing = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&closing);
        let writer = std::thread::spawn(move || {
            let connection = Connection::open(&path).unwrap();
            connection.busy_timeout(Duration::from_millis(5)).unwrap();
            run(&connection, &steps, None, &own, |_| ());
        });
        let send = |sql: &'static str| {
            let (answer, reply) = oneshot::channel();
            queue.send(step("test", Undo::Step, answer, move |db| Ok(db.execute_batch(sql)?), |()| ())).unwrap();
            reply
        };
        let mut early: Vec<Reply> = vec![send("INSERT INTO a VALUES (1)"), send("UPDATE a SET x = 2 WHERE x = 1")];
        std::thread::sleep(PAUSE * 3);
        early
            .iter_mut()
            .for_each(|reply| assert!(reply.try_recv().is_err(), "it waits, and is neither done nor refused"));
        holder.execute_batch("COMMIT").unwrap();
        early.into_iter().for_each(|reply| reply.blocking_recv().unwrap().unwrap());
        let found: i64 = holder.query_row("SELECT x FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(found, 2);
        // Nobody waits for a file that stays locked when the store is closed.
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let late = send("INSERT INTO a VALUES (3)");
        closing.store(true, Ordering::Relaxed);
        assert!(late.blocking_recv().unwrap().is_err());
        drop(queue);
        writer.join().unwrap();
    }

    #[test]
    fn a_caller_that_is_gone_does_not_matter() {
        let mut bench = Bench::new();
        bench.sql("INSERT INTO a VALUES (1)");
        bench.replies.clear();
        assert_eq!(bench.run().0, [1]);
        assert_eq!(bench.rows(), [1]);
    }
}
