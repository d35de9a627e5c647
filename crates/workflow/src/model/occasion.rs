//! Whether what happened starts a workflow: events, activity types, and the filters on branches, tags and paths.

use super::pattern::Pattern;
use super::{Patterns, Trigger, Triggers};

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occasion {
    /// Event, such as `push`.
    pub event: String,
    /// Its activity type, such as `opened`.
    pub action: Option<String>,
    /// What `branches` and `tags` are about: for `push` the full ref that was pushed, for `pull_request` and
    /// `pull_request_target` the ref or branch that is merged into, for `workflow_run` the branch of the other run.
    pub git_ref: Option<String>,
    /// The files that changed, below the root; none where that is not known, and then filters on paths let it pass.
    pub changed_files: Option<Vec<String>>,
    /// The name of the workflow that ran, for `workflow_run`.
    pub workflow: Option<String>,
    /// The message of the commit that was pushed.
    pub commit_message: Option<String>,
}

impl Occasion {
    /// What the body of an event, as GitHub sends it, says. `git_ref` is the ref of the run.
    #[must_use]
    pub fn of(event: &str, body: &serde_json::Value, git_ref: &str, changed_files: Option<Vec<String>>) -> Self {
        let text = |pointer: &str| body.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
        let git_ref = match event {
            "pull_request" | "pull_request_target" => text("/pull_request/base/ref"),
            "workflow_run" => text("/workflow_run/head_branch"),
            "push" => Some(git_ref.to_owned()),
            _ => None,
        };
        Self {
            event: event.to_owned(),
            action: text("/action"),
            git_ref,
            changed_files,
            workflow: text("/workflow_run/name").filter(|_| event == "workflow_run"),
            commit_message: text("/head_commit/message"),
        }
    }
}

/// Texts in a commit's message by which its author wants no run.
const SKIP: [&str; 5] = ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"];
/// Events that happen for changed code, and so can be skipped by its author.
const OF_CODE: [&str; 2] = ["push", "pull_request"];

impl Triggers {
    /// Whether this starts the workflow.
    ///
    /// # Errors
    /// Why it does not, as a sentence.
    pub fn starts(&self, occasion: &Occasion) -> Result<(), String> {
        let event = occasion.event.as_str();
        let Some(trigger) = self.get(event) else { return Err(format!("the workflow is not triggered by `{event}`")) };
        if OF_CODE.contains(&event)
            && let Some(message) = &occasion.commit_message
            && let Some(mark) = skips(message)
        {
            return Err(format!("the commit's message says `{mark}`"));
        }
        trigger.types(occasion)?;
        trigger.refs(occasion)?;
        trigger.changed(occasion)?;
        match &occasion.workflow {
            Some(name) if event == "workflow_run" && !selected(&trigger.workflows, name) => {
                Err(format!("the workflow `{name}` is not among its `workflows`"))
            }
            _ => Ok(()),
        }
    }
}

impl Trigger {
    fn types(&self, occasion: &Occasion) -> Result<(), String> {
        let Some(action) = &occasion.action else { return Ok(()) };
        let is_pull = matches!(self.event.as_str(), "pull_request" | "pull_request_target");
        let usual: &[&str] = if is_pull { &["opened", "synchronize", "reopened"] } else { &[] };
        let wanted: Vec<&str> =
            if self.types.is_empty() { usual.to_vec() } else { self.types.iter().map(String::as_str).collect() };
        if wanted.is_empty() || wanted.contains(&action.as_str()) {
            return Ok(());
        }
        let listed = wanted.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Err(format!("the activity type `{action}` of `{}` is not one of {listed}", self.event))
    }

    fn refs(&self, occasion: &Occasion) -> Result<(), String> {
        let Some(git_ref) = &occasion.git_ref else { return Ok(()) };
        let (kind, name, filter, other) = match git_ref.strip_prefix("refs/tags/") {
            Some(tag) => ("tag", tag, &self.tags, &self.branches),
            None => {
                let branch = git_ref.strip_prefix("refs/heads/").unwrap_or(git_ref);
                ("branch", branch, &self.branches, &self.tags)
            }
        };
        match filter {
            Some(filter) if filter.lets(name) => Ok(()),
            Some(filter) => {
                Err(format!("the {kind} `{name}` {}", filter.verdict(if kind == "tag" { "tags" } else { "branches" })))
            }
            // A filter on branches alone is no filter that lets tags pass, and the other way round.
            None if other.is_some() => Err(format!("`{}` has a filter, and none that is about a {kind}", self.event)),
            None => Ok(()),
        }
    }

