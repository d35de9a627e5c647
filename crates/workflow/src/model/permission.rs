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

/// A level of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `none`.
    None,
    /// `read`.
    Read,
    /// `write`.
    Write,
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
