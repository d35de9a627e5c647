//! What the Actions protocol keeps of a registration.

use rusqlite::Connection;
use startline_protocol::ids::RunnerId;
use uuid::Uuid;

use super::columns::Columns;
use super::failure::Failure;
use crate::record::ActionsRunner;

pub(super) fn add(db: &Connection, runner: RunnerId, actions: &ActionsRunner) -> Result<(), Failure> {
    let sql = "INSERT INTO actions_runners \
               (runner_id, client_id, public_key, pss_only, disable_update, jit, scale_set, work_folder) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    db.prepare_cached(sql)?.execute((
        runner.0,
        actions.client_id.as_bytes(),
        &actions.public_key,
        actions.pss_only,
        actions.disable_update,
        actions.jit,
        actions.scale_set,
        &actions.work_folder,
    ))?;
    Ok(())
}

/// Reads the columns from `client_id` on; all of them are null where there is nothing.
pub(super) fn read(columns: &mut Columns<'_>) -> rusqlite::Result<Option<ActionsRunner>> {
    let Some(client_id) = columns.get::<Option<[u8; 16]>>()? else { return Ok(None) };
    Ok(Some(ActionsRunner {
        client_id: Uuid::from_bytes(client_id),
        public_key: columns.get()?,
        pss_only: columns.get()?,
        disable_update: columns.get()?,
        jit: columns.get()?,
        scale_set: columns.get()?,
        work_folder: columns.get()?,
    }))
}
