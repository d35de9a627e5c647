//! Steps: shells, environment, conditions, outputs, time-outs.

use serde_json::json;
use startline_protocol::state::Conclusion::{self, Cancelled, Failure, Skipped, Success};

use crate::harness::{Job, env, mapping, named, run, token, with, with_input};

#[tokio::test]
async fn a_script_runs_and_its_log_records_and_end_are_told() {
    let outcome = Job::new(vec![run("\n  echo hello\necho 'second line' >&2\n")]).finish().await.green();
    let steps = &outcome.completion().steps;
    let names: Vec<(u32, &str)> = steps.iter().map(|step| (step.number, step.name.as_str())).collect();
    assert_eq!(names, [(1, "Set up job"), (2, "Run echo hello"), (3, "Complete job")]);
    assert!(steps.iter().all(|step| step.started_at.unwrap() <= step.completed_at.unwrap()));
    assert_eq!(steps[0].log_start, Some(0));
    assert_eq!(steps[0].log_end, steps[1].log_start);
    assert_eq!(steps[2].log_end, Some(outcome.text.len() as u64));
    let lines = outcome.lines();
    let start = lines.iter().position(|line| *line == "##[group]Run echo hello").unwrap();
    assert_eq!(lines[start + 1], "\u{1b}[36;1m\u{1b}[0m");
    assert_eq!(lines[start + 2], "\u{1b}[36;1m  echo hello\u{1b}[0m");
    assert_eq!(lines[start + 3], "\u{1b}[36;1mecho 'second line' >&2\u{1b}[0m");
    assert!(lines[start + 4].starts_with("shell: /") && lines[start + 4].ends_with("bash -e {0}"));
    assert_eq!(lines[start + 5], "##[endgroup]");
    let mut output = outcome.step_lines(1);
    output.sort_unstable();
    assert_eq!(output, ["hello", "second line"]);
    assert!(outcome.has("Runner name: 'tester'") && outcome.has("Complete job name: build"));
}

#[tokio::test]
async fn a_failing_step_fails_the_job_and_is_named() {
    let outcome = Job::new(vec![run("exit 7"), run("echo never"), run("kill -9 $$")]).finish().await;
    assert_eq!(outcome.conclusion(), Failure);
    assert_eq!(outcome.conclusions(), [Failure, Skipped, Skipped]);
    assert_eq!(outcome.step_lines(1), ["##[error]Process completed with exit code 7."]);
    assert_eq!(outcome.step(2).log_end, outcome.step(2).log_start, "a skipped step has no lines");
    let annotation = &outcome.completion().annotations[0];
    assert_eq!((annotation.message.as_str(), annotation.step_number), ("Process completed with exit code 7.", Some(2)));
}

#[tokio::test]
async fn conditions_see_what_happened_before() {
    let on = |condition: &str| with(run("true"), &[("condition", json!(condition))]);
    let steps = vec![
        with(named("bad", "exit 1"), &[("continueOnError", json!(true))]),
        on("success()"),
        on("failure()"),
        on("steps.bad.outcome == 'failure' && steps.bad.conclusion == 'success'"),
        named("worse", "kill -9 $$"),
        on("success()"),
        on("failure()"),
        on("always()"),
        on("cancelled()"),
        on("failure() && steps.worse.outcome == 'failure'"),
        on("job.status == 'failure' && always()"),
        with(on("env.MINE == 'yes' && always()"), &[("environment", env(&[("MINE", "yes")]))]),
        on("always() && nonsense.x"),
    ];
    let outcome = Job::new(steps).finish().await;
    let expected: Vec<Conclusion> = vec![
        Success, Success, Skipped, Success, Failure, Skipped, Success, Success, Skipped, Success, Success, Success,
        Failure,
    ];
    assert_eq!(outcome.conclusions(), expected);
    assert_eq!(outcome.step(1).outcome, Some(Failure));
    assert!(outcome.has("Process completed with exit code 137."));
    assert!(outcome.has("##[error]The condition `always() && nonsense.x` cannot be evaluated"));
}

