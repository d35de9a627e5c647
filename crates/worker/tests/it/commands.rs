//! Workflow commands, masks, summaries, annotations, problem matchers.

use serde_json::json;
use startline_protocol::state::Conclusion::{Failure, Success};
use startline_protocol::step::AnnotationLevel;

use crate::harness::{Job, env, named, run, token, with};

const SECRET: &str = "s3cret-value/with+chars==";

#[tokio::test]
async fn secrets_are_masked_wherever_they_turn_up() {
    let script = r##"
echo "plain $KEY"
printf %s "$KEY" | base64 -w0; echo
printf 'user:%s@host' "$KEY" | base64 -w0; echo
half=s3cr; printf "${half}et-"; sleep 0.2; echo 'value/with+chars=='
python3 -c 'import urllib.parse, json, os; print(urllib.parse.quote(os.environ["KEY"], safe=""), json.dumps(os.environ["KEY"]))'
word=added
echo "::add-mask::${word}-later"
echo "now ${word}-later is hidden"
echo "::warning file=$KEY.txt,title=$KEY::warned $KEY"
echo "# Summary with $KEY" >> "$GITHUB_STEP_SUMMARY"
echo "leak=$KEY" >> "$GITHUB_OUTPUT"
echo "safe=fine" >> "$GITHUB_OUTPUT"
number=123
echo "tok_abc$number by pattern"
set -x
: "$KEY"
"##;
    let step = with(named("leaky", script), &[("environment", env(&[("KEY", "${{ secrets.KEY }}")]))]);
    let outcome = Job::new(vec![step])
        .secret("KEY", SECRET)
        .message("mask", json!([{ "type": "regex", "value": "tok_[a-z0-9]+" }, { "type": "regex", "value": "(" }]))
        .output("leak", "steps.leaky.outputs.leak")
        .finish()
        .await
        .green();
    let everything = format!("{}{}", outcome.text, serde_json::to_string(outcome.completion()).unwrap());
    let shared = [SECRET, "s3cret", "czNjcmV0", "added-later", "tok_abc1", "with%2Bchars", "eyJhbGciOiJub25lIn0"];
    for leak in shared {
        assert!(!everything.contains(leak), "{leak} leaks:\n{everything}");
    }
    assert!(outcome.has("  KEY: ***"));
    assert!(outcome.has("now *** is hidden") && outcome.has("*** by pattern"));
    assert_eq!(outcome.step(1).summary.as_deref(), Some("# Summary with ***\n"));
    assert!(outcome.completion().outputs.is_empty());
    assert!(outcome.has("##[warning]The mask pattern `***` is no regular expression"));
    let annotation = outcome.completion().annotations.iter().find(|a| a.message == "warned ***").unwrap();
    assert_eq!((annotation.title.as_deref(), annotation.path.as_deref()), (Some("***"), Some("***.txt")));
}

#[tokio::test]
async fn lines_of_a_secret_are_masked_and_its_long_form_never_cut() {
    let secret = "-----BEGIN-----\nAAAABBBBCCCC\nDDDDEEEEFFFF\n-----END-----";
    let script =
        "echo \"$KEY\"; python3 -c 'import os; s=os.environ[\"KEY\"].split()[1]; print(\"x\"*(65536-5)+s+\"y\"*70000)'";
    let step = with(run(script), &[("environment", env(&[("KEY", "${{ secrets.KEY }}")]))]);
    let outcome = Job::new(vec![step]).secret("KEY", secret).finish().await.green();
    for leak in ["AAAA", "BBBBCC", "DDDD", "BEGIN"] {
        assert!(!outcome.text.contains(leak), "{leak}");
    }
    assert!(outcome.lines().iter().all(|line| line.len() <= 66_000));
}

#[tokio::test]
async fn annotations_have_their_places_and_their_bounds() {
    let script = "\
echo '::error file=src/a.rs,line=3,endLine=4,title=Bad::it broke%0Atwice'
echo \"::notice file=$PWD/b.txt,line=1,col=5,endColumn=9::look\"
echo '::warning::plain'
echo '##[error]from the old form'
for i in $(seq 20); do echo \"::notice::number $i\"; done
echo '::debug::unseen'
echo '::group::Title'; echo inside; echo '::endgroup::'";
    let outcome = Job::new(vec![run(script)]).finish().await.green();
    let annotations = &outcome.completion().annotations;
    let first = &annotations[0];
    assert_eq!(first.level, AnnotationLevel::Failure);
    assert_eq!((first.message.as_str(), first.title.as_deref()), ("it broke\ntwice", Some("Bad")));
    assert_eq!((first.path.as_deref(), first.start_line, first.end_line), (Some("src/a.rs"), Some(3), Some(4)));
    assert_eq!(
        (annotations[1].path.as_deref(), annotations[1].start_column, annotations[1].end_column),
        (Some("b.txt"), Some(5), Some(9))
    );
    assert_eq!(annotations.iter().filter(|a| a.level == AnnotationLevel::Notice).count(), 10);
    assert!(annotations.iter().all(|annotation| annotation.step_number == Some(2)));
    let lines = outcome.step_lines(1);
    assert_eq!(
        lines[..5],
        ["##[error]it broke", "twice", "##[notice]look", "##[warning]plain", "##[error]from the old form"]
    );
    assert_eq!(lines[25..], ["##[group]Title", "inside", "##[endgroup]"]);
}

