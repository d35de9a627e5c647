//! What may run next: tables of small workflows, played through.

mod calls;
mod concurrency;
mod harness;
mod properties;

use harness::Run;
use serde_json::json;
use startline_workflow::expression::Value;
use startline_workflow::model::Access;
use startline_workflow::plan::{Conclusion, Conclusion::*, Decision, InstanceState, Selection};

/// Jobs `id: {…}` on lines of their own, each with `runs-on` and a step.
fn jobs(lines: &[(&str, &str)]) -> String {
    let job = |(id, rest): &(&str, &str)| format!("  {id}: {{runs-on: x, steps: [{{run: a}}], {rest}}}\n");
    format!("on: push\njobs:\n{}", lines.iter().map(job).collect::<String>())
}

#[test]
fn jobs_start_when_all_they_need_has_ended() {
    let mut run = Run::new(&jobs(&[("a", ""), ("b", "needs: a"), ("c", "needs: a"), ("d", "needs: [b, c]")]));
    assert_eq!(run.advance(), ["expand a 1"]);
    assert_eq!(run.advance(), [] as [&str; 0], "what is decided is not decided again");
    run.finish("a", 0, Success);
    assert_eq!(run.advance(), ["expand b 1", "expand c 1"]);
    run.finish("b", 0, Success);
    assert_eq!(run.advance(), [] as [&str; 0]);
    assert_eq!(run.pending(), ["d"]);
    assert_eq!(run.conclusion(), None);
    run.finish("c", 0, Success);
    assert_eq!(run.advance(), ["expand d 1"]);
    run.finish("d", 0, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Success)));
}

#[test]
fn where_only_ends_are_awaited_is_known_ahead() {
    let matrix = "strategy: {matrix: {n: [1, 2, 3]}}";
    let limited = "strategy: {max-parallel: 2, matrix: {n: [1, 2, 3]}}";
    for (lines, expected) in [
        (vec![("a", ""), ("b", matrix)], Some(4)),
        (vec![("a", ""), ("b", "if: github.ref == 'x'")], Some(1)),
        (vec![("a", ""), ("b", "needs: a")], None),
        (vec![("a", ""), ("b", "if: failure(), needs: a")], None),
        (vec![("a", limited)], None),
    ] {
        let mut run = Run::new(&jobs(&lines));
        run.advance();
        assert_eq!(run.awaited(), expected, "{lines:?}");
    }
    let mut run = Run::new(&jobs(&[("a", matrix), ("b", "needs: a")]));
    run.advance();
    (0..3).for_each(|index| run.finish("a", index, Success));
    assert_eq!((run.advance(), run.awaited()), (vec!["expand b 1".to_owned()], Some(1)));
    run.context.cancelled = true;
    run.advance();
    assert_eq!(run.awaited(), None, "it is cancelled, and may end otherwise");
    let mut run = Run::new(&jobs(&[("a", "strategy: {fail-fast: false, matrix: {n: [1, 2, 3]}}")]));
    run.advance();
    run.finish("a", 0, Success);
    assert_eq!(run.awaited(), Some(2));
    run.finish("a", 1, Failure);
    assert_eq!((run.advance(), run.awaited()), (vec![], None), "what failed is looked at with each end");
}

#[test]
fn a_failure_skips_all_that_follows() {
    let mut run = Run::new(&jobs(&[("c", "needs: b"), ("b", "needs: a"), ("a", "")]));
    run.advance();
    run.finish("a", 0, Failure);
    assert_eq!(
        run.advance(),
        ["skip b: a job that it needs did not succeed", "skip c: a job that it needs did not succeed"]
    );
    assert_eq!(run.conclusion(), Some(Failure));
}

#[test]
fn status_functions_look_at_the_whole_graph_before_a_job() {
    // a fails; b runs all the same and succeeds; c needs b alone.
    let cases: &[(&str, bool)] = &[
        ("success()", false),
        ("failure()", true),
        ("always()", true),
        ("!cancelled()", true),
        ("cancelled()", false),
        ("needs.b.result == 'success'", false),
        ("always() && needs.b.result == 'success'", true),
        ("success('b')", true),
        ("success('a')", false),
        ("failure('b')", false),
        ("failure('A')", true),
        ("${{ success() || failure() }}", true),
    ];
    for (condition, runs) in cases {
        let source =
            jobs(&[("a", ""), ("b", "needs: a, if: always()"), ("c", &format!("needs: b, if: \"{condition}\""))]);
        let mut run = Run::new(&source);
        run.advance();
        run.finish("a", 0, Failure);
        run.advance();
        run.finish("b", 0, Success);
        let decisions = run.advance();
        assert_eq!(decisions == ["expand c 1"], *runs, "{condition}: {decisions:?}");
    }
}