#[tokio::test]
async fn environment_is_layered_as_on_github() {
    let print = "echo \"A=$A B=$B C=$C\"";
    let steps = vec![
        with(run(print), &[("environment", env(&[("B", "step"), ("C", "${{ env.A }}")]))]),
        run("echo 'B=file' >> \"$GITHUB_ENV\"; printf 'C<<E\\none\\ntwo\\nE\\n' >> \"$GITHUB_ENV\""),
        run(print),
        with(run(print), &[("environment", env(&[("B", "own")]))]),
        run(
            "echo \"$CI $GITHUB_ACTIONS $GITHUB_REPOSITORY $GITHUB_RUN_ID $GITHUB_REF_PROTECTED [$GITHUB_RETENTION_DAYS] $GITHUB_JOB $RUNNER_OS $RUNNER_NAME\"; \
             test \"$GITHUB_WORKSPACE\" = \"$PWD\" && test -d \"$RUNNER_TEMP\" && cat \"$GITHUB_EVENT_PATH\" | tr -d ' \\n'; echo; echo \"$GITHUB_ACTION\"",
        ),
        run("echo 'GITHUB_JOB=forged' >> \"$GITHUB_ENV\"; echo 'RUNNER_OS=forged' >> \"$GITHUB_ENV\""),
        run("echo \"$GITHUB_JOB $RUNNER_OS\""),
    ];
    let layers =
        json!([env(&[("A", "workflow"), ("B", "workflow")]), env(&[("B", "${{ format('{0}-job', env.A) }}")])]);
    let outcome = Job::new(steps).message("environmentVariables", layers).finish().await.green();
    assert_eq!(outcome.step_lines(1), ["A=workflow B=step C=workflow"]);
    assert_eq!(outcome.step_lines(3), ["A=workflow B=file C=one", "two"]);
    assert_eq!(outcome.step_lines(4), ["A=workflow B=own C=one", "two"]);
    let facts = outcome.step_lines(5);
    assert_eq!(facts, ["true true acme/demo 41 true [] build Linux tester", "{\"number\":7}", "__run"]);
    assert_eq!(outcome.step_lines(7), ["build Linux"], "what describes the job cannot be forged");
    let lines = outcome.lines();
    let env_at = lines.iter().position(|line| *line == "env:").unwrap();
    assert_eq!(lines[env_at + 1..env_at + 4], ["  A: workflow", "  B: step", "  C: workflow"]);
}

#[tokio::test]
async fn the_search_path_grows_from_the_front_and_finds_shells() {
    let steps = vec![
        run(
            "mkdir one two; printf '#!/bin/sh\\necho from one' > one/tool; printf '#!/bin/sh\\nexec sh \"$1\"' > two/myshell; chmod +x */*; \
             echo \"$PWD/one\" >> \"$GITHUB_PATH\"; echo \"$PWD/two\" >> \"$GITHUB_PATH\"; echo \"$PWD/one\" >> \"$GITHUB_PATH\"",
        ),
        run("tool; echo \"${PATH%%/demo/one:*}\"; case \"$PATH\" in *demo/one:*demo/two:/*) echo ordered;; esac"),
        with_input(run("echo in my shell"), "shell", "myshell {0}"),
    ];
    let outcome = Job::new(steps).finish().await.green();
    assert_eq!(outcome.step_lines(2)[0], "from one");
    assert_eq!(outcome.step_lines(2)[2], "ordered");
    assert_eq!(outcome.step_lines(3), ["in my shell"]);
}

