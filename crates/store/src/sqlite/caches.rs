//! Cache entries.

use jiff::Timestamp;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use super::columns::{Columns, Size, Time};
use super::failure::Failure;
use crate::record::{CacheRecord, NewCache, kept, kept_size, newest_lapsed_reservation};

macro_rules! columns {
    () => {
        "id, repository, scope, trusted, key, version, blob, created_at, size, is_final, last_used_at"
    };
}

macro_rules! select {
    ($tail:literal) => {
        concat!("SELECT ", columns!(), " FROM caches WHERE ", $tail)
    };
}

fn read(row: &Row<'_>) -> rusqlite::Result<CacheRecord> {
    let mut columns = Columns::of(row);
    Ok(CacheRecord {
        id: columns.get()?,
        cache: NewCache {
            repository: columns.get()?,
            scope: columns.get()?,
            trusted: columns.get()?,
            key: columns.get()?,
            version: columns.get()?,
            blob: columns.get()?,
            created_at: columns.time()?,
        },
        size: columns.size()?,
        is_final: columns.get()?,
        last_used_at: columns.time()?,
    })
}

/// Where the keys that begin with `prefix` end: a text behind all of them, or a blob, which is behind every text.
struct End(Option<String>);

impl End {
    fn of(prefix: &str) -> Self {
        let mut end = prefix.to_owned();
        while let Some(last) = end.pop() {
            // The order of texts is that of their bytes, which is that of their characters.
            let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
            if let Some(next) = next {
                end.push(next);
                return Self(Some(end));
            }
        }
        Self(None)
    }
}

impl ToSql for End {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match &self.0 {
            Some(text) => text.to_sql(),
            None => Ok(ToSqlOutput::Borrowed(rusqlite::types::ValueRef::Blob(&[]))),
        }
    }
}

pub(super) fn reserve(db: &Connection, cache: NewCache) -> Result<Option<CacheRecord>, Failure> {
    let known = at(db, (&cache.repository, &cache.scope, cache.trusted, &cache.version, &cache.key))?;
    let lapsed = newest_lapsed_reservation(cache.created_at);
    match known {
        Some(known) if known.is_final || known.cache.created_at > lapsed => return Ok(None),
        Some(known) => drop(delete(db, known.id)?),
        None => {}
    }
    let sql = "INSERT INTO caches (repository, scope, trusted, key, version, blob, created_at, last_used_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";
    let id = db.prepare_cached(sql)?.insert((
        &cache.repository,
        &cache.scope,
        cache.trusted,
        &cache.key,
        &cache.version,
        &cache.blob,
        Time(cache.created_at),
    ))?;
    Ok(Some(cache.into_record(id)))
}

/// The entry at a place: repository, git ref, trust, version, key.
pub(super) fn at(db: &Connection, place: (&str, &str, bool, &str, &str)) -> Result<Option<CacheRecord>, Failure> {
    let sql = select!("repository = ?1 AND scope = ?2 AND trusted = ?3 AND version = ?4 AND key = ?5");
    Ok(db.prepare_cached(sql)?.query_row(place, read).optional()?)
}

pub(super) fn commit(db: &Connection, id: i64, size: u64, now: Timestamp) -> Result<Option<CacheRecord>, Failure> {
    let Some(known) = find(db, id)? else { return Ok(None) };
    let size = kept_size(size);
    if known.is_final {
        return Ok((known.size == size).then_some(known));
    }
    let sql = "UPDATE caches SET size = ?2, is_final = 1 WHERE id = ?1";
    db.prepare_cached(sql)?.execute((id, Size(size)))?;
    let last_used_at = touch(db, id, known.last_used_at, now)?;
    Ok(Some(CacheRecord { size, is_final: true, last_used_at, ..known }))
}

/// Notes a use and answers the latest.
fn touch(db: &Connection, id: i64, known: Timestamp, now: Timestamp) -> Result<Timestamp, Failure> {
    let latest = known.max(kept(now));
    db.prepare_cached("UPDATE caches SET last_used_at = ?2 WHERE id = ?1")?.execute((id, Time(latest)))?;
    Ok(latest)
}

const EXACT: &str =
    select!("repository = ?1 AND scope = ?2 AND trusted = ?3 AND version = ?4 AND key = ?5 AND is_final = 1");
const NEWEST: &str = select!(
    "repository = ?1 AND scope = ?2 AND trusted = ?3 AND version = ?4 AND key >= ?5 AND key < ?6 AND is_final = 1 \
     ORDER BY created_at DESC, id DESC LIMIT 1"
);

pub(super) fn find_for(
    db: &Connection,
    repository: &str,
    lookup: &[(String, bool)],
    version: &str,
    key: &str,
    restore_keys: &[String],
    now: Timestamp,
) -> Result<Option<CacheRecord>, Failure> {
    for (scope, trusted) in lookup {
        let found = match one(db, repository, (scope, *trusted), version, key)? {
            None => newest_of(db, repository, (scope, *trusted), version, restore_keys)?,
            found => found,
        };
        if let Some(found) = found {
            let last_used_at = touch(db, found.id, found.last_used_at, now)?;
            return Ok(Some(CacheRecord { last_used_at, ..found }));
        }
    }
    Ok(None)
}

