//! Ids of jobs and steps.

use std::collections::{HashMap, HashSet};

use super::Reader;
use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// Ids and generated names are shorter than this (actions/runner `Sdk/WorkflowParser/WorkflowConstants.cs`).
const MAX_LENGTH: usize = 100;

/// Why text is no id, if it is none (actions/runner `Sdk/WorkflowParser/Conversion/IdBuilder.cs`).
pub(crate) fn problem(id: &str) -> Option<&'static str> {
    let first = |character: char| character.is_ascii_alphabetic() || character == '_';
    if id.starts_with("__") {
        Some("ids that begin with `__` are reserved")
    } else if id.len() >= MAX_LENGTH {
        Some("an id must be shorter than 100 characters")
    } else if !id.starts_with(first) {
        Some("an id must begin with a letter or `_`")
    } else if !id.chars().all(|character| first(character) || character.is_ascii_digit() || character == '-') {
        Some("an id may hold only letters, digits, `-` and `_`")
    } else {
        None
    }
}

impl Reader<'_> {
    /// Reports an id that is none; `what` is `job` or `step`.
    pub(crate) fn check_id(&mut self, id: &str, what: &str, span: Span) -> bool {
        let Some(problem) = problem(id) else { return true };
        let proposal: String =
            id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(99).collect();
        let proposal = proposal.trim_start_matches(['_', '-']);
        let proposal = if proposal.starts_with(|c: char| c.is_ascii_digit()) || proposal.is_empty() {
            format!("{what}-{proposal}").trim_end_matches('-').to_owned()
        } else {
            proposal.to_owned()
        };
        let message = format!("`{id}` is no {what} id: {problem}");
        let remedy = format!("rename it, for example to `{proposal}`; use `name` for the text that is shown");
        self.report(Diagnostic::error("id", span, message).remedy(remedy));
        false
    }
}

/// Names for the `steps` context: given ids first, then generated ones
/// (actions/runner `Sdk/DTPipelines/Pipelines/ObjectTemplating/ReferenceNameBuilder.cs`).
#[derive(Default)]
pub(crate) struct ContextNames {
    taken: HashSet<String>,
    /// The last number given out for a base.
    numbers: HashMap<String, usize>,
}

impl ContextNames {
    /// Registers a given id; false if it is taken.
    pub(crate) fn register(&mut self, id: &str) -> bool {
        self.taken.insert(id.to_ascii_lowercase())
    }

    /// A name that is not taken: `base`, `base_2`, `base_3`…
    pub(crate) fn generate(&mut self, base: &str) -> String {
        loop {
            let number = self.numbers.entry(base.to_owned()).or_default();
            *number += 1;
            let name = if *number == 1 { base.to_owned() } else { format!("{base}_{number}") };
            if self.register(&name) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_official_rule() {
        for good in ["a", "_a", "Build-1_x", &"a".repeat(99)] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in ["", "1a", "-a", "__a", "a b", "a.b", "é", &"a".repeat(100)] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn generated_names_avoid_given_ones_without_case() {
        let mut names = ContextNames::default();
        assert!(names.register("Build") && !names.register("build"));
        assert_eq!(names.generate("__run"), "__run");
        assert_eq!(names.generate("__run"), "__run_2");
        assert_eq!(names.generate("__run"), "__run_3");
    }
}
