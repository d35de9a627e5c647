//! Runs.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::state::{Conclusion, RunStatus};

use super::columns::{Columns, Time, Word};
use super::failure::Failure;
use super::{claims, jobs};
use crate::error::Error;
use crate::record::{CreatedRun, NewJob, NewRun, Page, RunRecord, TakenJob, kept, oldest_repeatable};
use crate::taker::Untold;
use crate::{Note, Taker, Taking};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, number, status, conclusion, started_at, completed_at, cancel_requested, reason, plan_id, name, path, \
             repository, event_name, git_ref, created_at, sealed_secrets, submission, trusted, idempotency_key FROM runs ",
            $tail
        )
    };
}

/// Of a run that is not written yet.
const UNNUMBERED: RunId = RunId(0);
const EARLIER: &str = select!("WHERE idempotency_key = ?1 AND created_at > ?2 ORDER BY id DESC LIMIT 1");

const UNFINISHED: &str = select!("WHERE conclusion IS NULL AND id > ?1 ORDER BY id LIMIT ?2");

fn read(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let mut columns = Columns::of(row);
    Ok(RunRecord {
        id: RunId(columns.get()?),
        number: columns.get()?,
        status: columns.word()?,
        conclusion: columns.optional_word()?,
        started_at: columns.optional_time()?,
        completed_at: columns.optional_time()?,
        cancel_requested: columns.get()?,
        reason: columns.get()?,
        run: NewRun {
            plan_id: uuid::Uuid::from_bytes(columns.get()?),
            name: columns.get()?,
            path: columns.get()?,
            repository: columns.get()?,
            event_name: columns.get()?,
            git_ref: columns.get()?,
            created_at: columns.time()?,
            sealed_secrets: columns.get()?,
            submission: columns.get()?,
            trusted: columns.get()?,
            idempotency: columns.get()?,
        },
    })
}

/// A new job that somebody acquires in the step that makes it.
pub(super) struct Acquired {
    pub untold: Untold,
    pub note: Note<TakenJob>,
    /// Or why it stays queued.
    pub taken: Result<TakenJob, Error>,
}

pub(super) fn create(
    db: &Connection,
    mut run: NewRun,
    mut new_jobs: Vec<NewJob>,
    taker: Taker,
) -> Result<(CreatedRun, Option<Acquired>), Failure> {
    run.created_at = kept(run.created_at);
    if let Some(run) = earlier(db, &run)? {
        let jobs = jobs::of_run(db, run.id)?;
        return Ok((CreatedRun { run, jobs, is_repeat: true }, None));
    }
    new_jobs.iter().try_for_each(NewJob::check)?;
    let sql = "SELECT ifnull(max(number), ifnull((SELECT number FROM last_numbers WHERE repository = ?1 AND path = ?2), 0)) + 1 \
               FROM runs WHERE repository = ?1 AND path = ?2";
    let number = db.prepare_cached(sql)?.query_row((&run.repository, &run.path), |row| row.get(0))?;
    let mut run = RunRecord {
        id: UNNUMBERED,
        number,
        run,
        status: RunStatus::Queued,
        conclusion: None,
        started_at: None,
        completed_at: None,
        cancel_requested: false,
        reason: None,
    };
    if taker.is_for(&new_jobs)
        && let Some(job) = new_jobs.pop()
    {
        return create_taken(db, run, job, taker);
    }
    run.id = insert(db, &run)?;
    let jobs = jobs::add(db, run.id, &run.run.repository, new_jobs)?;
    Ok((CreatedRun { run, jobs, is_repeat: false }, None))
}

/// Creates a run of one queued job, which somebody may acquire: who, is asked before anything is written, so that it is written once.
fn create_taken(
    db: &Connection,
    mut run: RunRecord,
    job: NewJob,
    taker: Taker,
) -> Result<(CreatedRun, Option<Acquired>), Failure> {
    let (run_id, job_id) = next_ids(db)?;
    run.id = run_id;
    let (job, message) = job.into_record(job_id, run_id, run.run.repository.clone(), 0);
    let Some(Taking { epoch, runner, now, note, outcome }) = taker.decide(&job) else {
        insert(db, &run)?;
        jobs::insert(db, &job, &message)?;
        return Ok((CreatedRun { run, jobs: vec![job], is_repeat: false }, None));
    };
    let untold = Untold::new(outcome);
    let taken = match jobs::acquired(db, job.clone(), epoch, runner, job.attempt, now) {
        Ok(taken) => {
            let started = RunRecord { status: RunStatus::Running, started_at: taken.started_at, ..run.clone() };
            insert(db, &started)?;
            jobs::insert(db, &taken, &message)?;
            Ok(TakenJob { run: started, job: taken, message })
        }
        Err(Failure::Refused(error)) => {
            insert(db, &run)?;
            jobs::insert(db, &job, &message)?;
            Err(error)
        }
        Err(failure) => return Err(failure),
    };
    Ok((CreatedRun { run, jobs: vec![job], is_repeat: false }, Some(Acquired { untold, note, taken })))
}