fn one(
    db: &Connection,
    repository: &str,
    (scope, trusted): (&str, bool),
    version: &str,
    key: &str,
) -> Result<Option<CacheRecord>, Failure> {
    Ok(db.prepare_cached(EXACT)?.query_row((repository, scope, trusted, version, key), read).optional()?)
}

fn newest_of(
    db: &Connection,
    repository: &str,
    (scope, trusted): (&str, bool),
    version: &str,
    restore_keys: &[String],
) -> Result<Option<CacheRecord>, Failure> {
    let mut select = db.prepare_cached(NEWEST)?;
    for prefix in restore_keys {
        let found =
            select.query_row((repository, scope, trusted, version, prefix, End::of(prefix)), read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

pub(super) fn find(db: &Connection, id: i64) -> Result<Option<CacheRecord>, Failure> {
    Ok(db.prepare_cached(select!("id = ?1"))?.query_row([id], read).optional()?)
}

const LISTED: &str =
    select!("repository = ?1 AND key >= ?2 AND key < ?3 AND is_final = 1 ORDER BY created_at DESC, id DESC LIMIT ?4");

pub(super) fn list(db: &Connection, repository: &str, prefix: &str, limit: u32) -> Result<Vec<CacheRecord>, Failure> {
    let mut select = db.prepare_cached(LISTED)?;
    Ok(select.query_map((repository, prefix, End::of(prefix), limit), read)?.collect::<Result<_, _>>()?)
}

pub(super) fn usage(db: &Connection, repository: &str) -> Result<u64, Failure> {
    let sql = "SELECT ifnull(sum(size), 0) FROM caches WHERE repository = ?1";
    Ok(db.prepare_cached(sql)?.query_row([repository], |row| Columns::of(row).size())?)
}

const LEAST_USED: &str = select!("repository = ?1 AND is_final = 1 ORDER BY last_used_at, id LIMIT ?2");

pub(super) fn evict(db: &Connection, repository: &str, keep: u64, limit: u32) -> Result<Vec<CacheRecord>, Failure> {
    let mut used = usage(db, repository)?;
    let mut evicted = Vec::new();
    let mut select = db.prepare_cached(LEAST_USED)?;
    for cache in select.query_map((repository, limit), read)? {
        if used <= keep {
            break;
        }
        let cache = cache?;
        used -= cache.size;
        evicted.push(cache);
    }
    for cache in &evicted {
        delete(db, cache.id)?;
    }
    Ok(evicted)
}

pub(super) fn stale(db: &Connection, unused_since: Timestamp, limit: u32) -> Result<Vec<CacheRecord>, Failure> {
    let mut select = db.prepare_cached(select!("last_used_at < ?1 ORDER BY last_used_at, id LIMIT ?2"))?;
    Ok(select.query_map((Time(unused_since), limit), read)?.collect::<Result<_, _>>()?)
}

pub(super) fn delete(db: &Connection, id: i64) -> Result<Option<CacheRecord>, Failure> {
    let sql = concat!("DELETE FROM caches WHERE id = ?1 RETURNING ", columns!());
    Ok(db.prepare_cached(sql)?.query_row([id], read).optional()?)
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begin_with_it() {
        let end = |prefix: &str| End::of(prefix).0;
        assert_eq!(end("linux-"), Some("linux.".to_owned()));
        assert_eq!(end("a%_"), Some("a%`".to_owned()));
        assert_eq!(end("a\u{d7ff}"), Some("a\u{e000}".to_owned()), "between them there are no characters");
        assert_eq!(end("a\u{10ffff}"), Some("b".to_owned()));
        assert_eq!(end("\u{10ffff}"), None);
        assert_eq!(end(""), None);
    }

    #[test]
    fn entries_are_found_without_reading_all() {
        for (sql, expected) in [
            (EXACT, "INDEX caches_by_key (repository=? AND scope=? AND trusted=? AND version=? AND key=?)"),
            (NEWEST, "INDEX caches_by_key (repository=? AND scope=? AND trusted=? AND version=? AND key>? AND key<?)"),
            (LISTED, "INDEX caches_by_repository (repository=? AND key>? AND key<?)"),
            (LEAST_USED, "INDEX caches_by_use (repository=?)"),
        ] {
            let text = (1..=6).fold(sql.to_owned(), |sql, number| sql.replace(&format!("?{number}"), "1"));
            let plan = plan(&text);
            assert!(plan.contains(expected), "{sql}: {plan}");
        }
        assert!(!plan(&LEAST_USED.replace("?1", "'a'").replace("?2", "9")).contains("TEMP B-TREE"), "it is in order");
    }
}
