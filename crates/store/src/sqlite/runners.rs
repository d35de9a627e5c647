//! Registrations.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;
use uuid::Uuid;

use super::columns::{Columns, Json, Text, Time};
use super::failure::Failure;
use super::{actions_runners, groups, scale_sets, tokens};
use crate::error::Error;
use crate::record::{
    Hash, NewRunner, NewRunnerToken, Registered, RegistrationTokenRecord, RunnerRecord, TokenBearer, kept, name_key,
    replaced_token_end,
};

pub(super) fn register(
    db: &Connection,
    registration: Hash,
    new: NewRunner,
    now: Timestamp,
) -> Result<Registered, Failure> {
    let record = tokens::registration_token(db, registration)?.ok_or(Error::TokenUnknown)?;
    record.check(now)?;
    let RegistrationTokenRecord { id: token_id, token, .. } = record;
    token.check_labels(&new.labels, &groups::resolve(db, &token.scope, &token.group)?.policy)?;
    db.prepare_cached("UPDATE registration_tokens SET uses = uses + 1 WHERE id = ?1")?.execute([token_id])?;
    let ephemeral = token.ephemeral || new.ephemeral;
    add(db, token.scope, token.group, NewRunner { ephemeral, ..new }, now)
}

pub(super) fn create(
    db: &Connection,
    scope: Scope,
    group: String,
    new: NewRunner,
    now: Timestamp,
) -> Result<Registered, Failure> {
    groups::resolve(db, &scope, &group)?;
    if let Some(set) = new.actions.as_ref().and_then(|actions| actions.scale_set) {
        scale_sets::require(db, set)?;
    }
    add(db, scope, group, new, now)
}

/// Adds a runner under its name, which nobody else has afterwards.
fn add(db: &Connection, scope: Scope, group: String, new: NewRunner, now: Timestamp) -> Result<Registered, Failure> {
    let key = name_key(&new.name);
    let sql = "SELECT id FROM runners WHERE scope = ?1 AND name_key = ?2 AND deleted_at IS NULL";
    let mut holder = db.prepare_cached(sql)?;
    let replaced = holder.query_row((Text(&scope), &key), |row| row.get(0)).optional()?.map(RunnerId);
    match replaced {
        Some(_) if !new.replace => return Err(Error::NameTaken(new.name).into()),
        Some(holder) => drop(delete(db, holder, now)?),
        None => {}
    }

    let sql = "INSERT INTO runners \
               (name, name_key, labels, scope, runner_group, capabilities, ephemeral, version, created_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let id = db.prepare_cached(sql)?.insert((
        &new.name,
        &key,
        Json(&new.labels),
        Text(&scope),
        &group,
        Json(&new.capabilities),
        new.ephemeral,
        &new.version,
        Time(now),
    ))?;
    let id = RunnerId(id);
    if let Some(NewRunnerToken { hash, expires_at }) = new.token {
        add_token(db, id, hash, expires_at)?;
    }
    if let Some(actions) = &new.actions {
        actions_runners::add(db, id, actions)?;
    }
    Ok(Registered { runner: new.into_record(id, scope, group, now), replaced })
}

fn add_token(db: &Connection, runner: RunnerId, token: Hash, expires_at: Timestamp) -> Result<(), Failure> {
    let sql = "INSERT INTO runner_tokens (hash, runner_id, expires_at) VALUES (?1, ?2, ?3)";
    db.prepare_cached(sql)?.execute((token, runner.0, Time(kept(expires_at))))?;
    Ok(())
}

pub(super) fn renew_token(
    db: &Connection,
    runner: RunnerId,
    token: Hash,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), Failure> {
    find(db, runner)?.ok_or(Error::RunnerGone(runner))?;
    add_token(db, runner, token, expires_at)?;
    let sql = "DELETE FROM runner_tokens WHERE runner_id = ?1 AND hash <> ?2 AND expires_at <= ?3";
    db.prepare_cached(sql)?.execute((runner.0, token, Time(now)))?;
    let sql = "UPDATE runner_tokens SET expires_at = min(expires_at, ?3) WHERE runner_id = ?1 AND hash <> ?2";
    db.prepare_cached(sql)?.execute((runner.0, token, Time(replaced_token_end(now))))?;
    Ok(())
}

/// The columns of a runner, in the order of [`record`].
macro_rules! columns {
    () => {
        "r.id, r.name, r.labels, r.scope, r.runner_group, r.capabilities, r.ephemeral, r.version, r.created_at, \
         r.last_seen_at, a.client_id, a.public_key, a.pss_only, a.disable_update, a.jit, a.scale_set, a.work_folder"
    };
}

pub(super) fn by_token(db: &Connection, token: Hash, now: Timestamp) -> Result<Option<TokenBearer>, Failure> {
    let sql = concat!(
        "SELECT t.expires_at, r.deleted_at IS NOT NULL, ",
        columns!(),
        " FROM runner_tokens t JOIN runners r ON r.id = t.runner_id \
         LEFT JOIN actions_runners a ON a.runner_id = r.id WHERE t.hash = ?1"
    );
    let mut select = db.prepare_cached(sql)?;
    let found = select.query_row([token], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.time()?, columns.get::<bool>()?, record(&mut columns)?))
    });
    match found.optional()? {
        Some((_, true, runner)) => Err(Error::RunnerGone(runner.id).into()),
        Some((expires_at, false, runner)) => Ok((expires_at > now).then_some(TokenBearer { runner, expires_at })),
        None => Ok(None),
    }
}

