//! GitHub's own clients from npm, unchanged, against the service. `tests/npm` says which versions; what they do is in
//! `tests/npm/client.mjs`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use startline_protocol::ids::JobId;
use startline_protocol::runs_api::SubmitRequest;
use uuid::Uuid;

use crate::harness::{Process, Said, Service, eventually, root};
use crate::official::client::{Held, Official};
use crate::official::{SHORT, listening};

const JOB: &str = "on: push\npermissions: {id-token: write}\njobs:\n  build: {runs-on: [self-hosted, linux], steps: [{run: 'true'}]}\n  \
                   test: {runs-on: [self-hosted, linux], steps: [{run: 'true'}]}\n";
/// How long one program may take on a busy machine.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(180);

/// Where the clients are installed; `None`, said on standard error, when there is no Node.js to run them.
pub(crate) fn installed() -> Option<PathBuf> {
    let found = |program: &str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !found("node") {
        anstream::eprintln!("skipped: GitHub's npm clients need Node.js, and there is no `node`; ./test installs it");
        return None;
    }
    let (wanted, place) = (root().join("tests/npm"), root().join("target/npm"));
    fs::create_dir_all(&place).unwrap();
    // Tests are processes of their own; the first one installs.
    let lock = File::create(place.join(".lock")).unwrap();
    lock.lock().unwrap();
    let list = fs::read(wanted.join("package-lock.json")).unwrap();
    let done = place.join(".installed");
    if fs::read(&done).ok().as_ref() != Some(&list) {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(wanted.join(name), place.join(name)).unwrap();
        }
        let said: Said = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&place)
            .output()
            .expect("npm comes with Node.js; ./test installs it")
            .into();
        assert_eq!(said.code, Some(0), "the npm clients cannot be installed: {}", said.err);
        fs::write(&done, &list).unwrap();
    }
    // Modules are looked for beside and above the program. Replaced in one step: others may be reading it.
    for name in ["client", "toolkit"] {
        let fresh = place.join(format!("{name}-{}.mjs", std::process::id()));
        fs::copy(wanted.join(format!("{name}.mjs")), &fresh).unwrap();
        fs::rename(fresh, place.join(format!("{name}.mjs"))).unwrap();
    }
    Some(place)
}

/// The environment that the official worker gives to an action of this job (`NodeScriptActionHandler.cs`).
fn environment(held: &Held, server: &str) -> BTreeMap<&'static str, String> {
    let data = &held.message["resources"]["endpoints"][0]["data"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all = BTreeMap::from([
        ("ACTIONS_RUNTIME_TOKEN", held.token.clone()),
        ("ACTIONS_RESULTS_URL", text(&data["ResultsServiceUrl"])),
        ("ACTIONS_CACHE_URL", text(&data["CacheServerUrl"])),
        ("ACTIONS_RUNTIME_URL", text(&data["PipelinesServiceUrl"])),
        ("GITHUB_SERVER_URL", server.to_owned()),
        ("GITHUB_REPOSITORY", "acme/demo".to_owned()),
        ("GITHUB_REF", "refs/heads/main".to_owned()),
        ("GITHUB_RUN_ID", "1".to_owned()),
        ("RUNNER_OS", "Linux".to_owned()),
    ]);
    if let Some(url) = data["GenerateIdTokenUrl"].as_str() {
        all.insert("ACTIONS_ID_TOKEN_REQUEST_URL", url.to_owned());
        all.insert("ACTIONS_ID_TOKEN_REQUEST_TOKEN", held.token.clone());
    }
    if held.message["variables"]["actions_uses_cache_service_v2"]["value"] == "true" {
        all.insert("ACTIONS_CACHE_SERVICE_V2", "True".to_owned());
    }
    all
}

/// A host that clients do not take for a GitHub Enterprise Server.
const LOCAL: &str = "http://ci.localhost";
/// One that they do.
const FOREIGN: &str = "http://ci.example.test";

/// One of the programs, in a workspace.
fn program(place: &Path, workspace: &Path, verb: &str, environment: &BTreeMap<&'static str, String>) -> Process {
    let temp = workspace.join("temp");
    fs::create_dir_all(&temp).unwrap();
    let mut command = Command::new("node");
    command.arg(place.join("client.mjs")).arg(verb).stdin(Stdio::null()).env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"));
    command.envs(environment).env("GITHUB_WORKSPACE", workspace).env("RUNNER_TEMP", temp);
    Process::spawn(&mut command)
}

async fn run(place: &Path, workspace: &Path, verb: &str, environment: &BTreeMap<&'static str, String>) {
    let mut process = program(place, workspace, verb, environment);
    let status = process.ended(LIMIT).await;
    assert!(status.success(), "{verb}: {}\n{}", process.errors(), process.said());
}

async fn submit(service: &Service, git_ref: &str) {
    let request = SubmitRequest {
        workflow: JOB.to_owned(),
        repository: Some("acme/demo".to_owned()),
        git_ref: Some(git_ref.to_owned()),
        ..SubmitRequest::default()
    };
    service.submit_with(request).await;
}

