//! Workflows that call other workflows, from the command line and over the API.

use std::fs;
use std::path::Path;

use startline_protocol::runs_api::{RerunRequest, RunDetail, SubmitRequest};
use startline_protocol::state::Conclusion;

use crate::harness::{Said, Service, startline};

const CALLED: &str = "\
on:
  workflow_call:
    inputs: {who: {type: string, required: true}}
    secrets: {greeting: {required: true}}
    outputs: {said: {value: '${{ jobs.say.outputs.said }}'}}
jobs:
  say:
    runs-on: ubuntu-latest
    outputs: {said: '${{ steps.it.outputs.said }}'}
    steps:
      - id: it
        env: {GREETING: '${{ secrets.greeting }}', OTHER: '${{ secrets.OTHER }}'}
        run: |
          echo \"$GITHUB_JOB: ${#GREETING} letters to ${{ inputs.who }}, other=[$OTHER]\"
          echo \"said=hello ${{ inputs.who }}\" >> \"$GITHUB_OUTPUT\"
";

fn write(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn run_in(tree: &Path, arguments: &[&str]) -> Said {
    startline().arg("run").args(arguments).current_dir(tree).output().unwrap().into()
}

#[test]
fn a_file_of_the_tree_is_called_with_inputs_and_secrets_and_gives_outputs() {
    let tree = tempfile::tempdir().unwrap();
    write(tree.path(), ".github/workflows/say.yml", CALLED);
    write(
        tree.path(),
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  greet:\n    strategy: {matrix: {who: [mona, hubot]}}\n    uses: ./.github/workflows/say.yml\n    \
         with: {who: '${{ matrix.who }}'}\n    secrets: {greeting: '${{ secrets.HELLO }}'}\n  \
         after:\n    needs: greet\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo \"said ${{ needs.greet.outputs.said }}\"\n",
    );
    let said =
        run_in(tree.path(), &[".github/workflows/ci.yml", "--secret", "HELLO=hi there", "--secret", "OTHER=unseen"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for wanted in
        ["greet (mona) / say", "say: 8 letters to mona, other=[]", "say: 8 letters to hubot, other=[]", "said hello "]
    {
        assert!(said.out.contains(wanted), "no `{wanted}` in {}", said.out);
    }
}

#[test]
fn a_mistake_in_a_called_file_is_shown_there_and_a_missing_file_where_it_is_called() {
    let tree = tempfile::tempdir().unwrap();
    write(tree.path(), "ci.yml", "on: push\njobs:\n  a: {uses: ./say.yml}\n  b: {uses: ./gone.yml}\n");
    write(tree.path(), "say.yml", "on: workflow_call\njobs:\n  say: {runs-on: x, stps: []}\n");
    let said = run_in(tree.path(), &["ci.yml"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    for wanted in
        ["say.yml:3:21", "did you mean `steps`", "ci.yml:4:13", "gone.yml", "1 mistake in ci.yml, 1 mistake in say.yml"]
    {
        assert!(said.err.contains(wanted), "no `{wanted}` in {}", said.err);
    }
    assert!(said.out.is_empty(), "{said:?}");
}

/// The keys, names and conclusions of a run's jobs.
fn jobs(detail: &RunDetail) -> Vec<(String, Option<Conclusion>)> {
    detail.jobs.iter().map(|job| (job.name.clone(), job.conclusion)).collect()
}

#[tokio::test]
async fn a_file_of_another_repository_is_fetched_once_and_a_rerun_needs_it_no_more() {
    let actions = tempfile::tempdir().unwrap();
    let called = "\
on:
  workflow_call: {}
jobs:
  first: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}
  second:
    needs: first
    runs-on: ubuntu-latest
    steps: [{run: 'test -e /proc/self/nothing'}]
  nested: {uses: ./.github/workflows/inner.yml}
";
    let inner = "on: workflow_call\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}";
    write(actions.path(), "acme/ci@v1/.github/workflows/ci.yml", called);
    write(actions.path(), "acme/ci@v1/.github/workflows/inner.yml", inner);
    let mut service = Service::start(&["--actions-dir", actions.path().to_str().unwrap(), "--actions-offline"]);
    let _runner = service.runner("one", &[]);
    let call = "on: push\njobs: {all: {uses: acme/ci/.github/workflows/ci.yml@v1}}";
    let run = service.submit(call).await;
    let detail = service.ended(run).await;
    let wanted = |first: Conclusion| {
        vec![
            ("all / first".to_owned(), Some(first)),
            ("all / nested / a".to_owned(), Some(Conclusion::Success)),
            ("all / second".to_owned(), Some(Conclusion::Failure)),
        ]
    };
    let mut ended = jobs(&detail);
    ended.sort();
    assert_eq!((ended, detail.run.conclusion), (wanted(Conclusion::Success), Some(Conclusion::Failure)));

    fs::remove_dir_all(actions.path().join("acme")).unwrap();
    service.process.crash();
    service.restart();
    let again = service.client.rerun_run(run, RerunRequest { failed_only: true }).await.unwrap().run.id;
    let detail = service.ended(again).await;
    let mut ended = jobs(&detail);
    ended.sort();
    assert_eq!(ended, wanted(Conclusion::Success));
    let taken = detail.jobs.iter().filter(|job| job.reason.as_deref().is_some_and(|why| why.contains("taken over")));
    assert_eq!(taken.count(), 2, "{:?}", detail.jobs);
}

#[tokio::test]
async fn a_file_that_nobody_has_is_refused_with_its_place() {
    let service = Service::start(&["--actions-offline"]);
    let refused = |workflow: &str| SubmitRequest { workflow: workflow.to_owned(), ..SubmitRequest::default() };
    for (workflow, wanted) in [
        ("on: push\njobs: {a: {uses: acme/ci/x.yml@v1}}", "`acme/ci/x.yml@v1` cannot be had"),
        ("on: push\njobs: {a: {uses: ./x.yml}}", "`x.yml` cannot be had: it is not among the files"),
    ] {
        let error = service.client.submit_run(&refused(workflow)).await.unwrap_err();
        let problem = error.problem().unwrap();
        let found = &problem.diagnostics[0];
        assert_eq!((problem.status, found.line), (422, 2), "{problem:?}");
        assert!(found.message.contains(wanted), "{problem:?}");
    }
}
