//! Purging of runs and registrations.
//!
//! Runs and registrations are walked by their ids, which ascend with the time at which they were made, up to the first that
//! is too young. So nothing that is written often pays for an index by age.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use startline_protocol::ids::{JobId, RunId, RunnerId};
use tokio::time::Instant;

use super::claims;
use super::columns::Time;
use super::failure::Failure;
use crate::record::{DueRuns, PurgePlace, Purged, kept};
use crate::{PURGE_LOOKS, PURGED_JOBS, PURGED_RUNNERS, PURGED_RUNS};

const RUNS: &str = "SELECT id, created_at, completed_at FROM runs WHERE id >= ?1 ORDER BY id LIMIT ?2";
const JOBS: &str = "SELECT id, attempt FROM jobs WHERE run_id = ?1 AND id > ?2 AND status = 'completed' \
                    ORDER BY id LIMIT ?3";
const DUE_JOB: &str = "SELECT j.finished FROM jobs j JOIN runs r ON r.id = j.run_id \
                       WHERE j.id = ?1 AND j.status = 'completed' AND r.completed_at < ?2";
const DUE_RUN: &str = "SELECT repository, path, number FROM runs WHERE id = ?1 AND completed_at < ?2 \
                       AND NOT EXISTS (SELECT 1 FROM jobs WHERE run_id = ?1)";
const DELETE_CLAIMS_OF_JOB: &str = "DELETE FROM claims WHERE job_id = ?1";
const DELETE_MESSAGE: &str = "DELETE FROM job_messages WHERE job_id = ?1";
const DELETE_JOB: &str = "DELETE FROM jobs WHERE id = ?1";
const DELETE_RUN: &str = "DELETE FROM runs WHERE id = ?1";
const HIGHER_NUMBER: &str = "SELECT 1 FROM runs WHERE repository = ?1 AND path = ?2 AND number > ?3";
const LOWER_NUMBER: &str = "SELECT 1 FROM runs WHERE repository = ?1 AND path = ?2 AND number < ?3";
const FINISHED_LATER: &str = "SELECT 1 FROM jobs WHERE finished > 0 AND finished > ?1";
const FINISHED_EARLIER: &str = "SELECT 1 FROM jobs WHERE finished > 0 AND finished < ?1";
const RUNNERS: &str = "SELECT id, created_at, deleted_at FROM runners WHERE id > ?1 ORDER BY id LIMIT ?2";

pub(super) fn due_runs(db: &Connection, before: Timestamp, from: Option<PurgePlace>) -> Result<DueRuns, Failure> {
    let before = kept(before);
    // Runs and their jobs from the same moment.
    let _snapshot = db.unchecked_transaction()?;
    let from = from.unwrap_or(PurgePlace { run: RunId(0), job: JobId(0) });
    let mut due = DueRuns::default();
    let (mut runs, mut jobs) = (db.prepare_cached(RUNS)?, db.prepare_cached(JOBS)?);
    let mut rows = runs.query((from.run.0, PURGE_LOOKS))?;
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        looked += 1;
        let run = RunId(row.get(0)?);
        if row.get::<_, Time>(1)?.0 >= before {
            due.next = None;
            return Ok(due);
        }
        due.next = Some(PurgePlace::behind(run));
        let has_ended = row.get::<_, Option<Time>>(2)?.is_some_and(|at| at.0 < before);
        let behind = if run == from.run { from.job } else { JobId(0) };
        if !has_ended || behind == PurgePlace::behind(run).job {
            continue;
        }
        let room = PURGED_JOBS - due.jobs.len();
        let limit = i64::try_from(room).unwrap_or(i64::MAX) + 1;
        let found = jobs.query_map((run.0, behind.0, limit), |row| Ok((JobId(row.get(0)?), row.get(1)?)))?;
        let mut found: Vec<(JobId, u32)> = found.collect::<Result<_, _>>()?;
        if found.len() > room {
            found.truncate(room);
            let job = found.last().map_or(behind, |(job, _)| *job);
            due.jobs.extend(found);
            due.next = Some(PurgePlace { run, job });
            return Ok(due);
        }
        due.jobs.extend(found);
        due.runs.push(run);
        if due.runs.len() == PURGED_RUNS {
            return Ok(due);
        }
    }
    if looked < PURGE_LOOKS {
        due.next = None;
    }
    Ok(due)
}

