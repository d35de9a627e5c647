//! `startline run`: what it does with mistakes, flags and Ctrl-C.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Process, Said, Service, run, startline, workflow};

#[test]
fn five_mistakes_are_five_diagnostics_and_no_service_is_started() {
    let (directory, path) = workflow(
        "on: push\n\
         jobs:\n  \
           build:\n    \
             runs-on: ubuntu-latest\n    \
             needs: nobody\n    \
             timeout-minutes: soon\n    \
             steps:\n      \
               - run: echo ${{ gihtub.ref }}\n      \
               - run: echo ${{ tojsn(1) }}\n      \
               - name: nothing to do\n",
    );
    let said: Said = startline().arg("run").arg(&path).env("TMPDIR", directory.path()).output().unwrap().into();
    assert_eq!(said.code, Some(2), "{said:?}");
    for line in [5, 6, 8, 9, 10] {
        assert!(said.err.contains(&format!("workflow.yml:{line}:")), "no diagnostic for line {line}: {}", said.err);
    }
    assert!(said.err.contains("5 mistakes"), "{}", said.err);
    assert!(said.out.is_empty(), "{said:?}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["workflow.yml"], "no data directory was made");
}

#[test]
fn bad_files_are_named_with_a_remedy() {
    for (text, wanted) in [
        ("on: push\njobs: [", "workflow.yml:2"),
        ("on: push\njobs: &a [*a]\n", "itself"),
        ("on: push\non: push\njobs: {}\n", "`on`"),
        (
            "on: push\njobs:\n  a:\n    needs: b\n    runs-on: x\n    steps: [{run: a}]\n  b:\n    needs: a\n    \
             runs-on: x\n    steps: [{run: b}]\n",
            "a",
        ),
    ] {
        let (_directory, path) = workflow(text);
        let said = run(&["run", path.to_str().unwrap()]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(wanted), "no `{wanted}` in {said:?}");
    }
    let (_directory, path) = workflow(&format!("on: push\n# {}\n", "x".repeat(5 << 20)));
    let said = run(&["run", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("1 MiB") || said.err.contains("1048576"), "{}", said.err);
    assert!(said.err.len() < 4096, "the file is not repeated in the message");
    let said = run(&["run", "no/such/file.yml"]);
    assert!(said.code == Some(2) && said.err.contains("no/such/file.yml"), "{said:?}");
}

#[test]
fn a_tree_without_git_is_taken_from_the_current_directory() {
    let tree = tempfile::tempdir().unwrap();
    let action = tree.path().join("actions/here");
    std::fs::create_dir_all(&action).unwrap();
    std::fs::create_dir(tree.path().join("ci")).unwrap();
    let manifest = "runs:\n  using: composite\n  steps:\n    - run: echo \"from the tree\"\n      shell: bash\n";
    std::fs::write(action.join("action.yml"), manifest).unwrap();
    let workflow = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: ./actions/here\n";
    std::fs::write(tree.path().join("ci/w.yml"), workflow).unwrap();
    let said: Said = startline().args(["run", "ci/w.yml"]).current_dir(tree.path()).output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("from the tree"), "{said:?}");
}

#[test]
fn flags_reach_the_job() {
    let (_directory, path) = workflow(
        "on:\n  workflow_dispatch:\n    inputs:\n      who: {type: string, required: true}\n      loud: {type: boolean}\n\
         env: {FROM: workflow, OTHER: kept}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          \
         echo \"in=${{ inputs.who }} loud=${{ inputs.loud == true }} env=$FROM/$OTHER var=${{ vars.REGION }}\"\n",
    );
    let file = path.to_str().unwrap();
    let said =
        run(&["run", file, "--input", "who=Ada", "--input", "loud=true", "--env", "FROM=flag", "--var", "REGION=eu"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("in=Ada loud=true env=flag/kept var=eu"), "{said:?}");
    let said = run(&["run", file]);
    assert!(said.code == Some(2) && said.err.contains("who"), "a missing input is named: {said:?}");
    let said = run(&["run", file, "--input", "who=x", "--event", "push"]);
    assert!(said.code == Some(2) && said.err.contains("push"), "an event that the workflow lacks is named: {said:?}");
}

#[test]
fn an_event_says_which_branch_the_repository_was_cloned_from() {
    let tree = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let done = std::process::Command::new("git").arg("-C").arg(tree.path()).args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "-q", "-b", "work"]);
    git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk"]);
    let workflow = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: |\n          \
        echo \"default=${{ github.event.repository.default_branch }} owner=${{ github.event.repository.owner.login }}\"\n";
    std::fs::write(tree.path().join("w.yml"), workflow).unwrap();
    std::fs::write(tree.path().join("e.json"), r#"{"repository": {"default_branch": "said"}}"#).unwrap();
    for (flags, default) in [(&[] as &[&str], "trunk"), (&["--event-file", "e.json"], "said")] {
        let mut command = startline();
        command.args(["run", "w.yml", "--repository", "acme/app"]).args(flags).current_dir(tree.path());
        let said: Said = command.output().unwrap().into();
        assert!(said.out.contains(&format!("default={default} owner=acme")), "{said:?}");
    }
}

#[test]
fn a_tool_that_a_run_installs_is_there_for_the_next_one() {
    let (_directory, path) = workflow(
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: |\n          \
         cat \"$RUNNER_TOOL_CACHE/own/1.0.0/x64/tool\" || echo \"not yet\"\n          \
         mkdir -p \"$RUNNER_TOOL_CACHE/own/1.0.0/x64\"\n          \
         echo \"installed by $MARK\" > \"$RUNNER_TOOL_CACHE/own/1.0.0/x64/tool\"\n",
    );
    let homes = tempfile::tempdir().unwrap();
    let run = |mark: &str, name: &str, home: &str| {
        let mut command = startline();
        command.env("MARK", mark).env(name, homes.path().join(home)).arg("run").arg(&path);
        let said: Said = command.output().unwrap().into();
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    };
    for name in ["XDG_CACHE_HOME", "RUNNER_TOOL_CACHE", "RUNNER_TOOLSDIRECTORY", "AGENT_TOOLSDIRECTORY"] {
        assert!(run("first", name, name).contains("not yet"), "{name}");
        assert!(run("second", name, name).contains("installed by first"), "{name}");
    }
    assert!(homes.path().join("XDG_CACHE_HOME/startline/tools/own").is_dir(), "where it is documented to be");
    assert!(run("third", "RUNNER_TOOL_CACHE", "other").contains("not yet"));
}

#[tokio::test]
async fn a_runner_has_the_tools_where_the_machine_has_them() {
    let tools = tempfile::tempdir().unwrap();
    std::fs::write(tools.path().join("own-tool"), "from the machine").unwrap();
    let mut service = Service::start(&[]);
    service.env.push(("RUNNER_TOOL_CACHE", tools.path().display().to_string()));
    let _runner = service.runner("tools", &[]);
    let workflow = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: \
        cat \"$RUNNER_TOOL_CACHE/own-tool\" \"${{ runner.tool_cache }}/own-tool\"\n";
    let run = service.submit(workflow).await;
    let detail = service.ended(run).await;
    let log = service.log(detail.jobs[0].id).await;
    assert!(log.contains("from the machinefrom the machine"), "{log}");
}

#[test]
fn json_is_one_object_a_line_and_ends_with_the_run() {
    let said = run(&["run", "examples/hello.yml", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "run");
    assert_eq!(last["detail"]["run"]["conclusion"], "success");
    assert!(lines.iter().any(|line| line["event"] == "log" && line["text"].as_str().unwrap().contains("Hello from")));
}

#[test]
fn a_shell_that_does_not_exist_is_named() {
    let (_directory, path) = workflow(
        "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: echo hi\n        shell: nosuchshell {0}\n",
    );
    let said = run(&["run", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("nosuchshell"), "{said:?}");
}

#[tokio::test]
async fn ctrl_c_cancels_a_stubborn_step_and_leaves_nothing_behind() {
    let mark = format!("startline-test-{}", std::process::id());
    let (_directory, path) = workflow(&format!(
        "on: push\njobs:\n  long:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          trap '' INT TERM\n          \
         (trap '' INT TERM; exec -a {mark} sleep 600) &\n          echo \"deep in the step\"\n          while true; do sleep 1; done\n      \
         - if: always()\n        run: echo \"swept up\"\n"
    ));
    let mut process = Process::spawn(startline().arg("run").arg(&path));
    process.line_with("deep in the step");
    process.signal(Signal::SIGINT);
    let status = process.ended(Duration::from_secs(12)).await;
    assert_eq!(status.code(), Some(130), "{}", process.errors());
    let left = processes_named(&mark);
    assert!(left.is_empty(), "still running: {left:?}");
}

/// Processes whose command line holds `mark`.
fn processes_named(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.starts_with(mark))
        .collect()
}
