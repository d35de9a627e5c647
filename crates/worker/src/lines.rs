//! Bytes of a step's output to lines of text.

use crate::mask::Masker;

/// The longest line of plain output in bytes; longer ones are shown in pieces, never cut inside a secret.
pub(crate) const LONGEST_LINE: usize = 64 * 1024;

/// The longest line that may still be a workflow command.
const LONGEST_COMMAND: usize = 1024 * 1024;

/// Splits one stream. A line ends with LF, CR or CRLF; NUL is dropped and what is not UTF-8 replaced.
#[derive(Default)]
pub(crate) struct Lines {
    text: String,
    /// The beginning of a character whose end has not come yet.
    partial: Vec<u8>,
    /// Bytes of `text` known to hold no line end.
    scanned: usize,
    /// The last line ended with CR: an LF now belongs to it.
    after_return: bool,
}

impl Lines {
    /// Takes what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.partial).as_slice(), bytes].concat();
            joined.as_slice()
        };
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.append(text);
                    return;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    self.append(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(length) = error.error_len() else {
                        self.partial = invalid.to_vec();
                        return;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = &invalid[length..];
                }
            }
        }
    }

    fn append(&mut self, text: &str) {
        if text.contains('\0') {
            self.text.extend(text.chars().filter(|c| *c != '\0'));
        } else {
            self.text.push_str(text);
        }
    }

    /// The next whole line, or a piece of one that has grown too long.
    pub(crate) fn next(&mut self, masker: &Masker) -> Option<String> {
        if self.after_return && !self.text.is_empty() {
            if self.text.starts_with('\n') {
                self.text.remove(0);
            }
            self.after_return = false;
        }
        if let Some(at) = self.text[self.scanned..].find(['\n', '\r']) {
            let end = self.scanned + at;
            self.after_return = self.text.as_bytes()[end] == b'\r';
            let rest = self.text.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.text, rest);
            line.truncate(end);
            self.scanned = 0;
            return Some(line);
        }
        self.scanned = self.text.len();
        let may_be_command = self.text.len() < LONGEST_COMMAND
            && (self.text.trim_start().starts_with("::") || self.text.contains("##["));
        if may_be_command || self.text.len() < LONGEST_LINE + masker.longest() {
            return None;
        }
        let cut = cut(&self.text, masker);
        let rest = self.text.split_off(cut);
        self.scanned = rest.len();
        Some(std::mem::replace(&mut self.text, rest))
    }

    /// What is left when the stream has ended without a line end.
    pub(crate) fn rest(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        self.scanned = 0;
        if std::mem::take(&mut self.after_return) && self.text == "\n" {
            self.text.clear();
        }
        Some(std::mem::take(&mut self.text)).filter(|text| !text.is_empty())
    }
}

/// Where to cut a text that is longer than [`LONGEST_LINE`]: behind a character, not inside a secret, and not at 0.
fn cut(text: &str, masker: &Masker) -> usize {
    let at = text.floor_char_boundary(LONGEST_LINE);
    match masker.ranges(text).into_iter().find(|(start, end)| *start < at && at < *end) {
        Some((0, end)) => end,
        Some((start, _)) => start,
        None => at,
    }
}

/// `text` in pieces of at most [`LONGEST_LINE`] bytes; for text that is masked already.
pub(crate) fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    let mut first = true;
    std::iter::from_fn(move || {
        if text.is_empty() && !first {
            return None;
        }
        first = false;
        let (piece, rest) = text.split_at(text.floor_char_boundary(LONGEST_LINE));
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let masker = Masker::default();
        let mut splitter = Lines::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            lines.extend(std::iter::from_fn(|| splitter.next(&masker)));
        }
        lines.extend(splitter.rest());
        lines
    }

    #[test]
    fn every_line_end_ends_a_line_once_wherever_the_chunks_meet() {
        assert_eq!(lines(&[b"a\nb\r\nc\rd"]), ["a", "b", "c", "d"]);
        assert_eq!(lines(&[b"a\r", b"\nb\r", b"c\n", b"\n", b""]), ["a", "b", "c", ""]);
        assert_eq!(lines(&[b"a", b"b", b"\n"]), ["ab"]);
        assert_eq!(lines(&[b"a\r", b"\n"]), ["a"]);
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn characters_cut_by_chunks_survive_and_broken_ones_are_replaced() {
        assert_eq!(lines(&[b"\xe2\x82", b"\xac\n"]), ["€"]);
        assert_eq!(lines(&[b"a\xffb\0c\n\xe2\x82"]), ["a\u{fffd}bc", "\u{fffd}"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_that_never_cut_a_secret() {
        let mut masker = Masker::default();
        masker.add("hunter2-hunter2");
        for shift in 0..20 {
            let text = format!("{}hunter2-hunter2{}", "x".repeat(LONGEST_LINE - shift), "é".repeat(LONGEST_LINE));
            let mut splitter = Lines::default();
            let mut shown = Vec::new();
            for chunk in text.as_bytes().chunks(1000) {
                splitter.push(chunk);
                while let Some(line) = splitter.next(&masker) {
                    shown.push(line);
                }
            }
            shown.extend(splitter.rest());
            assert!(shown.len() > 1 && shown.iter().all(|line| line.len() <= LONGEST_LINE + 100));
            assert_eq!(shown.concat(), text);
            let masked: String = shown.iter().map(|line| masker.mask(line)).collect();
            assert!(masked.contains("***") && !masked.contains("unter2"), "shift {shift}");
        }
    }

    #[test]
    fn a_long_command_stays_whole() {
        let text = format!("::set-output name=a::{}\n", "x".repeat(3 * LONGEST_LINE));
        assert_eq!(lines(&[text.as_bytes()]), [text.trim_end()]);
    }

    #[test]
    fn pieces_cover_the_text() {
        assert_eq!(pieces("").collect::<Vec<_>>(), [""]);
        let text = "é".repeat(LONGEST_LINE);
        assert_eq!(pieces(&text).collect::<String>(), text);
        assert!(pieces(&text).all(|piece| piece.len() <= LONGEST_LINE));
    }
}
