//! Actions of the workspace.

use serde_json::json;
use startline_protocol::state::Conclusion::{Cancelled, Failure, Skipped, Success};

use crate::harness::{Job, env, named, run, token, uses, with};

const GREET: &str = r#"
name: Greet
inputs:
  who: { description: name, default: "${{ github.repository }}" }
  loud: { default: "no", deprecationMessage: "shout less" }
outputs:
  text: { value: "${{ steps.make.outputs.text }}" }
  status: { value: "${{ steps.maybe.conclusion }}" }
runs:
  using: composite
  steps:
    - id: make
      shell: bash
      run: echo "text=Hello ${{ inputs.who }}" >> "$GITHUB_OUTPUT"; echo "from $OUTER $INNER"; echo "ADDED=yes" >> "$GITHUB_ENV"
      env: { INNER: inner }
    - id: maybe
      if: inputs.loud == 'yes'
      shell: sh
      run: echo LOUD
    - shell: bash
      run: test -f "$GITHUB_ACTION_PATH/action.yml" && test "$GITHUB_ACTION_PATH" = "${{ github.action_path }}" && echo "at home, $ADDED"
"#;

#[tokio::test]
async fn an_action_has_inputs_outputs_and_a_scope_of_its_own() {
    let steps = vec![
        with(uses("greet", "./actions/greet", &[]), &[("environment", env(&[("OUTER", "outer")]))]),
        uses("shout", "./actions/greet", &[("WHO", token("you")), ("loud", token("yes")), ("odd", token("1"))]),
        run(
            "${{ format('echo \"{0} / {1} / {2} / {3} / [{4}]\"', steps.greet.outputs.text, steps.shout.outputs.text, steps.shout.outputs.status, env.ADDED, steps.make.outputs.text) }}",
        ),
    ];
    let job = Job::new(steps).file("actions/greet/action.yml", GREET);
    let outcome = job.finish().await.green();
    assert_eq!(outcome.conclusions(), [Success; 3]);
    assert_eq!(outcome.step(1).name, "Run ./actions/greet");
    assert!(outcome.has("from outer inner") && outcome.has("at home, yes"));
    assert_eq!(outcome.step_lines(3), ["Hello acme/demo / Hello you / success / yes / []"]);
    assert!(outcome.has("##[warning]Unexpected input(s) 'odd', valid inputs are ['who', 'loud']"));
    assert!(outcome.has("Input 'loud' has been deprecated with message: shout less"));
    let lines = outcome.lines();
    let start = lines.iter().rposition(|line| *line == "##[group]Run ./actions/greet").unwrap();
    assert_eq!(lines[start + 1..start + 5], ["with:", "  WHO: you", "  loud: yes", "  odd: 1"]);
    assert!(lines.contains(&"LOUD"));
}

#[tokio::test]
async fn a_failing_step_inside_fails_the_action_and_later_ones_see_it() {
    let action = r#"
name: Fail
outputs: { seen: { value: "${{ steps.after.outputs.seen }}" } }
runs:
  using: composite
  steps:
    - { shell: bash, run: exit 3, continue-on-error: true }
    - { shell: bash, run: echo goes on }
    - { shell: bash, run: exit 4 }
    - { shell: bash, run: echo never }
    - { id: after, if: failure(), shell: bash, run: "echo seen=yes >> $GITHUB_OUTPUT" }
    - { if: always(), shell: bash, run: echo at last }
"#;
    let steps = vec![
        with(uses("bad", "./bad", &[]), &[("continueOnError", json!(true))]),
        run("${{ format('echo \"{0} {1}\"', steps.bad.outcome, steps.bad.outputs.seen) }}"),
        uses("worse", "./bad", &[]),
    ];
    let outcome = Job::new(steps).file("bad/action.yaml", action).finish().await;
    assert_eq!(outcome.conclusions(), [Success, Success, Failure]);
    assert_eq!(outcome.step_lines(2), ["failure yes"]);
    assert!(outcome.has("goes on") && outcome.has("at last") && !outcome.lines().contains(&"never"));
}

