//! Containers with a real engine, and what happens where there is none.

mod hooks;
mod podman;

use std::time::Duration;

use nix::sys::signal::Signal;
use startline_protocol::state::JobStatus;

use crate::actions::{Stage, marked, node};
use crate::harness::{Process, Said, Service, children_of, eventually};
use podman::Podman;

/// The libraries that the host's Node.js needs, for a container that has none of its own.
const LIBRARIES: &str = "['/lib:/lib:ro', '/lib64:/lib64:ro', '/usr/lib:/usr/lib:ro']";

#[test]
fn steps_services_and_actions_run_in_containers_of_one_network() {
    let Some(podman) = Podman::start() else { return };
    if !node() {
        return;
    }
    let workflow = format!(
        "on: push\njobs:\n  a:\n    runs-on: x\n    outputs: {{word: '${{{{ steps.first.outputs.word }}}}'}}\n    container:\n      image: \
         localhost/busy:1\n      env: {{SHADE: green}}\n      volumes: {LIBRARIES}\n    services:\n      web:\n        image: \
         localhost/busy:1\n        ports: [80]\n        options: --health-cmd \"test -e /ready\" --health-retries 3\n        entrypoint: \
         sh\n        command: -c \"echo served > /tmp/index.html; touch /ready; exec httpd -f -p 80 -h /tmp\"\n    steps:\n      - id: \
         first\n        run: |\n          echo \"# $SHADE $PWD $GITHUB_WORKSPACE ${{{{ github.workspace }}}}\"\n          echo \"# $(wget -q -O - \
         http://web/index.html)\"\n          echo word=said >> $GITHUB_OUTPUT; echo LATER=yes >> $GITHUB_ENV; mkdir tools\n          \
         echo \"$PWD/tools\" >> $GITHUB_PATH; printf '#!/bin/sh\\necho \"# tool $LATER\"' > tools/mine; chmod +x tools/mine\n      - run: \
         mine; test -f kept; echo \"# $HOME $(cat /proc/1/comm)\"\n        working-directory: ${{{{ github.workspace }}}}\n      - uses: \
         acme/tell@v1\n      - uses: acme/both@v1\n      - uses: docker://localhost/busy:1\n        with: {{entrypoint: sh, args: '-c \"echo \\\"# \
         $GITHUB_WORKSPACE $(wget -q -O - http://web/index.html)\\\"; ls tools\"'}}\n  b:\n    runs-on: x\n    needs: a\n    services: {{web: \
         {{image: 'localhost/busy:1', ports: [80], entrypoint: sh, command: '-c \"echo by port > /tmp/index.html; exec httpd -f -p 80 -h \
         /tmp\"'}}}}\n    steps:\n      - run: |\n          for i in 1 2 3 4 5 6 7 8 9; do exec 3<>/dev/tcp/127.0.0.1/${{{{ \
         job.services.web.ports['80'] }}}} && break; sleep 1; done\n          printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3\n          \
         echo \"# $(tail -n 1 <&3) ${{{{ needs.a.outputs.word }}}}\"\n"
    );
    let stage = Stage::new()
        .script(
            "acme/tell@v1",
            "main: main.js, post: post.js",
            &[
                ("main.js", "console.log('# node', process.env.INPUT_WHO, __dirname, process.cwd())"),
                ("post.js", "console.log('# post', require('fs').existsSync('/__w'))"),
            ],
        )
        .action(
            "acme/both@v1",
            "action.yml",
            "runs: {using: composite, steps: [{shell: sh, run: 'echo \"# at $GITHUB_ACTION_PATH ${{ github.action_path }}\"'}]}\n",
        )
        .file("kept", "")
        .file("w.yml", &workflow);
    let said: Said = stage.command().arg("--container-cli").arg(podman.program()).output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let at = "/__w/demo/demo";
    let both = "/__w/_actions/acme/both/v1";
    // Lines of several jobs begin with the job's name.
    let shown: Vec<&str> =
        said.out.lines().filter_map(|line| line.split_once(" │   # ")).map(|(_, rest)| rest).collect();
    assert_eq!(
        shown,
        [
            &format!("green {at} {at} {at}"),
            "served",
            "tool yes",
            "/github/home tail",
            &format!("node acme/demo /__w/_actions/acme/tell/v1 {at}"),
            &format!("at {both} {both}"),
            "/github/workspace served",
            "post true",
            "by port said",
        ],
        "{said:?}"
    );
    assert!(said.out.contains("a │ ▸ Pull localhost/busy:1") && said.out.contains("a │ ▸ Stop containers"), "{said:?}");
    podman.has_nothing_left();
}

