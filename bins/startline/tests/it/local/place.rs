//! Where jobs work: in copies of the work tree, or in the work tree itself.

use super::{command, folder, run_in, steps, tree, write};
use crate::harness::Said;

const CHANGE: &str =
    "      - run: |\n          cat kept.txt\n          echo made > made.txt\n          echo changed > kept.txt\n";

fn text(root: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(root.join(name)).unwrap_or_default()
}

#[test]
fn jobs_work_in_a_copy_with_uncommitted_changes_and_leave_the_tree_alone() {
    let tree = tree(&[("w.yml", &steps(CHANGE)), ("kept.txt", "old\n")]);
    write(tree.path(), &[("kept.txt", "as it is now\n")]);
    for flags in [&[][..], &["--copy"]] {
        let said = run_in(tree.path(), flags);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("as it is now"), "{said:?}");
        assert!(said.err.contains("in a copy of "), "the place is said: {said:?}");
        assert_eq!(
            (text(tree.path(), "kept.txt").as_str(), text(tree.path(), "made.txt").as_str()),
            ("as it is now\n", "")
        );
    }
}

#[test]
fn in_place_jobs_work_in_the_tree_itself_and_that_is_said() {
    let tree = tree(&[("w.yml", &steps(CHANGE)), ("kept.txt", "old\n")]);
    let said = run_in(tree.path(), &["--in-place"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains(&format!("in {} itself", tree.path().display())), "{said:?}");
    assert_eq!(
        (text(tree.path(), "kept.txt").as_str(), text(tree.path(), "made.txt").as_str()),
        ("changed\n", "made\n")
    );
}

#[test]
fn in_place_is_refused_where_git_could_not_bring_files_back() {
    let tree = tree(&[("w.yml", &steps(CHANGE)), ("kept.txt", "old\n")]);
    write(tree.path(), &[("new.txt", "mine\n"), ("kept.txt", "mine\n")]);
    let said = run_in(tree.path(), &["--in-place"]);
    assert!(said.code == Some(2) && said.out.is_empty(), "{said:?}");
    for wanted in ["kept.txt", "new.txt", "commit or stash", "--allow-dirty"] {
        assert!(said.err.contains(wanted), "{wanted}: {said:?}");
    }
    assert_eq!(text(tree.path(), "kept.txt"), "mine\n");
    let said = run_in(tree.path(), &["--in-place", "--allow-dirty"]);
    assert_eq!((said.code, text(tree.path(), "kept.txt").as_str()), (Some(0), "changed\n"), "{said:?}");

    let plain = folder(&[("w.yml", &steps(CHANGE)), ("kept.txt", "mine\n")]);
    let said = run_in(plain.path(), &["--in-place"]);
    assert!(said.code == Some(2) && said.err.contains("no git work tree"), "{said:?}");
    assert_eq!(text(plain.path(), "kept.txt"), "mine\n");
}

#[test]
fn no_checkout_replaces_files_of_a_tree_that_jobs_work_in() {
    for with in ["ref: other", "repository: someone/else", "{path: sub}", "{repository: someone/else, path: sub}"] {
        let with = with.trim_matches(['{', '}']);
        let uses = format!("      - uses: actions/checkout@v4\n        with: {{{with}}}\n");
        let tree = folder(&[("w.yml", &steps(&uses)), ("mine.txt", "mine\n"), ("sub/mine.txt", "mine\n")]);
        let said: Said =
            command(tree.path(), &["--in-place", "--allow-dirty", "--actions-offline"]).output().unwrap().into();
        assert_eq!(said.code, Some(1), "{with}: {said:?}");
        assert!(said.out.contains("the checkout would replace what is in"), "{with}: {said:?}");
        assert_eq!(
            (text(tree.path(), "mine.txt"), text(tree.path(), "sub/mine.txt")),
            ("mine\n".into(), "mine\n".into())
        );
    }
}

#[test]
fn a_checkout_of_the_files_that_are_here_leaves_them_as_they_are() {
    let uses = "      - uses: actions/checkout@v4\n      - uses: actions/checkout@v4\n        with: {path: copy}\n      \
                - run: cat copy/mine.txt\n";
    let tree = folder(&[("w.yml", &steps(uses)), ("mine.txt", "mine\n")]);
    let said = run_in(tree.path(), &["--in-place", "--allow-dirty", "--actions-offline"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(text(tree.path(), "copy/mine.txt"), "mine\n");
    assert!(!tree.path().join("copy/copy").exists(), "a copy does not hold itself");
}
