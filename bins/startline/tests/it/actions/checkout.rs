//! `actions/checkout` where the action cannot be had.

use std::fs;
use std::path::Path;
use std::process::Command;

use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::Conclusion;

use super::{Stage, marked};
use crate::harness::{Said, Service};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let said: Said = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap()
        .into();
    assert_eq!(said.code, Some(0), "git {arguments:?}: {said:?}");
    said.out.trim().to_owned()
}

/// A repository with two commits on `main`, the first of which is `v1` and the branch `side`. Both commits.
fn repository(directory: &Path) -> (String, String) {
    fs::create_dir_all(directory).unwrap();
    git(directory, &["init", "--quiet"]);
    fs::write(directory.join("file"), "one").unwrap();
    git(directory, &["add", "."]);
    git(directory, &["commit", "--quiet", "-m", "one"]);
    git(directory, &["tag", "v1"]);
    git(directory, &["branch", "side"]);
    let first = git(directory, &["rev-parse", "HEAD"]);
    fs::write(directory.join("file"), "two").unwrap();
    git(directory, &["commit", "--quiet", "-am", "two"]);
    (first, git(directory, &["rev-parse", "HEAD"]))
}

#[test]
fn a_local_run_has_its_files_without_a_network_and_copies_them_where_they_are_wanted() {
    let stage = Stage::new().file("a.txt", "here").steps(
        "      - uses: actions/checkout@v4\n      - {id: there, uses: actions/checkout@v3, with: {repository: Acme/Demo, path: there}}\n      - \
         run: 'echo \"# $(cat a.txt there/a.txt) ${{ steps.there.outputs.ref }}\"'\n",
    );
    let said = stage.run();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(marked(&said, "# ").len(), 1, "{said:?}");
    assert!(marked(&said, "# ")[0].starts_with("herehere"), "{said:?}");
    assert!(said.out.contains("already; nothing is fetched") && said.out.contains("Copied 2 files to"), "{said:?}");
    assert!(!said.out.contains("Getting action download info"), "nobody was asked: {said:?}");
    for (path, expected) in [("../out", "not below the workspace"), ("/etc", "not below the workspace")] {
        let stage = Stage::new().steps(&format!("      - {{uses: actions/checkout@v4, with: {{path: {path}}}}}\n"));
        let said = stage.run();
        assert!(said.code == Some(1) && said.out.contains(expected), "{said:?}");
    }
}

#[test]
fn a_local_run_takes_the_action_for_other_repositories_where_it_can_be_had() {
    let action = "inputs: {repository: {}, ref: {}}\nruns: {using: composite, steps: [{shell: bash, run: 'echo \"# the action ${{ inputs.repository \
                  }} ${{ inputs.ref }}\"'}]}\n";
    let stage = Stage::new().action("actions/checkout@v4", "action.yml", action).steps(
        "      - {uses: actions/checkout@v4, with: {repository: acme/other}}\n      - {uses: actions/checkout@v4, with: {ref: v9}}\n",
    );
    let said = stage.run();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(marked(&said, "# "), ["the action acme/other ", "the action  v9"]);
}

#[tokio::test]
async fn a_runner_fetches_by_git_what_the_service_serves_and_leaves_no_credentials() {
    let repositories = tempfile::tempdir().unwrap();
    let (first, second) = repository(&repositories.path().join("acme/demo"));
    let service = Service::start(&["--actions-offline", "--repositories-dir", repositories.path().to_str().unwrap()]);
    let runner = service.runner("native", &[]);
    let submit = async |steps: &str| {
        let workflow = format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n{steps}");
        let request = SubmitRequest {
            workflow,
            repository: Some("acme/demo".to_owned()),
            git_ref: Some("refs/heads/main".to_owned()),
            sha: Some(second.clone()),
            ..SubmitRequest::default()
        };
        let run = service.submit_with(request).await;
        let detail = service.ended(run).await;
        (detail.run.conclusion, service.log(detail.jobs[0].id).await)
    };
    let (conclusion, log) = submit(&format!(
        "      - {{id: one, uses: actions/checkout@v4}}\n      - run: |\n          echo \"# $(cat file) $(git branch --show-current) $(git \
         rev-list --count HEAD) ${{{{ steps.one.outputs.commit == '{second}' }}}}\"\n          git fetch --quiet --depth=5 origin main\n          echo \
         \"# later steps may fetch\"\n      - {{uses: actions/checkout@v4, with: {{ref: v1, path: old, fetch-depth: 0, persist-credentials: \
         false}}}}\n      - run: echo \"# $(cat old/file) $(git -C old rev-parse HEAD) $(grep -c extraheader old/.git/config)\"\n        shell: bash \
         {{0}}\n      - {{uses: actions/checkout@v4, with: {{ref: side, path: side}}}}\n      - run: |\n          for tree in . side old; do\n            \
         echo \"# $tree: $(git -C $tree for-each-ref --format='%(refname:short) from %(upstream:short)' refs/heads)\"\n          done\n"
    ))
    .await;
    assert_eq!(conclusion, Some(Conclusion::Success), "{log}");
    for expected in
        ["# two main 1 true", "# later steps may fetch", &format!("# one {first} 0"), "is done by the runner itself"]
            .into_iter()
            .chain(["# .: main from origin/main", "# side: side from origin/side", "# old: "])
    {
        assert!(log.contains(expected), "no `{expected}` in {log}");
    }
    let config = fs::read_to_string(runner.dir.path().join("_work/demo/demo/.git/config")).unwrap();
    assert!(!config.to_lowercase().contains("authorization"), "{config}");
    assert!(log.contains("Post job cleanup."), "{log}");

    // What the workspace holds is used again, and cleaned.
    let (conclusion, log) =
        submit("      - uses: actions/checkout@v4\n      - run: 'test ! -e old && echo \"# clean $(cat file)\"'\n")
            .await;
    assert!(conclusion == Some(Conclusion::Success) && log.contains("# clean two"), "{log}");

    for (with, expected) in [
        ("submodules: recursive", "`submodules` is not supported by the checkout that the runner itself does"),
        ("repository: acme/other", "git fetch failed: Process completed with exit code 128: is http"),
        ("ref: '--upload-pack=x'", "is no branch, tag or commit"),
        ("path: ../x", "not below the workspace"),
    ] {
        let (conclusion, log) = submit(&format!("      - {{uses: actions/checkout@v4, with: {{{with}}}}}\n")).await;
        assert!(conclusion == Some(Conclusion::Failure) && log.contains(expected), "{with}: {log}");
    }
}