#[test]
fn docker_actions_are_built_and_have_their_stages() {
    let Some(podman) = Podman::start() else { return };
    let manifest = "inputs: {who: {default: nobody}}\nruns:\n  using: docker\n  image: Dockerfile\n  pre-entrypoint: /stage.sh\n  entrypoint: \
                    /stage.sh\n  post-entrypoint: /stage.sh\n  post-if: always()\n  args: ['${{ inputs.who }}', 'two words']\n  env: {OWN: \
                    manifest}\n";
    let file = "FROM localhost/busy:1\nCOPY stage.sh /stage.sh\nRUN chmod +x /stage.sh\n";
    let script = "#!/bin/sh\necho \"# ${STATE_ran-first} $1 $2 $OWN $INPUT_WHO\"\necho \"ran=after ${STATE_ran-first}\" >> $GITHUB_STATE\n\
                  echo \"said=$1\" >> $GITHUB_OUTPUT\ntouch /github/workspace/here\n";
    let stage = Stage::new()
        .action("acme/tool@v1", "action.yml", manifest)
        .action("acme/tool@v1", "Dockerfile", file)
        .action("acme/tool@v1", "stage.sh", script)
        .steps(
            "      - {id: tool, uses: acme/tool@v1, with: {who: me}}\n      - run: 'echo \"# ${{ steps.tool.outputs.said }}\"; test -e \
             here'\n      - {uses: 'docker://localhost/busy:1', with: {args: 'sh -c \"exit 4\"'}, continue-on-error: true}\n      - \
             {uses: 'docker://localhost/busy:1', if: 'false'}\n",
        );
    let said: Said = stage.command().arg("--container-cli").arg(podman.program()).output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let words = "me two words manifest me";
    assert_eq!(
        marked(&said, "# "),
        [&*format!("first {words}"), &format!("after first {words}"), "me", &format!("after after first {words}"),],
        "{said:?}"
    );
    let steps: Vec<&str> = said.out.lines().filter_map(|line| line.strip_prefix("▸ ")).collect();
    assert_eq!(
        steps[..4],
        ["Set up job", "Pull localhost/busy:1", "Build acme/tool@v1", "Pre Run acme/tool@v1"],
        "{said:?}"
    );
    podman.has_nothing_left();
}

/// A workflow whose step in a container runs this script.
fn long(script: &str) -> Stage {
    let script = serde_json::to_string(script).unwrap();
    let text = format!(
        "on: push\njobs:\n  a:\n    runs-on: x\n    container: localhost/busy:1\n    steps:\n      - run: {script}\n      - if: \
         always()\n        run: 'echo \"# left $(ps | grep -c \"[w]hile :\")$(cat asked 2>/dev/null)\"'\n"
    );
    Stage::new().file("w.yml", &text)
}

/// A child that ignores what it is told.
const CHILD: &str = "sh -c 'trap \"\" INT TERM; while :; do sleep 1; done' &";

#[tokio::test]
async fn ctrl_c_lets_a_step_in_a_container_clean_up_and_removes_all() {
    let Some(podman) = Podman::start() else { return };
    // Into a file: engines lose what is said in the moment in which a process ends.
    let stage = long(&format!(
        "trap 'echo , asked > asked; exit 0' INT; {CHILD} echo \"deep in the container\"; while :; do sleep 0.1; done"
    ));
    let mut process = Process::spawn(stage.command().arg("--container-cli").arg(podman.program()));
    process.line_with("deep in the container");
    process.signal(Signal::SIGINT);
    let line = process.line_with("  # left ");
    assert!(line.ends_with("# left 0, asked"), "{line}");
    let status = process.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(130), "{}", process.errors());
    podman.has_nothing_left();
}

