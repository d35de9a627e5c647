//! `startline run` as people use it at their desks: values from files, the work tree itself, watching, failures.

mod failures;
mod place;
mod values;
mod watch;

use std::path::Path;
use std::process::Command;

use crate::harness::{Said, startline};

/// Writes files below a directory.
fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A directory with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), files);
    directory
}

fn git(root: &Path, arguments: &[&str]) {
    let said: Said = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
        .args(arguments)
        .current_dir(root)
        .output()
        .unwrap()
        .into();
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// A git work tree in which these files are committed.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = folder(files);
    git(directory.path(), &["init", "-q"]);
    git(directory.path(), &["add", "-A"]);
    git(directory.path(), &["commit", "-qm", "files"]);
    directory
}

/// `startline run w.yml` in the directory.
fn run_in(root: &Path, flags: &[&str]) -> Said {
    command(root, flags).output().unwrap().into()
}

fn command(root: &Path, flags: &[&str]) -> Command {
    let mut command = startline();
    command.args(["run", "w.yml"]).args(flags).current_dir(root);
    command
}

/// A workflow of one job with these steps, indented as a list of `steps` is.
fn steps(steps: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{steps}")
}
