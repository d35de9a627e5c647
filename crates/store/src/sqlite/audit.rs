//! The audit log.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::admin_api::AuditVerification;
use startline_protocol::scope::Scope;
use tokio::time::Instant;

use super::columns::{Columns, Json, Text, Time};
use super::failure::Failure;
use super::runs;
use crate::record::{AuditBegin, AuditFilter, AuditRecord, Digest, NewAudit, Page, Purged, Verifier, kept, purge_line};
use crate::{Note, PURGED_LINES};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT sequence, at, actor, action, subject, outcome, scope, request_id, address, details, hash \
             FROM audit ",
            $tail
        )
    };
}

const FIRST: &str = "SELECT sequence, at, hash FROM audit ORDER BY sequence LIMIT ?1";

fn read(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    let mut columns = Columns::of(row);
    Ok(AuditRecord {
        sequence: columns.get()?,
        entry: NewAudit {
            at: columns.time()?,
            actor: columns.get()?,
            action: columns.get()?,
            subject: columns.get()?,
            outcome: columns.get()?,
            scope: columns.text()?,
            request_id: columns.get()?,
            address: columns.get()?,
            details: columns.json()?,
        },
        hash: columns.get()?,
    })
}

/// Writes the line that the note makes of what was done, and answers that.
pub(super) fn noted<T>(db: &Connection, done: T, note: Note<T>, digest: Digest) -> Result<T, Failure> {
    if let Some(line) = note.line(&done) {
        append(db, line, digest)?;
    }
    Ok(done)
}

pub(super) fn append(db: &Connection, entry: NewAudit, digest: Digest) -> Result<AuditRecord, Failure> {
    let mut last = db.prepare_cached("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?;
    let last = last.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let last = match last {
        Some(last) => Some(last),
        None => begin(db)?.map(|begin| (begin.sequence, begin.hash)),
    };
    let record = entry.behind(last, digest);
    let sql = "INSERT INTO audit \
               (sequence, at, actor, action, subject, outcome, scope, request_id, address, details, hash) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let AuditRecord { sequence, entry, hash } = &record;
    db.prepare_cached(sql)?.execute((
        sequence,
        Time(entry.at),
        &entry.actor,
        &entry.action,
        &entry.subject,
        &entry.outcome,
        Text(&entry.scope),
        &entry.request_id,
        &entry.address,
        Json(&entry.details),
        hash,
    ))?;
    Ok(record)
}

/// The last line that was purged.
fn begin(db: &Connection) -> Result<Option<AuditBegin>, Failure> {
    let mut select = db.prepare_cached("SELECT sequence, at, hash FROM audit_begin WHERE sequence > 0")?;
    Ok(select.query_row([], read_begin).optional()?)
}

fn read_begin(row: &Row<'_>) -> rusqlite::Result<AuditBegin> {
    Ok(AuditBegin { sequence: row.get(0)?, at: row.get::<_, Time>(1)?.0, hash: row.get(2)? })
}

pub(super) fn purge(db: &Connection, before: Timestamp, now: Timestamp, digest: Digest) -> Result<Purged, Failure> {
    let started = Instant::now();
    let before = kept(before);
    let mut select = db.prepare_cached(FIRST)?;
    let mut rows = select.query_map([i64::try_from(PURGED_LINES).unwrap_or(i64::MAX)], read_begin)?;
    let (mut count, mut last) = (0, None);
    while let Some(line) = rows.next().transpose()?.filter(|line| line.at < before) {
        count += 1;
        last = Some(line);
    }
    drop(rows);
    let Some(begin) = last else { return Ok(Purged { took: started.elapsed(), ..Purged::default() }) };
    let AuditBegin { sequence, at, hash } = begin;
    let sql = "UPDATE audit_begin SET sequence = ?1, at = ?2, hash = ?3 WHERE id = 1";
    db.prepare_cached(sql)?.execute((sequence, Time(at), hash))?;
    db.prepare_cached("DELETE FROM audit WHERE sequence <= ?1")?.execute([sequence])?;
    append(db, purge_line(&begin, count, now), digest)?;
    let next = (count as usize == PURGED_LINES).then_some(sequence);
    Ok(Purged { count, jobs: 0, next, took: started.elapsed() })
}

pub(super) fn page(
    db: &Connection,
    after: i64,
    limit: u32,
    filter: &AuditFilter,
) -> Result<Page<AuditRecord>, Failure> {
    // What a scope covers, as one text or as the texts between two.
    let (exact, between) = match &filter.scope {
        None | Some(Scope::Instance) => (None, None),
        Some(scope @ Scope::Repository(_)) => (Some(scope), None),
        // `0` is what follows `/`.
        Some(scope @ Scope::Organization(name)) => {
            (Some(scope), Some((format!("repository:{name}/"), format!("repository:{name}0"))))
        }
    };
    let (from, to) = between.unzip();
    let mut select = db.prepare_cached(select!(
        "WHERE sequence > ?1 \
         AND (?2 IS NULL OR substr(action, 1, length(?2)) = ?2) \
         AND (?3 IS NULL OR actor = ?3 OR substr(actor, 1, length(?3) + 2) = ?3 || ' (') \
         AND (?4 IS NULL OR scope = ?4 OR scope > ?5 AND scope < ?6) \
         ORDER BY sequence LIMIT ?7"
    ))?;
    let wanted = (after, &filter.action, &filter.actor, exact.map(Text), from, to, i64::from(limit) + 1);
    let items = select.query_map(wanted, read)?.collect::<Result<_, _>>()?;
    Ok(runs::cut(items, limit))
}

pub(super) fn verify(db: &Connection, digest: Digest) -> Result<AuditVerification, Failure> {
    // The beginning and the lines from the same moment.
    let _snapshot = db.unchecked_transaction()?;
    let mut verifier = Verifier::new(digest, begin(db)?);
    let mut select = db.prepare_cached(select!("ORDER BY sequence"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        // A row that is not even in the form of a line was tampered with like one that does not fit.
        let checked = match read(row) {
            Ok(line) => verifier.check(&line),
            Err(error) => Err(format!("line {} cannot be read: {error}", row.get::<_, i64>(0)?)),
        };
        if let Err(broken) = checked {
            return Ok(verifier.finish(Some(broken)));
        }
    }
    Ok(verifier.finish(None))
}
