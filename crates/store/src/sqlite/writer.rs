//! The thread that owns the write connection, and its group commit.
//!
//! A batch is whatever came while the last one was being committed: no timer, so that a lone step waits for nobody.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Observer;
use super::failure::{Failure, engine};
use crate::Error;

/// Most steps of one commit.
const BATCH: usize = 128;

/// A step that waits for the writer. It is given the connection or, when its batch is lost already, the reason.
pub(super) type Step = Box<dyn FnOnce(Result<&Connection, Error>) -> Ending + Send>;

/// A step that was executed and waits for the commit.
pub(super) struct Ending {
    /// Its changes are to be kept.
    keep: bool,
    /// Tells the caller, given how the commit went.
    answer: Box<dyn FnOnce(Result<(), Error>) + Send>,
}

pub(super) type Queue = SyncSender<Step>;

/// Packs a step and the way to its answer.
pub(super) fn step<T: Send + 'static>(
    operation: &'static str,
    answer: oneshot::Sender<Result<T, Error>>,
    step: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
) -> Step {
    Box::new(move |connection| {
        let result = connection.and_then(|connection| step(connection).map_err(|failure| failure.during(operation)));
        let keep = result.is_ok();
        // A refusal too waits for the commit: it may rest on what an earlier step of the batch did. A caller that is
        // gone does not miss its answer.
        let answer = move |committed: Result<(), Error>| drop(answer.send(committed.and(result)));
        Ending { keep, answer: Box::new(answer) }
    })
}

/// Executes steps until all senders are gone and nothing is left.
pub(super) fn run(connection: &Connection, steps: &Receiver<Step>, observer: Option<&Observer>) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = steps.recv() {
        batch.push(first);
        batch.extend(steps.try_iter().take(BATCH - 1));
        let size = batch.len();
        let (answers, committed) = execute(connection, &mut batch);
        if let (Some(observer), Ok(duration)) = (observer, &committed) {
            observer(*duration, size);
        }
        let committed = committed.map(drop);
        answers.into_iter().for_each(|answer| answer(committed.clone()));
    }
}

type Answers = Vec<Box<dyn FnOnce(Result<(), Error>) + Send>>;

fn execute(connection: &Connection, batch: &mut Vec<Step>) -> (Answers, Result<Duration, Error>) {
    let mut state = control(connection, "begin a transaction", "BEGIN IMMEDIATE");
    let mut answers = Vec::with_capacity(batch.len());
    for step in batch.drain(..) {
        if state.is_ok() {
            state = control(connection, "set a savepoint", "SAVEPOINT step");
        }
        let ending = step(state.clone().map(|()| connection));
        answers.push(ending.answer);
        if state.is_ok() {
            state = settle(connection, ending.keep);
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

/// Keeps or undoes the last step alone.
fn settle(connection: &Connection, keep: bool) -> Result<(), Error> {
    if connection.is_autocommit() {
        // A full disk or an I/O error makes SQLite roll back everything, the earlier steps included.
        return Err(engine("keep the transaction", &"the engine rolled it back"));
    }
    if !keep {
        control(connection, "roll back a step", "ROLLBACK TO step")?;
    }
    control(connection, "release a savepoint", "RELEASE step")
}

fn control(connection: &Connection, operation: &'static str, sql: &str) -> Result<(), Error> {
    let done = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    done.map(drop).map_err(|error| engine(operation, &error))
}