#[test]
fn a_skipped_job_skips_what_follows_unless_that_says_otherwise() {
    let source = jobs(&[
        ("a", "if: false"),
        ("b", "needs: a"),
        ("c", "needs: a, if: always()"),
        ("d", "needs: c"),
        ("e", "needs: a, if: needs.a.result == 'skipped' && !failure()"),
    ]);
    let mut run = Run::new(&source);
    let decisions = run.advance();
    assert_eq!(decisions[0], "skip a: its condition is false: false");
    assert_eq!(decisions[1..], ["skip b: a job that it needs did not succeed", "expand c 1", "expand e 1"]);
    run.finish("c", 0, Success);
    assert_eq!(run.advance(), ["skip d: a job that it needs did not succeed"]);
    run.finish("e", 0, Success);
    assert_eq!(run.conclusion(), Some(Success));
}

#[test]
fn a_run_whose_jobs_are_all_skipped_is_skipped() {
    let mut run = Run::new(&jobs(&[("a", "if: false"), ("b", "needs: a")]));
    assert_eq!(run.advance().len(), 2);
    assert_eq!(run.conclusion(), Some(Skipped));
}

#[test]
fn outputs_and_results_reach_the_jobs_that_need_them() {
    let source = jobs(&[
        ("a", "outputs: {tag: x, unset: y}"),
        ("b", "needs: a, if: needs.a.outputs.tag == 'v1', name: 'to ${{ needs.a.outputs.tag }}'"),
        ("c", "needs: b, name: '${{ needs.a.outputs.tag }}'"),
    ]);
    let mut run = Run::new(&source);
    run.advance();
    run.finish_with("a", 0, Success, &[("tag", "v1")]);
    let job = run.expanded("b").remove(0);
    assert_eq!(job.needs.to_json(), json!({"a": {"result": "success", "outputs": {"tag": "v1", "unset": ""}}}));
    assert_eq!(job.name, "to v1");
    run.finish("b", 0, Success);
    let job = run.expanded("c").remove(0);
    assert_eq!(job.needs.to_json(), json!({"b": {"result": "success", "outputs": {}}}), "direct needs only");
    assert_eq!(job.name, "c", "an empty name gives way to the id");
}

const MATRIX: &str = "strategy: {matrix: {n: [1, 2, 3]}}";

#[test]
fn results_and_outputs_of_a_matrix_are_merged() {
    let cases: &[([Conclusion; 3], &str)] = &[
        ([Success, Success, Success], "success"),
        ([Success, Cancelled, Success], "cancelled"),
        ([Cancelled, Failure, Success], "failure"),
    ];
    for (conclusions, expected) in cases {
        let mut run = Run::new(&jobs(&[("a", MATRIX), ("b", "needs: a, if: always()")]));
        run.advance();
        // Finished in the order 3, 1, 2: the last one to set an output wins, an empty one does not count.
        run.finish_with("a", 2, conclusions[2], &[("o", "three"), ("p", "three")]);
        run.finish_with("a", 0, conclusions[0], &[("o", "one")]);
        run.finish_with("a", 1, conclusions[1], &[("o", "")]);
        let needs = run.expanded("b").remove(0).needs.to_json();
        assert_eq!(needs, json!({"a": {"result": expected, "outputs": {"o": "one", "p": "three"}}}));
    }
}

#[test]
fn a_failure_that_may_be_ignored_counts_as_success() {
    let source = jobs(&[("a", "continue-on-error: true"), ("b", "needs: a, name: '${{ needs.a.result }}'")]);
    let mut run = Run::new(&source);
    run.advance();
    run.finish("a", 0, Failure);
    assert_eq!(run.expanded("b").remove(0).name, "success");
    run.finish("b", 0, Success);
    assert_eq!(run.conclusion(), Some(Success));
}

