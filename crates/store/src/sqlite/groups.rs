//! Runner groups.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::scope::Scope;

use super::columns::{Columns, Json, Text};
use super::failure::Failure;
use super::tokens;
use crate::error::Error;
use crate::record::{GroupRecord, is_default_group, name_key};

macro_rules! select {
    ($tail:literal) => {
        concat!("SELECT scope, name, policy FROM runner_groups ", $tail)
    };
}

/// A group without its members.
fn read(row: &Row<'_>) -> rusqlite::Result<GroupRecord> {
    let mut columns = Columns::of(row);
    Ok(GroupRecord { scope: columns.text()?, name: columns.get()?, policy: columns.json()?, runners: 0 })
}

fn is_same(one: &GroupRecord, other: &GroupRecord) -> bool {
    one.scope == other.scope && name_key(&one.name) == name_key(&other.name)
}

fn exact(db: &Connection, scope: &Scope, name: &str) -> Result<Option<GroupRecord>, Failure> {
    let mut select = db.prepare_cached(select!("WHERE scope = ?1 AND name_key = ?2"))?;
    Ok(select.query_row((Text(scope), name_key(name)), read).optional()?)
}

/// The group that something in `scope` means by `name`, without its members.
fn meant(db: &Connection, scope: &Scope, name: &str) -> Result<Option<GroupRecord>, Failure> {
    for outer in scope.ancestry().iter().rev() {
        if let Some(group) = exact(db, outer, name)? {
            return Ok(Some(group));
        }
    }
    Ok(None)
}

/// The same, where there must be one.
pub(super) fn resolve(db: &Connection, scope: &Scope, name: &str) -> Result<GroupRecord, Failure> {
    let none = || Error::NoGroup { scope: scope.clone(), name: name.to_owned() };
    Ok(meant(db, scope, name)?.ok_or_else(none)?)
}

/// Counts the members of these groups.
fn with_members(db: &Connection, mut groups: Vec<GroupRecord>) -> Result<Vec<GroupRecord>, Failure> {
    let sql = "SELECT scope, runner_group, count(*) FROM runners WHERE deleted_at IS NULL GROUP BY scope, runner_group";
    let mut select = db.prepare_cached(sql)?;
    let members = select.query_map([], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.text()?, columns.get()?, columns.get()?))
    })?;
    let members: Vec<(Scope, String, u32)> = members.collect::<Result<_, _>>()?;
    for (scope, name, count) in members {
        let own = meant(db, &scope, &name)?;
        for group in groups.iter_mut().filter(|group| own.as_ref().is_some_and(|own| is_same(group, own))) {
            group.runners += count;
        }
    }
    Ok(groups)
}

pub(super) fn put(db: &Connection, scope: Scope, name: String, policy: GroupRequest) -> Result<GroupRecord, Failure> {
    let sql = "INSERT INTO runner_groups (scope, name_key, name, policy) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (scope, name_key) DO UPDATE SET name = excluded.name, policy = excluded.policy";
    db.prepare_cached(sql)?.execute((Text(&scope), name_key(&name), &name, Json(&policy)))?;
    let record = with_members(db, vec![GroupRecord { scope, name, policy, runners: 0 }])?.pop();
    record.ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
}

pub(super) fn all(db: &Connection) -> Result<Vec<GroupRecord>, Failure> {
    // Groups and members from the same moment.
    let _snapshot = db.unchecked_transaction()?;
    let mut select = db.prepare_cached(select!("ORDER BY scope, name_key"))?;
    let groups = select.query_map([], read)?.collect::<Result<_, _>>()?;
    with_members(db, groups)
}

pub(super) fn find(db: &Connection, scope: &Scope, name: &str) -> Result<Option<GroupRecord>, Failure> {
    let _snapshot = db.unchecked_transaction()?;
    Ok(with_members(db, exact(db, scope, name)?.into_iter().collect())?.pop())
}

pub(super) fn delete(db: &Connection, scope: Scope, name: &str, now: Timestamp) -> Result<bool, Failure> {
    if is_default_group(&scope, name) {
        return Err(Error::DefaultGroup.into());
    }
    let Some(group) = with_members(db, exact(db, &scope, name)?.into_iter().collect())?.pop() else {
        return Ok(false);
    };
    let mut tokens = 0;
    for token in tokens::usable_registration_tokens(db, now)? {
        let own = meant(db, &token.token.scope, &token.token.group)?;
        tokens += u32::from(own.is_some_and(|own| is_same(&group, &own)));
    }
    if group.runners > 0 || tokens > 0 {
        return Err(Error::GroupInUse { scope, name: group.name, runners: group.runners, tokens }.into());
    }
    let sql = "DELETE FROM runner_groups WHERE scope = ?1 AND name_key = ?2";
    Ok(db.prepare_cached(sql)?.execute((Text(&scope), name_key(name)))? > 0)
}
