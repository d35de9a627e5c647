//! Jobs.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::step::StepRecord;

use super::columns::{Columns, Json, Time, Word};
use super::failure::Failure;
use super::{runners, runs};
use crate::error::Error;
use crate::record::{CompleteOutcome, Completion, JobRecord, NewJob, Page, kept};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT j.id, j.run_id, r.repository, j.key, j.idx, j.name, j.status, j.conclusion, j.reason, j.labels, \
             j.runner_group, j.claim, j.trusted, j.priority, j.timeout_minutes, j.cancel_timeout_minutes, \
             j.environment, j.continue_on_error, j.requeues_left, j.attempt, j.epoch, \
             j.runner_id, j.runner_name, j.cancel_reason, j.queued_at, j.started_at, j.completed_at, j.finished, \
             j.outputs, j.steps, j.annotations FROM jobs j JOIN runs r ON r.id = j.run_id ",
            $tail
        )
    };
}

/// Of a job that is not written yet.
const UNNUMBERED: JobId = JobId(0);
const LAST_FINISHED: &str =
    "SELECT ifnull(max(finished), ifnull((SELECT finished FROM last_finished), 0)) FROM jobs WHERE finished > 0";
const OF_RUN: &str = select!("WHERE j.run_id = ?1 ORDER BY j.id");
const PAGE: &str = select!("WHERE j.id < ?1 ORDER BY j.id DESC LIMIT ?2");
const PAGE_OF_COMPLETED: &str = select!("WHERE j.status = 'completed' AND j.id < ?1 ORDER BY j.id DESC LIMIT ?2");
/// The second condition is what lets the partial index be used.
const PAGE_OF_STATE: &str =
    select!("WHERE j.status = ?3 AND j.status <> 'completed' AND j.id < ?1 ORDER BY j.id DESC LIMIT ?2");

fn read(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    let mut columns = Columns::of(row);
    Ok(JobRecord {
        id: JobId(columns.get()?),
        run_id: RunId(columns.get()?),
        repository: columns.get()?,
        key: columns.get()?,
        index: columns.get()?,
        name: columns.get()?,
        status: columns.word()?,
        conclusion: columns.optional_word()?,
        reason: columns.get()?,
        labels: columns.json()?,
        group: columns.get()?,
        claim: columns.optional_json()?,
        trusted: columns.get()?,
        priority: columns.get()?,
        timeout_minutes: columns.get()?,
        cancel_timeout_minutes: columns.get()?,
        environment: columns.optional_json()?,
        continue_on_error: columns.get()?,
        requeues_left: columns.get()?,
        attempt: columns.get()?,
        epoch: Epoch(columns.get()?),
        runner_id: columns.get::<Option<i64>>()?.map(RunnerId),
        runner_name: columns.get()?,
        cancel_reason: columns.get()?,
        queued_at: columns.time()?,
        started_at: columns.optional_time()?,
        completed_at: columns.optional_time()?,
        finished: columns.get()?,
        outputs: columns.json()?,
        steps: columns.json()?,
        annotations: columns.json()?,
    })
}

/// Adds those that the run does not have yet.
pub(super) fn add(db: &Connection, run: RunId, repository: &str, jobs: Vec<NewJob>) -> Result<Vec<JobRecord>, Failure> {
    let mut known = db.prepare_cached("SELECT 1 FROM jobs WHERE run_id = ?1 AND key = ?2 AND idx = ?3")?;
    jobs.iter().try_for_each(NewJob::check)?;
    let mut added = Vec::new();
    for job in jobs {
        if known.exists((run.0, &job.key, job.index))? {
            continue;
        }
        let finished = if job.conclusion.is_some() { next_finished(db)? } else { 0 };
        let (mut record, message) = job.into_record(UNNUMBERED, run, repository.to_owned(), finished);
        record.id = insert(db, &record, &message)?;
        added.push(record);
    }
    Ok(added)
}

