//! What is to be cleared up.

use jiff::Timestamp;
use rusqlite::Connection;
use startline_protocol::ids::RunnerId;

use super::columns::Time;
use super::failure::Failure;
use crate::COLLECTED;

/// Runners that hold no job; `status <> 'completed'` is what lets the partial index be used.
macro_rules! idle {
    ($wanted:literal) => {
        concat!(
            "SELECT id FROM runners WHERE deleted_at IS NULL AND ",
            $wanted,
            " AND id NOT IN (SELECT runner_id FROM jobs \
             WHERE status IN ('offered', 'running') AND status <> 'completed' AND runner_id IS NOT NULL) \
             ORDER BY id LIMIT ?2"
        )
    };
}

const EXPIRED: &str = idle!("ephemeral AND created_at < ?1");
const STALE: &str = idle!("NOT ephemeral AND ifnull(last_seen_at, created_at) < ?1");

const PURGE_API: &str = "DELETE FROM api_tokens WHERE id IN \
                         (SELECT id FROM api_tokens WHERE revoked_at < ?1 OR expires_at < ?1 LIMIT ?2)";
const PURGE_REGISTRATION: &str = "DELETE FROM registration_tokens WHERE id IN \
                                  (SELECT id FROM registration_tokens \
                                  WHERE revoked_at < ?1 OR expires_at < ?1 LIMIT ?2)";
const PURGE_RUNNER: &str = "DELETE FROM runner_tokens WHERE hash IN \
                            (SELECT hash FROM runner_tokens WHERE expires_at < ?1 LIMIT ?2)";

pub(super) fn expired_ephemeral_runners(db: &Connection, before: Timestamp) -> Result<Vec<RunnerId>, Failure> {
    idle(db, EXPIRED, before)
}

pub(super) fn stale_runners(db: &Connection, before: Timestamp) -> Result<Vec<RunnerId>, Failure> {
    idle(db, STALE, before)
}

fn idle(db: &Connection, sql: &str, before: Timestamp) -> Result<Vec<RunnerId>, Failure> {
    let mut select = db.prepare_cached(sql)?;
    let runners = select.query_map((Time(before), COLLECTED), |row| row.get(0).map(RunnerId))?;
    Ok(runners.collect::<Result<_, _>>()?)
}

pub(super) fn purge_tokens(db: &Connection, before: Timestamp) -> Result<u32, Failure> {
    let mut purged = 0;
    for sql in [PURGE_API, PURGE_REGISTRATION, PURGE_RUNNER] {
        let deleted = db.prepare_cached(sql)?.execute((Time(before), COLLECTED))?;
        purged += u32::try_from(deleted).unwrap_or(u32::MAX);
    }
    Ok(purged)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn clearing_up_reads_neither_all_jobs_nor_all_runner_tokens() {
        for (sql, index) in [
            (EXPIRED, "SEARCH jobs USING INDEX jobs_unfinished"),
            (STALE, "SEARCH jobs USING INDEX jobs_unfinished"),
            (PURGE_RUNNER, "SEARCH runner_tokens USING COVERING INDEX runner_tokens_by_end"),
        ] {
            let plan = plan(sql);
            assert!(plan.contains(index), "{sql}: {plan}");
        }
    }
}
