//! Environment variables in order, names compared exactly.

use std::ffi::{OsStr, OsString};

use startline_workflow::expression::{Object, Value};

/// An ordered set of variables; a later value replaces an earlier one in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    entries: Vec<(String, String)>,
}

impl Environment {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn extend<'a>(&mut self, entries: impl IntoIterator<Item = (&'a str, &'a str)>) {
        entries.into_iter().for_each(|(name, value)| self.set(name, value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The `env` context, whose names are compared exactly.
    pub(crate) fn to_value(&self) -> Value {
        let mut object = Object::case_sensitive();
        for (name, value) in self.iter() {
            object.insert(name, Value::string(value));
        }
        object.into()
    }

    /// These variables over those that a process inherits. Names that no environment can hold are left out.
    pub(crate) fn over(&self, inherited: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = inherited
            .iter()
            .filter(|(name, _)| name.to_str().is_none_or(|name| self.get(name).is_none()))
            .cloned()
            .collect();
        for (name, value) in self.iter() {
            if !name.is_empty() && !name.contains(['=', '\0']) {
                all.push((name.into(), value.replace('\0', "").into()));
            }
        }
        all
    }
}

/// A variable of a process environment.
pub(crate) fn lookup<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variables_win_over_inherited_ones() {
        let mut environment = Environment::default();
        environment.extend([("B", "2"), ("A", "1"), ("B", "3"), ("x=y", "no"), ("", "no")]);
        let inherited = [("A".into(), "old".into()), ("C".into(), "c".into())];
        let all = environment.over(&inherited);
        assert_eq!(
            all,
            [("C".into(), "c".into()), ("B".into(), "3".into()), ("A".into(), "1".into())] as [(OsString, OsString); 3]
        );
        assert_eq!(lookup(&all, "C"), Some(OsStr::new("c")));
    }
}
