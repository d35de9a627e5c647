//! Bytes of a step's output to lines of text.

use memchr::{memchr, memchr2};

use crate::mask::Masker;

/// The longest line of plain output in bytes; longer ones are shown in pieces, never cut inside a secret.
pub(crate) const LONGEST_LINE: usize = 64 * 1024;

/// The longest line that may still be a workflow command.
const LONGEST_COMMAND: usize = 1024 * 1024;

/// Splits one stream. A line ends with LF, CR or CRLF; NUL is dropped and what is not UTF-8 replaced.
#[derive(Default)]
pub struct Lines {
    text: String,
    /// Where in `text` begins what was not given out yet.
    start: usize,
    /// Up to where `text` is known to hold no line end, from `start`.
    scanned: usize,
    /// There is a `##[` between those two.
    marked: bool,
    /// The beginning of a character whose end has not come yet.
    partial: Vec<u8>,
    /// The last line ended with CR: an LF now belongs to it.
    after_return: bool,
    /// What comes next goes on with a line of which a piece was given out.
    within: bool,
}

/// A line, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Without its end.
    pub text: &'a str,
    /// There is more of this line: before it, behind it, or both. What stands at the beginning of a piece did not stand at
    /// the beginning of a line, so no piece is a command.
    pub is_piece: bool,
}

impl Lines {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        // Whole lines have been taken out by now, so that little is moved.
        self.text.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
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
        if memchr(0, text.as_bytes()).is_some() {
            self.text.extend(text.chars().filter(|c| *c != '\0'));
        } else {
            self.text.push_str(text);
        }
    }

    /// The next whole line, or a piece of one that has grown too long.
    pub fn next(&mut self, masker: &Masker) -> Option<Line<'_>> {
        self.skip_feed();
        let bytes = self.text.as_bytes();
        if let Some(at) = memchr2(b'\n', b'\r', &bytes[self.scanned..]) {
            let (start, end) = (self.start, self.scanned + at);
            self.after_return = bytes[end] == b'\r';
            (self.start, self.scanned, self.marked) = (end + 1, end + 1, false);
            let is_piece = std::mem::take(&mut self.within);
            return Some(Line { text: &self.text[start..end], is_piece });
        }
        self.scanned = self.text.len();
        let rest = &self.text[self.start..];
        let may_be_command = !self.within
            && rest.len() < LONGEST_COMMAND
            && (rest.trim_start().starts_with("::") || rest.contains("##["));
        if may_be_command || rest.len() < LONGEST_LINE + masker.longest() {
            return None;
        }
        let start = self.start;
        self.start += cut(rest, masker);
        (self.within, self.marked) = (true, false);
        Some(Line { text: &self.text[start..self.start], is_piece: true })
    }

    /// What is left when the stream has ended without a line end.
    pub fn rest(&mut self) -> Option<Line<'_>> {
        self.skip_feed();
        if !std::mem::take(&mut self.partial).is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        let start = std::mem::replace(&mut self.start, self.text.len());
        (self.scanned, self.marked) = (self.start, false);
        let is_piece = std::mem::take(&mut self.within);
        Some(Line { text: &self.text[start..], is_piece }).filter(|line| !line.text.is_empty())
    }

    /// Passes over the LF of a CRLF whose CR ended a line.
    fn skip_feed(&mut self) {
        if self.after_return && self.start < self.text.len() {
            if self.text.as_bytes()[self.start] == b'\n' {
                self.start += 1;
                self.scanned = self.scanned.max(self.start);
            }
            self.after_return = false;
        }
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
        split(chunks, &Masker::default()).into_iter().map(|(text, _)| text).collect()
    }

    /// Lines, and whether each is a piece of one.
    fn split(chunks: &[&[u8]], masker: &Masker) -> Vec<(String, bool)> {
        let mut splitter = Lines::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            while let Some(line) = splitter.next(masker) {
                lines.push((line.text.to_owned(), line.is_piece));
            }
        }
        lines.extend(splitter.rest().map(|line| (line.text.to_owned(), line.is_piece)));
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
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(1000).collect();
            let shown: Vec<String> = split(&chunks, &masker).into_iter().map(|(text, _)| text).collect();
            assert!(shown.len() > 1 && shown.iter().all(|line| line.len() <= LONGEST_LINE + 100));
            assert_eq!(shown.concat(), text);
            let masked: String = shown.iter().map(|line| masker.mask(line).into_owned()).collect();
            assert!(masked.contains("***") && !masked.contains("unter2"), "shift {shift}");
        }
    }

    #[test]
    fn a_long_command_stays_whole() {
        let text = format!("::set-output name=a::{}\n", "x".repeat(3 * LONGEST_LINE));
        assert_eq!(lines(&[text.as_bytes()]), [text.trim_end()]);
    }

    #[test]
    fn no_piece_of_a_long_line_can_be_a_command() {
        let masker = Masker::default();
        let text = format!("{}::set-output name=a::b\n::debug::c\n", "x".repeat(LONGEST_LINE));
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(LONGEST_LINE).collect();
        let found = split(&chunks, &masker);
        let expected =
            [("x".repeat(LONGEST_LINE), true), ("::set-output name=a::b".into(), true), ("::debug::c".into(), false)];
        assert!(found == expected);
        let marked = format!("{}##[group]{}", "x".repeat(LONGEST_LINE - 10), "y".repeat(LONGEST_LINE));
        let (first, second) = marked.split_at(LONGEST_LINE - 9);
        assert!(split(&[first.as_bytes(), second.as_bytes()], &masker) == [(marked.clone(), false)]);
        let endless = format!("::set-output name=a::{}", "x".repeat(LONGEST_COMMAND));
        let found = split(&[endless.as_bytes()], &masker);
        assert!(found.len() > 1 && found.iter().all(|(_, is_piece)| *is_piece));
        assert_eq!(found.into_iter().map(|(text, _)| text).collect::<String>(), endless);
    }

    #[test]
    fn pieces_cover_the_text() {
        assert_eq!(pieces("").collect::<Vec<_>>(), [""]);
        let text = "é".repeat(LONGEST_LINE);
        assert_eq!(pieces(&text).collect::<String>(), text);
        assert!(pieces(&text).all(|piece| piece.len() <= LONGEST_LINE));
    }
}