pub(super) fn by_client(db: &Connection, client: Uuid) -> Result<Option<RunnerRecord>, Failure> {
    let sql = concat!(
        "SELECT r.deleted_at IS NOT NULL, ",
        columns!(),
        " FROM actions_runners a JOIN runners r ON r.id = a.runner_id WHERE a.client_id = ?1"
    );
    let mut select = db.prepare_cached(sql)?;
    let found = select.query_row([client.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.get::<bool>()?, record(&mut columns)?))
    });
    match found.optional()? {
        Some((true, runner)) => Err(Error::RunnerGone(runner.id).into()),
        Some((false, runner)) => Ok(Some(runner)),
        None => Ok(None),
    }
}

pub(super) fn update_capabilities(
    db: &Connection,
    runner: RunnerId,
    capabilities: Capabilities,
) -> Result<(), Failure> {
    let sql = "UPDATE runners SET capabilities = ?2 WHERE id = ?1 AND deleted_at IS NULL";
    match db.prepare_cached(sql)?.execute((runner.0, Json(capabilities)))? {
        0 => Err(Error::RunnerGone(runner).into()),
        _ => Ok(()),
    }
}

pub(super) fn set_labels(db: &Connection, runner: RunnerId, labels: &[String]) -> Result<RunnerRecord, Failure> {
    let sql = "UPDATE runners SET labels = ?2 WHERE id = ?1 AND deleted_at IS NULL";
    db.prepare_cached(sql)?.execute((runner.0, Json(labels)))?;
    Ok(find(db, runner)?.ok_or(Error::RunnerGone(runner))?)
}

pub(super) fn update_version(db: &Connection, runner: RunnerId, version: &str) -> Result<(), Failure> {
    let sql = "UPDATE runners SET version = ?2 WHERE id = ?1 AND deleted_at IS NULL";
    match db.prepare_cached(sql)?.execute((runner.0, version))? {
        0 => Err(Error::RunnerGone(runner).into()),
        _ => Ok(()),
    }
}

pub(super) fn delete(db: &Connection, runner: RunnerId, now: Timestamp) -> Result<bool, Failure> {
    let sql = "UPDATE runners SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL";
    Ok(db.prepare_cached(sql)?.execute((runner.0, Time(now)))? > 0)
}

/// An ephemeral runner has had its job.
pub(super) fn delete_if_ephemeral(db: &Connection, runner: Option<RunnerId>, now: Timestamp) -> Result<(), Failure> {
    let sql = "UPDATE runners SET deleted_at = ?2 WHERE id = ?1 AND ephemeral AND deleted_at IS NULL";
    db.prepare_cached(sql)?.execute((runner.map(|runner| runner.0), Time(now)))?;
    Ok(())
}

pub(super) fn touch(db: &Connection, seen: &[(RunnerId, Timestamp)]) -> Result<(), Failure> {
    let sql = "UPDATE runners SET last_seen_at = max(ifnull(last_seen_at, ?2), ?2) \
               WHERE id = ?1 AND deleted_at IS NULL";
    let mut update = db.prepare_cached(sql)?;
    for (runner, at) in seen {
        update.execute((runner.0, Time(*at)))?;
    }
    Ok(())
}

/// Selects registrations that are not deleted.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM runners r LEFT JOIN actions_runners a ON a.runner_id = r.id WHERE r.deleted_at IS NULL ",
            $tail
        )
    };
}

pub(super) fn find(db: &Connection, runner: RunnerId) -> Result<Option<RunnerRecord>, Failure> {
    Ok(db.prepare_cached(select!("AND r.id = ?1"))?.query_row([runner.0], read).optional()?)
}

/// The name of a runner, if it is registered.
pub(super) fn name(db: &Connection, runner: RunnerId) -> Result<String, Failure> {
    let mut select = db.prepare_cached("SELECT name FROM runners WHERE id = ?1 AND deleted_at IS NULL")?;
    let name = select.query_row([runner.0], |row| row.get(0)).optional()?;
    Ok(name.ok_or(Error::RunnerGone(runner))?)
}

pub(super) fn all(db: &Connection) -> Result<Vec<RunnerRecord>, Failure> {
    Ok(db.prepare_cached(select!("ORDER BY r.id"))?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// The registered runners of a scale set.
pub(super) fn of_scale_set(db: &Connection, set: i64) -> Result<Vec<RunnerRecord>, Failure> {
    let mut select = db.prepare_cached(select!("AND a.scale_set = ?1 ORDER BY r.id"))?;
    Ok(select.query_map([set], read)?.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<RunnerRecord> {
    record(&mut Columns::of(row))
}

fn record(columns: &mut Columns<'_>) -> rusqlite::Result<RunnerRecord> {
    Ok(RunnerRecord {
        id: RunnerId(columns.get()?),
        name: columns.get()?,
        labels: columns.json()?,
        scope: columns.text()?,
        group: columns.get()?,
        capabilities: columns.json()?,
        ephemeral: columns.get()?,
        version: columns.get()?,
        created_at: columns.time()?,
        last_seen_at: columns.optional_time()?,
        actions: actions_runners::read(columns)?,
    })
}
