//! `permissions`.

use super::{Reader, spelling};
use crate::diagnostic::Diagnostic;
use crate::yaml::{Kind, Node};

/// Scopes and the levels they take (actions/runner `Sdk/WorkflowParser/workflow-v1.0.json`).
const SCOPES: &[(&str, &[&str])] = &[
    ("actions", ANY),
    ("artifact-metadata", ANY),
    ("attestations", ANY),
    ("checks", ANY),
    ("contents", ANY),
    ("deployments", ANY),
    ("discussions", ANY),
    ("id-token", &["write", "none"]),
    ("issues", ANY),
    ("models", &["read", "none"]),
    ("packages", ANY),
    ("pages", ANY),
    ("pull-requests", ANY),
    ("repository-projects", ANY),
    ("security-events", ANY),
    ("statuses", ANY),
    ("vulnerability-alerts", &["read", "none"]),
];
const ANY: &[&str] = &["read", "write", "none"];

/// What a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permissions {
    /// `read-all`.
    ReadAll,
    /// `write-all`.
    WriteAll,
    /// Scope by scope; what is not listed is none.
    Scopes(Vec<(String, Access)>),
}

impl Permissions {
    /// All scopes that there are.
    pub fn scopes() -> impl Iterator<Item = &'static str> {
        SCOPES.iter().map(|(name, _)| *name)
    }

    /// These, as far as `most` has them too.
    #[must_use]
    pub fn within(&self, most: &Self) -> Self {
        let scopes = Self::scopes().map(|scope| (scope.to_owned(), self.of(scope).min(most.of(scope))));
        Self::Scopes(scopes.filter(|(_, access)| *access != Access::None).collect())
    }

    /// What they say of one scope, such as `id-token`.
    #[must_use]
    pub fn of(&self, scope: &str) -> Access {
        let levels = SCOPES.iter().find(|(known, _)| *known == scope).map_or(&[][..], |(_, levels)| levels);
        match self {
            Self::ReadAll if levels.contains(&"read") => Access::Read,
            Self::WriteAll if levels.contains(&"write") => Access::Write,
            Self::WriteAll if levels.contains(&"read") => Access::Read,
            Self::ReadAll | Self::WriteAll => Access::None,
            Self::Scopes(scopes) => {
                scopes.iter().find(|(known, _)| known == scope).map_or(Access::None, |(_, access)| *access)
            }
        }
    }
}

/// A level of access; a higher one holds the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// `none`.
    None,
    /// `read`.
    Read,
    /// `write`.
    Write,
}

impl Access {
    /// The word in a file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl Reader<'_> {
    /// `permissions` of a workflow or a job.
    pub(crate) fn permissions(&mut self, node: &Node) -> Option<Permissions> {
        match &node.kind {
            Kind::Scalar(scalar) => match scalar.text.as_str() {
                "read-all" => Some(Permissions::ReadAll),
                "write-all" => Some(Permissions::WriteAll),
                other => {
                    let message = format!("`permissions` cannot be `{other}`");
                    let remedy = "write `read-all`, `write-all`, `{}` or a mapping of scopes";
                    self.report(Diagnostic::error("value", node.span, message).remedy(remedy));
                    None
                }
            },
            Kind::Sequence(_) => {
                self.wrong_type(node, "`permissions`", "a mapping of scopes");
                None
            }
            Kind::Mapping(entries) => {
                let mut scopes = Vec::new();
                for entry in entries {
                    let name = entry.key.text().unwrap_or_default();
                    let Some((_, levels)) = SCOPES.iter().find(|(known, _)| *known == name) else {
                        let remedy = spelling::remedy(name, SCOPES.iter().map(|(name, _)| *name), "scopes");
                        let message = format!("unknown permission `{name}`");
                        self.report(Diagnostic::error("unknown-key", entry.key.span, message).remedy(remedy));
                        continue;
                    };
                    let level = entry.value.text().unwrap_or_default();
                    if !levels.contains(&level) {
                        let message = format!("the permission `{name}` cannot be `{level}`");
                        let remedy = format!("write one of: {}", levels.join(", "));
                        self.report(Diagnostic::error("value", entry.value.span, message).remedy(remedy));
                        continue;
                    }
                    let access = match level {
                        "read" => Access::Read,
                        "write" => Access::Write,
                        _ => Access::None,
                    };
                    scopes.push((name.to_owned(), access));
                }
                Some(Permissions::Scopes(scopes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_token_needs_to_be_asked_for() {
        let own = |access| Permissions::Scopes(vec![("id-token".to_owned(), access)]);
        assert_eq!(own(Access::Write).of("id-token"), Access::Write);
        assert_eq!(own(Access::None).of("id-token"), Access::None);
        assert_eq!(Permissions::WriteAll.of("id-token"), Access::Write);
        assert_eq!(Permissions::ReadAll.of("id-token"), Access::None, "it cannot be read");
        assert_eq!(Permissions::Scopes(Vec::new()).of("id-token"), Access::None);
        assert_eq!(Permissions::WriteAll.of("models"), Access::Read, "which nobody can write");
        assert_eq!(Permissions::WriteAll.of("unknown"), Access::None);
    }
}
