//! The one way into the log: every text is masked, split into lines, bounded and stamped.

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::{memchr, memchr2};

use crate::lines;
use crate::mask::Masker;
use crate::spool::Spool;

/// Writes a job's log.
pub struct Console {
    spool: Spool,
    /// What must not be shown.
    pub masker: Masker,
    /// Whether debug messages are shown.
    pub(crate) debug: bool,
}

impl Console {
    /// A log with neither lines nor masks.
    #[must_use]
    pub fn new(spool: Spool) -> Self {
        Self { spool, masker: Masker::default(), debug: false }
    }

    /// Writes `text`, which may hold several lines.
    pub fn write(&mut self, text: &str) {
        // First, because what NUL divides is whole again without it.
        let has_nul = memchr(0, text.as_bytes()).is_some();
        let text = if has_nul { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) };
        let masked = self.masker.mask(&text);
        let now = Timestamp::now();
        let mut rest = &*masked;
        loop {
            let (line, more) = match memchr2(b'\n', b'\r', rest.as_bytes()) {
                Some(at) if rest[at..].starts_with("\r\n") => (&rest[..at], Some(&rest[at + 2..])),
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            lines::pieces(line).for_each(|piece| self.spool.line(now, piece));
            match more {
                Some(more) => rest = more,
                None => return,
            }
        }
    }

    /// Writes a debug message, if those are shown.
    pub(crate) fn debug(&mut self, text: &str) {
        if self.debug {
            self.write(&format!("##[debug]{text}"));
        }
    }

    /// Where the next line starts.
    pub(crate) fn offset(&self) -> u64 {
        self.spool.offset()
    }

    /// Lets readers of the log see all of it.
    pub fn flush(&mut self) {
        self.spool.flush(Timestamp::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_masked_lines_without_nul() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut console = Console::new(Spool::create(&path).unwrap().0);
        console.masker.add("top\nsecret-line");
        console.write("a\0b\r\ntop\nsecret-line c\rd");
        console.write("secret\0-line");
        console.debug("hidden");
        console.debug = true;
        console.debug("shown");
        console.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(lines, ["ab", "*** c", "d", "***", "##[debug]shown"]);
    }
}
