//! Mappings with a fixed set of keys.

use super::{Reader, spelling};
use crate::diagnostic::{Diagnostic, Severity};
use crate::span::Span;
use crate::yaml::{Entry, Node};

/// The known entries of a mapping.
pub(crate) struct Fields<'n> {
    entries: Vec<&'n Entry>,
    /// Known keys that an unknown one was probably meant to be.
    misspelled: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value under a key unless it is null.
    pub(crate) fn given(&self, key: &str) -> Option<&'n Node> {
        self.get(key).filter(|node| !node.is_null())
    }

    /// True if a key is probably there under a wrong name, which has been reported.
    pub(crate) fn is_misspelled(&self, key: &str) -> bool {
        self.misspelled.contains(&key)
    }

    /// All known entries, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &'n Entry> {
        self.entries.iter().copied()
    }

    /// The entry of a key.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key.text() == Some(key)).copied()
    }
}

impl Reader<'_> {
    /// The entries of a mapping with a fixed set of keys; unknown ones are reported and left out.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&'static str]) -> Option<Fields<'n>> {
        self.known_fields(node, what, known, Severity::Error)
    }

    /// The same for a mapping that may have further keys, which are ignored: they get a warning.
    pub(crate) fn open_fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&'static str]) -> Option<Fields<'n>> {
        self.known_fields(node, what, known, Severity::Warning)
    }

    fn known_fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&'static str],
        severity: Severity,
    ) -> Option<Fields<'n>> {
        let Some(entries) = node.mapping() else {
            self.wrong_type(node, what, "a mapping");
            return None;
        };
        let mut kept = Vec::with_capacity(entries.len());
        let mut misspelled = Vec::new();
        for entry in entries {
            let key = entry.key.text().unwrap_or_default();
            if known.contains(&key) {
                kept.push(entry);
                continue;
            }
            let message = format!("unknown key `{key}` in {what}");
            let mut finding = Diagnostic::error("unknown-key", entry.key.span, message);
            if !self.is_full() {
                misspelled.extend(spelling::nearest(key, known.iter().copied()));
                finding = finding.remedy(spelling::remedy(key, known.iter().copied(), "keys"));
            }
            self.report(Diagnostic { severity, ..finding });
        }
        Some(Fields { entries: kept, misspelled })
    }

    /// Says that a required key is absent.
    pub(crate) fn missing(&mut self, span: Span, key: &str, what: &str, remedy: &str) {
        let message = format!("{what} has no `{key}`");
        self.report(Diagnostic::error("missing-key", span, message).remedy(remedy));
    }
}
