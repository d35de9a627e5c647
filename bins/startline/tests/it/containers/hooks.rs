//! Hooks of the runner, and runners that take only jobs in containers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::actions::{Stage, marked, node};
use crate::harness::Said;

const STARTED: &str = "ACTIONS_RUNNER_HOOK_JOB_STARTED";
const COMPLETED: &str = "ACTIONS_RUNNER_HOOK_JOB_COMPLETED";

/// The records of the only job.
fn steps(said: &Said) -> Vec<&str> {
    said.out.lines().filter_map(|line| line.strip_prefix("▸ ")).collect()
}

#[test]
fn hooks_run_first_and_last_and_what_they_set_counts() {
    if !node() {
        return;
    }
    let stage = Stage::new()
        .script("acme/post@v1", "main: main.js, post: post.js", &[("main.js", ""), ("post.js", "console.log('# post')")])
        .file("started.sh", "echo \"# started $GITHUB_REPOSITORY ${JOB_WIDE-unset}\"; echo FROM_HOOK=set >> $GITHUB_ENV; false | true\n")
        .file("completed.js", "console.log('# completed', process.env.RUNNER_NAME !== undefined)\n")
        .file(
            "w.yml",
            "on: push\nenv: {JOB_WIDE: yes}\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: acme/post@v1\n      - run: 'echo \"# step \
             $FROM_HOOK\"'\n",
        );
    let mut command = stage.command();
    command.env(STARTED, stage.tree().join("started.sh")).env(COMPLETED, stage.tree().join("completed.js"));
    let said: Said = command.output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(marked(&said, "# "), ["started acme/demo unset", "step set", "post", "completed true"], "{said:?}");
    let steps = steps(&said);
    assert_eq!(steps[..2], ["Set up job", "Set up runner"]);
    assert_eq!(steps[steps.len() - 3..], ["Post Run acme/post@v1", "Complete runner", "Complete job"]);
    assert!(said.out.contains("A job started hook has been configured by the self-hosted runner administrator"));
}

#[test]
fn a_hook_that_fails_or_is_not_there_fails_the_job() {
    let job = || {
        Stage::new()
            .file("bad.sh", "echo '# bad'; exit 3\n")
            .file("odd.txt", "")
            .steps("      - run: 'echo \"# never\"'\n      - if: always()\n        run: 'echo \"# always\"'\n")
    };
    for (variable, file, expected, marks) in [
        (STARTED, "bad.sh", "Process completed with exit code 3.", vec!["bad", "always"]),
        (
            STARTED,
            "none.sh",
            "ACTIONS_RUNNER_HOOK_JOB_STARTED of the runner's environment names, does not exist",
            vec!["always"],
        ),
        (STARTED, "odd.txt", "its name must end with .sh, .ps1 or .js", vec!["always"]),
        (COMPLETED, "bad.sh", "Process completed with exit code 3.", vec!["never", "always", "bad"]),
    ] {
        let stage = job();
        let said: Said = stage.command().env(variable, stage.tree().join(file)).output().unwrap().into();
        assert_eq!((said.code, marked(&said, "# ")), (Some(1), marks), "{variable} {file}: {said:?}");
        assert!(said.out.contains(expected), "no `{expected}` in {said:?}");
    }
}

#[test]
fn a_runner_that_requires_containers_refuses_other_jobs() {
    let stage = Stage::new().steps("      - {if: always(), run: 'echo \"# never\"'}\n");
    let said: Said = stage.command().env("ACTIONS_RUNNER_REQUIRE_JOB_CONTAINER", "true").output().unwrap().into();
    assert_eq!((said.code, marked(&said, "# ").len()), (Some(1), 0), "{said:?}");
    assert!(said.out.contains("Jobs without a job container are forbidden on this runner"), "{said:?}");
}

#[test]
fn container_hooks_are_refused_and_not_ignored() {
    let stage = Stage::new().file("docker", "#!/bin/sh\nexit 0\n").file(
        "w.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    container: debian:12\n    steps: [{run: 'echo \"# never\"'}]\n",
    );
    let docker = stage.tree().join("docker");
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |stage: &Stage| {
        let mut command = stage.command();
        command.arg("--container-cli").arg(&docker).env("ACTIONS_RUNNER_CONTAINER_HOOKS", "/hooks/index.js");
        Said::from(command.output().unwrap())
    };
    let said = run(&stage);
    assert_eq!((said.code, marked(&said, "# ").len()), (Some(1), 0), "{said:?}");
    assert!(said.out.contains("this runner does not run container hooks (ACTIONS_RUNNER_CONTAINER_HOOKS)"), "{said:?}");
    let stage = Stage::new().steps("      - uses: docker://debian:12\n");
    let said = run(&stage);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("this runner does not run container hooks"), "{said:?}");
}