#[tokio::test]
async fn outputs_travel_from_step_to_step_and_out_of_the_job() {
    let steps = vec![
        named(
            "first",
            "echo 'word=hello' >> \"$GITHUB_OUTPUT\"; echo '::set-output name=old::legacy'; printf 'many<<X\\na\\nb\\nX\\n' >> \"$GITHUB_OUTPUT\"",
        ),
        run(
            "${{ format('echo \"{0} {1} {2}\"', steps.first.outputs.word, steps.first.outputs.old, needs.first.outputs.word) }}",
        ),
        run("${{ format('echo \"{0} {1}\"', matrix.size, vars.COLOUR) }}"),
    ];
    let outputs = mapping(&[
        ("word", token("${{ steps.first.outputs.word }}")),
        ("many", token("${{ steps.first.outputs.many }}")),
        ("empty", token("${{ steps.first.outputs.nothing }}")),
        ("token", token("${{ secrets.KEY }}")),
    ]);
    let outcome = Job::new(steps).secret("KEY", "sesame-open").message("jobOutputs", outputs).finish().await.green();
    assert_eq!(outcome.step_lines(2), ["hello legacy hello"]);
    assert_eq!(outcome.step_lines(3), ["3 green"]);
    assert_eq!(outcome.step(2).name, "Run echo \"hello legacy hello\"");
    let outputs = &outcome.completion().outputs;
    assert_eq!(outputs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["many=a\nb", "word=hello"]);
    assert!(outcome.has("##[warning]Skip output 'token' since it may contain secret."));
    assert!(outcome.has("The `set-output` command is deprecated"));
}

#[tokio::test]
async fn files_with_mistakes_fail_their_step_and_keep_what_stood_before() {
    let steps = vec![
        named("bad", "echo 'a=1' >> \"$GITHUB_OUTPUT\"; echo 'nonsense' >> \"$GITHUB_OUTPUT\""),
        with(run("${{ format('echo \"got {0}\"', steps.bad.outputs.a) }}"), &[("condition", json!("always()"))]),
        with(run("rm -f \"$GITHUB_ENV\" && mkfifo \"$GITHUB_ENV\""), &[("condition", json!("always()"))]),
        with(run("echo 'NODE_OPTIONS=--x' >> \"$GITHUB_ENV\""), &[("condition", json!("always()"))]),
    ];
    let outcome = Job::new(steps).finish().await;
    assert_eq!(outcome.conclusions(), [Failure, Success, Failure, Success]);
    assert_eq!(
        outcome.step_lines(1),
        ["##[error]Unable to process file command 'output' successfully.", "##[error]Invalid format 'nonsense'"]
    );
    assert_eq!(outcome.step_lines(2), ["got 1"]);
    assert!(outcome.has("is no file any more"));
    assert!(outcome.has("Can't store NODE_OPTIONS"));
}

#[tokio::test]
async fn shells_are_those_of_github_and_pipefail_is_on_only_where_bash_is_named() {
    let steps = vec![
        run("false | true; echo default has no pipefail"),
        with(with_input(run("false | true; echo never"), "shell", "bash"), &[("continueOnError", json!(true))]),
        with_input(run("echo $0 | grep -q '.sh$' && echo plain sh"), "shell", "sh"),
        with_input(run("import sys\nprint('snake', sys.argv[0][-3:])"), "shell", "python"),
        with_input(run("print \"pearl\\n\""), "shell", "perl {0}"),
    ];
    let outcome = Job::new(steps).finish().await.green();
    assert_eq!(outcome.step_lines(1), ["default has no pipefail"]);
    assert_eq!(outcome.step_lines(2), ["##[error]Process completed with exit code 1."]);
    assert_eq!(outcome.step_lines(3), ["plain sh"]);
    assert_eq!(outcome.step_lines(4), ["snake .py"]);
    assert_eq!(outcome.step_lines(5), ["pearl"]);
}

#[tokio::test]
async fn what_a_step_needs_and_lacks_is_named_with_the_remedy() {
    let always = |step| with(step, &[("condition", json!("always()"))]);
    let steps = vec![
        with_input(run("x"), "shell", "fish {0}"),
        always(with_input(run("x"), "shell", "tcsh")),
        always(with_input(run("x"), "workingDirectory", "no/such")),
        always(with(run("x"), &[("environment", env(&[("A", "${{ fromJSON('[') }}")]))])),
    ];
    let outcome = Job::new(steps).finish().await;
    assert_eq!(outcome.conclusions(), [Failure; 4]);
    for (number, expected) in [
        (1, "program `fish` of the step's shell was not found on PATH: install it"),
        (2, "shell `tcsh` is not known: use bash, sh"),
        (3, "no/such` does not exist: create it in an earlier step or correct `working-directory`"),
        (4, "fromJSON"),
    ] {
        let errors: Vec<&str> =
            outcome.step_lines(number).into_iter().filter(|line| line.starts_with("##[error]")).collect();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{number}: {errors:?}");
    }
    let annotated = outcome.completion().annotations.len();
    assert_eq!(annotated, 4);
}

