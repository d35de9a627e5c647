//! Mappings that keep the order of insertion.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use super::{Value, fold};

/// A mapping in insertion order whose keys compare without case, unless made by [`Object::case_sensitive`].
#[derive(Clone, Default)]
pub struct Object {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
    case_sensitive: bool,
}

impl Object {
    /// An empty object whose keys compare without case.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty object whose keys compare exactly, as those of `env` on Unix do.
    pub fn case_sensitive() -> Self {
        Self { case_sensitive: true, ..Self::default() }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(&*self.folded(key)).map(|&position| &self.entries[position].1)
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets a key and returns the value it had. A key that exists keeps its place and its spelling.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) -> Option<Value> {
        let key = key.into();
        let folded = self.folded(&key).into_owned();
        if let Some(&position) = self.index.get(&folded) {
            return Some(std::mem::replace(&mut self.entries[position].1, value));
        }
        self.index.insert(folded, self.entries.len());
        self.entries.push((key, value));
        None
    }

    /// Removes a key and returns its value; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let position = self.index.remove(&*self.folded(key))?;
        for later in self.index.values_mut().filter(|later| **later > position) {
            *later -= 1;
        }
        Some(self.entries.remove(position).1)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Keys in order, spelled as first inserted.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.as_str())
    }

    /// Values in order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn folded<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if self.case_sensitive { Cow::Borrowed(key) } else { Cow::Owned(fold(key)) }
    }
}

impl FromIterator<(String, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        let mut object = Self::new();
        object.extend(entries);
        object
    }
}

impl Extend<(String, Value)> for Object {
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

/// Equal when both have the same keys, spelled alike, with equal values; order does not matter.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        let keys: HashMap<&str, &Value> = other.iter().collect();
        self.len() == other.len() && self.iter().all(|(key, value)| keys.get(key) == Some(&value))
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}