/// Writes a job that is not there yet, with its message; the id that it has, or gets if it has none.
pub(super) fn insert(db: &Connection, job: &JobRecord, message: &str) -> Result<JobId, Failure> {
    let mut insert = db.prepare_cached(
        "INSERT INTO jobs (id, run_id, key, idx, name, status, conclusion, reason, labels, runner_group, claim, trusted, \
         priority, timeout_minutes, continue_on_error, requeues_left, attempt, epoch, runner_id, runner_name, queued_at, \
         started_at, completed_at, finished, outputs, environment, cancel_timeout_minutes) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
         ?24, ?25, ?26, ?27)",
    )?;
    let id = insert.insert(rusqlite::params![
        (job.id != UNNUMBERED).then_some(job.id.0),
        job.run_id.0,
        job.key,
        job.index,
        job.name,
        Word(job.status),
        job.conclusion.map(Word),
        job.reason,
        Json(&job.labels),
        job.group,
        job.claim.as_ref().map(Json),
        job.trusted,
        job.priority,
        job.timeout_minutes,
        job.continue_on_error,
        job.requeues_left,
        job.attempt,
        job.epoch.0,
        job.runner_id.map(|runner| runner.0),
        job.runner_name,
        Time(job.queued_at),
        job.started_at.map(Time),
        job.completed_at.map(Time),
        job.finished,
        Json(&job.outputs),
        job.environment.as_ref().map(Json),
        job.cancel_timeout_minutes,
    ])?;
    db.prepare_cached("INSERT INTO job_messages (job_id, message) VALUES (?1, ?2)")?.execute((id, message))?;
    Ok(JobId(id))
}

fn next_finished(db: &Connection) -> Result<i64, Failure> {
    let last: i64 = db.prepare_cached(LAST_FINISHED)?.query_row([], |row| row.get(0))?;
    Ok(last + 1)
}

pub(super) fn find(db: &Connection, job: JobId) -> Result<Option<JobRecord>, Failure> {
    Ok(db.prepare_cached(select!("WHERE j.id = ?1"))?.query_row([job.0], read).optional()?)
}

fn require(db: &Connection, job: JobId) -> Result<JobRecord, Failure> {
    find(db, job)?.ok_or_else(|| Error::NoJob(job).into())
}

fn stale(job: &JobRecord, quoted: Epoch) -> Failure {
    Error::StaleEpoch { job: job.id, quoted, current: job.epoch }.into()
}

pub(super) fn release(db: &Connection, job: JobId, now: Timestamp) -> Result<Option<JobRecord>, Failure> {
    let sql = "UPDATE jobs SET status = 'queued', queued_at = ?2, reason = NULL WHERE id = ?1 AND status = 'waiting'";
    match db.prepare_cached(sql)?.execute((job.0, Time(now)))? {
        0 => Ok(None),
        _ => find(db, job),
    }
}

pub(super) fn record_offer(db: &Connection, job: JobId, epoch: Epoch, runner: RunnerId) -> Result<JobRecord, Failure> {
    let mut job = require(db, job)?;
    if job.status != JobStatus::Queued || epoch <= job.epoch {
        return Err(stale(&job, epoch));
    }
    let name = runners::name(db, runner)?;
    let sql = "UPDATE jobs SET status = 'offered', epoch = ?2, runner_id = ?3, runner_name = ?4 WHERE id = ?1";
    db.prepare_cached(sql)?.execute((job.id.0, epoch.0, runner.0, &name))?;
    job.status = JobStatus::Offered;
    job.epoch = epoch;
    job.runner_id = Some(runner);
    job.runner_name = Some(name);
    Ok(job)
}

pub(super) fn acquire(
    db: &Connection,
    job: JobId,
    epoch: Epoch,
    runner: RunnerId,
    attempt: u32,
    now: Timestamp,
) -> Result<JobRecord, Failure> {
    let job = require(db, job)?;
    let is_holder = job.epoch == epoch && job.runner_id == Some(runner);
    let may_acquire = match job.status {
        JobStatus::Running if is_holder && job.attempt == attempt => return Ok(job),
        JobStatus::Offered => is_holder,
        JobStatus::Queued => epoch > job.epoch,
        _ => false,
    };
    if !may_acquire {
        return Err(stale(&job, epoch));
    }
    let job = acquired(db, job, epoch, runner, attempt, now)?;
    let sql = "UPDATE jobs SET status = 'running', epoch = ?2, runner_id = ?3, runner_name = ?4, attempt = ?5, \
               started_at = ?6, steps = '[]' WHERE id = ?1";
    db.prepare_cached(sql)?.execute((job.id.0, epoch.0, runner.0, &job.runner_name, attempt, Time(now)))?;
    runs::start(db, job.run_id, now)?;
    Ok(job)
}

