//! The job's log on disk: what the service is to hold, byte for byte, before it holds it.
//!
//! The writer never waits for the service; the reporter reads behind it. When the disk refuses, lines are kept up to
//! a bound, then dropped and counted, and the log says so as soon as it can.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use tokio::sync::watch;

/// Seven digits, as the official runner stamps lines.
const STAMP: DateTimePrinter = DateTimePrinter::new().precision(Some(7));

/// How much is collected before it is written.
const FULL: usize = 64 * 1024;

/// How much is kept while the disk refuses.
const KEPT: usize = 1024 * 1024;

/// The writing end of the log.
pub struct Spool {
    file: File,
    written: u64,
    pending: Vec<u8>,
    lost: u64,
    length: watch::Sender<u64>,
}

impl Spool {
    /// An empty log at `path`, and its length as it grows.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> io::Result<(Self, watch::Receiver<u64>)> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let (length, grows) = watch::channel(0);
        Ok((Self { file, written: 0, pending: Vec::new(), lost: 0, length }, grows))
    }

    /// Where the next line starts.
    pub(crate) fn offset(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Adds one line; `text` holds no line break.
    pub(crate) fn line(&mut self, now: Timestamp, text: &str) {
        if self.pending.len() > KEPT {
            self.lost += 1;
            return;
        }
        // Writing to memory does not fail.
        let _ = STAMP.print_timestamp(&now, jiff::fmt::StdIoWrite(&mut self.pending));
        self.pending.push(b' ');
        self.pending.extend_from_slice(text.as_bytes());
        self.pending.push(b'\n');
        if self.pending.len() >= FULL {
            self.flush(now);
        }
    }

    /// Brings everything to the file and tells the reader.
    pub(crate) fn flush(&mut self, now: Timestamp) {
        if self.pending.is_empty() {
            return;
        }
        match self.file.write_all_at(&self.pending, self.written) {
            Ok(()) => {
                self.written += self.pending.len() as u64;
                self.pending.clear();
                self.length.send_replace(self.written);
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    self.line(now, &format!("##[warning]{lost} lines are missing here: the log could not be written"));
                }
            }
            Err(error) => tracing::warn!(%error, pending = self.pending.len(), "cannot write the job's log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_stamped_with_seven_digits_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (mut spool, length) = Spool::create(&path).unwrap();
        let now: Timestamp = "2026-05-01T10:00:01.1234567Z".parse().unwrap();
        spool.line(now, "one");
        let second = spool.offset();
        spool.line("2026-05-01T10:00:02Z".parse().unwrap(), "");
        spool.flush(now);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "2026-05-01T10:00:01.1234567Z one\n2026-05-01T10:00:02.0000000Z \n");
        assert_eq!(&text[usize::try_from(second).unwrap()..], "2026-05-01T10:00:02.0000000Z \n");
        assert_eq!(*length.borrow(), text.len() as u64);
    }

    #[test]
    fn a_full_disk_loses_counted_lines_only() {
        // Every write to this device fails for want of space.
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let (mut spool, length) = Spool::create(full).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..40 {
            spool.line(now, &"x".repeat(64 * 1024));
        }
        assert_eq!(*length.borrow(), 0);
        assert!(spool.pending.len() < KEPT + 128 * 1024, "memory is bounded");
        assert!(spool.lost > 0);
        let directory = tempfile::tempdir().unwrap();
        spool.file = File::create(directory.path().join("log")).unwrap();
        spool.flush(now);
        spool.flush(now);
        let text = std::fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(
            text.lines().last().unwrap().contains(&format!("{} lines are missing", 40 - (text.lines().count() - 1)))
        );
    }
}
