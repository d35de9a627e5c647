//! Claims on concurrency groups.

use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::state::ClaimState;

use super::columns::{Columns, Word};
use super::failure::Failure;
use super::{Sqlite, jobs, runs};
use crate::Answer;
use crate::claims::ClaimStore;
use crate::error::Error;
use crate::record::{ClaimRecord, NewClaim, Wanted};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, run_id, job_id, place, group_key, group_name, cancel_in_progress, queue_max, state, reason \
             FROM claims ",
            $tail
        )
    };
}

const ON_GROUP: &str = select!("WHERE group_key = ?1 ORDER BY id");
const OF_RUN: &str = select!("WHERE run_id = ?1 ORDER BY id");
const AT_PLACE: &str = select!("WHERE run_id = ?1 AND place = ?2");

fn read(row: &Row<'_>) -> rusqlite::Result<ClaimRecord> {
    let mut columns = Columns::of(row);
    Ok(ClaimRecord {
        id: columns.get()?,
        claim: NewClaim {
            run: RunId(columns.get()?),
            job: columns.get::<Option<i64>>()?.map(JobId),
            place: columns.get()?,
            group_key: columns.get()?,
            wanted: Wanted { group: columns.get()?, cancel_in_progress: columns.get()?, queue_max: columns.get()? },
        },
        state: columns.word()?,
        reason: columns.get()?,
    })
}

fn add(db: &Connection, claim: NewClaim) -> Result<ClaimRecord, Failure> {
    if runs::require(db, claim.run)?.conclusion.is_some() {
        return Err(Error::NoRun(claim.run).into());
    }
    if let Some(job) = claim.job {
        jobs::find(db, job)?.ok_or(Error::NoJob(job))?;
    }
    let known = db.prepare_cached(AT_PLACE)?.query_row((claim.run.0, &claim.place), read).optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    let sql = "INSERT INTO claims (run_id, job_id, place, group_key, group_name, cancel_in_progress, queue_max, state) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let id = db.prepare_cached(sql)?.insert((
        claim.run.0,
        claim.job.map(|job| job.0),
        &claim.place,
        &claim.group_key,
        &claim.wanted.group,
        claim.wanted.cancel_in_progress,
        claim.wanted.queue_max,
        Word(ClaimState::Waiting),
    ))?;
    Ok(ClaimRecord { id, claim, state: ClaimState::Waiting, reason: None })
}

fn settle(db: &Connection, id: i64, state: ClaimState, reason: Option<&str>) -> Result<Option<ClaimRecord>, Failure> {
    let sql = "UPDATE claims SET state = ?2, reason = ?3 WHERE id = ?1";
    db.prepare_cached(sql)?.execute((id, Word(state), reason))?;
    let found = db.prepare_cached(select!("WHERE id = ?1"))?.query_row([id], read).optional()?;
    let Some(ClaimRecord { claim, .. }) = &found else { return Ok(None) };
    match (state, claim.job) {
        (ClaimState::Waiting, Some(job)) => {
            let sql = "UPDATE jobs SET reason = ?2 WHERE id = ?1 AND status = 'waiting'";
            db.prepare_cached(sql)?.execute((job.0, reason))?;
        }
        (ClaimState::Waiting | ClaimState::Granted, None) if claim.place.is_empty() => {
            let reason = reason.filter(|_| state == ClaimState::Waiting);
            db.prepare_cached("UPDATE runs SET reason = ?2 WHERE id = ?1")?.execute((claim.run.0, reason))?;
        }
        _ => {}
    }
    Ok(found)
}

/// Takes out all claims of a run.
pub(super) fn remove_all(db: &Connection, run: RunId) -> Result<(), Failure> {
    db.prepare_cached("DELETE FROM claims WHERE run_id = ?1")?.execute([run.0])?;
    Ok(())
}

impl ClaimStore for Sqlite {
    fn add_claim(&self, claim: NewClaim) -> Answer<ClaimRecord> {
        self.write("claim a concurrency group", move |db| add(db, claim))
    }

    fn settle_claim(&self, id: i64, state: ClaimState, reason: Option<String>) -> Answer<Option<ClaimRecord>> {
        self.write("settle a claim", move |db| settle(db, id, state, reason.as_deref()))
    }

    fn remove_claim(&self, id: i64) -> Answer<bool> {
        self.write("remove a claim", move |db| {
            Ok(db.prepare_cached("DELETE FROM claims WHERE id = ?1")?.execute([id])? > 0)
        })
    }

    fn claims_on(&self, group_key: String) -> Answer<Vec<ClaimRecord>> {
        self.read("read a concurrency group", move |db| {
            Ok(db.prepare_cached(ON_GROUP)?.query_map([group_key], read)?.collect::<Result<_, _>>()?)
        })
    }

    fn claims_of(&self, run: RunId) -> Answer<Vec<ClaimRecord>> {
        self.read("read the claims of a run", move |db| {
            Ok(db.prepare_cached(OF_RUN)?.query_map([run.0], read)?.collect::<Result<_, _>>()?)
        })
    }

    fn claimed_groups(&self) -> Answer<Vec<String>> {
        self.read("list concurrency groups", |db| {
            let mut select = db.prepare_cached("SELECT DISTINCT group_key FROM claims ORDER BY group_key")?;
            Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn no_query_reads_all_claims() {
        for (sql, index) in [
            (ON_GROUP, "SEARCH claims USING INDEX claims_by_group"),
            (OF_RUN, "SEARCH claims USING INDEX claims_by_place"),
            (AT_PLACE, "SEARCH claims USING INDEX claims_by_place"),
        ] {
            let plan = plan(sql);
            assert!(plan.contains(index), "{sql}: {plan}");
        }
        assert!(!plan(ON_GROUP).contains("TEMP B-TREE"), "the line is not sorted");
    }
}
