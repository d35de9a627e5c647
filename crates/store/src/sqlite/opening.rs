//! Opening a database: whose it is, that nobody else has it, and how its connections are set.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::migrations::{self, Refusal};
use super::{Options, Synchronous};
use crate::Error;

/// How long to wait for a lock that a visitor (a backup, a shell) holds.
const BUSY: Duration = Duration::from_secs(5);

/// The right to use a database, held by one process at a time.
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would not be enough while a child that is being started still has a copy of the descriptor.
        drop(self.file.unlock());
    }
}

/// Takes the lock file beside the database.
pub(super) fn lock(path: &Path) -> Result<Lock, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut file = private_file(&name).map_err(|error| unusable(&name, &error, "make it writable for this user"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Who it is helps, but its absence does not change the answer.
            drop(file.read_to_string(&mut holder));
            let holder = holder.trim();
            let process = if holder.is_empty() { "another process".to_owned() } else { format!("process {holder}") };
            return Err(Error::Unusable(format!(
                "the database {} is in use by {process}; stop that server or choose another data directory",
                path.display()
            )));
        }
        Err(TryLockError::Error(error)) => {
            return Err(unusable(&name, &error, "use a file system that supports locks"));
        }
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| unusable(&name, &error, "free some space"))?;
    Ok(Lock { file })
}

/// Opens the connection that writes and brings the schema up to date.
pub(super) fn writer(path: &Path, options: &Options, now: Timestamp) -> Result<Connection, Error> {
    private_file(path).map_err(|error| unusable(path, &error, "choose a file that this user may write to"))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(128);
        keep_plans(&connection)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        // Before the schema is known to be ours nothing may be changed, the journal mode included.
        migrations::migrate(&mut connection, now)?;
        let journal: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        let synchronous = match options.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // Copies of pages that a step may have to undo: a large step of a purge would put them into a file otherwise.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // What a burst blew up the WAL to is given back at the next checkpoint.
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        Ok((connection, journal))
    };
    let (connection, journal) = connect().map_err(|refusal| refused(path, &refusal))?;
    if journal != "wal" {
        let problem = format!("the file system allows no write-ahead log, only `{journal}`");
        return Err(unusable(path, &problem, "use a local file system"));
    }
    Ok(connection)
}

/// Lets a prepared statement keep its plan. Where the engine is built with `STAT4`, as it is unless `LIBSQLITE3_FLAGS` says
/// otherwise, it would look at the values bound to a statement and, wherever they might matter to its plan, compile the
/// statement anew for each execution: that was a third of what the writer did, and nearly half of what the readers did.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// What a reader keeps of the database, in KiB. The operating system has the same pages, and there are several readers;
/// so they keep what a query walks through and no copy of all that was ever asked for.
const READER_CACHE_KIB: i64 = 512;

/// Opens a connection that copies the write-ahead log into the database.
pub(super) fn copier(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(path, flags)?;
        // It learns by its first read that there is such a log.
        connection.query_row("PRAGMA user_version", [], |_| Ok(()))?;
        Ok(connection)
    };
    connect().map_err(|error| refused(path, &Refusal::Sqlite(error)))
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        keep_plans(&connection)?;
        // Negative: KiB instead of pages.
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    };
    connect().map_err(|error| refused(path, &Refusal::Sqlite(error)))
}

/// Opens a file, making it if need be, and sees to it that nobody else may read it. SQLite gives the files beside the
/// database the same mode.
fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn refused(path: &Path, refusal: &Refusal) -> Error {
    let Refusal::Sqlite(error) = refusal else {
        return Error::Unusable(format!("the database {} is not usable: {refusal}", path.display()));
    };
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "move it away or choose another data directory",
        Some(ErrorCode::DatabaseCorrupt) => "restore it from a backup",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "end the program that holds it",
        Some(ErrorCode::DiskFull) => "free some space",
        _ => "see that the disk is sound and that this user may write to it",
    };
    unusable(path, error, remedy)
}

fn unusable(path: &Path, problem: &impl std::fmt::Display, remedy: &str) -> Error {
    Error::Unusable(format!("the file {} cannot be used ({problem}); {remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    fn number(connection: &Connection, pragma: &str) -> i64 {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_commit_waits_for_the_disk_unless_told_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let full = writer(&path, &Options::new(|_| [0; 32]), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(number(&full, "synchronous"), 2);
        let options = Options { synchronous: Synchronous::Normal, ..Options::new(|_| [0; 32]) };
        let normal = writer(&path, &options, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(number(&normal, "synchronous"), 1);
        assert_eq!(number(&normal, "foreign_keys"), 1);
    }

    #[test]
    fn what_a_step_may_have_to_undo_is_kept_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(&directory.path().join("x.db"), &Options::new(|_| [0; 32]), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(number(&writer, "temp_store"), 2);
    }

    #[test]
    fn a_statement_keeps_its_plan_whatever_is_bound_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let writer = writer(&path, &Options::new(|_| [0; 32]), Timestamp::UNIX_EPOCH).unwrap();
        let sql = "SELECT j.id FROM jobs j JOIN runs r ON r.id = j.run_id WHERE j.id = ?1";
        for connection in [&writer, &reader(&path).unwrap()] {
            let reprepared = |connection: &Connection| {
                for id in 0..4 {
                    assert!(!connection.prepare_cached(sql).unwrap().exists([id]).unwrap());
                }
                connection.prepare_cached(sql).unwrap().get_status(StatementStatus::RePrepare)
            };
            assert_eq!(reprepared(connection), 0);
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let _writer = writer(&path, &Options::new(|_| [0; 32]), Timestamp::UNIX_EPOCH).unwrap();
        assert!(reader(&path).unwrap().execute_batch("DELETE FROM runs").is_err());
    }
}
