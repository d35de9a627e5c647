//! Values from files and from people.

use std::os::unix::fs::PermissionsExt as _;

use super::{command, folder, run_in, steps};
use crate::attended::Attended;
use crate::harness::{Said, Service};

const SHOW: &str = "      - env: {S: '${{ secrets.KEY }}'}\n        run: |\n          \
                    echo \"env=$FROM_FILE var=${{ vars.REGION }}\"\n          \
                    test \"$S\" = \"$WANTED\" && echo 'the secret is right'\n          echo \"said $S\"\n";

#[test]
fn files_with_the_usual_names_are_read_and_said() {
    let workflow = "on:\n  workflow_dispatch:\n    inputs: {who: {type: string}}\njobs:\n  a:\n    runs-on: x\n    steps:\n      \
                    - run: echo \"for ${{ inputs.who }}\"\n";
    let workflow = format!("{workflow}{SHOW}");
    let tree = folder(&[
        ("w.yml", &workflow),
        (".env", "# remark\r\nexport FROM_FILE='from a file'\r\nWANTED=\"hunter2 # not a remark\"\r\n"),
        (".secrets", "\u{feff}KEY='hunter2 # not a remark'\n"),
        (".vars", "REGION=eu # remark\n"),
        (".input", "who=Ada\n"),
    ]);
    let said = run_in(tree.path(), &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for wanted in ["env=from a file var=eu", "the secret is right", "said ***", "for Ada"] {
        assert!(said.out.contains(wanted), "{wanted}: {said:?}");
    }
    assert!(!format!("{said:?}").contains("hunter2"), "{said:?}");
    for wanted in
        ["2 variables for every step from .env", "1 secret from .secrets", "variable from .vars", "1 input from .input"]
    {
        assert!(said.err.contains(wanted), "{wanted}: {}", said.err);
    }
}

#[test]
fn flags_win_over_files_and_a_named_file_over_the_usual_one() {
    let tree = folder(&[
        ("w.yml", &steps(SHOW)),
        (".env", "FROM_FILE=usual\nWANTED=usual\n"),
        ("one.env", "FROM_FILE=one\nWANTED=one\n"),
        ("two.env", "FROM_FILE=two\n"),
        (".secrets", "KEY=usual-secret\n"),
        (".vars", "REGION=usual\n"),
    ]);
    let flags = ["--env-file", "one.env", "--env-file", "two.env", "--env", "WANTED=flag-secret"];
    let more = ["--secret", "KEY=flag-secret", "--var", "REGION=flag"];
    let said = run_in(tree.path(), &[&flags[..], &more[..]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("env=two var=flag") && said.out.contains("the secret is right"), "{said:?}");
    let none =
        run_in(tree.path(), &["--env-file", "/dev/null", "--var-file", "/dev/null", "--secret-file", "/dev/null"]);
    assert!(none.out.contains("env= var=\n"), "{none:?}");
}

#[test]
fn a_mistake_in_a_file_has_its_place_and_starts_nothing() {
    let tree = folder(&[("w.yml", &steps(SHOW)), (".secrets", "A=1\nKEY=\"hunter2\n")]);
    let said = run_in(tree.path(), &[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("/.secrets:2: ") && said.err.contains("close it"), "{said:?}");
    assert!(said.out.is_empty() && !said.err.contains("hunter2"), "{said:?}");
    let said = run_in(tree.path(), &["--secret-file", "absent"]);
    assert!(said.code == Some(2) && said.err.contains("cannot read absent"), "{said:?}");
}

#[test]
fn secrets_that_others_may_read_are_warned_of() {
    let tree = folder(&[("w.yml", &steps(SHOW)), (".secrets", "KEY=x1y2z3\n")]);
    let path = tree.path().join(".secrets");
    let err = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        run_in(tree.path(), &["--list"]).err
    };
    assert!(err(0o644).contains("chmod 600"), "a file for everybody");
    assert_eq!(err(0o600), "");
}

#[test]
fn a_secret_of_several_lines_is_masked_line_by_line() {
    let tree = folder(&[
        (
            "w.yml",
            &steps("      - env: {S: '${{ secrets.KEY }}'}\n        run: for line in $S; do echo \"<$line>\"; done\n"),
        ),
        (".secrets", "KEY=\"first-line\nsecond-line\"\n"),
    ]);
    let said = run_in(tree.path(), &[]);
    assert_eq!(said.out.matches("  <***>").count(), 2, "{said:?}");
    assert!(!said.out.contains("first-line") && !said.out.contains("second-line"), "{said:?}");
}

#[tokio::test]
async fn a_secret_that_is_only_named_is_taken_from_the_environment_or_asked_for() {
    let tree = folder(&[("w.yml", &steps(SHOW))]);
    let flags = ["--secret", "KEY", "--env", "WANTED=typed-secret"];
    let said: Said = command(tree.path(), &flags).env("KEY", "typed-secret").output().unwrap().into();
    assert!(said.out.contains("the secret is right"), "{said:?}");
    let said: Said = command(tree.path(), &flags).env_remove("KEY").output().unwrap().into();
    assert!(said.code == Some(2) && said.err.contains("KEY is not set"), "{said:?}");

    let mut person =
        Attended::start(command(tree.path(), &["--secret", "KEY", "--env", "WANTED=typed-by-hand"]).env_remove("KEY"));
    person.answer("Value of the secret KEY (not shown):", "typed-by-hand\n").await;
    let (code, out, screen) = person.ended().await;
    assert!(code == Some(0) && out.contains("the secret is right"), "{out} {screen}");
    assert!(!out.contains("typed-by-hand") && !screen.contains("typed-by-hand"), "{out} {screen}");
}

#[tokio::test]
async fn a_service_elsewhere_is_sent_no_file_that_was_not_named() {
    let service = Service::start(&[]);
    let _runner = service.runner("one", &["--label", "x"]);
    let show = steps("      - run: 'echo \"got <$A> <${{ vars.B }}> <${{ secrets.C }}>\"'\n");
    let tree = folder(&[("w.yml", &show), (".env", "A=1\n"), (".vars", "B=2\n"), (".secrets", "C=3\n")]);
    let path = tree.path().join("w.yml");
    let said = service.says(&["submit", path.to_str().unwrap(), "--follow"]);
    assert!(said.out.contains("got <> <> <>"), "{said:?}");
    let named = tree.path().join(".env");
    let said = service.says(&["submit", path.to_str().unwrap(), "--follow", "--env-file", named.to_str().unwrap()]);
    assert!(said.out.contains("got <1> <> <>"), "{said:?}");
}

#[test]
fn an_event_file_has_the_name_that_act_gives_it_too() {
    let workflow = "on: [pull_request]\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'echo \"<${{ github.head_ref }}> <${{ github.base_ref }}> <${{ github.event.act }}>\"'\n";
    let body = r#"{"act": true, "pull_request": {"head": {"ref": "topic"}, "base": {"ref": "main"}}}"#;
    let tree = folder(&[("w.yml", workflow), ("pr.json", body)]);
    for flag in ["--eventpath", "--event-file"] {
        let said = run_in(tree.path(), &["--event", "pull_request", flag, "pr.json"]);
        assert!(said.out.contains("  <topic> <main> <true>"), "{said:?}");
    }
}