/// The job as it is when a registered runner has it, before that is written.
pub(super) fn acquired(
    db: &Connection,
    job: JobRecord,
    epoch: Epoch,
    runner: RunnerId,
    attempt: u32,
    now: Timestamp,
) -> Result<JobRecord, Failure> {
    Ok(JobRecord {
        status: JobStatus::Running,
        epoch,
        runner_id: Some(runner),
        runner_name: Some(runners::name(db, runner)?),
        attempt,
        started_at: Some(kept(now)),
        steps: Vec::new(),
        ..job
    })
}

pub(super) fn requeue(
    db: &Connection,
    job: JobId,
    epoch: Epoch,
    attempt: u32,
    requeues_left: u32,
    reason: String,
    now: Timestamp,
) -> Result<JobRecord, Failure> {
    let mut job = require(db, job)?;
    let may_requeue = match job.status {
        JobStatus::Offered | JobStatus::Running => true,
        // An exact repeat.
        JobStatus::Queued => {
            (job.attempt, job.requeues_left, job.reason.as_ref()) == (attempt, requeues_left, Some(&reason))
        }
        JobStatus::Waiting | JobStatus::Completed => false,
    };
    if !may_requeue || job.epoch != epoch {
        return Err(stale(&job, epoch));
    }
    let sql = "UPDATE jobs SET status = 'queued', attempt = ?2, requeues_left = ?3, reason = ?4, started_at = NULL \
               WHERE id = ?1";
    db.prepare_cached(sql)?.execute((job.id.0, attempt, requeues_left, &reason))?;
    if job.status == JobStatus::Running && attempt > job.attempt {
        runners::delete_if_ephemeral(db, job.runner_id, now)?;
    }
    job.status = JobStatus::Queued;
    job.attempt = attempt;
    job.requeues_left = requeues_left;
    job.reason = Some(reason);
    job.started_at = None;
    Ok(job)
}

pub(super) fn update_steps(
    db: &Connection,
    job: JobId,
    epoch: Epoch,
    steps: Vec<StepRecord>,
) -> Result<JobRecord, Failure> {
    let mut job = require(db, job)?;
    if job.status != JobStatus::Running || job.epoch != epoch {
        return Err(stale(&job, epoch));
    }
    db.prepare_cached("UPDATE jobs SET steps = ?2 WHERE id = ?1")?.execute((job.id.0, Json(&steps)))?;
    job.steps = steps;
    Ok(job)
}

pub(super) fn complete(
    db: &Connection,
    job: JobId,
    epoch: Epoch,
    completion: Completion,
    now: Timestamp,
) -> Result<CompleteOutcome, Failure> {
    let mut job = require(db, job)?;
    match job.status {
        JobStatus::Completed if job.epoch == epoch => return Ok(CompleteOutcome::AlreadyCompleted(job)),
        JobStatus::Running if job.epoch == epoch => {}
        _ => return Err(stale(&job, epoch)),
    }
    let of_run = completion.conclusion_of_run(&job);
    let Completion { conclusion, outputs, environment_url, steps, annotations, .. } = completion;
    if let Some(environment) = &mut job.environment {
        environment.url = environment_url;
    }
    job.outputs = outputs;
    job.steps = steps;
    job.annotations = annotations;
    end(db, &mut job, conclusion, None, now)?;
    let run_ended = match of_run {
        Some(conclusion) => runs::finish(db, job.run_id, conclusion, None, now)?,
        None => false,
    };
    Ok(CompleteOutcome::Completed { job, run_ended })
}

