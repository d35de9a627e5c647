//! Workflows that call others, played through.

use std::collections::BTreeMap;

use serde_json::json;
use startline_workflow::expression::Value;
use startline_workflow::model::Access;
use startline_workflow::plan::{Conclusion::*, Decision, InstanceState, secrets};

use super::harness::Run;

const BUILD: &str = "\
name: Build
on:
  workflow_call:
    inputs:
      target: {type: string, required: true}
      level: {type: number, default: 2}
      debug: {type: boolean}
    secrets:
      token: {required: true}
    outputs:
      digest: {value: 'sha-${{ jobs.compile.outputs.digest }}'}
      result: {value: '${{ jobs.check.result }}'}
env: {INNER: a}
permissions: {contents: read}
jobs:
  compile:
    runs-on: '${{ inputs.target }}'
    outputs: {digest: x}
    steps: [{run: make}]
  check:
    needs: compile
    runs-on: x
    steps: [{run: a}]
";

fn with_build(caller: &str) -> Run {
    let source = format!("on: push\nenv: {{OUTER: b}}\njobs:\n{caller}");
    Run::calling(&source, &[("build.yml", BUILD)])
}

const CALL: &str = "uses: ./build.yml, with: {target: linux}, secrets: {token: '${{ secrets.DEPLOY }}'}";

#[test]
fn a_called_workflow_is_a_run_within_the_run() {
    let mut run = with_build(&format!(
        "  first: {{runs-on: x, steps: [{{run: a}}]}}\n  build: {{needs: first, {CALL}, permissions: {{contents: write}}}}\n  \
         last: {{needs: build, runs-on: x, steps: [{{run: a}}]}}\n"
    ));
    assert_eq!(run.advance(), ["expand first 1"]);
    run.finish("first", 0, Success);
    let compile = run.expanded("build.compile").remove(0);
    assert_eq!((compile.name.as_str(), compile.id.as_str()), ("build / compile", "compile"));
    assert_eq!(compile.runs_on.labels, ["linux"]);
    assert_eq!(compile.inputs.to_json(), json!({"target": "linux", "level": 2, "debug": false}));
    assert_eq!(compile.file.unwrap().to_string(), "build.yml");
    assert_eq!(compile.env.len(), 1, "the caller's `env` is its own");
    assert_eq!(compile.permissions.unwrap().of("contents"), Access::Read);
    assert_eq!(run.pending(), ["build.check", "last"]);
    run.finish_with("build.compile", 0, Success, &[("digest", "1234")]);
    assert_eq!(run.advance(), ["expand build.check 1"]);
    run.finish("build.check", 0, Success);
    let last = run.expanded("last").remove(0);
    assert_eq!(
        last.needs.to_json(),
        json!({"build": {"result": "success", "outputs": {"digest": "sha-1234", "result": "success"}}})
    );
    run.finish("last", 0, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Success)));
}

#[test]
fn a_failure_within_is_the_callers() {
    let mut run = with_build(&format!(
        "  build: {{{CALL}}}\n  last: {{needs: build, runs-on: x, steps: [{{run: a}}]}}\n  \
         mend: {{needs: build, if: failure(), runs-on: x, steps: [{{run: a}}]}}\n"
    ));
    run.advance();
    run.finish("build.compile", 0, Failure);
    assert_eq!(
        run.advance(),
        [
            "skip build.check: a job that it needs did not succeed",
            "skip last: a job that it needs did not succeed",
            "expand mend 1"
        ]
    );
    run.finish("mend", 0, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Failure)));
}

#[test]
fn a_call_whose_condition_is_false_is_skipped_whole() {
    let mut run = with_build(&format!("  build: {{if: false, {CALL}}}\n"));
    assert_eq!(run.advance(), ["skip build: its condition is false: false"]);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Skipped)));
}

#[test]
fn a_matrix_multiplies_what_is_called() {
    let mut run = with_build(
        "  build:\n    strategy: {max-parallel: 1, fail-fast: false, matrix: {os: [linux, mac]}}\n    \
         uses: ./build.yml\n    with: {target: '${{ matrix.os }}'}\n    secrets: inherit\n",
    );
    let compile = run.expanded("build[0].compile").remove(0);
    assert_eq!(compile.name, "build (linux) / compile");
    assert_eq!(run.pending(), ["build[0].check", "build[1]"]);
    run.finish("build[0].compile", 0, Failure);
    assert_eq!(
        run.advance(),
        ["skip build[0].check: a job that it needs did not succeed", "expand build[1].compile 1"],
        "the second begins when the first has ended"
    );
    run.finish("build[1].compile", 0, Success);
    run.advance();
    run.finish("build[1].check", 0, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Failure)));
}

