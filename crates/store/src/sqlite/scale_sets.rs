//! Scale sets.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::scope::Scope;

use super::columns::{Columns, Json, Text, Time};
use super::failure::Failure;
use super::{groups, runners};
use crate::error::Error;
use crate::record::{BegunJob, NewScaleSet, ScaleSetChanges, ScaleSetRecord, kept, name_key};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, last_message_id, scope, runner_group, name, labels, settings, owner, created_at \
             FROM scale_sets WHERE ",
            $tail
        )
    };
}

fn read(row: &Row<'_>) -> rusqlite::Result<ScaleSetRecord> {
    let mut columns = Columns::of(row);
    Ok(ScaleSetRecord {
        id: columns.get()?,
        last_message_id: columns.get()?,
        set: NewScaleSet {
            scope: columns.text()?,
            group: columns.get()?,
            name: columns.get()?,
            labels: columns.json()?,
            settings: columns.get()?,
            owner: columns.get()?,
            created_at: columns.time()?,
        },
    })
}

/// Refuses a set, known by `id` if it is there already, whose group does not exist or whose name is another's.
fn check(db: &Connection, id: Option<i64>, set: &NewScaleSet) -> Result<(), Failure> {
    groups::resolve(db, &set.scope, &set.group)?;
    let sql = "SELECT id FROM scale_sets WHERE scope = ?1 AND group_key = ?2 AND name_key = ?3";
    let mut holder = db.prepare_cached(sql)?;
    let key = (Text(&set.scope), name_key(&set.group), name_key(&set.name));
    let holder: Option<i64> = holder.query_row(key, |row| row.get(0)).optional()?;
    if holder.is_some() && holder != id {
        return Err(Error::ScaleSetExists { group: set.group.clone(), name: set.name.clone() }.into());
    }
    Ok(())
}

pub(super) fn create(db: &Connection, mut set: NewScaleSet) -> Result<ScaleSetRecord, Failure> {
    check(db, None, &set)?;
    set.created_at = kept(set.created_at);
    let sql = "INSERT INTO scale_sets \
               (scope, runner_group, group_key, name, name_key, labels, settings, owner, created_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let id = db.prepare_cached(sql)?.insert((
        Text(&set.scope),
        &set.group,
        name_key(&set.group),
        &set.name,
        name_key(&set.name),
        Json(&set.labels),
        &set.settings,
        &set.owner,
        Time(set.created_at),
    ))?;
    Ok(ScaleSetRecord { id, last_message_id: 0, set })
}

pub(super) fn find(db: &Connection, id: i64) -> Result<Option<ScaleSetRecord>, Failure> {
    Ok(db.prepare_cached(select!("id = ?1"))?.query_row([id], read).optional()?)
}

pub(super) fn require(db: &Connection, id: i64) -> Result<ScaleSetRecord, Failure> {
    Ok(find(db, id)?.ok_or(Error::NoScaleSet(id))?)
}

pub(super) fn of(db: &Connection, scope: &Scope) -> Result<Vec<ScaleSetRecord>, Failure> {
    let mut select = db.prepare_cached(select!("scope = ?1 ORDER BY id"))?;
    Ok(select.query_map([Text(scope)], read)?.collect::<Result<_, _>>()?)
}

pub(super) fn update(db: &Connection, id: i64, changes: ScaleSetChanges) -> Result<Option<ScaleSetRecord>, Failure> {
    let Some(mut record) = find(db, id)? else { return Ok(None) };
    changes.apply(&mut record.set);
    let set = &record.set;
    check(db, Some(id), set)?;
    let sql = "UPDATE scale_sets SET runner_group = ?2, group_key = ?3, name = ?4, name_key = ?5, labels = ?6, \
               settings = ?7 WHERE id = ?1";
    db.prepare_cached(sql)?.execute((
        id,
        &set.group,
        name_key(&set.group),
        &set.name,
        name_key(&set.name),
        Json(&set.labels),
        &set.settings,
    ))?;
    Ok(Some(record))
}

pub(super) fn delete(db: &Connection, id: i64, now: Timestamp) -> Result<Option<Vec<RunnerId>>, Failure> {
    if db.prepare_cached("DELETE FROM scale_sets WHERE id = ?1")?.execute([id])? == 0 {
        return Ok(None);
    }
    db.prepare_cached("DELETE FROM scale_set_jobs WHERE scale_set = ?1")?.execute([id])?;
    let mut select = db.prepare_cached(IDLE)?;
    let idle = select.query_map([id], |row| row.get(0).map(RunnerId))?.collect::<Result<Vec<_>, _>>()?;
    for runner in &idle {
        runners::delete(db, *runner, now)?;
    }
    Ok(Some(idle))
}

/// A set's runners that hold no job; `status <> 'completed'` is what lets the partial index be used.
const IDLE: &str = "SELECT r.id FROM actions_runners a JOIN runners r ON r.id = a.runner_id \
                    WHERE a.scale_set = ?1 AND r.deleted_at IS NULL AND r.id NOT IN (SELECT runner_id FROM jobs \
                    WHERE status IN ('offered', 'running') AND status <> 'completed' AND runner_id IS NOT NULL) \
                    ORDER BY r.id";

pub(super) fn next_message(db: &Connection, id: i64, count: u32) -> Result<i64, Failure> {
    let sql = "UPDATE scale_sets SET last_message_id = last_message_id + ?2 WHERE id = ?1 RETURNING last_message_id";
    let last: Option<i64> = db.prepare_cached(sql)?.query_row((id, count), |row| row.get(0)).optional()?;
    Ok(last.ok_or(Error::NoScaleSet(id))? - i64::from(count) + 1)
}

pub(super) fn tell(db: &Connection, id: i64, begun: &[BegunJob], over: &[JobId]) -> Result<(), Failure> {
    let mut delete = db.prepare_cached("DELETE FROM scale_set_jobs WHERE scale_set = ?1 AND job_id = ?2")?;
    for job in over {
        delete.execute((id, job.0))?;
    }
    let sql = "INSERT OR REPLACE INTO scale_set_jobs \
               (scale_set, job_id, runner_id, runner_name, assigned_at, started_at) \
               SELECT id, ?2, ?3, ?4, ?5, ?6 FROM scale_sets WHERE id = ?1";
    let mut insert = db.prepare_cached(sql)?;
    for job in begun {
        let (assigned, started) = (Time(job.assigned_at), Time(job.started_at));
        insert.execute((id, job.job.0, job.runner.0, &job.runner_name, assigned, started))?;
    }
    Ok(())
}

pub(super) fn begun(db: &Connection) -> Result<Vec<BegunJob>, Failure> {
    let sql = "SELECT scale_set, job_id, runner_id, runner_name, assigned_at, started_at FROM scale_set_jobs \
               ORDER BY scale_set, job_id";
    let mut select = db.prepare_cached(sql)?;
    let read = |row: &Row<'_>| {
        let mut columns = Columns::of(row);
        Ok(BegunJob {
            set: columns.get()?,
            job: JobId(columns.get()?),
            runner: RunnerId(columns.get()?),
            runner_name: columns.get()?,
            assigned_at: columns.time()?,
            started_at: columns.time()?,
        })
    };
    Ok(select.query_map([], read)?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn the_runners_of_a_set_are_found_without_reading_all() {
        let plan = plan(&IDLE.replace("?1", "1"));
        assert!(plan.contains("INDEX actions_runners_by_scale_set"), "{plan}");
        assert!(plan.contains("INDEX jobs_unfinished"), "{plan}");
        assert!(!plan.contains("SCAN r"), "{plan}");
    }
}