#[tokio::test]
async fn defaults_give_shell_and_directory_unless_a_step_has_its_own() {
    let defaults = json!([mapping(&[("run", env(&[("shell", "bash"), ("working-directory", "sub")]))])]);
    let steps = vec![
        with_input(run("mkdir -p sub other"), "workingDirectory", ""),
        run("basename \"$PWD\""),
        with_input(run("basename \"$PWD\""), "workingDirectory", "other"),
        with(run("false | true"), &[("continueOnError", token("${{ matrix.size == 3 }}"))]),
    ];
    let outcome = Job::new(steps).message("defaults", defaults).finish().await.green();
    assert_eq!((outcome.step_lines(2), outcome.step_lines(3)), (vec!["sub"], vec!["other"]));
    assert_eq!(outcome.step(4).outcome, Some(Failure));
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_ended_and_the_next_one_told() {
    let steps = vec![
        with(
            run("echo begun; sleep 60"),
            &[("timeoutInMinutes", json!(0.005)), ("displayNameToken", json!("Slow one"))],
        ),
        with(run("echo after"), &[("condition", json!("failure()"))]),
        with(run("echo quick"), &[("timeoutInMinutes", token("${{ matrix.size }}")), ("condition", json!("always()"))]),
    ];
    let outcome = Job::new(steps).finish().await;
    assert_eq!(outcome.conclusions(), [Failure, Success, Success]);
    assert_eq!(outcome.step_lines(1), ["begun", "##[error]The action 'Slow one' has timed out after 0.005 minutes."]);
    assert!(!outcome.conclusions().contains(&Cancelled));
}

#[tokio::test]
async fn a_background_child_does_not_hold_the_job_and_is_gone_at_its_end() {
    let steps = vec![
        run("sleep 300 & echo $! > held; (setsid sleep 300 > /dev/null 2>&1 & echo $! > escaped)"),
        run("kill -0 $(cat held) && echo still there"),
    ];
    let outcome = Job::new(steps).finish().await.green();
    assert_eq!(outcome.step_lines(2), ["still there"]);
    assert!(outcome.has("Terminate orphan process: pid ("));
    let workspace = outcome.root.path().join("work/demo/demo");
    crate::harness::poll("orphans are gone", || !crate::harness::runs(&workspace.join("held"))).await;
}

#[tokio::test]
async fn a_job_that_cannot_be_set_up_says_why_and_runs_nothing() {
    let container =
        Job::new(vec![run("echo never")]).message("jobContainer", json!({ "type": 1, "seq": [] })).finish().await;
    assert_eq!(container.conclusion(), Failure);
    assert_eq!(container.conclusions(), [Skipped]);
    assert!(container.has("##[error]`container` of the job must be text"), "{}", container.text);
    let env = json!([env(&[("A", "${{ nonsense.x }}")])]);
    let broken = Job::new(vec![run("echo never")]).message("environmentVariables", env).finish().await;
    assert_eq!((broken.conclusion(), broken.conclusions()), (Failure, vec![Skipped]));
    assert!(broken.has("##[error]env") && !broken.has("never"));
}

#[tokio::test]
async fn names_are_evaluated_and_masked() {
    let steps = vec![
        with(
            run("true"),
            &[("displayNameToken", token("${{ format('Deploy {0} with {1}', matrix.size, secrets.KEY) }}"))],
        ),
        run("true"),
    ];
    let outcome = Job::new(steps).secret("KEY", "sesame-open").finish().await.green();
    assert_eq!(outcome.step(1).name, "Deploy 3 with ***");
}