/// What the next run and the next job are called.
fn next_ids(db: &Connection) -> Result<(RunId, JobId), Failure> {
    let sql = "SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'runs'), 0) + 1, \
               ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'jobs'), 0) + 1";
    Ok(db.prepare_cached(sql)?.query_row([], |row| Ok((RunId(row.get(0)?), JobId(row.get(1)?))))?)
}

/// Writes a run that is not there yet; the id that it has, or gets if it has none.
fn insert(db: &Connection, run: &RunRecord) -> Result<RunId, Failure> {
    let sql = "INSERT INTO runs (id, number, status, started_at, plan_id, name, path, repository, event_name, git_ref, \
               created_at, sealed_secrets, submission, trusted, idempotency_key) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    let RunRecord { id, number, run, status, started_at, .. } = run;
    let id = db.prepare_cached(sql)?.insert((
        (*id != UNNUMBERED).then_some(id.0),
        number,
        Word(*status),
        started_at.map(Time),
        run.plan_id.as_bytes(),
        &run.name,
        &run.path,
        &run.repository,
        &run.event_name,
        &run.git_ref,
        Time(run.created_at),
        &run.sealed_secrets,
        &run.submission,
        run.trusted,
        run.idempotency,
    ))?;
    Ok(RunId(id))
}

/// The run that an earlier submission of the same thing made.
fn earlier(db: &Connection, run: &NewRun) -> Result<Option<RunRecord>, Failure> {
    let Some(key) = run.idempotency else { return Ok(None) };
    let mut select = db.prepare_cached(EARLIER)?;
    Ok(select.query_row((key, Time(oldest_repeatable(run.created_at))), read).optional()?)
}

pub(super) fn rename(db: &Connection, run: RunId, name: &str) -> Result<Option<RunRecord>, Failure> {
    db.prepare_cached("UPDATE runs SET name = ?2 WHERE id = ?1")?.execute((run.0, name))?;
    find(db, run)
}

pub(super) fn find(db: &Connection, run: RunId) -> Result<Option<RunRecord>, Failure> {
    Ok(db.prepare_cached(select!("WHERE id = ?1"))?.query_row([run.0], read).optional()?)
}

pub(super) fn require(db: &Connection, run: RunId) -> Result<RunRecord, Failure> {
    find(db, run)?.ok_or_else(|| Error::NoRun(run).into())
}

/// The first job was acquired.
pub(super) fn start(db: &Connection, run: RunId, now: Timestamp) -> Result<(), Failure> {
    let sql = "UPDATE runs SET status = 'running', started_at = ?2 WHERE id = ?1 AND status = 'queued'";
    db.prepare_cached(sql)?.execute((run.0, Time(now)))?;
    Ok(())
}

pub(super) fn request_cancel(db: &Connection, run: RunId) -> Result<Option<RunRecord>, Failure> {
    let sql = "UPDATE runs SET cancel_requested = 1 WHERE id = ?1 AND conclusion IS NULL";
    db.prepare_cached(sql)?.execute([run.0])?;
    find(db, run)
}

pub(super) fn finish(
    db: &Connection,
    run: RunId,
    conclusion: Conclusion,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, Failure> {
    let sql = "UPDATE runs SET status = 'completed', conclusion = ?2, completed_at = ?3, reason = ?4 \
               WHERE id = ?1 AND conclusion IS NULL";
    let is_now = db.prepare_cached(sql)?.execute((run.0, Word(conclusion), Time(now), reason))? > 0;
    if is_now {
        claims::remove_all(db, run)?;
    } else {
        require(db, run)?;
    }
    Ok(is_now)
}

pub(super) fn page(db: &Connection, before: Option<RunId>, limit: u32) -> Result<Page<RunRecord>, Failure> {
    let before = before.map_or(i64::MAX, |run| run.0);
    let mut select = db.prepare_cached(select!("WHERE id < ?1 ORDER BY id DESC LIMIT ?2"))?;
    let items = select.query_map((before, i64::from(limit) + 1), read)?.collect::<Result<_, _>>()?;
    Ok(cut(items, limit))
}

/// A page of `items`, of which there is one more than fits when there is more behind them.
pub(super) fn cut<T>(mut items: Vec<T>, limit: u32) -> Page<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    Page { items, more }
}

/// Runs without a conclusion behind `after`, by id.
pub(super) fn unfinished(db: &Connection, after: RunId, limit: u32) -> Result<Vec<RunRecord>, Failure> {
    let mut select = db.prepare_cached(UNFINISHED)?;
    Ok(select.query_map((after.0, limit), read)?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn a_repeat_is_found_without_reading_all_runs() {
        let plan = plan(EARLIER);
        assert!(plan.contains("USING INDEX runs_by_idempotency_key"), "{plan}");
    }

    #[test]
    fn unfinished_runs_are_found_without_reading_those_that_are_over() {
        let plan = plan(UNFINISHED);
        assert!(plan.contains("USING INDEX runs_unfinished") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}
