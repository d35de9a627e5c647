//! Artifacts.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::ids::{JobId, RunId};

use super::columns::{Columns, Size, Time};
use super::failure::Failure;
use crate::error::Error;
use crate::record::{ArtifactRecord, CreatedArtifact, NewArtifact, kept_size, oldest_unfinished_artifact};

const COLUMNS: &str =
    "id, run_id, job_id, repository, name, mime_type, blob, created_at, expires_at, size, digest, is_final";

fn read(row: &Row<'_>) -> rusqlite::Result<ArtifactRecord> {
    let mut columns = Columns::of(row);
    Ok(ArtifactRecord {
        id: columns.get()?,
        artifact: NewArtifact {
            run: RunId(columns.get()?),
            job: JobId(columns.get()?),
            repository: columns.get()?,
            name: columns.get()?,
            mime_type: columns.get()?,
            blob: columns.get()?,
            created_at: columns.time()?,
            expires_at: columns.time()?,
        },
        size: columns.size()?,
        digest: columns.get()?,
        is_final: columns.get()?,
    })
}

pub(super) fn named(db: &Connection, run: RunId, name: &str) -> Result<Option<ArtifactRecord>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM artifacts WHERE run_id = ?1 AND name = ?2");
    Ok(db.prepare_cached(&sql)?.query_row((run.0, name), read).optional()?)
}

pub(super) fn create(db: &Connection, artifact: NewArtifact) -> Result<CreatedArtifact, Failure> {
    let replaced = named(db, artifact.run, &artifact.name)?;
    match &replaced {
        Some(known) if known.is_final => return Err(Error::ArtifactExists(artifact.name).into()),
        Some(known) => drop(delete_by_id(db, known.id)?),
        None => {}
    }
    let sql = "INSERT INTO artifacts (run_id, job_id, repository, name, mime_type, blob, created_at, expires_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let id = db.prepare_cached(sql)?.insert((
        artifact.run.0,
        artifact.job.0,
        &artifact.repository,
        &artifact.name,
        &artifact.mime_type,
        &artifact.blob,
        Time(artifact.created_at),
        Time(artifact.expires_at),
    ))?;
    Ok(CreatedArtifact { artifact: artifact.into_record(id), replaced })
}

pub(super) fn finalize(
    db: &Connection,
    run: RunId,
    name: &str,
    size: u64,
    digest: Option<String>,
) -> Result<Option<ArtifactRecord>, Failure> {
    let Some(known) = named(db, run, name)? else { return Ok(None) };
    let size = kept_size(size);
    if known.is_final {
        let is_repeat = (known.size, &known.digest) == (size, &digest);
        return if is_repeat { Ok(Some(known)) } else { Err(Error::ArtifactExists(name.to_owned()).into()) };
    }
    let sql = "UPDATE artifacts SET size = ?2, digest = ?3, is_final = 1 WHERE id = ?1";
    db.prepare_cached(sql)?.execute((known.id, Size(size), &digest))?;
    Ok(Some(ArtifactRecord { size, digest, is_final: true, ..known }))
}

pub(super) fn of_run(db: &Connection, run: RunId) -> Result<Vec<ArtifactRecord>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM artifacts WHERE run_id = ?1 AND is_final = 1 ORDER BY id DESC");
    Ok(db.prepare_cached(&sql)?.query_map([run.0], read)?.collect::<Result<_, _>>()?)
}

pub(super) fn find(db: &Connection, id: i64) -> Result<Option<ArtifactRecord>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM artifacts WHERE id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([id], read).optional()?)
}

pub(super) fn delete(db: &Connection, run: RunId, name: &str) -> Result<Option<ArtifactRecord>, Failure> {
    let sql = format!("DELETE FROM artifacts WHERE run_id = ?1 AND name = ?2 RETURNING {COLUMNS}");
    Ok(db.prepare_cached(&sql)?.query_row((run.0, name), read).optional()?)
}

pub(super) fn delete_by_id(db: &Connection, id: i64) -> Result<Option<ArtifactRecord>, Failure> {
    let sql = format!("DELETE FROM artifacts WHERE id = ?1 RETURNING {COLUMNS}");
    Ok(db.prepare_cached(&sql)?.query_row([id], read).optional()?)
}

/// The sign before `id` keeps SQLite from going through all by id.
const DUE: &str = "expires_at <= ?1 OR (is_final = 0 AND created_at < ?2) ORDER BY +id LIMIT ?3";

pub(super) fn expired(db: &Connection, now: Timestamp, limit: u32) -> Result<Vec<ArtifactRecord>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM artifacts WHERE {DUE}");
    let mut select = db.prepare_cached(&sql)?;
    let due = select.query_map((Time(now), Time(oldest_unfinished_artifact(now)), limit), read)?;
    Ok(due.collect::<Result<_, _>>()?)
}

pub(super) fn usage(db: &Connection, repository: &str) -> Result<u64, Failure> {
    let sql = "SELECT ifnull(sum(size), 0) FROM artifacts WHERE repository = ?1";
    Ok(db.prepare_cached(sql)?.query_row([repository], |row| Columns::of(row).size())?)
}

/// Those of the blobs that an artifact or a cache entry refers to.
pub(super) fn referenced_blobs(db: &Connection, blobs: Vec<String>) -> Result<Vec<String>, Failure> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM artifacts WHERE blob = ?1) OR EXISTS (SELECT 1 FROM caches WHERE blob = ?1)";
    let mut select = db.prepare_cached(sql)?;
    let mut referenced = Vec::new();
    for blob in blobs {
        if select.query_row([&blob], |row| row.get(0))? {
            referenced.push(blob);
        }
    }
    Ok(referenced)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn expired_artifacts_are_found_without_reading_all() {
        let due = DUE.replace("?1", "1").replace("?2", "1").replace("?3", "1");
        let plan = plan(&format!("SELECT {COLUMNS} FROM artifacts WHERE {due}"));
        assert!(plan.contains("artifacts_by_end") && plan.contains("artifacts_unfinished"), "{plan}");
        assert!(!plan.contains("SCAN"), "{plan}");
    }

    #[test]
    fn usage_is_read_from_an_index_alone() {
        let plan = plan("SELECT ifnull(sum(size), 0) FROM artifacts WHERE repository = 'a/b'");
        assert!(plan.contains("USING COVERING INDEX artifacts_by_repository"), "{plan}");
    }
}
