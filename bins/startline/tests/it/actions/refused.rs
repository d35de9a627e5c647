//! Actions that cannot be had or run: the job fails in "Set up job" and says why, and what to do.

use std::os::unix::fs::PermissionsExt as _;

use super::{Stage, node};
use crate::harness::Said;

/// Set-up fails, nothing runs, and the error holds all of these.
fn fails_in_set_up(said: &Said, expected: &[&str]) {
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("✗ Set up job"), "{said:?}");
    assert!(!said.out.contains("# never"), "{said:?}");
    for part in expected {
        assert!(said.out.contains(part), "no `{part}` in {said:?}");
    }
}

const NEVER: &str = "      - {if: always(), name: last, run: 'echo \"# never\"'}\n";

#[test]
fn an_action_that_is_nowhere_is_named_with_what_was_tried_and_the_remedy() {
    let stage = Stage::new()
        .action("acme/tools@v1", "action.yml", "runs: {using: composite, steps: [{uses: acme/gone@v7}]}\n")
        .steps(&format!("      - uses: acme/tools@v1\n{NEVER}"));
    let said = stage.run();
    let directory = format!("directory {} has none", stage.store().display());
    fails_in_set_up(
        &said,
        &[
            "Unable to resolve action `acme/gone@v7`",
            &directory,
            "--actions-dir",
            "--actions-mirror",
            "--actions-offline",
        ],
    );
}

#[test]
fn manifests_that_are_missing_or_broken_are_named() {
    for (manifest, expected) in [
        ("runs: [", "acme/tools/v1/action.yml"),
        ("runs: {using: node20}\n", "`runs` has no `main`"),
        ("runs: {using: node18, main: a.js}\n", "`using` cannot be `node18`"),
        ("runs: {using: docker, main: a.js}\n", "unknown key `main`"),
        ("runs: {using: docker, image: 'alpine:3'}\n", "'alpine:3' should be either '[path]/Dockerfile' or 'docker://"),
    ] {
        let stage = Stage::new()
            .action("acme/tools@v1", "action.yml", manifest)
            .steps(&format!("      - uses: acme/tools@v1\n{NEVER}"));
        fails_in_set_up(&stage.run(), &[expected]);
    }
    let stage = Stage::new()
        .action("acme/tools@v1", "README", "no action\n")
        .steps(&format!("      - uses: acme/tools/lint@v1\n{NEVER}"));
    fails_in_set_up(
        &stage.run(),
        &["Can't find 'action.yml'", "`uses: acme/tools/lint@v1`", "no such action at this ref"],
    );
}

#[test]
fn actions_that_use_each_other_without_end_are_refused() {
    let stage = Stage::new()
        .action("acme/a@v1", "action.yml", "runs: {using: composite, steps: [{uses: acme/b@v1}]}\n")
        .action("acme/b@v1", "action.yml", "runs: {using: composite, steps: [{uses: acme/a@v1}]}\n")
        .steps(&format!("      - uses: acme/a@v1\n{NEVER}"));
    fails_in_set_up(&stage.run(), &["is nested too deeply: at most 10 actions"]);
}

#[test]
fn a_machine_without_node_or_with_an_old_one_is_told_what_to_install() {
    let stage = Stage::new()
        .script("acme/tools@v1", "main: main.js", &[("main.js", "")])
        .file("old", "#!/bin/sh\necho v18.20.4\n")
        .steps("      - uses: acme/tools@v1\n");
    let old = stage.tree().join("old");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said: Said = stage.command().arg("--node").arg(&old).output().unwrap().into();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("Node.js v18.20.4 at") && said.out.contains("--node (STARTLINE_NODE)"), "{said:?}");
    // git and a shell, but no Node.js.
    let bare = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for name in ["git", "sh", "bash"] {
        let file = std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.exists()).unwrap();
        std::os::unix::fs::symlink(file, bare.path().join(name)).unwrap();
    }
    let said: Said = stage.command().env("PATH", bare.path()).output().unwrap().into();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("there is no Node.js on this machine: install Node.js 20"), "{said:?}");
}

#[test]
fn an_action_whose_script_is_not_there_is_named() {
    if !node() {
        return;
    }
    let stage = Stage::new().script("acme/tools@v1", "main: dist/index.js", &[]).steps("      - uses: acme/tools@v1\n");
    let said = stage.run();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("dist/index.js` of `uses: acme/tools@v1` does not exist"), "{said:?}");
}