    fn changed(&self, occasion: &Occasion) -> Result<(), String> {
        let (Some(filter), Some(files)) = (&self.paths, &occasion.changed_files) else { return Ok(()) };
        let is_tag = occasion.git_ref.as_ref().is_some_and(|git_ref| git_ref.starts_with("refs/tags/"));
        if is_tag || files.iter().any(|file| filter.lets(file)) {
            return Ok(());
        }
        let which = match files.as_slice() {
            [] => return Err("no file changed, and the workflow has a filter on paths".to_owned()),
            [one] => format!("the changed file `{one}`"),
            [one, ..] => format!("each of the {} changed files (`{one}`, …)", files.len()),
        };
        Err(format!("{which} {}", filter.verdict("paths")))
    }
}

impl Patterns {
    /// Whether a name passes: for `branches` it must match, for `branches-ignore` it must not. The last pattern that
    /// matches decides, one with `!` for the opposite.
    fn lets(&self, name: &str) -> bool {
        selected(&self.patterns, name) != self.ignore
    }

    fn verdict(&self, key: &str) -> String {
        if self.ignore { format!("is ignored by `{key}-ignore`") } else { format!("is not matched by `{key}`") }
    }
}

fn selected(patterns: &[String], name: &str) -> bool {
    let patterns = patterns.iter().rev().map(|pattern| Pattern::read(pattern));
    patterns.into_iter().find(|pattern| pattern.matches(name)).is_some_and(|pattern| !pattern.negative)
}

