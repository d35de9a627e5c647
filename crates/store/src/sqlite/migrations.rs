//! The schema's versions: numbered files that are applied once, in order, and never edited afterwards.

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// One step from a schema to the next.
pub(super) struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "initial", sql: include_str!("migrations/0001_initial.sql") },
    Migration { version: 2, name: "administration", sql: include_str!("migrations/0002_administration.sql") },
    Migration { version: 3, name: "actions", sql: include_str!("migrations/0003_actions.sql") },
    Migration { version: 4, name: "runner_names", sql: include_str!("migrations/0004_runner_names.sql") },
    Migration { version: 5, name: "scale_set_jobs", sql: include_str!("migrations/0005_scale_set_jobs.sql") },
    Migration { version: 6, name: "claims", sql: include_str!("migrations/0006_claims.sql") },
    Migration { version: 7, name: "environments", sql: include_str!("migrations/0007_environments.sql") },
    Migration { version: 8, name: "checks", sql: include_str!("migrations/0008_checks.sql") },
    Migration { version: 9, name: "purge", sql: include_str!("migrations/0009_purge.sql") },
];

/// `STLN`: what `file` and other programs may know the database by.
const APPLICATION_ID: i32 = 0x5354_4c4e;

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it is a database of another program; move it away or choose another data directory")]
    Foreign,
    #[error(
        "its schema has version {found}, but this program knows versions up to {known}; start the newer program that \
         wrote it, or restore a backup from before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "its schema version {version} was made by other statements than this program's (checksum {found}, expected \
         {expected}); start the program that wrote it, or restore a backup"
    )]
    Edited { version: i64, found: String, expected: String },
    #[error("schema version {version} ({name}) could not be applied: {error}; nothing was changed")]
    Failed { version: i64, name: &'static str, error: rusqlite::Error },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Brings the database to the schema that this program knows.
pub(super) fn migrate(connection: &mut Connection, now: Timestamp) -> Result<(), Refusal> {
    apply(connection, MIGRATIONS, now)
}

/// All in one transaction: a database is of the version that this program knows or as it was before, and a new one does not
/// wait for the disk once for each version.
fn apply(connection: &mut Connection, known: &[Migration], now: Timestamp) -> Result<(), Refusal> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    claim(&transaction)?;
    let applied = applied(&transaction)?;
    let is_new = applied.is_empty();
    let newest_known = known.last().map_or(0, |migration| migration.version);
    // Looked at before anything else: what a newer program wrote is not to be judged by an older one.
    if let Some((found, _)) = applied.last().filter(|(version, _)| *version > newest_known) {
        return Err(Refusal::Newer { found: *found, known: newest_known });
    }
    for migration in known {
        let expected = checksum(migration.sql);
        match applied.iter().find(|(version, _)| *version == migration.version) {
            Some((_, found)) if *found == expected => {}
            Some((version, found)) => {
                return Err(Refusal::Edited { version: *version, found: found.clone(), expected });
            }
            None => {
                let Migration { version, name, .. } = *migration;
                run(&transaction, migration, &expected, now).map_err(|error| Refusal::Failed {
                    version,
                    name,
                    error,
                })?;
                if !is_new {
                    tracing::info!(version, name, "applied schema version {version} ({name})");
                }
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Marks an empty database as ours and refuses one that is not.
fn claim(transaction: &Transaction<'_>) -> Result<(), Refusal> {
    let id: i32 = transaction.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let objects: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, objects) {
        (APPLICATION_ID, _) => return Ok(()),
        (0, 0) => {}
        _ => return Err(Refusal::Foreign),
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute_batch(
        "CREATE TABLE schema_migrations (
           version INTEGER PRIMARY KEY,
           name TEXT NOT NULL,
           checksum TEXT NOT NULL,
           applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    Ok(())
}

fn applied(connection: &Connection) -> Result<Vec<(i64, String)>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT version, checksum FROM schema_migrations ORDER BY version")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn run(
    transaction: &Transaction<'_>,
    migration: &Migration,
    checksum: &str,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    transaction.execute_batch(migration.sql)?;
    transaction.execute(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
        (migration.version, migration.name, checksum, now.as_microsecond()),
    )?;
    Ok(())
}

/// FNV-1a: it tells an edit, it need not withstand an attacker.
fn checksum(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use startline_protocol::admin_api::GroupRequest;
    use startline_protocol::capabilities::Capabilities;
    use startline_protocol::ids::{JobId, RunId, RunnerId};
    use startline_protocol::permission::Permission;
    use startline_protocol::scope::Scope;

    use super::*;

    const ONE: Migration = Migration { version: 1, name: "one", sql: "CREATE TABLE a (x INTEGER) STRICT;" };
    const TWO: Migration = Migration { version: 2, name: "two", sql: "CREATE TABLE b (x INTEGER) STRICT;" };
    const BAD: Migration =
        Migration { version: 3, name: "bad", sql: "CREATE TABLE c (x INTEGER) STRICT; CREATE TABLE a (x INTEGER);" };

    fn tables(connection: &Connection) -> String {
        let sql = "SELECT ifnull(group_concat(name), '') FROM (SELECT name FROM sqlite_schema \
                   WHERE length(name) = 1 ORDER BY name)";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn database() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn only_what_is_missing_is_applied() {
        let mut database = database();
        apply(&mut database, &[ONE], Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(tables(&database), "a");
        apply(&mut database, &[ONE, TWO], Timestamp::UNIX_EPOCH).unwrap();
        apply(&mut database, &[ONE, TWO], Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(tables(&database), "a,b");
    }

    #[test]
    fn what_was_there_before_administration_keeps_its_rights() {
        let mut database = database();
        apply(&mut database, &MIGRATIONS[..1], Timestamp::UNIX_EPOCH).unwrap();
        let rows = "
            INSERT INTO api_tokens (hash, name, created_at) VALUES (zeroblob(32), 'admin', 1);
            INSERT INTO registration_tokens (hash, name, runner_group, ephemeral, created_at, expires_at)
              VALUES (zeroblob(32), '', 'Default', 0, 1, 2), (x'01', '', 'GPU', 0, 1, 2), (x'02', '', 'gpu', 0, 1, 2);
            INSERT INTO runners (name, name_key, labels, runner_group, capabilities, ephemeral, version, created_at)
              VALUES ('one', 'one', '[]', 'builders', 'CAPABILITIES', 0, '', 1);
            INSERT INTO runs (number, status, plan_id, name, path, repository, event_name, git_ref, created_at, submission)
              VALUES (1, 'queued', zeroblob(16), '', '', 'a/b', '', '', 1, '{}');
            INSERT INTO jobs (run_id, key, idx, name, status, labels, priority, timeout_minutes, continue_on_error,
              requeues_left, queued_at) VALUES (1, 'x', 0, '', 'queued', '[]', 0, 1, 0, 0, 1);";
        let capabilities = serde_json::to_string(&Capabilities::default()).unwrap();
        database.execute_batch(&rows.replace("CAPABILITIES", &capabilities)).unwrap();
        migrate(&mut database, Timestamp::UNIX_EPOCH).unwrap();

        let token = super::super::tokens::api_token(&database, [0; 32]).unwrap().unwrap();
        assert_eq!((token.scope, token.revoked_at), (Scope::Instance, None));
        // One that is added later is not given to old tokens by this migration, and must not be.
        let then = Permission::ALL.iter().take(15).copied().collect::<Vec<_>>();
        assert_eq!(token.permissions, then);
        let token = super::super::tokens::registration_token(&database, [0; 32]).unwrap().unwrap();
        assert_eq!((token.token.scope, token.token.cidr, token.revoked_at), (Scope::Instance, None, None));
        let runner = super::super::runners::find(&database, RunnerId(1)).unwrap().unwrap();
        assert_eq!((runner.scope, runner.last_seen_at), (Scope::Instance, None));
        let groups = super::super::groups::all(&database).unwrap();
        let groups: Vec<_> = groups.into_iter().map(|group| (group.name, group.policy, group.runners)).collect();
        let group = |name: &str, runners| (name.to_owned(), GroupRequest::default(), runners);
        assert_eq!(groups, [group("builders", 1), group("default", 0), group("GPU", 0)]);
        let run = super::super::runs::require(&database, RunId(1)).unwrap();
        assert_eq!((run.run.trusted, run.run.idempotency), (true, None));
        assert!(super::super::jobs::find(&database, JobId(1)).unwrap().unwrap().trusted);
    }

    #[test]
    fn states_are_checked_as_before_without_a_table_for_each_write() {
        let mut database = database();
        apply(&mut database, &MIGRATIONS[..7], Timestamp::UNIX_EPOCH).unwrap();
        let run = "INSERT INTO runs (number, status, plan_id, name, path, repository, event_name, git_ref, created_at, submission)
            VALUES (1, 'queued', zeroblob(16), '', '', 'a/b', '', '', 1, '{}')";
        let job =
            "INSERT INTO jobs (run_id, key, idx, name, status, labels, priority, timeout_minutes, continue_on_error,
            requeues_left, queued_at) VALUES (1, 'x', 0, '', 'waiting', '[]', 0, 1, 0, 0, 1)";
        let updates =
            ["UPDATE runs SET status = 'running' WHERE id = 1", "UPDATE jobs SET status = 'queued' WHERE id = 1"];
        let writes = [run, job, updates[0], updates[1]];
        let tables = |database: &Connection, sql: &str| {
            let mut explain = database.prepare(&format!("EXPLAIN {sql}")).unwrap();
            let opcodes = explain.query_map([], |row| row.get::<_, String>(1)).unwrap();
            opcodes.filter(|opcode| opcode.as_ref().unwrap() == "OpenEphemeral").count()
        };
        assert_eq!(writes.map(|sql| tables(&database, sql)), [1; 4]);
        database.execute_batch(&format!("{run}; {job};")).unwrap();
        migrate(&mut database, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(writes.map(|sql| tables(&database, sql)), [0; 4]);
        assert!(super::super::runs::find(&database, RunId(1)).unwrap().is_some());
        updates.iter().for_each(|update| database.execute_batch(update).unwrap());
        for table in ["runs", "jobs"] {
            for wrong in ["", "QUEUED", "done", "completed"] {
                let sql = format!("UPDATE {table} SET status = '{wrong}'");
                let error = database.execute_batch(&sql).unwrap_err();
                assert!(error.to_string().contains("CHECK"), "{sql}: {error}");
            }
        }
        let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
    }

    #[test]
    fn what_was_there_before_purging_stays_and_can_be_purged() {
        let mut database = database();
        apply(&mut database, &MIGRATIONS[..8], Timestamp::UNIX_EPOCH).unwrap();
        let rows = "
            INSERT INTO runners (name, name_key, labels, runner_group, capabilities, ephemeral, version, created_at, deleted_at)
              VALUES ('one', 'one', '[]', 'default', 'CAPABILITIES', 1, '', 1, 2);
            INSERT INTO runs (number, status, conclusion, completed_at, plan_id, name, path, repository, event_name,
              git_ref, created_at, submission)
              VALUES (7, 'completed', 'success', 2, zeroblob(16), '', 'p', 'a/b', '', '', 1, '{}');
            INSERT INTO jobs (run_id, key, idx, name, status, conclusion, finished, labels, priority, timeout_minutes,
              continue_on_error, requeues_left, queued_at, runner_id)
              VALUES (1, 'x', 0, '', 'completed', 'success', 9, '[]', 0, 1, 0, 0, 1, 1);
            INSERT INTO job_messages VALUES (1, '{}');";
        let capabilities = serde_json::to_string(&Capabilities::default()).unwrap();
        database.pragma_update(None, "foreign_keys", true).unwrap();
        database.execute_batch(&rows.replace("CAPABILITIES", &capabilities)).unwrap();
        let gone = "DELETE FROM runners WHERE id = 1";
        assert!(database.execute_batch(gone).unwrap_err().to_string().contains("FOREIGN KEY"));
        migrate(&mut database, Timestamp::UNIX_EPOCH).unwrap();
        let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        assert_eq!(super::super::jobs::find(&database, JobId(1)).unwrap().unwrap().runner_id, Some(RunnerId(1)));

        let now = Timestamp::from_second(1).unwrap();
        assert_eq!(super::super::purge::purge_runners(&database, now, RunnerId(0)).unwrap().count, 1);
        let due = super::super::purge::due_runs(&database, now, None).unwrap();
        assert_eq!(super::super::purge::purge_runs(&database, now, &due).unwrap().count, 1);
        let last: (i64, i64) = database
            .query_row("SELECT (SELECT number FROM last_numbers), (SELECT finished FROM last_finished)", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(last, (7, 9));
        let verified = super::super::audit::verify(&database, |_| [0; 32]).unwrap();
        assert_eq!((verified.valid, verified.begin), (true, None));
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let mut database = database();
        let fail = |database: &mut Connection| {
            let error = apply(database, &[ONE, TWO, BAD], Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(error.to_string().starts_with("schema version 3 (bad) could not be applied"), "{error}");
        };
        fail(&mut database);
        let objects: i64 = database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(objects, 0, "a new database stays empty");
        apply(&mut database, &[ONE, TWO], Timestamp::UNIX_EPOCH).unwrap();
        fail(&mut database);
        assert_eq!(tables(&database), "a,b");
        assert_eq!(applied(&database).unwrap().len(), 2);
    }

    #[test]
    fn a_newer_schema_is_refused_by_version() {
        let mut database = database();
        apply(&mut database, &[ONE, TWO], Timestamp::UNIX_EPOCH).unwrap();
        let error = apply(&mut database, &[ONE], Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(error, Refusal::Newer { found: 2, known: 1 }), "{error}");
    }

    #[test]
    fn an_edited_migration_is_refused() {
        let mut database = database();
        apply(&mut database, &[ONE], Timestamp::UNIX_EPOCH).unwrap();
        let edited = Migration { sql: "CREATE TABLE a (y INTEGER) STRICT;", ..ONE };
        let error = apply(&mut database, &[edited], Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(error, Refusal::Edited { version: 1, .. }), "{error}");
    }

    #[test]
    fn a_database_of_another_program_is_refused() {
        let mut database = database();
        database.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(apply(&mut database, &[ONE], Timestamp::UNIX_EPOCH).unwrap_err(), Refusal::Foreign));
    }
}
