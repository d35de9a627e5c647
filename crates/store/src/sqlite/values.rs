//! Secrets and variables.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use startline_protocol::value_scope::ValueScope;

use super::columns::{Columns, Text, Time};
use super::failure::Failure;
use crate::error::Error;
use crate::record::{MAX_SECRETS, MAX_VARIABLES, SealedSecret, SecretRecord, VariableRecord, kept, value_key};

/// When a value that is to be set was set first: `now` if it is not there, and then there must be room for it.
fn begun(
    db: &Connection,
    (find, count): (&str, &str),
    (scope, name): (&ValueScope, &str),
    now: Timestamp,
    (what, limit): (&'static str, u32),
) -> Result<Timestamp, Failure> {
    let known = db.prepare_cached(find)?.query_row((Text(scope), name), |row| Columns::of(row).time()).optional()?;
    if let Some(created_at) = known {
        return Ok(created_at);
    }
    let held: u32 = db.prepare_cached(count)?.query_row([Text(scope)], |row| row.get(0))?;
    if held >= limit {
        return Err(Error::TooMany { what, scope: scope.clone(), limit }.into());
    }
    Ok(kept(now))
}

pub(super) fn put_secret(
    db: &Connection,
    scope: ValueScope,
    name: &str,
    sealed: &[u8],
    now: Timestamp,
) -> Result<SecretRecord, Failure> {
    let name = value_key(name);
    let find = "SELECT created_at FROM secrets WHERE scope = ?1 AND name = ?2";
    let count = "SELECT count(*) FROM secrets WHERE scope = ?1";
    let created_at = begun(db, (find, count), (&scope, &name), now, ("secrets", MAX_SECRETS))?;
    let sql = "INSERT INTO secrets (scope, name, sealed, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (scope, name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at";
    db.prepare_cached(sql)?.execute((Text(&scope), &name, sealed, Time(created_at), Time(now)))?;
    Ok(SecretRecord { scope, name, created_at, updated_at: kept(now) })
}

pub(super) fn delete_secret(db: &Connection, scope: ValueScope, name: &str) -> Result<bool, Failure> {
    let sql = "DELETE FROM secrets WHERE scope = ?1 AND name = ?2";
    Ok(db.prepare_cached(sql)?.execute((Text(scope), value_key(name)))? > 0)
}

pub(super) fn secrets(db: &Connection, scope: ValueScope) -> Result<Vec<SecretRecord>, Failure> {
    let sql = "SELECT name, created_at, updated_at FROM secrets WHERE scope = ?1 ORDER BY name";
    let mut select = db.prepare_cached(sql)?;
    let secrets = select.query_map([Text(&scope)], |row| {
        let mut columns = Columns::of(row);
        Ok(SecretRecord {
            scope: scope.clone(),
            name: columns.get()?,
            created_at: columns.time()?,
            updated_at: columns.time()?,
        })
    })?;
    Ok(secrets.collect::<Result<_, _>>()?)
}

pub(super) fn sealed_secrets(db: &Connection, scopes: Vec<ValueScope>) -> Result<Vec<SealedSecret>, Failure> {
    // All scopes at the same moment.
    let _snapshot = db.unchecked_transaction()?;
    let mut select = db.prepare_cached("SELECT name, sealed FROM secrets WHERE scope = ?1 ORDER BY name")?;
    let mut found = Vec::new();
    for scope in scopes {
        let secrets = select.query_map([Text(&scope)], |row| {
            let mut columns = Columns::of(row);
            Ok(SealedSecret { scope: scope.clone(), name: columns.get()?, sealed: columns.get()? })
        })?;
        for secret in secrets {
            found.push(secret?);
        }
    }
    Ok(found)
}

pub(super) fn put_variable(
    db: &Connection,
    scope: ValueScope,
    name: &str,
    value: String,
    now: Timestamp,
) -> Result<VariableRecord, Failure> {
    let name = value_key(name);
    let find = "SELECT created_at FROM variables WHERE scope = ?1 AND name = ?2";
    let count = "SELECT count(*) FROM variables WHERE scope = ?1";
    let created_at = begun(db, (find, count), (&scope, &name), now, ("variables", MAX_VARIABLES))?;
    let sql = "INSERT INTO variables (scope, name, value, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (scope, name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";
    db.prepare_cached(sql)?.execute((Text(&scope), &name, &value, Time(created_at), Time(now)))?;
    Ok(VariableRecord { scope, name, value, created_at, updated_at: kept(now) })
}

pub(super) fn delete_variable(db: &Connection, scope: ValueScope, name: &str) -> Result<bool, Failure> {
    let sql = "DELETE FROM variables WHERE scope = ?1 AND name = ?2";
    Ok(db.prepare_cached(sql)?.execute((Text(scope), value_key(name)))? > 0)
}

pub(super) fn variables(db: &Connection, scopes: Vec<ValueScope>) -> Result<Vec<VariableRecord>, Failure> {
    // All scopes at the same moment.
    let _snapshot = db.unchecked_transaction()?;
    let sql = "SELECT name, value, created_at, updated_at FROM variables WHERE scope = ?1 ORDER BY name";
    let mut select = db.prepare_cached(sql)?;
    let mut found = Vec::new();
    for scope in scopes {
        let variables = select.query_map([Text(&scope)], |row| {
            let mut columns = Columns::of(row);
            Ok(VariableRecord {
                scope: scope.clone(),
                name: columns.get()?,
                value: columns.get()?,
                created_at: columns.time()?,
                updated_at: columns.time()?,
            })
        })?;
        for variable in variables {
            found.push(variable?);
        }
    }
    Ok(found)
}