#[test]
fn the_first_failure_stops_the_other_calls() {
    let mut run = with_build(
        "  build:\n    strategy: {max-parallel: 2, matrix: {os: [a, b, c]}}\n    uses: ./build.yml\n    \
         with: {target: '${{ matrix.os }}'}\n    secrets: inherit\n",
    );
    assert_eq!(run.advance(), ["expand build[0].compile 1", "expand build[1].compile 1"]);
    run.finish("build[1].compile", 0, Failure);
    let reason = "job 2 of the matrix failed, and `fail-fast` is on";
    assert_eq!(
        run.advance(),
        [
            "skip build[1].check: a job that it needs did not succeed".to_owned(),
            format!("cancel build[0].compile 0: {reason}"),
            format!("drop build 2: {reason}"),
        ]
    );
    run.finish("build[0].compile", 0, Cancelled);
    assert_eq!(run.advance(), ["skip build[0].check: the run was cancelled"]);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Failure)));
}

#[test]
fn cancelling_the_run_reaches_what_is_called() {
    let mut run = with_build(&format!("  build: {{{CALL}}}\n  other: {{needs: build, {CALL}}}\n"));
    run.advance();
    run.context.cancelled = true;
    assert_eq!(run.advance(), ["cancel build.compile 0: the run was cancelled"],);
    assert_eq!(run.instances[0].state, InstanceState::Cancelling);
    run.finish("build.compile", 0, Cancelled);
    assert_eq!(run.advance(), ["skip build.check: the run was cancelled", "skip other: the run was cancelled"]);
    assert_eq!(run.conclusion(), Some(Cancelled));
}

#[test]
fn an_input_of_the_wrong_type_fails_the_call() {
    let mut run =
        with_build("  build: {uses: ./build.yml, with: {target: x, level: '${{ github.ref }}'}, secrets: inherit}\n");
    assert_eq!(
        run.advance(),
        ["fail build: the job `build` cannot start: the input `level` of `build.yml`: it must be a number, not text; \
          `fromJSON` makes one of text"]
    );
    assert_eq!(run.conclusion(), Some(Failure));
}

#[test]
fn calls_nest_and_hand_secrets_on() {
    let middle = "\
on: {workflow_call: {secrets: {key: {}}}}
jobs:
  again:
    strategy: {matrix: {n: [1, 2]}}
    uses: ./build.yml
    with: {target: '${{ matrix.n }}'}
    secrets: {token: '${{ secrets.key }}-${{ matrix.n }}'}
";
    let source = "on: push\njobs: {top: {uses: ./middle.yml, secrets: {key: '${{ secrets.DEPLOY }}'}}}";
    let mut run = Run::calling(source, &[("middle.yml", middle), ("build.yml", BUILD)]);
    assert_eq!(run.advance(), ["expand top.again[0].compile 1", "expand top.again[1].compile 1"]);
    let all = BTreeMap::from([("DEPLOY".to_owned(), "s3cret".to_owned()), ("OTHER".to_owned(), "x".to_owned())]);
    let seen = |key: &str| secrets(&run.workflow, &run.context, &run.instances, key, all.clone()).unwrap();
    assert_eq!(seen("top.again[1].compile"), BTreeMap::from([("token".to_owned(), "s3cret-2".to_owned())]));
    assert_eq!(seen("plain"), all);
    let Decision::Expand { .. } = ({
        for n in 0..2 {
            run.finish(&format!("top.again[{n}].compile"), 0, Success);
        }
        run.decide().remove(0)
    }) else {
        panic!("the checks begin");
    };
}

#[test]
fn inherited_secrets_are_all_secrets_and_others_none() {
    let inner = "on: workflow_call\njobs: {a: {runs-on: x, steps: [{run: a}]}}";
    let source = "on: push\njobs:\n  all: {uses: ./inner.yml, secrets: inherit}\n  none: {uses: ./inner.yml}\n";
    let mut run = Run::calling(source, &[("inner.yml", inner)]);
    run.advance();
    let all = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let seen = |key: &str| secrets(&run.workflow, &run.context, &run.instances, key, all.clone()).unwrap();
    assert_eq!(seen("all.a"), all);
    assert_eq!(seen("none.a"), BTreeMap::new());
}

#[test]
fn a_run_has_a_largest_number_of_jobs() {
    let inner = "on: workflow_call\njobs: {a: {strategy: {matrix: {n: \"${{ fromJSON(vars.many) }}\"}}, runs-on: x, steps: [{run: a}]}}";
    let source = "on: push\njobs: {a: {strategy: {fail-fast: false, matrix: {n: \"${{ fromJSON(vars.many) }}\"}}, uses: ./inner.yml}}";
    let mut run = Run::calling(source, &[("inner.yml", inner)]);
    let many: Vec<u32> = (0..120).collect();
    run.context.vars = Value::from_json(&json!({"many": serde_json::to_string(&many).unwrap()}));
    run.advance();
    let ended = run.instances.iter().filter(|job| job.state == InstanceState::Done(Failure)).count();
    assert!(run.instances.len() <= 10_120, "{}", run.instances.len());
    assert!(ended > 0);
}
