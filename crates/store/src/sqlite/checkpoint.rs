//! Moves the write-ahead log into the database beside the writer.
//!
//! The engine itself does it within a commit, for every thousand pages: at a thousand life cycles a second that is dozens
//! of times a second, each with a sync of the database that everybody waits for, and pages that each step changes are
//! written again each time. Here the log grows to [`PASS`] pages. Then a thread of its own copies them, in passes of which
//! each finds fewer that came meanwhile, until [`REST`] are left for the writer: only where all of the log is copied at
//! one moment does the next commit begin it anew.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;

/// Pages of the log with which a pass begins: 32 MiB.
const PASS: u32 = 8192;
/// Pages that are left for the writer.
const REST: u32 = 256;
/// Passes after which the writer takes what is left, however much that is.
const PASSES: u32 = 4;

/// The writer's side.
pub(super) struct Log {
    /// Pages of the log after the last commit.
    pages: Arc<AtomicU32>,
    last: u32,
    /// Pages from one pass to the next.
    pass: u32,
    /// With how many pages the next pass begins.
    next: u32,
    begin: SyncSender<()>,
    /// The passes are over, and what is left is the writer's.
    rest: Arc<AtomicBool>,
}

/// Starts the thread, which ends with the [`Log`].
pub(super) fn start(writer: &mut Connection, beside: Connection) -> io::Result<(Log, JoinHandle<()>)> {
    start_with(PASS, writer, beside)
}

fn start_with(pass: u32, writer: &mut Connection, beside: Connection) -> io::Result<(Log, JoinHandle<()>)> {
    let pages = Arc::<AtomicU32>::default();
    let rest = Arc::<AtomicBool>::default();
    let (begin, begun) = sync_channel(1);
    let told = Arc::clone(&pages);
    // This also takes the place of the engine's own checkpoints.
    let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
        told.store(u32::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
        Ok(())
    };
    writer.wal_hook(Some(hook)).map_err(io::Error::other)?;
    let shared = (Arc::clone(&pages), Arc::clone(&rest));
    let thread = Builder::new().name("store-checkpoint".to_owned());
    let thread = thread.spawn(move || run(&beside, &begun, &shared.0, &shared.1))?;
    Ok((Log { pages, last: 0, pass, next: pass, begin, rest }, thread))
}

impl Log {
    /// Looks at the log between two batches.
    pub(super) fn look(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.last {
            // It has begun anew.
            self.next = self.pass;
        }
        self.last = pages;
        if self.rest.swap(false, Ordering::Acquire) {
            checkpoint(writer);
        } else if pages >= self.next {
            // Also when nothing comes of it, as when a reader looks at an old state for long.
            self.next = pages.saturating_add(self.pass);
            // If it is full, the thread has not seen the last one yet.
            let _: Result<(), TrySendError<()>> = self.begin.try_send(());
        }
    }
}

fn run(beside: &Connection, begun: &Receiver<()>, pages: &AtomicU32, rest: &AtomicBool) {
    while begun.recv().is_ok() {
        for _ in 0..PASSES {
            let Some(copied) = checkpoint(beside) else { break };
            if pages.load(Ordering::Relaxed).saturating_sub(copied) <= REST {
                break;
            }
        }
        rest.store(true, Ordering::Release);
    }
}

/// Copies what can be copied while others read and write, and says how many pages of the log are copied now.
fn checkpoint(connection: &Connection) -> Option<u32> {
    let done = connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
        .and_then(|mut pragma| pragma.query_row([], |row| row.get::<_, i64>(2)));
    match done {
        Ok(copied) => u32::try_from(copied).ok(),
        Err(error) => {
            tracing::warn!(%error, "the write-ahead log was not moved into the database; it is tried again when it has grown");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    const PASS_OF_TEST: u32 = 64;

    struct Bench {
        writer: Connection,
        log: Log,
        thread: JoinHandle<()>,
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let mut writer = Self::connect(&directory);
            writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (x BLOB)").unwrap();
            let (log, thread) = start_with(PASS_OF_TEST, &mut writer, Self::connect(&directory)).unwrap();
            Self { writer, log, thread, directory }
        }

        fn connect(directory: &tempfile::TempDir) -> Connection {
            Connection::open(directory.path().join("x.db")).unwrap()
        }

        /// Commits some pages, and says how many the log has then.
        fn commit(&mut self) -> u32 {
            self.writer.execute("INSERT INTO a VALUES (zeroblob(10000))", []).unwrap();
            self.log.look(&self.writer);
            self.log.pages.load(Ordering::Relaxed)
        }

        /// Commits until the log has begun anew so many times.
        fn commit_until_begun_anew(&mut self, times: usize) {
            let deadline = Instant::now() + Duration::from_mins(1);
            let (mut last, mut anew) = (0, 0);
            while anew < times {
                assert!(Instant::now() < deadline, "the log has {last} pages");
                let pages = self.commit();
                anew += usize::from(pages < last);
                last = pages;
            }
        }
    }

    #[test]
    fn the_log_begins_anew_again_and_again_while_others_write() {
        let mut bench = Bench::new();
        bench.commit_until_begun_anew(5);
        let Bench { writer, log, thread, directory } = bench;
        drop(log);
        thread.join().unwrap();
        let written: i64 = writer.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
        drop(writer);
        let sound: String =
            Bench::connect(&directory).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let kept: i64 = Bench::connect(&directory).query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, written);
    }

    #[test]
    fn a_reader_of_an_old_state_puts_it_off_and_no_longer() {
        let mut bench = Bench::new();
        bench.commit();
        let reader = Bench::connect(&bench.directory);
        reader.execute_batch("BEGIN; SELECT count(*) FROM a").unwrap();
        let mut last = 0;
        for _ in 0..8 * PASS_OF_TEST {
            let pages = bench.commit();
            assert!(pages > last, "what the reader looks at was written over");
            last = pages;
        }
        let seen: i64 = reader.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(seen, 1);
        reader.execute_batch("COMMIT").unwrap();
        bench.commit_until_begun_anew(1);
    }
}