#[test]
fn the_first_failure_cancels_the_rest_of_its_matrix() {
    let mut run = Run::new(&jobs(&[("a", MATRIX), ("b", "needs: a")]));
    assert_eq!(run.advance(), ["expand a 3"]);
    run.finish("a", 1, Failure);
    let reason = "job 2 of the matrix failed, and `fail-fast` is on";
    assert_eq!(run.advance(), [format!("cancel a 0: {reason}"), format!("cancel a 2: {reason}")]);
    assert_eq!(run.advance(), [] as [&str; 0], "a job that is stopping is not told again");
    run.finish("a", 0, Cancelled);
    run.finish("a", 2, Success);
    assert_eq!(run.advance(), ["skip b: a job that it needs did not succeed"]);
    assert_eq!(run.conclusion(), Some(Failure));
}

#[test]
fn without_fail_fast_or_with_continue_on_error_the_others_go_on() {
    for rest in [
        "strategy: {fail-fast: false, matrix: {n: [1, 2]}}",
        "continue-on-error: true, strategy: {matrix: {n: [1, 2]}}",
    ] {
        let mut run = Run::new(&jobs(&[("a", rest)]));
        run.advance();
        run.finish("a", 0, Failure);
        assert_eq!(run.advance(), [] as [&str; 0], "{rest}");
    }
}

#[test]
fn max_parallel_holds_jobs_back_and_lets_them_go_one_by_one() {
    let mut run = Run::new(&jobs(&[("a", "strategy: {max-parallel: 2, fail-fast: false, matrix: {n: [1, 2, 3, 4]}}")]));
    let held: Vec<bool> = run.expanded("a").iter().map(|job| job.held).collect();
    assert_eq!(held, [false, false, true, true]);
    assert_eq!(run.advance(), [] as [&str; 0]);
    run.finish("a", 1, Failure);
    assert_eq!(run.advance(), ["release a 2"]);
    run.finish("a", 0, Success);
    run.finish("a", 2, Success);
    assert_eq!(run.advance(), ["release a 3"]);
    run.finish("a", 3, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Failure)));
}

#[test]
fn fail_fast_ends_jobs_that_are_held_back_at_once() {
    let mut run =
        Run::new(&jobs(&[("a", "strategy: {max-parallel: 1, matrix: {n: [1, 2]}}"), ("b", "needs: a, if: failure()")]));
    run.advance();
    run.finish("a", 0, Failure);
    let decisions = run.advance();
    assert_eq!(decisions.len(), 2, "{decisions:?}");
    assert!(decisions[0].starts_with("cancel a 1"));
    assert_eq!(decisions[1], "expand b 1");
}

#[test]
fn a_cancelled_run_stops_all_but_what_asks_to_go_on() {
    let source = jobs(&[
        ("a", ""),
        ("b", "if: always()"),
        ("c", "needs: a"),
        ("d", "needs: a, if: cancelled()"),
        ("e", "needs: a, if: failure()"),
        ("f", "needs: [d, c], if: always()"),
        ("g", "strategy: {max-parallel: 1, matrix: {n: [1, 2]}}"),
    ]);
    let mut run = Run::new(&source);
    assert_eq!(run.advance(), ["expand a 1", "expand b 1", "expand g 2"]);
    run.context.cancelled = true;
    let reason = "the run was cancelled";
    assert_eq!(
        run.advance(),
        [format!("cancel a 0: {reason}"), format!("cancel g 0: {reason}"), format!("cancel g 1: {reason}")]
    );
    assert_eq!(run.advance(), [] as [&str; 0]);
    run.finish("a", 0, Cancelled);
    run.finish("g", 0, Cancelled);
    assert_eq!(run.advance(), [format!("skip c: {reason}"), "expand d 1".to_owned(), format!("skip e: {reason}")]);
    run.finish("d", 0, Success);
    assert_eq!(run.advance(), ["expand f 1"]);
    run.finish("f", 0, Success);
    assert_eq!(run.conclusion(), None);
    run.finish("b", 0, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Cancelled)));
}

