//! Moving the write-ahead log into the database, beside the writer.
//!
//! A commit that finds the log long would copy it itself, with two syncs, and all that it carries would wait for that. So a
//! thread with a connection of its own does it. As long as something is written meanwhile it does not reach the log's end,
//! though, without which the log cannot begin anew; when that has become several times as long, the writer copies the
//! rest, which is little by then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB};

/// From so many pages on the log is copied beside the writer; 4 MiB, which the processor's cache may hold.
const SOON: usize = 1000;
/// How many pages more bring the next attempt, where the log did not begin anew.
const MORE: usize = 250;
/// From so many pages on the writer copies what is left.
const LONG: usize = 4 * SOON;

/// The write-ahead log, as the writer sees it after each commit.
pub(super) struct Log {
    /// What the last commit left in it.
    pages: Arc<AtomicUsize>,
    /// How long it was when the thread was last asked to copy it; 0 since it began anew.
    asked_at: usize,
    copier: SyncSender<()>,
    warned: Warned,
}

/// Who is to copy the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Nobody,
    Copier,
    Writer,
}

impl Log {
    /// Watches the log of the write connection, which no longer copies it by itself. `connection` is the thread's, which
    /// ends when this is dropped.
    pub(super) fn watch(writer: &mut Connection, connection: Connection) -> io::Result<(Self, JoinHandle<()>)> {
        let pages = Arc::<AtomicUsize>::default();
        let seen = Arc::clone(&pages);
        let hook = move |_: &mut Wal, pages| {
            seen.store(usize::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(io::Error::other)?;
        let (copier, asked) = sync_channel(1);
        let thread = Builder::new().name("store-copier".to_owned()).spawn(move || run(&connection, &asked))?;
        Ok((Self { pages, asked_at: 0, copier, warned: Warned::default() }, thread))
    }

    /// Sees to it that the log does not become too long; after each batch, when it is answered.
    pub(super) fn tend(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        match turn(pages, &mut self.asked_at) {
            Turn::Nobody => {}
            // It need not be told twice.
            Turn::Copier => drop(self.copier.try_send(()).ok()),
            Turn::Writer => self.warned.of(copy(writer)),
        }
    }
}

fn turn(pages: usize, asked_at: &mut usize) -> Turn {
    if pages < *asked_at {
        *asked_at = 0;
    }
    match pages {
        ..SOON => Turn::Nobody,
        LONG.. => Turn::Writer,
        _ if *asked_at != 0 && pages < *asked_at + MORE => Turn::Nobody,
        _ => {
            *asked_at = pages;
            Turn::Copier
        }
    }
}

fn run(connection: &Connection, asked: &Receiver<()>) {
    let mut warned = Warned::default();
    while asked.recv().is_ok() {
        warned.of(copy(connection));
    }
}

/// Copies what can be copied without waiting for anybody. When another one copies, that is none of our business.
fn copy(connection: &Connection) -> rusqlite::Result<()> {
    match connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE) {
        Err(error) if error.sqlite_error_code() != Some(rusqlite::ErrorCode::DatabaseBusy) => Err(error),
        _ => Ok(()),
    }
}

/// Whether a failure was told, until it is over: there may be many a second.
#[derive(Default)]
struct Warned(bool);

impl Warned {
    fn of(&mut self, copied: rusqlite::Result<()>) {
        match copied {
            Ok(()) => self.0 = false,
            Err(error) if !self.0 => {
                tracing::warn!(
                    %error,
                    "the write-ahead log cannot be copied into the database and goes on growing; see that \
                     the disk is sound and has room"
                );
                self.0 = true;
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::sqlite::opening;

    /// A table in a file with a write-ahead log, and the log's keeper.
    fn table(path: &Path) -> (Connection, Log, JoinHandle<()>) {
        let mut writer = Connection::open(path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (x BLOB)").unwrap();
        let (log, thread) = Log::watch(&mut writer, opening::copier(path).unwrap()).unwrap();
        (writer, log, thread)
    }

    /// Writes so many pages, a few more with what leads to them; answers how long the log is.
    fn write(writer: &Connection, log: &mut Log, pages: u32) -> usize {
        writer.execute("INSERT INTO a VALUES (zeroblob(?1))", [pages * 4096]).unwrap();
        let long = log.pages.load(Ordering::Relaxed);
        log.tend(writer);
        long
    }

    #[test]
    fn the_copier_is_asked_for_a_longer_log_now_and_then_and_the_writer_helps_with_a_long_one() {
        let mut asked_at = 0;
        let mut turns = |pages| turn(pages, &mut asked_at);
        assert_eq!(turns(SOON - 1), Turn::Nobody);
        assert_eq!([turns(SOON), turns(SOON + 1), turns(SOON + MORE)], [Turn::Copier, Turn::Nobody, Turn::Copier]);
        assert_eq!([turns(LONG - 1), turns(LONG), turns(LONG + 1)], [Turn::Copier, Turn::Writer, Turn::Writer]);
        assert_eq!([turns(2), turns(SOON)], [Turn::Nobody, Turn::Copier], "it has begun anew");
    }

    #[test]
    fn a_log_is_copied_beside_the_writer_and_begins_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.db");
        let (writer, mut log, thread) = table(&path);
        assert!(write(&writer, &mut log, 1000) >= SOON);
        let deadline = Instant::now() + Duration::from_secs(30);
        let size = || std::fs::metadata(&path).unwrap().len();
        while size() < 4096 * SOON as u64 {
            assert!(Instant::now() < deadline, "the database has {} bytes", size());
            std::thread::sleep(Duration::from_millis(1));
        }
        // The copy ends with a sync; a write in between would only bring the next attempt.
        while write(&writer, &mut log, 1) >= SOON {
            assert!(Instant::now() < deadline, "the log goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(log);
        thread.join().unwrap();
    }

    #[test]
    fn a_log_that_is_written_without_a_pause_ends_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.db");
        let (writer, mut log, thread) = table(&path);
        let longest = (0..400).map(|_| write(&writer, &mut log, 100)).max();
        // 40,000 pages; a copy by the writer may meet one by the thread, and is made with the next batch then.
        assert!(longest.unwrap() < 3 * LONG, "{longest:?}");
        drop(log);
        thread.join().unwrap();
        let rows: i64 = writer.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
        let sound: String = writer.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!((rows, sound.as_str()), (400, "ok"));
    }
}
