//! Unfinished runs, read for a start: few columns, and what is the same in row after row only once.

use std::sync::Arc;

use rusqlite::types::FromSqlError;
use rusqlite::{Connection, Row};
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};

use super::columns::Columns;
use super::failure::Failure;
use super::runs;
use crate::record::{Demand, JobOutline, UnfinishedRun};

/// Jobs after which an answer takes no further run.
const ENOUGH_JOBS: usize = 8192;

const OF_RUN: &str = "SELECT id, status, priority, timeout_minutes, cancel_timeout_minutes, requeues_left, attempt, epoch, \
                      runner_id, cancel_reason, queued_at, started_at, labels, runner_group, trusted \
                      FROM jobs WHERE run_id = ?1";

pub(super) fn unfinished(db: &Connection, after: RunId, limit: u32) -> Result<Vec<UnfinishedRun>, Failure> {
    // Runs and jobs from the same moment.
    let _snapshot = db.unchecked_transaction()?;
    let mut select = db.prepare_cached(OF_RUN)?;
    let (mut found, mut jobs_found) = (Vec::new(), 0);
    for run in runs::unfinished(db, after, limit)? {
        if jobs_found >= ENOUGH_JOBS {
            break;
        }
        let mut rows = select.query([run.id.0])?;
        let (mut jobs, mut last) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            jobs.push(read(row, &mut last)?);
        }
        // They come in the order of their keys, which is nearly that of their ids.
        jobs.sort_by_key(|job| job.id);
        jobs_found += jobs.len();
        found.push(UnfinishedRun { run, jobs });
    }
    Ok(found)
}

/// What the last row asked for, with the text of its labels.
type Last = Option<(String, Arc<Demand>)>;

fn read(row: &Row<'_>, last: &mut Last) -> rusqlite::Result<JobOutline> {
    let mut columns = Columns::of(row);
    Ok(JobOutline {
        id: JobId(columns.get()?),
        status: columns.word()?,
        priority: columns.get()?,
        timeout_minutes: columns.get()?,
        cancel_timeout_minutes: columns.get()?,
        requeues_left: columns.get()?,
        attempt: columns.get()?,
        epoch: Epoch(columns.get()?),
        runner_id: columns.get::<Option<i64>>()?.map(RunnerId),
        cancel_reason: columns.get()?,
        queued_at: columns.time()?,
        started_at: columns.optional_time()?,
        demand: demand(&mut columns, last)?,
    })
}

fn demand(columns: &mut Columns<'_>, last: &mut Last) -> rusqlite::Result<Arc<Demand>> {
    let (labels, group, trusted) = (columns.str()?, columns.optional_str()?, columns.get()?);
    if let Some((text, demand)) = last
        && text == labels
        && demand.group.as_deref() == group
        && demand.trusted == trusted
    {
        return Ok(Arc::clone(demand));
    }
    let parsed = serde_json::from_str(labels).map_err(FromSqlError::other)?;
    let demand = Arc::new(Demand { labels: parsed, group: group.map(str::to_owned), trusted });
    *last = Some((labels.to_owned(), Arc::clone(&demand)));
    Ok(demand)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn the_jobs_of_a_run_are_found_by_their_index_and_not_sorted() {
        let plan = plan(OF_RUN);
        assert!(plan.contains("USING INDEX jobs_by_key") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}