pub(super) fn purge_runs(db: &Connection, before: Timestamp, due: &DueRuns) -> Result<Purged, Failure> {
    let started = Instant::now();
    let mut purged = Purged::default();
    for (job, _) in &due.jobs {
        let mut select = db.prepare_cached(DUE_JOB)?;
        let finished = select.query_row((job.0, Time(before)), |row| row.get::<_, i64>(0)).optional()?;
        let Some(finished) = finished else { continue };
        if !db.prepare_cached(FINISHED_LATER)?.exists([finished])? {
            // The last of all: those after it are numbered from it on, so it goes when there is no other.
            if db.prepare_cached(FINISHED_EARLIER)?.exists([finished])? {
                continue;
            }
            let sql = "INSERT OR REPLACE INTO last_finished (id, finished) VALUES (1, ?1)";
            db.prepare_cached(sql)?.execute([finished])?;
        }
        for sql in [DELETE_CLAIMS_OF_JOB, DELETE_MESSAGE, DELETE_JOB] {
            db.prepare_cached(sql)?.execute([job.0])?;
        }
        purged.jobs += 1;
    }
    for run in &due.runs {
        let mut select = db.prepare_cached(DUE_RUN)?;
        let found = select.query_row((run.0, Time(before)), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let Some((repository, path, number)) = found.optional()? else { continue };
        let place: (&String, &String, i64) = (&repository, &path, number);
        if !db.prepare_cached(HIGHER_NUMBER)?.exists(place)? {
            // As with jobs.
            if db.prepare_cached(LOWER_NUMBER)?.exists(place)? {
                continue;
            }
            let sql = "INSERT OR REPLACE INTO last_numbers (repository, path, number) VALUES (?1, ?2, ?3)";
            db.prepare_cached(sql)?.execute(place)?;
        }
        claims::remove_all(db, *run)?;
        db.prepare_cached(DELETE_RUN)?.execute([run.0])?;
        purged.count += 1;
    }
    Ok(Purged { took: started.elapsed(), ..purged })
}

pub(super) fn purge_runners(db: &Connection, before: Timestamp, after: RunnerId) -> Result<Purged, Failure> {
    let started = Instant::now();
    let before = kept(before);
    let mut select = db.prepare_cached(RUNNERS)?;
    let rows = select.query_map((after.0, PURGE_LOOKS), |row| {
        Ok((row.get(0)?, row.get::<_, Time>(1)?.0, row.get::<_, Option<Time>>(2)?.map(|at| at.0)))
    })?;
    let rows: Vec<(i64, Timestamp, Option<Timestamp>)> = rows.collect::<Result<_, _>>()?;
    let mut purged = Purged {
        next: rows.last().filter(|_| rows.len() == PURGE_LOOKS as usize).map(|row| row.0),
        ..Purged::default()
    };
    for (id, created_at, deleted_at) in rows {
        if created_at >= before {
            purged.next = None;
            break;
        }
        if deleted_at.is_some_and(|at| at < before) {
            for sql in [
                "DELETE FROM runner_tokens WHERE runner_id = ?1",
                "DELETE FROM actions_runners WHERE runner_id = ?1",
                "DELETE FROM runners WHERE id = ?1",
            ] {
                db.prepare_cached(sql)?.execute([id])?;
            }
            purged.count += 1;
            if purged.count == PURGED_RUNNERS {
                purged.next = Some(id);
                break;
            }
        }
    }
    Ok(Purged { took: started.elapsed(), ..purged })
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn no_step_of_a_purge_reads_all_of_a_table() {
        for (sql, index) in [
            (RUNS, "SEARCH runs USING INTEGER PRIMARY KEY"),
            (RUNNERS, "SEARCH runners USING INTEGER PRIMARY KEY"),
            (JOBS, "SEARCH jobs USING INDEX jobs_by_key (run_id=?)"),
            (DUE_JOB, "SEARCH j USING INTEGER PRIMARY KEY"),
            (DUE_RUN, "SEARCH jobs USING COVERING INDEX jobs_by_key (run_id=?)"),
            (HIGHER_NUMBER, "USING COVERING INDEX runs_by_number (repository=? AND path=? AND number>?)"),
            (LOWER_NUMBER, "USING COVERING INDEX runs_by_number (repository=? AND path=? AND number<?)"),
            (FINISHED_LATER, "USING COVERING INDEX jobs_by_finish"),
            (FINISHED_EARLIER, "USING COVERING INDEX jobs_by_finish"),
            (DELETE_CLAIMS_OF_JOB, "USING COVERING INDEX claims_by_job"),
            // The rest of the plan is what looks for rows that refer to the deleted one.
            (DELETE_JOB, "SEARCH claims USING COVERING INDEX claims_by_job"),
            (DELETE_RUN, "SEARCH jobs USING COVERING INDEX jobs_by_key"),
        ] {
            let plan = plan(sql);
            assert!(plan.contains(index) && !plan.contains("SCAN"), "{sql}: {plan}");
        }
        let plan = plan("DELETE FROM runners WHERE id = 1");
        assert!(!plan.contains("SCAN") && !plan.contains("jobs"), "{plan}");
    }
}
