//! Masking: no text that leaves the worker contains a secret, plain or in a derived encoding.
//!
//! What counts as derived is actions/runner `Runner.Common/HostContext.cs` and `Sdk/DTLogging/Logging/ValueEncoders.cs`,
//! widened by forms that shells and tools print (unpadded and URL-safe base64, hex, percent signs in lower case).

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use regex_lite::Regex;

mod encodings;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tests;

/// What stands in place of a secret.
pub(crate) const REPLACEMENT: &str = "***";

const LINE_ENDS: [char; 2] = ['\n', '\r'];

/// The set of texts and patterns that must not be shown. Additions apply to what is masked later.
#[derive(Default)]
pub struct Masker {
    known: BTreeSet<Vec<u8>>,
    /// Which bytes begin a known text; none without one. Most of a text is passed over by this alone.
    starts: Option<Box<[bool; 256]>>,
    /// Values of one byte, as one bit for each.
    single: [u64; 4],
    /// Longer values by their first two bytes.
    by_pair: HashMap<[u8; 2], Vec<Vec<u8>>>,
    /// One bit for each pair in `by_pair`, empty without one: few places of a text survive this look-up.
    pairs: Vec<u64>,
    patterns: Vec<Regex>,
    longest: usize,
}

impl Masker {
    /// Masks `secret`, each of its lines, and all their derived encodings. Blank text is ignored.
    pub fn add(&mut self, secret: &str) {
        // No text that is masked has NUL.
        let secret = if secret.contains('\0') { Cow::Owned(secret.replace('\0', "")) } else { Cow::Borrowed(secret) };
        self.add_value(&secret);
        if secret.contains(LINE_ENDS) {
            secret.split(LINE_ENDS).for_each(|line| self.add_value(line));
        }
    }

    /// Masks what matches `pattern`, and the pattern itself.
    ///
    /// # Errors
    /// When `pattern` is not a regular expression; its text is masked all the same.
    pub(crate) fn add_pattern(&mut self, pattern: &str) -> Result<(), regex_lite::Error> {
        self.add_value(pattern);
        self.patterns.push(Regex::new(pattern)?);
        Ok(())
    }

    fn add_value(&mut self, value: &str) {
        let trimmed = value.trim();
        if trimmed.is_empty() {
            return;
        }
        for encoded in encodings::all(trimmed) {
            // A form of several lines is shown line by line, as its value is.
            if encoded.contains(LINE_ENDS) {
                encoded.split(LINE_ENDS).for_each(|line| self.insert(line.trim().as_bytes().to_vec()));
            }
            self.insert(encoded.into_bytes());
        }
    }

    fn insert(&mut self, value: Vec<u8>) {
        if value.is_empty() || !self.known.insert(value.clone()) {
            return;
        }
        self.longest = self.longest.max(value.len());
        self.starts.get_or_insert_with(|| Box::new([false; 256]))[usize::from(value[0])] = true;
        match *value.as_slice() {
            [byte] => {
                self.single[usize::from(byte / 64)] |= 1 << (byte % 64);
            }
            [first, second, ..] => {
                self.pairs.resize(1024, 0);
                let pair = usize::from(u16::from_be_bytes([first, second]));
                self.pairs[pair / 64] |= 1 << (pair % 64);
                self.by_pair.entry([first, second]).or_default().push(value);
            }
            [] => {}
        }
    }

    fn is_single(&self, byte: u8) -> bool {
        self.single[usize::from(byte / 64)] & (1 << (byte % 64)) != 0
    }

    fn may_start(&self, pair: [u8; 2]) -> bool {
        let pair = usize::from(u16::from_be_bytes(pair));
        self.pairs.get(pair / 64).is_some_and(|bits| bits & (1 << (pair % 64)) != 0)
    }

    /// Length in bytes of the longest text that is masked; patterns do not count.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The places of `text` that must not be shown: in order, apart from each other, and on character boundaries.
    pub(crate) fn ranges(&self, text: &str) -> Vec<(usize, usize)> {
        let bytes = text.as_bytes();
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut next = 0;
        while let Some(starts) = &self.starts
            && let Some(ahead) = bytes[next..].iter().position(|byte| starts[usize::from(*byte)])
        {
            let start = next + ahead;
            next = start + 1;
            let mut end = 0;
            if self.is_single(bytes[start]) {
                end = start + 1;
            }
            if let Some(&[first, second]) = bytes.get(start..start + 2)
                && self.may_start([first, second])
                && let Some(values) = self.by_pair.get(&[first, second])
            {
                for value in values {
                    if bytes[start..].starts_with(value) {
                        end = end.max(start + value.len());
                    }
                }
            }
            if end > 0 {
                found.push((start, end));
            }
        }
        if !self.patterns.is_empty() {
            for pattern in &self.patterns {
                found.extend(pattern.find_iter(text).filter(|m| !m.is_empty()).map(|m| (m.start(), m.end())));
            }
            found.sort_unstable();
        }
        merge(found)
    }

    /// `text` with every secret replaced; neighbouring secrets become one replacement.
    pub(crate) fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let ranges = self.ranges(text);
        if ranges.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut shown = 0;
        for (start, end) in ranges {
            masked.push_str(&text[shown..start]);
            masked.push_str(REPLACEMENT);
            shown = end;
        }
        masked.push_str(&text[shown..]);
        Cow::Owned(masked)
    }

    /// Whether masking would change `text`.
    pub(crate) fn touches(&self, text: &str) -> bool {
        !self.ranges(text).is_empty()
    }
}

/// Joins ranges that overlap or touch; `found` is ordered by start.
fn merge(found: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut merged: Vec<(usize, usize)> = Vec::with_capacity(found.len());
    for (start, end) in found {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}