#[test]
fn a_job_instance_holds_what_its_message_needs() {
    let source = "
on: push
env: {W: 1}
defaults: {run: {shell: bash, working-directory: w}}
jobs:
  a:
    strategy: {fail-fast: false, max-parallel: 5, matrix: {os: [linux], v: [{x: 1}], include: [{os: linux, extra: true}]}}
    runs-on: {group: big, labels: ['${{ matrix.os }}', Linux, big]}
    timeout-minutes: ${{ matrix.v.x }}
    continue-on-error: ${{ matrix.extra }}
    env: {J: 2}
    defaults: {run: {working-directory: j}}
    steps: [{run: a}]
";
    let mut run = Run::new(source);
    let job = run.expanded("a").remove(0);
    assert_eq!((job.key.as_str(), job.index, job.total, job.name.as_str()), ("a", 0, 1, "a (linux, 1)"));
    assert_eq!(job.runs_on.group.as_deref(), Some("big"));
    assert_eq!(job.runs_on.labels, ["linux", "big"]);
    assert_eq!((job.timeout_minutes, job.continue_on_error), (1, true));
    assert_eq!(job.matrix.to_json(), json!({"os": "linux", "v": {"x": 1}, "extra": true}));
    assert_eq!(job.strategy.to_json(), json!({"fail-fast": false, "job-index": 0, "job-total": 1, "max-parallel": 5}));
    assert_eq!(job.env.len(), 2);
    let run_defaults = job.defaults.as_ref().and_then(|defaults| defaults.get("run")).unwrap();
    assert_eq!(run_defaults.get("shell").and_then(|shell| shell.as_str()), Some("bash"));
    assert_eq!(run_defaults.get("working-directory").and_then(|directory| directory.as_str()), Some("j"));
}

#[test]
fn the_permissions_of_a_job_replace_those_of_its_workflow() {
    let source = "on: push\npermissions: {contents: read, id-token: write}\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n  \
                  b: {runs-on: x, permissions: {contents: write}, steps: [{run: b}]}\n";
    let of = |source: &str, job: &str| Run::new(source).expanded(job)[0].permissions.clone();
    let scopes = |job: &str| {
        let granted = of(source, job).expect("the workflow has some");
        (granted.of("contents"), granted.of("id-token"))
    };
    assert_eq!(scopes("a"), (Access::Read, Access::Write));
    assert_eq!(scopes("b"), (Access::Write, Access::None), "what it does not list is none");
    assert_eq!(of("on: push\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n", "a"), None);
}

#[test]
fn a_job_without_a_matrix_has_the_official_contexts() {
    let mut run = Run::new(&jobs(&[("a", "name: Build")]));
    let job = run.expanded("a").remove(0);
    assert_eq!(job.matrix, Value::Null);
    assert_eq!(job.strategy.to_json(), json!({"fail-fast": true, "job-index": 0, "job-total": 1, "max-parallel": 1}));
    assert_eq!((job.timeout_minutes, job.name.as_str(), job.defaults), (360, "Build", None));
}

#[test]
fn names_follow_the_official_rule() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["a (1)", "a (2)"]),
        ("name: Job, ", &["Job (1)", "Job (2)"]),
        ("name: 'n${{ matrix.n }}', ", &["n1", "n2"]),
        ("name: '${{ matrix.none }}', ", &["a (1)", "a (2)"]),
    ];
    for (name, expected) in cases {
        let mut run = Run::new(&jobs(&[("a", &format!("{name}strategy: {{matrix: {{n: [1, 2]}}}}"))]));
        let names: Vec<String> = run.expanded("a").into_iter().map(|job| job.name).collect();
        assert_eq!(names, *expected, "{name}");
    }
}