pub(super) fn conclude(
    db: &Connection,
    job: JobId,
    epoch: Epoch,
    conclusion: Conclusion,
    reason: String,
    now: Timestamp,
) -> Result<JobRecord, Failure> {
    let mut job = require(db, job)?;
    if job.status == JobStatus::Completed || job.epoch != epoch {
        return Err(stale(&job, epoch));
    }
    end(db, &mut job, conclusion, Some(reason), now)?;
    Ok(job)
}

fn end(
    db: &Connection,
    job: &mut JobRecord,
    conclusion: Conclusion,
    reason: Option<String>,
    now: Timestamp,
) -> Result<(), Failure> {
    if job.status == JobStatus::Running {
        runners::delete_if_ephemeral(db, job.runner_id, now)?;
    }
    job.status = JobStatus::Completed;
    job.conclusion = Some(conclusion);
    job.reason = reason;
    job.completed_at = Some(kept(now));
    job.finished = next_finished(db)?;
    let sql = "UPDATE jobs SET status = 'completed', conclusion = ?2, reason = ?3, completed_at = ?4, finished = ?5, \
               outputs = ?6, steps = ?7, annotations = ?8, environment = ?9 WHERE id = ?1";
    db.prepare_cached(sql)?.execute((
        job.id.0,
        Word(conclusion),
        &job.reason,
        Time(now),
        job.finished,
        Json(&job.outputs),
        Json(&job.steps),
        Json(&job.annotations),
        job.environment.as_ref().map(Json),
    ))?;
    Ok(())
}

pub(super) fn request_cancel(db: &Connection, job: JobId, reason: String) -> Result<Option<JobRecord>, Failure> {
    let sql = "UPDATE jobs SET cancel_reason = ?2 WHERE id = ?1 AND cancel_reason IS NULL AND status <> 'completed'";
    db.prepare_cached(sql)?.execute((job.0, reason))?;
    find(db, job)
}

pub(super) fn of_run(db: &Connection, run: RunId) -> Result<Vec<JobRecord>, Failure> {
    let mut select = db.prepare_cached(OF_RUN)?;
    Ok(select.query_map([run.0], read)?.collect::<Result<_, _>>()?)
}

pub(super) fn page(
    db: &Connection,
    status: Option<JobStatus>,
    before: Option<JobId>,
    limit: u32,
) -> Result<Page<JobRecord>, Failure> {
    let before = before.map_or(i64::MAX, |job| job.0);
    let wanted = i64::from(limit) + 1;
    let items = match status {
        None => db.prepare_cached(PAGE)?.query_map((before, wanted), read)?.collect::<Result<_, _>>()?,
        Some(JobStatus::Completed) => {
            db.prepare_cached(PAGE_OF_COMPLETED)?.query_map((before, wanted), read)?.collect::<Result<_, _>>()?
        }
        Some(status) => db
            .prepare_cached(PAGE_OF_STATE)?
            .query_map((before, wanted, Word(status)), read)?
            .collect::<Result<_, _>>()?,
    };
    Ok(runs::cut(items, limit))
}

pub(super) fn message(db: &Connection, job: JobId) -> Result<Option<String>, Failure> {
    let mut select = db.prepare_cached("SELECT message FROM job_messages WHERE job_id = ?1")?;
    Ok(select.query_row([job.0], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn no_frequent_query_reads_all_jobs() {
        for (sql, index) in [
            (LAST_FINISHED, "SEARCH jobs USING COVERING INDEX jobs_by_finish"),
            (OF_RUN, "SEARCH j USING INDEX jobs_by_key"),
            (PAGE, "SEARCH j USING INTEGER PRIMARY KEY"),
            (PAGE_OF_COMPLETED, "SEARCH j USING INTEGER PRIMARY KEY"),
            (PAGE_OF_STATE, "SEARCH j USING INDEX jobs_unfinished"),
        ] {
            let plan = plan(sql);
            assert!(plan.contains(index), "{sql}: {plan}");
        }
    }

    #[test]
    fn pages_are_not_sorted() {
        for sql in [PAGE, PAGE_OF_COMPLETED, PAGE_OF_STATE] {
            let plan = plan(sql);
            assert!(!plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    }
}