/// The mark in a commit's message by which its author wants no run.
fn skips(message: &str) -> Option<&'static str> {
    let folded = message.to_lowercase();
    let trailer = || {
        let trailers = message.trim_end().rsplit("\n\n").next().filter(|last| last.len() < message.trim_end().len())?;
        let says = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (name.eq_ignore_ascii_case("skip-checks") && value.trim().eq_ignore_ascii_case("true")).then_some(())
        };
        trailers.lines().find_map(says).map(|()| "skip-checks: true")
    };
    SKIP.into_iter().find(|mark| folded.contains(mark)).or_else(trailer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn why(on: &str, occasion: &Occasion) -> String {
        let source = format!("on:\n{on}\njobs: {{a: {{runs-on: x, steps: [{{run: a}}]}}}}\n");
        let (workflow, findings) = parse(&source);
        let workflow = workflow.unwrap_or_else(|| panic!("{findings:?}"));
        workflow.on.starts(occasion).err().unwrap_or_default()
    }

    fn push(git_ref: &str, files: &[&str]) -> Occasion {
        Occasion {
            event: "push".to_owned(),
            git_ref: Some(git_ref.to_owned()),
            changed_files: Some(files.iter().map(|file| (*file).to_owned()).collect()),
            ..Occasion::default()
        }
    }

    #[test]
    fn pushes_of_branches_and_tags() {
        let main = push("refs/heads/main", &["a.rs"]);
        let tag = push("refs/tags/v1", &[]);
        let table = [
            ("  push:", "", ""),
            ("  push: {branches: [main]}", "", "`push` has a filter, and none that is about a tag"),
            ("  push: {tags: ['v*']}", "`push` has a filter, and none that is about a branch", ""),
            ("  push: {branches: [main], tags: ['v*']}", "", ""),
            (
                "  push: {branches: ['rel/**']}",
                "the branch `main` is not matched by `branches`",
                "`push` has a filter, and none that is about a tag",
            ),
            (
                "  push: {branches: ['**', '!main']}",
                "the branch `main` is not matched by `branches`",
                "`push` has a filter, and none that is about a tag",
            ),
            ("  push: {branches: ['!m*', main]}", "", "`push` has a filter, and none that is about a tag"),
            (
                "  push: {branches-ignore: [main]}",
                "the branch `main` is ignored by `branches-ignore`",
                "`push` has a filter, and none that is about a tag",
            ),
            (
                "  push: {tags-ignore: [v1]}",
                "`push` has a filter, and none that is about a branch",
                "the tag `v1` is ignored by `tags-ignore`",
            ),
            ("  push: {paths: ['**.md']}", "the changed file `a.rs` is not matched by `paths`", ""),
            ("  pull_request:", "the workflow is not triggered by `push`", "the workflow is not triggered by `push`"),
        ];
        for (on, branch, tagged) in table {
            assert_eq!((why(on, &main).as_str(), why(on, &tag).as_str()), (branch, tagged), "{on}");
        }
    }

    #[test]
    fn paths_let_pass_what_one_file_lets_pass() {
        let on = "  push: {paths: ['src/**', '!src/doc/**']}";
        let ignoring = "  push: {paths-ignore: ['**.md', 'docs/**']}";
        let at = |files: &[&str]| push("refs/heads/x", files);
        assert_eq!(why(on, &at(&["README.md", "src/a.rs"])), "");
        assert_eq!(why(on, &at(&["src/doc/a.md"])), "the changed file `src/doc/a.md` is not matched by `paths`");
        assert_eq!(why(ignoring, &at(&["README.md", "src/a.rs"])), "");
        assert_eq!(
            why(ignoring, &at(&["README.md", "docs/x"])),
            "each of the 2 changed files (`README.md`, …) is ignored by `paths-ignore`"
        );
        assert_eq!(why(on, &at(&[])), "no file changed, and the workflow has a filter on paths");
        assert_eq!(why(on, &Occasion { changed_files: None, ..at(&[]) }), "", "nobody knows what changed");
    }

    #[test]
    fn pull_requests_have_usual_types_and_the_branch_they_go_to() {
        let pull = |action: &str, base: &str| Occasion {
            event: "pull_request".to_owned(),
            action: Some(action.to_owned()),
            git_ref: Some(base.to_owned()),
            ..Occasion::default()
        };
        assert_eq!(why("  pull_request:", &pull("synchronize", "main")), "");
        assert_eq!(
            why("  pull_request:", &pull("labeled", "main")),
            "the activity type `labeled` of `pull_request` is not one of `opened`, `synchronize`, `reopened`"
        );
        assert_eq!(why("  pull_request: {types: [labeled]}", &pull("labeled", "main")), "");
        assert_eq!(
            why("  pull_request: {branches: [main]}", &pull("opened", "dev")),
            "the branch `dev` is not matched by `branches`"
        );
    }

    #[test]
    fn the_author_of_a_commit_can_want_no_run() {
        let said = |event: &str, message: &str| Occasion {
            event: event.to_owned(),
            commit_message: Some(message.to_owned()),
            ..Occasion::default()
        };
        for mark in SKIP {
            assert_eq!(
                why("  push:", &said("push", &format!("Fix {}", mark.to_uppercase()))),
                format!("the commit's message says `{mark}`")
            );
        }
        assert_eq!(
            why("  push:", &said("push", "Fix\n\nMore.\n\nSigned-off-by: me\nskip-checks: true\n")),
            "the commit's message says `skip-checks: true`"
        );
        assert_eq!(why("  push:", &said("push", "skip-checks: true")), "", "a title is no trailer");
        assert_eq!(why("  workflow_dispatch:", &said("workflow_dispatch", "[skip ci]")), "");
    }

    #[test]
    fn other_workflows_and_other_events() {
        let ran = |name: &str| Occasion {
            event: "workflow_run".to_owned(),
            workflow: Some(name.to_owned()),
            ..Occasion::default()
        };
        assert_eq!(why("  workflow_run: {workflows: [Build, 'Test*']}", &ran("Tests")), "");
        assert_eq!(
            why("  workflow_run: {workflows: [Build]}", &ran("Test")),
            "the workflow `Test` is not among its `workflows`"
        );
        let asked = |action: &str| Occasion {
            event: "repository_dispatch".to_owned(),
            action: Some(action.to_owned()),
            ..Occasion::default()
        };
        assert_eq!(why("  repository_dispatch: {types: [deploy]}", &asked("deploy")), "");
        assert_ne!(why("  repository_dispatch: {types: [deploy]}", &asked("test")), "");
    }
}
