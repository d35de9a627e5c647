//! API and registration tokens.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::{Columns, Json, Text, Time};
use super::failure::Failure;
use super::groups;
use crate::record::{ApiTokenRecord, Hash, NewApiToken, NewRegistrationToken, RegistrationTokenRecord, Tokens, kept};

pub(super) fn create_api_token(db: &Connection, token: NewApiToken) -> Result<ApiTokenRecord, Failure> {
    let NewApiToken { name, hash, scope, permissions, created_at, expires_at } = token;
    let sql = "INSERT INTO api_tokens (hash, name, scope, permissions, created_at, expires_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (created_at, expires_at) = (kept(created_at), expires_at.map(kept));
    let row = (hash, &name, Text(&scope), Json(&permissions), Time(created_at), expires_at.map(Time));
    let id = db.prepare_cached(sql)?.insert(row)?;
    Ok(ApiTokenRecord { id, name, scope, permissions, created_at, expires_at, revoked_at: None })
}

macro_rules! select_api {
    ($tail:literal) => {
        concat!("SELECT id, name, scope, permissions, created_at, expires_at, revoked_at FROM api_tokens ", $tail)
    };
}

fn read_api(row: &Row<'_>) -> rusqlite::Result<ApiTokenRecord> {
    let mut columns = Columns::of(row);
    Ok(ApiTokenRecord {
        id: columns.get()?,
        name: columns.get()?,
        scope: columns.text()?,
        permissions: columns.json()?,
        created_at: columns.time()?,
        expires_at: columns.optional_time()?,
        revoked_at: columns.optional_time()?,
    })
}

pub(super) fn api_token(db: &Connection, hash: Hash) -> Result<Option<ApiTokenRecord>, Failure> {
    Ok(db.prepare_cached(select_api!("WHERE hash = ?1"))?.query_row([hash], read_api).optional()?)
}

pub(super) fn has_api_tokens(db: &Connection) -> Result<bool, Failure> {
    // The engine's own note of the last id given, which stays when tokens are purged.
    Ok(db.prepare_cached("SELECT 1 FROM sqlite_sequence WHERE name = 'api_tokens' AND seq > 0")?.exists([])?)
}

pub(super) fn create_registration_token(
    db: &Connection,
    mut token: NewRegistrationToken,
) -> Result<RegistrationTokenRecord, Failure> {
    groups::resolve(db, &token.scope, &token.group)?;
    token.created_at = kept(token.created_at);
    token.expires_at = kept(token.expires_at);
    let sql = "INSERT INTO registration_tokens \
               (hash, name, scope, labels, runner_group, cidr, ephemeral, max_uses, created_at, expires_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let id = db.prepare_cached(sql)?.insert((
        token.hash,
        &token.name,
        Text(&token.scope),
        token.labels.as_ref().map(Json),
        &token.group,
        token.cidr.as_ref().map(Json),
        token.ephemeral,
        token.max_uses,
        Time(token.created_at),
        Time(token.expires_at),
    ))?;
    Ok(RegistrationTokenRecord { id, uses: 0, revoked_at: None, token })
}

macro_rules! select_registration {
    ($tail:literal) => {
        concat!(
            "SELECT id, uses, revoked_at, name, hash, scope, labels, runner_group, cidr, ephemeral, max_uses, \
             created_at, expires_at FROM registration_tokens ",
            $tail
        )
    };
}

fn read_registration(row: &Row<'_>) -> rusqlite::Result<RegistrationTokenRecord> {
    let mut columns = Columns::of(row);
    Ok(RegistrationTokenRecord {
        id: columns.get()?,
        uses: columns.get()?,
        revoked_at: columns.optional_time()?,
        token: NewRegistrationToken {
            name: columns.get()?,
            hash: columns.get()?,
            scope: columns.text()?,
            labels: columns.optional_json()?,
            group: columns.get()?,
            cidr: columns.optional_json()?,
            ephemeral: columns.get()?,
            max_uses: columns.get()?,
            created_at: columns.time()?,
            expires_at: columns.time()?,
        },
    })
}

pub(super) fn registration_token(db: &Connection, hash: Hash) -> Result<Option<RegistrationTokenRecord>, Failure> {
    let mut select = db.prepare_cached(select_registration!("WHERE hash = ?1"))?;
    Ok(select.query_row([hash], read_registration).optional()?)
}

/// Those that may still register somebody at `now`.
pub(super) fn usable_registration_tokens(
    db: &Connection,
    now: Timestamp,
) -> Result<Vec<RegistrationTokenRecord>, Failure> {
    let mut select = db.prepare_cached(select_registration!("WHERE revoked_at IS NULL AND expires_at > ?1"))?;
    let mut tokens = select.query_map([Time(now)], read_registration)?.collect::<Result<Vec<_>, _>>()?;
    tokens.retain(|token| token.check(now).is_ok());
    Ok(tokens)
}

pub(super) fn all(db: &Connection) -> Result<Tokens, Failure> {
    let api = db.prepare_cached(select_api!("ORDER BY id"))?.query_map([], read_api)?.collect::<Result<_, _>>()?;
    let mut select = db.prepare_cached(select_registration!("ORDER BY id"))?;
    let registration = select.query_map([], read_registration)?.collect::<Result<_, _>>()?;
    Ok(Tokens { api, registration })
}

pub(super) fn revoke_api_token(db: &Connection, id: i64, now: Timestamp) -> Result<bool, Failure> {
    let sql = "UPDATE api_tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    Ok(db.prepare_cached(sql)?.execute((id, Time(now)))? > 0)
}

pub(super) fn revoke_registration_token(db: &Connection, id: i64, now: Timestamp) -> Result<bool, Failure> {
    let sql = "UPDATE registration_tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    Ok(db.prepare_cached(sql)?.execute((id, Time(now)))? > 0)
}
