//! `startline run --list`, `--graph` and `--dry-run`.

use serde_json::Value;

use crate::harness::{Said, run, workflow};

const FILE: &str = "\
on: {push: {branches: [main]}, workflow_dispatch: {}}
jobs:
  build:
    strategy: {max-parallel: 1, matrix: {os: [linux, mac]}}
    runs-on: ${{ matrix.os }}
    steps:
      - uses: ./setup
      - {name: Compile, run: touch ran}
      - {run: 'echo cleaning', if: always()}
  lint: {runs-on: [self-hosted, x64], steps: [{run: 'true'}]}
  dynamic:
    needs: [build, lint]
    strategy: {matrix: {n: '${{ fromJSON(needs.build.outputs.list) }}'}}
    runs-on: x
    steps: [{run: 'true'}]
  deploy: {needs: dynamic, if: github.event_name == 'push', runs-on: x, steps: [{run: 'true'}]}
";

fn look(flags: &[&str]) -> Said {
    let (directory, path) = workflow(FILE);
    let said = run(&[&["run", path.to_str().unwrap()], flags].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!directory.path().join("ran").exists(), "nothing runs");
    said
}

#[test]
fn a_list_has_every_job_with_what_it_needs_and_where_it_runs() {
    let said = look(&["--list"]);
    let lines: Vec<Vec<&str>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["JOB", "NAME", "NEEDS", "RUNS", "ON", "MATRIX", "STEPS"]);
    assert_eq!(lines[1], ["build", "${{", "matrix.os", "}}", "os:", "[linux,", "mac]", "3"]);
    assert_eq!(lines[3][..3], ["dynamic", "build,", "lint"]);
    let jobs: Value = serde_json::from_str(&look(&["--list", "--json"]).out).unwrap();
    assert_eq!(jobs["jobs"][0]["steps"][0], "Run ./setup");
    assert_eq!(jobs["jobs"][3]["if"], "success() && (github.event_name == 'push')");
}

#[test]
fn a_graph_shows_stages_and_what_waits_for_what() {
    let said = look(&["--graph"]);
    assert_eq!(said.out, "  1  build\n     lint\n  2  dynamic ← build, lint\n  3  deploy  ← dynamic\n");
    assert_eq!(look(&["--graph", "--json"]).out.trim(), r#"{"stages":[["build","lint"],["dynamic"],["deploy"]]}"#);
}

#[test]
fn a_dry_run_says_what_would_run_what_would_not_and_why() {
    let said = look(&["--dry-run", "--event", "workflow_dispatch"]);
    for wanted in [
        "run   build (linux)  on linux",
        "run   build (mac)  on mac  after others (max-parallel)",
        "        Compile",
        "        Run echo cleaning  if always()",
        "run   lint  on self-hosted, x64",
        "?     dynamic",
        "outputs of other jobs are not known before they have run",
        "skip  deploy  its condition is false: github.event_name == 'push'",
    ] {
        assert!(said.out.contains(wanted), "no `{wanted}` in {}", said.out);
    }
    let jobs: Value = serde_json::from_str(&look(&["--dry-run", "--event", "push", "--json"]).out).unwrap();
    let verdicts: Vec<&str> =
        jobs["jobs"].as_array().unwrap().iter().map(|job| job["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["run", "run", "run", "unknown", "run"]);
}

#[test]
fn what_only_looks_takes_one_way_to_look_and_says_what_is_wrong() {
    let (_directory, path) = workflow(FILE);
    let path = path.to_str().unwrap();
    assert_eq!(run(&["run", path, "--list", "--graph"]).code, Some(2));
    let said = run(&["run", path, "--dry-run", "--event", "issues"]);
    assert!(said.code == Some(2) && said.err.contains("not triggered by `issues`"), "{said:?}");
    let said = run(&["run", path, "--dry-run", "--job", "none"]);
    assert!(said.code == Some(2) && said.err.contains("no job `none`"), "{said:?}");
}