#[tokio::test]
async fn ctrl_c_leaves_nothing_of_a_container_that_ignores_it() {
    let Some(podman) = Podman::start() else { return };
    let stage = long(&format!("trap '' INT TERM; {CHILD} echo \"deep in the container\"; while :; do sleep 1; done"));
    let mut process = Process::spawn(stage.command().arg("--container-cli").arg(podman.program()));
    process.line_with("deep in the container");
    process.signal(Signal::SIGINT);
    let status = process.ended(Duration::from_secs(40)).await;
    assert_eq!(status.code(), Some(130), "{}", process.errors());
    podman.has_nothing_left();
}

#[test]
fn a_step_that_takes_too_long_leaves_nothing_in_the_container() {
    let Some(podman) = Podman::start() else { return };
    let stage = Stage::new().file(
        "w.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    container: localhost/busy:1\n    steps:\n      - {run: 'sleep 200 & sleep 100', \
         timeout-minutes: 0.03, continue-on-error: true}\n      - run: 'echo \"# left $(ps | grep -c \"[s]leep .00\")\"'\n",
    );
    let said: Said = stage.command().arg("--container-cli").arg(podman.program()).output().unwrap().into();
    assert_eq!((said.code, marked(&said, "# ")), (Some(0), vec!["left 0"]), "{said:?}");
    assert!(said.out.contains("has timed out after 0.03 minutes."), "{said:?}");
}

#[tokio::test]
async fn what_a_killed_runner_left_in_the_engine_is_removed_when_it_starts_again() {
    let Some(podman) = Podman::start() else { return };
    let mut service = Service::start(&[]);
    service.env.push(("STARTLINE_CONTAINER_CLI", podman.program().display().to_string()));
    let mut runner = service.runner("native", &[]);
    let run = service
        .submit(
            "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    container: localhost/busy:1\n    steps: [{run: 'echo deep; sleep \
             600'}]\n",
        )
        .await;
    let job = service.job(run, "the job runs", |job| job.status == JobStatus::Running).await;
    eventually("the step runs", async || service.log(job.id).await.contains("Z deep").then_some(())).await;
    assert_eq!(podman.containers().len(), 1);
    // As when the machine's memory is over: neither has a chance to do anything.
    let worker = children_of(runner.process().id())[0];
    nix::sys::signal::kill(worker, Signal::SIGSTOP).unwrap();
    runner.crash();
    nix::sys::signal::kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(podman.containers().len(), 1, "nobody has removed it");
    runner.start();
    eventually("container and network are removed", async || podman.left().is_empty().then_some(())).await;
}

#[test]
fn an_engine_whose_daemon_is_down_is_named() {
    let path = std::env::var_os("PATH").unwrap();
    let docker = std::env::split_paths(&path).map(|folder| folder.join("docker")).find(|file| file.is_file());
    let Some(docker) = docker else {
        anstream::eprintln!("skipped: this looks at what Docker's client says, and there is no `docker`");
        return;
    };
    let stage = Stage::new().file(
        "w.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    container: debian:12\n    steps: [{run: 'echo \"# never\"'}]\n",
    );
    let mut command = stage.command();
    command.arg("--container-cli").arg(&docker).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let said: Said = command.output().unwrap().into();
    assert_eq!((said.code, marked(&said, "# ").len()), (Some(1), 0), "{said:?}");
    for part in [
        "✗ Initialize containers",
        "`container: debian:12` of the job needs containers",
        "version` fails with exit code 1",
        "STARTLINE_CONTAINER_CLI",
    ] {
        assert!(said.out.contains(part), "no `{part}` in {said:?}");
    }
}