#[test]
fn what_cannot_start_fails_with_a_message_that_names_the_expression() {
    let cases: &[(&str, &str)] = &[
        (
            "runs-on: '${{ vars.NONE }}'",
            "the job `a` cannot start: a label of `runs-on` is empty (it is `${{ vars.NONE }}`)",
        ),
        ("runs-on: \"${{ fromJSON('[1]') }}\"", "a label of `runs-on` must be text, not a number"),
        ("runs-on: \"${{ fromJSON('[]') }}\"", "`runs-on` names no label"),
        ("runs-on: \"${{ fromJSON('{\\\"label\\\": 1}') }}\"", "unknown key `label` in `runs-on`"),
        (
            "runs-on: x, timeout-minutes: '${{ github.none }}'",
            "`timeout-minutes` must be a number, not nothing (it is `${{ github.none }}`)",
        ),
        ("runs-on: x, timeout-minutes: \"${{ fromJSON('0') }}\"", "`timeout-minutes` must be more than 0"),
        ("runs-on: x, continue-on-error: '${{ github.ref }}'", "`continue-on-error` must be a boolean, not a string"),
        ("runs-on: x, if: \"fromJSON('{')\"", "`if` of the job `a` has no value: fromJSON: "),
        (
            "runs-on: x, strategy: {matrix: \"${{ fromJSON('[1]') }}\"}",
            "`strategy` of the job `a`: `matrix` must be a mapping, not an array",
        ),
        ("runs-on: x, strategy: {matrix: {n: '${{ vars.NONE }}'}}", "the matrix key `n` must be a list, not nothing"),
        ("runs-on: x, name: \"${{ fromJSON('') }}\"", "`name`: `fromJSON('')`: "),
    ];
    for (rest, expected) in cases {
        let source = format!(
            "on: push\njobs:\n  a: {{steps: [{{run: a}}], {rest}}}\n  b: {{runs-on: x, needs: a, steps: [{{run: a}}]}}\n"
        );
        let mut run = Run::new(&source);
        let decisions = run.advance();
        assert!(decisions[0].starts_with("fail a: ") && decisions[0].contains(expected), "{rest}\n{decisions:?}");
        assert_eq!(decisions[1..], ["skip b: a job that it needs did not succeed"]);
        assert_eq!(run.conclusion(), Some(Failure));
    }
}

#[test]
fn a_matrix_may_come_from_an_output() {
    let source =
        jobs(&[("a", "outputs: {m: x}"), ("b", "needs: a, strategy: {matrix: '${{ fromJSON(needs.a.outputs.m) }}'}")]);
    let mut run = Run::new(&source);
    run.advance();
    run.finish_with("a", 0, Success, &[("m", r#"{"os": ["x", "y"], "exclude": [{"os": "x"}]}"#)]);
    let names: Vec<String> = run.expanded("b").into_iter().map(|job| job.name).collect();
    assert_eq!(names, ["b (y)"]);
}

#[test]
fn a_selection_runs_a_job_and_what_it_needs() {
    let source = jobs(&[("a", ""), ("b", "needs: a"), ("c", "needs: b"), ("d", "")]);
    let mut run = Run::new(&source);
    run.context.selection = Selection { job: Some("B".to_owned()), ..Selection::default() };
    assert_eq!(run.advance(), ["expand a 1"]);
    run.finish("a", 0, Success);
    assert_eq!(run.advance(), ["expand b 1"]);
    run.finish("b", 0, Success);
    assert_eq!((run.advance(), run.pending(), run.conclusion()), (vec![], vec![], Some(Success)));

    let unknown = Selection { job: Some("x".to_owned()), ..Selection::default() };
    assert_eq!(
        unknown.check(&run.workflow).unwrap_err().to_string(),
        "no job `x` in the workflow; jobs are `a`, `b`, `c`, `d`"
    );
    let mut run = Run::new(&source);
    run.context.selection = unknown;
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Failure)));
}

#[test]
fn a_selection_of_matrix_values_keeps_index_and_total() {
    let source = jobs(&[
        ("a", "strategy: {max-parallel: 1, matrix: {os: [linux, mac], n: [1, 2]}}"),
        ("b", ""),
        ("c", "strategy: {matrix: {os: [bsd]}}"),
    ]);
    let mut run = Run::new(&source);
    let matrix = [("os", vec!["Linux", "win"]), ("n", vec!["2"])];
    run.context.selection.matrix = matrix
        .into_iter()
        .map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect()))
        .collect();
    let decisions = run.decide();
    let Decision::Expand { jobs, .. } = &decisions[0] else { panic!("{decisions:?}") };
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].name.as_str(), jobs[0].index, jobs[0].total, jobs[0].held), ("a (linux, 2)", 1, 4, false));
    assert!(matches!(&decisions[1], Decision::Expand { key, .. } if key == "b"), "no matrix, no restriction");
    assert!(matches!(&decisions[2], Decision::Skip { key, reason, .. } if key == "c" && reason.contains("selected")));
}

#[test]
fn a_caller_that_knows_no_cancelling_state_is_told_again() {
    let mut run = Run::new(&jobs(&[("a", "")]));
    run.advance();
    run.context.cancelled = true;
    assert_eq!(run.decide(), run.decide());
    run.instances[0].state = InstanceState::Active;
    assert_eq!(run.decide().len(), 1);
}