#[tokio::test]
async fn commands_can_be_stopped_and_echoed() {
    let script = "\
echo '::stop-commands::pause-token'
echo '::warning::not a command'
echo '::pause-token::'
echo '::warning::a command'
echo '::echo::on'
echo '::set-output name=a::1'
echo '::echo::off'
echo '::set-output name=b::2'
echo 'text with ::warning::inside'
echo '::unknown::command'";
    let outcome = Job::new(vec![run(script)]).finish().await.green();
    let lines = outcome.step_lines(1);
    let expected = [
        "::stop-commands::***",
        "::warning::not a command",
        "::***::",
        "##[warning]a command",
        "::set-output name=a::1",
    ];
    let shown: Vec<&str> = lines.iter().filter(|line| !line.contains("is deprecated")).copied().collect();
    assert_eq!(shown[..5], expected);
    assert_eq!(shown[5..], ["::echo::off", "text with ::warning::inside", "::unknown::command"]);
}

#[tokio::test]
async fn commands_that_are_refused_fail_their_step() {
    let always = |step| with(step, &[("condition", json!("always()"))]);
    let steps = vec![
        run("echo '::set-env name=A::1'"),
        always(run("echo '::add-path::/x'")),
        always(run("echo '::stop-commands::pause-logging'")),
        always(run("echo '::echo::maybe'")),
        always(run("echo '::set-output::nameless'")),
        always(with(
            run("echo '::set-env name=A::insecure'"),
            &[("environment", env(&[("ACTIONS_ALLOW_UNSECURE_COMMANDS", "true")]))],
        )),
        always(run("echo \"A=$A\"")),
        always(run("echo '::add-mask::  '")),
    ];
    let outcome = Job::new(steps).finish().await;
    assert_eq!(outcome.conclusions(), [Failure, Failure, Failure, Failure, Failure, Success, Success, Success]);
    assert!(outcome.step_lines(1)[1].contains("The `set-env` command is disabled"));
    assert!(outcome.step_lines(2)[1].contains("The `add-path` command is disabled"));
    assert_eq!(outcome.step_lines(7), ["A=insecure"]);
    assert!(outcome.step_lines(8)[0].contains("Can't add secret mask for empty string"));
}

#[tokio::test]
async fn debug_messages_are_shown_on_request() {
    let job =
        Job::new(vec![run("echo '::debug::seen'; echo \"[$RUNNER_DEBUG]\"")]).secret("ACTIONS_STEP_DEBUG", "true");
    let outcome = job.finish().await.green();
    assert!(outcome.has("##[debug]seen") && outcome.has("[1]"));
    assert!(!outcome.text.contains("***"), "a switch is no secret");
}

#[tokio::test]
async fn problem_matchers_make_annotations() {
    let matcher = r#"{"problemMatcher":[{"owner":"cc","pattern":[{"regexp":"^(.+):(\\d+):(\\d+): (warning|error): (.*)$","file":1,"line":2,"column":3,"severity":4,"message":5}]}]}"#;
    let script = "\
touch a.c
echo '::add-matcher::cc.json'
echo 'a.c:3:5: error: no semicolon'
echo 'gone.c:1:1: warning: no file'
echo '::remove-matcher owner=cc::'
echo 'a.c:9:9: error: not seen'";
    let steps = vec![run(script), run("echo '::add-matcher::absent.json'")];
    let outcome = Job::new(steps).file("cc.json", matcher).finish().await;
    assert_eq!(outcome.conclusions(), [Success, Failure]);
    let annotations = &outcome.completion().annotations;
    assert_eq!(
        (annotations[0].message.as_str(), annotations[0].path.as_deref(), annotations[0].start_line),
        ("no semicolon", Some("a.c"), Some(3))
    );
    assert_eq!((annotations[1].level, annotations[1].path.as_deref()), (AnnotationLevel::Warning, None));
    assert_eq!(
        outcome.step_lines(1),
        [
            "##[error]a.c:3:5: error: no semicolon",
            "##[warning]gone.c:1:1: warning: no file",
            "a.c:9:9: error: not seen"
        ]
    );
    assert!(outcome.step_lines(2)[1].contains("cannot read the matcher file"));
}

#[tokio::test]
async fn summaries_are_kept_and_bounded() {
    let steps = vec![
        run("echo '# One' >> \"$GITHUB_STEP_SUMMARY\""),
        run("head -c 1100000 /dev/zero | tr '\\0' x > \"$GITHUB_STEP_SUMMARY\""),
        run("echo '# Three' > \"$GITHUB_STEP_SUMMARY\"; exit 1"),
    ];
    let outcome = Job::new(steps).finish().await;
    assert_eq!(outcome.step(1).summary.as_deref(), Some("# One\n"));
    assert_eq!(outcome.step(2).summary, None);
    assert!(outcome.has("$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of 1024k, got 1074k."));
    assert_eq!(outcome.step(3).summary.as_deref(), Some("# Three\n"), "a step that fails keeps its summary");
}

#[tokio::test]
async fn strange_bytes_become_a_sound_log() {
    let script =
        "printf 'nul\\0led\\n\\xff\\xfe broken\\r\\nprogress 1\\rprogress 2\\n\\xe2\\x82\\xac last'; printf 'err' >&2";
    let outcome = Job::new(vec![run(script)]).finish().await.green();
    let mut lines = outcome.step_lines(1);
    lines.retain(|line| *line != "err");
    assert_eq!(lines, ["nulled", "\u{fffd}\u{fffd} broken", "progress 1", "progress 2", "€ last"]);
}

#[tokio::test]
async fn expressions_in_scripts_are_evaluated_before_the_shell_sees_them() {
    let outcome = Job::new(vec![with(
        run(""),
        &[(
            "inputs",
            crate::harness::mapping(&[("script", token("${{ format('echo {0} {1}', github.ref, runner.arch) }}"))]),
        )],
    )])
    .finish()
    .await
    .green();
    assert_eq!(outcome.step_lines(1), ["refs/heads/main X64"]);
}
