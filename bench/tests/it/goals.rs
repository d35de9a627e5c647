//! How `goals` ends when there is little to measure.

use std::path::Path;
use std::process::Output;

use crate::program::bench;

/// Some goals of a program that is no service.
fn of(program: &str, only: &str) -> Output {
    let out = tempfile::tempdir().unwrap();
    let mut command = bench(&["goals", "--quick", "--startline", program, "--only", only, "--out"]);
    command.arg(out.path()).output().unwrap()
}

#[test]
fn a_measurement_that_breaks_off_is_a_goal_that_is_missed() {
    assert!(Path::new("/bin/true").is_file());
    let found = of("/bin/true", "START,SIZE");
    let table = String::from_utf8_lossy(&found.stdout);
    let start = table.lines().find(|line| line.trim_start().starts_with("START")).unwrap();
    assert!(
        start.contains("FAIL: the server ended before it was ready") && table.contains("1 passed, 1 failed, 0 skipped"),
        "{table}"
    );
    assert_eq!(found.status.code(), Some(1), "{table}");
}

#[test]
fn goals_none_of_which_can_be_measured_are_not_reached() {
    // It has no scenario of the load.
    let found = of("/bin/true", "S7");
    let words = String::from_utf8_lossy(&found.stderr);
    assert!(words.contains("nothing could be measured"), "{words}");
    assert_eq!(found.status.code(), Some(2), "{words}");
    assert!(String::from_utf8_lossy(&found.stdout).contains("0 passed, 0 failed, 3 skipped"), "{found:?}");
}
