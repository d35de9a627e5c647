//! Runs that are wanted only if an event starts the workflow.

use serde_json::json;
use startline_protocol::runs_api::SubmitRequest;

use crate::harness::{Service, run, workflow};

const FILTERED: &str = "\
on:
  push: {branches: [main], paths: ['src/**']}
  pull_request: {types: [labeled]}
jobs: {a: {runs-on: ubuntu-latest, steps: [{run: echo it ran}]}}
";

#[test]
fn a_run_that_nothing_triggers_is_not_started_and_that_is_no_failure() {
    let (_directory, path) = workflow(FILTERED);
    let path = path.to_str().unwrap();
    let said = run(&["run", path, "--event", "push", "--if-triggered", "--changed", "README.md"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("no run: ") && said.err.contains("`README.md` is not matched by `paths`"), "{said:?}");
    assert!(!said.out.contains("it ran"), "{said:?}");
    let said =
        run(&["run", path, "--event", "push", "--if-triggered", "--changed", "README.md", "--changed", "src/a.rs"]);
    assert!(said.code == Some(0) && said.out.contains("it ran"), "{said:?}");
    let said = run(&["run", path, "--event", "push", "--changed", "x"]);
    assert!(said.code == Some(2) && said.err.contains("--if-triggered"), "{said:?}");
}

#[tokio::test]
async fn a_forge_that_sends_every_event_is_told_which_start_nothing() {
    let service = Service::start(&[]);
    let ask = |event: &str, git_ref: &str, body: serde_json::Value| SubmitRequest {
        workflow: FILTERED.to_owned(),
        event_name: Some(event.to_owned()),
        event: Some(body),
        git_ref: Some(git_ref.to_owned()),
        only_if_triggered: true,
        ..SubmitRequest::default()
    };
    for (request, wanted) in [
        (ask("push", "refs/heads/dev", json!({})), "the branch `dev` is not matched by `branches`"),
        (ask("push", "refs/tags/v1", json!({})), "none that is about a tag"),
        (ask("push", "refs/heads/main", json!({"head_commit": {"message": "x [skip ci]"}})), "`[skip ci]`"),
        (ask("pull_request", "refs/pull/1/merge", json!({"action": "opened"})), "`opened`"),
        (ask("issues", "refs/heads/main", json!({"action": "opened"})), "not triggered by `issues`"),
    ] {
        let error = service.client.submit_run(&request).await.unwrap_err();
        let problem = error.problem().unwrap();
        assert_eq!((problem.status, problem.kind.as_str()), (422, "not-triggered"), "{problem:?}");
        assert!(problem.title.contains(wanted), "{problem:?}");
    }
    let labeled = ask("pull_request", "refs/pull/1/merge", json!({"action": "labeled"}));
    service.client.submit_run(&labeled).await.unwrap();
    service.client.submit_run(&ask("push", "refs/heads/main", json!({}))).await.unwrap();
    let unfiltered = SubmitRequest { only_if_triggered: false, ..ask("push", "refs/heads/dev", json!({})) };
    service.client.submit_run(&unfiltered).await.unwrap();
}