async fn next(service: &Service, name: &str) -> (Official, Held) {
    let runner = listening(service, name).await;
    let held = runner.take(service).await;
    (runner, held)
}

#[tokio::test]
async fn the_artifact_client_uploads_lists_downloads_and_deletes() {
    let Some(place) = installed() else { return };
    let service = Service::start(&SHORT);
    submit(&service, "refs/heads/main").await;
    let (_first, held) = next(&service, "one").await;
    let (_second, of_the_run) = next(&service, "two").await;
    submit(&service, "refs/heads/main").await;
    let (_third, of_another) = next(&service, "three").await;
    let workspace = tempfile::tempdir().unwrap();
    run(&place, workspace.path(), "artifacts", &environment(&held, LOCAL)).await;
    run(&place, workspace.path(), "artifact-of-the-run", &environment(&of_the_run, LOCAL)).await;
    run(&place, workspace.path(), "no-artifact", &environment(&of_another, LOCAL)).await;
}

#[tokio::test]
async fn the_artifact_client_refuses_a_server_by_its_name_so_that_ours_needs_another() {
    let Some(place) = installed() else { return };
    let service = Service::start(&SHORT);
    submit(&service, "refs/heads/main").await;
    let (_runner, held) = next(&service, "one").await;
    let workspace = tempfile::tempdir().unwrap();
    let mut refused = program(&place, workspace.path(), "artifacts", &environment(&held, FOREIGN));
    assert!(!refused.ended(LIMIT).await.success(), "the page on interoperability says otherwise");
    assert!(refused.errors().contains("GHES"), "{}", refused.errors());
    run(&place, workspace.path(), "no-artifact", &environment(&held, LOCAL)).await;
}

#[tokio::test]
async fn the_artifact_client_outlives_a_crash_of_the_service_in_the_middle_of_an_upload() {
    let Some(place) = installed() else { return };
    let mut service = Service::start(&SHORT);
    submit(&service, "refs/heads/main").await;
    let (_runner, held) = next(&service, "one").await;
    let workspace = tempfile::tempdir().unwrap();
    let mut slowly = environment(&held, LOCAL);
    slowly.insert("ACTIONS_ARTIFACT_UPLOAD_CONCURRENCY", "1".to_owned());
    let mut upload = program(&place, workspace.path(), "slow-artifact", &slowly);
    let blobs = service.data.path().join("blobs");
    eventually("some blocks are there", async || (files(&blobs) >= 3).then_some(())).await;
    service.process.crash();
    let blocks = files(&blobs);
    assert!(blocks < 12, "it was in the middle: {blocks} of 13 blocks");
    service.restart();
    let status = upload.ended(LIMIT).await;
    assert!(status.success(), "{}\n{}", upload.errors(), upload.said());
}

#[tokio::test]
async fn azures_sdk_puts_a_log_of_several_blocks_whole() {
    let Some(place) = installed() else { return };
    let service = Service::start(&SHORT);
    submit(&service, "refs/heads/main").await;
    let (_runner, held) = next(&service, "one").await;
    let url = async |step: u128| format!("{}{}", service.url, held.logs_url(&service, Uuid::from_u128(step)).await);
    let mut addresses = environment(&held, LOCAL);
    addresses.extend([("LONG_LOG", url(1).await), ("SHORT_LOG", url(2).await)]);
    let workspace = tempfile::tempdir().unwrap();
    run(&place, workspace.path(), "step-logs", &addresses).await;
    assert_eq!(service.log(JobId(1)).await, "one\n".repeat(512 << 10) + "two\nthree\n");
}

/// How many files are below a directory.
fn files(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// Saves and restores, then looks from another branch that may find it, and from another place that may not.
async fn caches(server: &str) {
    let Some(place) = installed() else { return };
    let service = Service::start(&SHORT);
    submit(&service, "refs/heads/main").await;
    let (_first, main) = next(&service, "one").await;
    let (_second, _rest) = next(&service, "two").await;
    submit(&service, "refs/heads/topic").await;
    let (_third, topic) = next(&service, "three").await;
    let workspace = tempfile::tempdir().unwrap();
    let of = |held: &Held| environment(held, server);
    assert_eq!(of(&main)["ACTIONS_CACHE_SERVICE_V2"], "True");
    run(&place, workspace.path(), "no-caches", &of(&main)).await;
    run(&place, workspace.path(), "save-caches", &of(&main)).await;
    run(&place, workspace.path(), "restore-caches", &of(&topic)).await;
}

#[tokio::test]
async fn the_cache_client_saves_and_restores_with_fallback_keys() {
    caches(LOCAL).await;
}

#[tokio::test]
async fn the_cache_client_takes_the_older_service_for_a_server_of_ones_own() {
    caches(FOREIGN).await;
}

#[tokio::test]
async fn an_id_token_verifies_against_the_published_keys() {
    let Some(place) = installed() else { return };
    let service = Service::start(&SHORT);
    submit(&service, "refs/heads/main").await;
    let (_runner, held) = next(&service, "one").await;
    let workspace = tempfile::tempdir().unwrap();
    run(&place, workspace.path(), "token", &environment(&held, LOCAL)).await;
}