#[tokio::test]
async fn actions_use_actions_to_a_bounded_depth() {
    let nested = |to: &str| format!("name: N\nruns:\n  using: composite\n  steps:\n    - uses: {to}\n");
    let leaf = "name: L\nruns:\n  using: composite\n  steps:\n    - { shell: bash, run: echo leaf }\n";
    let steps = vec![uses("ok", "./a", &[]), uses("endless", "./loop", &[])];
    let outcome = Job::new(steps)
        .file("a/action.yml", &nested("./b"))
        .file("b/action.yml", leaf)
        .file("loop/action.yml", &nested("./loop"))
        .finish()
        .await;
    assert_eq!(outcome.conclusions(), [Success, Failure]);
    assert!(outcome.has("leaf"));
    assert!(outcome.has("`uses: ./loop` is nested too deeply: at most 10 actions may use each other"));
}

#[tokio::test]
async fn what_is_wrong_with_an_action_is_named() {
    let always = |step| with(step, &[("condition", json!("always()"))]);
    let steps = vec![
        uses("a", "./absent", &[]),
        always(uses("b", "./shellless", &[])),
        always(uses("c", "./../outside", &[])),
        always(uses("d", "./image", &[])),
    ];
    let outcome = Job::new(steps)
        .file("shellless/action.yml", "name: S\nruns:\n  using: composite\n  steps:\n    - run: echo x\n")
        .file("image/action.yml", "name: S\nruns:\n  using: docker\n  image: debian:12\n")
        .finish()
        .await;
    assert_eq!(outcome.conclusions(), [Failure; 4]);
    for (number, expected) in [
        (1, "Can't find 'action.yml' or 'action.yaml' under"),
        (2, "`shellless/action.yml` has a mistake"),
        (3, "leaves the workspace"),
        (4, "'debian:12' should be either '[path]/Dockerfile' or 'docker://image[:tag]'"),
    ] {
        let errors: Vec<&str> =
            outcome.step_lines(number).into_iter().filter(|line| line.starts_with("##[error]")).collect();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{number}: {errors:?}");
    }
}

#[tokio::test]
async fn an_action_does_not_see_secrets_unless_they_are_given() {
    let action = "name: S\ninputs: { key: {} }\nruns:\n  using: composite\n  steps:\n    - { shell: bash, run: 'test \"${{ inputs.key }}\" = sesame-open && echo given' }\n";
    let steps = vec![uses("a", "./a", &[("key", token("${{ secrets.KEY }}"))])];
    let outcome = Job::new(steps).secret("KEY", "sesame-open").file("a/action.yml", action).finish().await.green();
    assert!(outcome.has("given") && outcome.has("  key: ***") && !outcome.has("sesame"));
}

#[tokio::test]
async fn a_timeout_and_a_cancel_reach_into_actions() {
    let action = "name: S\nruns:\n  using: composite\n  steps:\n    - { shell: bash, run: 'echo ready; sleep 60' }\n    - { shell: bash, if: always(), run: echo inner end }\n";
    let steps = vec![
        with(uses("slow", "./slow", &[]), &[("timeoutInMinutes", json!(0.01)), ("continueOnError", json!(true))]),
        uses("again", "./slow", &[]),
        named("last", "echo never"),
    ];
    let mut job = Job::new(steps).file("slow/action.yml", action).start();
    job.until("the second one runs", |told| told.text().matches("Z ready\n").count() == 2).await;
    job.cancel("enough");
    let outcome = job.finish().await;
    assert_eq!(outcome.conclusions(), [Success, Cancelled, Skipped]);
    assert_eq!(outcome.step(1).outcome, Some(Failure));
    assert!(outcome.has("The action 'Run ./slow' has timed out after 0.01 minutes."));
    assert_eq!(outcome.lines().iter().filter(|line| **line == "inner end").count(), 1, "only after the cancel");
}

#[tokio::test]
async fn an_action_of_others_needs_a_service_that_has_it() {
    let remote = json!({ "type": "repository", "repositoryType": "GitHub", "name": "acme/tools", "ref": "v4" });
    let steps =
        vec![with(run("x"), &[("reference", remote)]), with(run("echo x"), &[("condition", json!("always()"))])];
    let outcome = Job::new(steps).finish().await;
    assert_eq!((outcome.conclusion(), outcome.conclusions()), (Failure, vec![Skipped; 2]));
    assert!(outcome.has("##[error]the job's message names no service that actions could come from"));
}
