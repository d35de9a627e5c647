//! The corpus: workflows of our own (`tests/corpus/<area>/<name>.yml`) with the reviewed snapshot of what becomes of each
//! (`<name>.out` beside it).
//!
//! `STARTLINE_CORPUS_UPDATE=1` writes the snapshots anew, `STARTLINE_CORPUS=<text>` takes only files whose name holds the
//! text. What a leading `# corpus: …` comment can say stands in `corpus/case.rs`.

mod case;
mod diff;
mod snapshot;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::case::Case;
use crate::harness::root;

/// The fewest workflows that the corpus may have.
const FEWEST: usize = 120;

fn folder() -> PathBuf {
    root().join("tests/corpus")
}

/// The names (`area/name`) of all workflows, in order.
fn names() -> Vec<String> {
    let mut names = Vec::new();
    for area in folders(&folder()) {
        for entry in std::fs::read_dir(&area).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yml") {
                let (area, name) = (area.file_name().unwrap(), path.file_stem().unwrap());
                names.push(format!("{}/{}", area.to_str().unwrap(), name.to_str().unwrap()));
            }
        }
    }
    names.sort();
    names
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

#[expect(clippy::disallowed_methods, reason = "switches of this test, for those who change the corpus")]
fn switch(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Runs `case` and compares with its snapshot; answers what is wrong.
fn check(name: &str, update: bool) -> Result<(), String> {
    let case = Case::read(&folder(), name)?;
    let found = case.run()?;
    let path = folder().join(format!("{name}.out"));
    if update {
        return std::fs::write(&path, found).map_err(|error| format!("{}: {error}", path.display()));
    }
    let expected = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if expected == found { Ok(()) } else { Err(diff::lines(&expected, &found)) }
}

#[test]
fn every_workflow_of_the_corpus_comes_to_what_was_reviewed() {
    let update = switch("STARTLINE_CORPUS_UPDATE").is_some();
    assert!(!update || switch("CI").is_none(), "snapshots are not written by CI");
    let only = switch("STARTLINE_CORPUS");
    let names: Vec<String> =
        names().into_iter().filter(|name| only.as_ref().is_none_or(|only| name.contains(only.as_str()))).collect();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // Most of a run is waiting for processes: one more than there are cores keeps them busy.
    let at_once = std::thread::available_parallelism().map_or(2, |cores| cores.get().min(8)) + 1;
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = check(name, update) {
                        wrong.lock().unwrap().push(format!("── tests/corpus/{name}.yml\n{error}"));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} of {} workflows came to something else (`-` expected, `+` found; STARTLINE_CORPUS_UPDATE=1 writes the \
         snapshots anew):\n{}",
        wrong.len(),
        names.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_index_names_every_workflow_of_the_corpus_exactly_once() {
    let page = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let (_, index) = page.split_once("\n## Index\n").unwrap();
    let mut named = BTreeSet::new();
    for row in index.lines().filter(|line| line.starts_with('|')) {
        // Files stand in the last column, each between backquotes.
        let files = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        for file in files.split('`').skip(1).step_by(2) {
            assert!(named.insert(file.to_owned()), "`{file}` stands twice in tests/corpus/README.md");
        }
    }
    let there: BTreeSet<String> = names().into_iter().collect();
    let gone: Vec<_> = named.difference(&there).collect();
    let missing: Vec<_> = there.difference(&named).collect();
    assert!(gone.is_empty() && missing.is_empty(), "not there: {gone:?}; not in the index: {missing:?}");
    assert!(there.len() >= FEWEST, "the corpus has {} workflows; it should have at least {FEWEST}", there.len());
    for name in there {
        assert!(folder().join(format!("{name}.out")).is_file(), "`{name}` has no snapshot");
    }
}
