//! Containers, services and Docker actions, with a program in the engine's place that notes what it is asked and
//! executes on this machine what a container would execute (`tests/containers/docker`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use startline_protocol::state::Conclusion::{Cancelled, Failure, Skipped, Success};
use startline_worker::input::Exit;
use tokio::time::Instant;

use crate::harness::{Job, env, mapping, named, poll, run, runs, token, uses, with};

/// The engine's program with a state of its own.
struct Engine {
    folder: tempfile::TempDir,
}

impl Engine {
    fn new(settings: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/containers/docker");
        // Copied with its mode.
        std::fs::copy(script, folder.path().join("docker")).unwrap();
        std::fs::write(folder.path().join("settings.json"), settings.to_string()).unwrap();
        Self { folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("docker")
    }

    /// Arguments and variables of each call.
    fn calls(&self) -> Vec<(String, Value)> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let call = |line: &str| {
            let call: Value = serde_json::from_str(line).unwrap();
            let words: Vec<&str> =
                call["arguments"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            (words.join(" "), call["environment"].clone())
        };
        text.lines().map(call).collect()
    }

    /// The one call that begins so.
    fn call(&self, beginning: &str) -> (String, Value) {
        let mut calls: Vec<_> = self.calls().into_iter().filter(|(call, _)| call.starts_with(beginning)).collect();
        assert_eq!(calls.len(), 1, "calls `{beginning}`: {:#?}", self.calls());
        calls.remove(0)
    }

    /// Containers and networks that are still there.
    fn left(&self) -> usize {
        let containers = std::fs::read_dir(self.folder.path().join("containers")).map_or(0, Iterator::count);
        let networks = std::fs::read(self.folder.path().join("networks")).unwrap_or_else(|_| b"{}".to_vec());
        let networks: Value = serde_json::from_slice(&networks).unwrap();
        containers + networks.as_object().unwrap().len()
    }
}

impl Job {
    fn engine(mut self, engine: &Engine) -> Self {
        self.container_cli = Some(engine.program());
        self
    }
}

fn list(items: &[&str]) -> Value {
    json!({ "type": 1, "seq": items })
}

fn always(step: Value) -> Value {
    with(step, &[("condition", json!("always()"))])
}

/// A `run` step whose script has these values in it.
fn computed(id: &str, script: &str, values: &str) -> Value {
    let script = format!("format('{}', {values})", script.replace('\'', "''"));
    with(named(id, ""), &[("inputs", mapping(&[("script", json!({ "type": 3, "expr": script }))]))])
}

fn image_step(image: &str, inputs: &[(&str, Value)]) -> Value {
    let reference = json!({ "type": "containerRegistry", "image": image });
    with(run("x"), &[("reference", reference), ("inputs", mapping(inputs))])
}

#[tokio::test]
async fn steps_run_in_the_jobs_container_and_see_its_paths() {
    let engine = Engine::new(&json!({}));
    let container = mapping(&[
        ("image", json!("docker://debian:12")),
        ("env", env(&[("SHADE", "${{ vars.COLOUR }}"), ("DEEP", "${{ secrets.KEY }}")])),
        ("options", json!("--cpus 1")),
        ("volumes", list(&["data:/data"])),
    ]);
    let service = mapping(&[("image", json!("db:1")), ("ports", list(&["5432"])), ("command", json!("serve \"a b\""))]);
    let matcher = r#"{"problemMatcher":[{"owner":"cc","pattern":[{"regexp":"^(/.+):(\\d+): (.*)$","file":1,"line":2,"message":3}]}]}"#;
    let steps = vec![
        computed(
            "first",
            "echo $SHADE $CI {0}; echo word=said >> $GITHUB_OUTPUT; echo LATER=yes >> $GITHUB_ENV; echo /added/bin >> $GITHUB_PATH",
            "github.workspace",
        ),
        computed(
            "second",
            "echo {0} {1} {2} $LATER; echo $PATH; pwd > where",
            "steps.first.outputs.word, runner.temp, github.event_path",
        ),
        computed(
            "third",
            "echo {0}; echo {1} {2}; echo ::add-matcher::{3}/m.json; echo {3}/a.c:3: broken; echo ::error file={3}/a.c::named",
            "job.services.db.ports['5432'], hashFiles('a.c') != '', startsWith(job.container.network, 'github_network_') && \
             job.container.network == job.services.db.network, github.workspace",
        ),
    ];
    let outcome = Job::new(steps)
        .engine(&engine)
        .secret("KEY", "sesame-open")
        .message("jobContainer", container)
        .message("jobServiceContainers", mapping(&[("db", service), ("none", json!(""))]))
        .file("a.c", "int x;\n")
        .file("m.json", matcher)
        .finish()
        .await
        .green();
    let names: Vec<&str> = outcome.completion().steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!((names[1], names[names.len() - 2]), ("Initialize containers", "Stop containers"), "{names:?}");
    assert_eq!(outcome.step_lines(2), ["green true /__w/demo/demo"]);
    assert!(outcome.has("shell: sh -e {0}"), "{}", outcome.text);
    let second = outcome.step_lines(3);
    assert_eq!(second[0], "said /__w/_temp /github/workflow/event.json yes");
    assert_eq!(second[1], "/added/bin:/usr/local/bin:/usr/bin:/bin");
    assert!(outcome.read("where").trim().ends_with("work/demo/demo"));
    assert_eq!(outcome.step_lines(4)[..2], ["49153", "true true"]);
    let annotated = &outcome.completion().annotations;
    let places: Vec<_> = annotated.iter().map(|found| (found.path.as_deref(), found.start_line)).collect();
    assert_eq!(places, [(Some("a.c"), Some(3)), (Some("a.c"), None)], "{annotated:?}");
    assert!(outcome.has("The service 'none' will not be started") && outcome.has("db service is healthy."));
    assert!(outcome.has("log of db:1") && !outcome.text.contains("sesame"));

    let (job, service) = (engine.calls().into_iter(), engine.call("create --name startline_db_1_").0);
    let job = job.map(|(call, _)| call).find(|call| call.starts_with("create --name startline_debian_12_")).unwrap();
    for part in [
        " --cpus 1 ",
        " -e SHADE -e DEEP -e HOME=/github/home ",
        ":/__w ",
        ":/github/home ",
        " -v data:/data --entrypoint tail debian:12 -f /dev/null",
    ] {
        assert!(job.contains(part), "no `{part}` in {job}");
    }
    assert!(service.contains(" --network-alias db -p 5432 ") && service.ends_with(" db:1 serve a b"), "{service}");
    assert!(!engine.calls().iter().any(|(call, _)| call.contains("sesame")), "no secret in arguments");
    assert_eq!(engine.left(), 0);
}

#[tokio::test]
async fn an_engine_that_is_missing_or_silent_is_named_with_job_and_remedy() {
    let steps = || vec![run("echo never"), always(run("echo \"never\" either"))];
    let silent = Engine::new(&json!({ "down": true }));
    let jobs = [
        (Some(PathBuf::from("/none/docker")), "`/none/docker`, which --container-cli (STARTLINE_CONTAINER_CLI) names"),
        (Some(silent.program()), "docker version` fails with exit code 1: Cannot connect to the Docker daemon"),
    ];
    for (program, expected) in jobs {
        let mut job = Job::new(steps()).message("jobContainer", json!("debian:12"));
        job.container_cli = program;
        let outcome = job.finish().await;
        assert_eq!(outcome.conclusions(), [Failure, Skipped, Failure, Success]);
        let said = "##[error]`container: debian:12` of the job needs containers, and there is no container engine: ";
        assert!(outcome.has(said) && outcome.has(expected), "{}", outcome.text);
        assert!(outcome.has("the job's container of `debian:12` does not run") && !outcome.has("Z never"));
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_fails_the_job_unless_there_is_a_copy() {
    let engine = Engine::new(&json!({ "absent": ["gone:1"] }));
    let outcome =
        Job::new(vec![run("echo never")]).engine(&engine).message("jobContainer", json!("gone:1")).finish().await;
    assert_eq!(outcome.conclusions(), [Failure, Skipped, Success]);
    assert!(outcome.has("##[error]Docker pull of 'gone:1' failed with exit code 1"), "{}", outcome.text);
    assert_eq!(engine.calls().iter().filter(|(call, _)| call == "pull gone:1").count(), 3);
    assert_eq!(engine.left(), 0, "the network is gone too");

    let engine = Engine::new(&json!({ "absent": ["old:1", "localhost/own:1"], "local": ["old:1", "localhost/own:1"] }));
    let services = mapping(&[("own", json!("localhost/own:1"))]);
    let outcome = Job::new(vec![run("echo here")])
        .engine(&engine)
        .message("jobContainer", json!("old:1"))
        .message("jobServiceContainers", services)
        .finish()
        .await
        .green();
    assert!(outcome.has("the copy of the image that is here is used"));
    assert!(!engine.calls().iter().any(|(call, _)| call == "pull localhost/own:1"), "no registry has it");
}

#[tokio::test]
async fn a_service_is_waited_for_and_one_that_is_sick_fails_the_job_with_its_log() {
    let services =
        |options: &str| mapping(&[("db", mapping(&[("image", json!("db:1")), ("options", json!(options))]))]);
    let engine = Engine::new(&json!({ "health": ["starting", "healthy"] }));
    let outcome = Job::new(vec![run("echo fine")])
        .engine(&engine)
        .message("jobServiceContainers", services("--health-cmd \"true it\""))
        .finish()
        .await
        .green();
    assert!(outcome.has("db service is starting, waiting 2 seconds before checking again."));
    assert!(engine.call("create").0.contains(" --health-cmd true it "));
    assert!(outcome.has("fine") && outcome.has("shell: /"), "without a container steps run on the host");

    let engine = Engine::new(&json!({ "health": ["unhealthy"] }));
    let steps = vec![run("echo never")];
    let outcome = Job::new(steps).engine(&engine).message("jobServiceContainers", services("")).finish().await;
    assert_eq!(outcome.conclusions(), [Failure, Skipped, Success]);
    for said in ["##[group]Service container db failed.", "log of db:1", "##[error]Failed to initialize container db:1"]
    {
        assert!(outcome.has(said), "no `{said}` in {}", outcome.text);
    }
    assert!(outcome.has("##[error]One or more containers failed to start."));
    assert_eq!(outcome.lines().iter().filter(|line| **line == "log of db:1").count(), 1, "its log is told once");
    assert_eq!(engine.left(), 0);
}

#[tokio::test]
async fn credentials_pull_one_image_and_are_gone_afterwards() {
    let engine = Engine::new(&json!({ "password": "sesame-open" }));
    let credentials = mapping(&[("username", json!("bot")), ("password", token("${{ secrets.KEY }}"))]);
    let container = mapping(&[("image", json!("ghcr.io/acme/tool:1")), ("credentials", credentials)]);
    let outcome = Job::new(vec![run("echo pulled")])
        .engine(&engine)
        .secret("KEY", "sesame-open")
        .message("jobContainer", container)
        .finish()
        .await
        .green();
    assert!(outcome.has("pulled") && !outcome.text.contains("sesame"));
    let (login, variables) = engine.call("login");
    assert_eq!(login, "login ghcr.io -u bot --password-stdin");
    let folder = variables["DOCKER_CONFIG"].as_str().unwrap();
    assert!(folder.contains("/_temp/.docker_") && !Path::new(folder).exists());
    assert_eq!(engine.call("pull").1["DOCKER_CONFIG"], *folder);
    assert!(engine.call("create").1["DOCKER_CONFIG"].is_null());
}

const STUBBORN: &str = "trap 'echo asked' INT TERM; echo $$ > main; sh -c 'trap \"\" INT TERM; echo $$ > child; while :; do sleep 1; done' & while [ ! -s child ]; do sleep 0.05; done; echo ready; while :; do sleep 1; done";

#[tokio::test]
async fn a_cancel_reaches_what_runs_in_the_container_and_removes_all() {
    let engine = Engine::new(&json!({}));
    let mut job = Job::new(vec![run(STUBBORN), always(run("echo clean up"))])
        .engine(&engine)
        .message("jobContainer", json!("debian:12"))
        .start();
    job.until_log("Z ready\n").await;
    job.cancel("somebody asked");
    let workspace = job.workspace();
    let outcome = job.finish().await;
    assert_eq!(outcome.conclusions(), [Success, Cancelled, Success, Success]);
    assert!(outcome.has("asked") && outcome.has("clean up"), "{}", outcome.text);
    assert!(!runs(&workspace.join("main")) && !runs(&workspace.join("child")));
    assert_eq!(engine.left(), 0);
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_ended_in_the_container_too() {
    let engine = Engine::new(&json!({}));
    let slow = with(run("echo $$ > main; sleep 60 & echo $! > child; wait"), &[("timeoutInMinutes", json!(0.03))]);
    let outcome = Job::new(vec![slow, always(run("echo after"))])
        .engine(&engine)
        .message("jobContainer", json!("debian:12"))
        .finish()
        .await;
    assert_eq!(outcome.conclusions(), [Success, Failure, Success, Success]);
    let workspace = outcome.root.path().join("work/demo/demo");
    assert!(!runs(&workspace.join("main")) && !runs(&workspace.join("child")));
}

#[tokio::test]
async fn when_the_runner_dies_containers_and_networks_go_too() {
    let engine = Engine::new(&json!({}));
    let services = mapping(&[("db", json!("db:1"))]);
    let mut job = Job::new(vec![run("echo $$ > main; echo ready; sleep 300")])
        .engine(&engine)
        .message("jobContainer", json!("debian:12"))
        .message("jobServiceContainers", services)
        .start();
    job.until_log("Z ready\n").await;
    assert_eq!(engine.left(), 3);
    let start = Instant::now();
    job.close();
    assert_eq!(job.exit().await, Exit::Failed);
    assert!(start.elapsed() < Duration::from_secs(20));
    let workspace = job.workspace();
    poll("nothing is left", || engine.left() == 0 && !runs(&workspace.join("main"))).await;
}

#[tokio::test]
async fn what_a_killed_worker_left_is_removed_by_the_next_job_or_the_runner() {
    let engine = Engine::new(&json!({}));
    // As a killed worker leaves them: the label is that of the work directory.
    let leave = |label: &str| {
        let containers = engine.folder.path().join("containers");
        std::fs::create_dir_all(&containers).unwrap();
        let text = json!({ "id": "old", "name": "old", "label": label, "image": "x", "mounts": [], "env": {} });
        std::fs::write(containers.join("old"), text.to_string()).unwrap();
        std::fs::write(engine.folder.path().join("networks"), json!({ "github_network_old": label }).to_string())
            .unwrap();
    };
    let job = Job::new(vec![image_step("tool:1", &[("entrypoint", json!("true"))])]).engine(&engine);
    let work = job.root.path().canonicalize().unwrap().join("work");
    let label = {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, work.to_str().unwrap().as_bytes());
        let short: String = digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("startline.instance={short}")
    };
    leave(&label);
    let outcome = job.finish().await.green();
    assert!(outcome.has("Removed 1 containers of an earlier job"), "{}", outcome.text);
    assert_eq!(engine.left(), 0);

    leave(&label);
    let cli = engine.program();
    startline_worker::remove_leftovers(&work, Some(&cli)).await;
    assert_eq!(engine.left(), 2, "nothing says that a worker was killed");
    std::fs::create_dir_all(work.join("_temp")).unwrap();
    std::fs::write(work.join("_temp/.containers"), "").unwrap();
    startline_worker::remove_leftovers(&work, Some(&cli)).await;
    assert_eq!(engine.left(), 0);
    assert!(!work.join("_temp/.containers").exists());

    leave("startline.instance=another");
    std::fs::write(work.join("_temp/.containers"), "").unwrap();
    startline_worker::remove_leftovers(&work, Some(&cli)).await;
    assert_eq!(engine.left(), 2, "those of others stay");
}

#[tokio::test]
async fn docker_actions_get_inputs_arguments_and_the_jobs_network() {
    let engine = Engine::new(&json!({}));
    let manifest = "name: D\ninputs:\n  who: {default: nobody}\nruns:\n  using: docker\n  image: Dockerfile\n  entrypoint: sh\n  \
                    env: {FROM: manifest, OWN: '${{ inputs.who }}'}\n  args:\n    - -c\n    - 'echo \"$0 $INPUT_WHO $FROM $OWN \
                    $HOME\"; echo word=$INPUT_WHO >> $GITHUB_OUTPUT; test -e $GITHUB_EVENT_PATH; echo ::error file=/github/workspace/a.c::named'\n    \
                    - '${{ inputs.who }}'\n";
    let script = "echo \"$INPUT_ARGS|$INPUT_MORE\" | head -c 9; pwd; exit $INPUT_CODE";
    let steps = vec![
        with(uses("built", "./act", &[("who", json!("me"))]), &[("environment", env(&[("FROM", "step")]))]),
        image_step(
            "tool:1",
            &[("entrypoint", json!("sh")), ("args", json!(format!("-c \"{script}\""))), ("code", json!("3"))],
        ),
        always(computed("word", "echo {0}", "steps.built.outputs.word")),
        with(image_step("gone:1", &[]), &[("condition", json!("false"))]),
    ];
    let job = Job::new(steps).engine(&engine).file("act/action.yml", manifest).file("act/Dockerfile", "FROM x\n");
    let services = mapping(&[("db", json!("db:1"))]);
    let outcome = job.message("jobServiceContainers", services).file("a.c", "").finish().await;
    let names: Vec<&str> = outcome.completion().steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names[1..4], ["Pull tool:1", "Pull gone:1", "Initialize containers"]);
    assert_eq!(
        outcome.conclusions(),
        [Success, Success, Success, Success, Failure, Success, Skipped, Success],
        "{}",
        outcome.text
    );
    let home = outcome.root.path().canonicalize().unwrap().join("work/_temp/_github_home");
    assert!(outcome.has(&format!("me me step me {}", home.display())), "{}", outcome.text);
    assert!(outcome.completion().annotations.iter().any(|found| found.path.as_deref() == Some("a.c")));
    let (run, variables) = engine.calls().into_iter().find(|(call, _)| call.starts_with("run ")).unwrap();
    for part in [
        " --workdir /github/workspace --rm ",
        ":/github/workspace ",
        ":/github/file_commands ",
        ":/github/runner_temp ",
        " -e HOME=/github/home ",
        " --entrypoint sh --network github_network_",
        " sha256:bbb",
    ] {
        assert!(run.contains(part), "no `{part}` in {run}");
    }
    assert_eq!(variables["INPUT_WHO"], "me");
    let (build, _) = engine.call("build -t localhost/startline-");
    assert!(build.contains("/act/Dockerfile ") && build.ends_with("/act"), "{build}");
    assert_eq!(engine.left(), 0);
}

#[tokio::test]
async fn without_an_engine_a_docker_action_that_is_skipped_fails_nothing() {
    let steps =
        |condition: &str| vec![with(image_step("tool:1", &[]), &[("condition", json!(condition))]), run("echo on")];
    let mut job = Job::new(steps("false"));
    job.container_cli = Some("/none/docker".into());
    let outcome = job.finish().await.green();
    assert_eq!(outcome.conclusions(), [Success, Skipped, Success]);
    assert!(outcome.has("A step that needs the image fails, unless it is skipped."));
    let mut job = Job::new(steps("true"));
    job.container_cli = Some("/none/docker".into());
    let outcome = job.finish().await;
    assert_eq!(outcome.conclusions(), [Success, Failure, Skipped]);
    let said = "##[error]`uses: docker://tool:1` runs in a container, and there is no container engine: `/none/docker`";
    assert!(outcome.has(said), "{}", outcome.text);
}

#[tokio::test]
async fn a_cancel_ends_the_container_of_an_action() {
    let engine = Engine::new(&json!({}));
    let script = "-c \"echo ready; sleep 300\"";
    let step = image_step("tool:1", &[("entrypoint", json!("sh")), ("args", json!(script))]);
    let mut job = Job::new(vec![step]).engine(&engine).start();
    job.until_log("Z ready\n").await;
    job.cancel("enough");
    let outcome = job.finish().await;
    assert_eq!(outcome.conclusions(), [Success, Cancelled]);
    let calls: Vec<String> = engine.calls().into_iter().map(|(call, _)| call).collect();
    assert!(calls.iter().any(|call| call.starts_with("kill --signal INT startline_tool_1_")), "{calls:?}");
    assert_eq!(engine.left(), 0);
}
