//! Where the jobs of a local run work: in copies of the work tree, or in the work tree itself.

use std::path::Path;

use crate::commands::tree::{Tree, git};
use crate::exit::Usage;

/// How many changed files are named.
const NAMED: usize = 3;

/// Refuses a work tree that jobs could change so that nothing brings it back.
///
/// # Errors
/// [`Usage`], with the reason and the remedies.
pub(super) fn check(tree: &Tree) -> anyhow::Result<()> {
    let shown = tree.root.display();
    let refused = |why: String, remedy: &str| {
        Err(Usage(format!(
            "{shown} {why}, and --in-place lets jobs change and delete what is there; {remedy}, leave --in-place out to \
             run in a copy, or add --allow-dirty"
        ))
        .into())
    };
    if !tree.in_git {
        return refused("is no git work tree, so that nothing brings a lost file back".to_owned(), "put it under git");
    }
    let changed = changed(&tree.root);
    match changed.as_slice() {
        [] => Ok(()),
        names => {
            let mut list = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            if let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) {
                list = format!("{list} and {more} more");
            }
            refused(format!("has changes that are not committed ({list})"), "commit or stash them")
        }
    }
}

/// What git would call a change, by name.
fn changed(root: &Path) -> Vec<String> {
    let text = git(root, &["-c", "core.quotePath=false", "status", "--porcelain"]).unwrap_or_default();
    // The beginning was trimmed, and with it perhaps a blank of the first line's two signs.
    text.lines().filter_map(|line| line.trim_start().split_once(' ')).map(|(_, name)| name.trim().to_owned()).collect()
}
