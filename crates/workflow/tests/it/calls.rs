//! What is said about calls of other workflows before anything runs.

use std::collections::BTreeMap;

use startline_workflow::model::{FileName, Linked, link};

fn linked(source: &str, files: &[(&str, &str)]) -> Linked {
    let name = |text: &str| {
        FileName::parse(&format!("./{text}"))
            .or_else(|_| FileName::parse(text))
            .unwrap_or_else(|problem| panic!("{text}: {problem}"))
    };
    let files: BTreeMap<FileName, String> = files.iter().map(|(path, text)| (name(path), (*text).to_owned())).collect();
    link(source, &FileName::local("ci.yml"), &files)
}

/// `file:line:column message (remedy)` of each finding.
fn found(source: &str, files: &[(&str, &str)]) -> Vec<String> {
    let linked = linked(source, files);
    assert_eq!(linked.workflow.is_none(), !linked.findings.is_empty());
    let line = |finding: &startline_workflow::model::Finding| {
        let d = &finding.diagnostic;
        let remedy = d.remedy.as_ref().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
        format!("{}:{}:{} {}{remedy}", finding.file, d.span.start.line, d.span.start.column, d.message)
    };
    linked.findings.iter().map(line).collect()
}

const PLAIN: &str = "on: workflow_call\njobs: {a: {runs-on: x, steps: [{run: a}]}}";

fn calling(rest: &str) -> String {
    format!("on: push\njobs:\n  a:\n    uses: ./b.yml\n{rest}")
}

#[test]
fn files_that_are_not_given_are_named() {
    let linked = linked(
        "on: push\njobs: {a: {uses: ./b.yml}, b: {uses: o/r/x/c.yml@v1}}",
        &[("o/r/x/c.yml@v1", "on: workflow_call\njobs: {a: {uses: ./d.yml}}")],
    );
    let missing: Vec<String> = linked.missing.keys().map(ToString::to_string).collect();
    assert_eq!(missing, ["b.yml", "o/r/d.yml@v1"], "a local name is one of the file's own repository");
    assert!(linked.workflow.is_some() && linked.findings.is_empty());
}

#[test]
fn a_job_that_calls_has_nothing_of_its_own_to_do() {
    assert_eq!(
        found(&calling("    runs-on: x\n    env: {A: b}\n"), &[("b.yml", PLAIN)]),
        [
            "ci.yml:5:5 a job with `uses` cannot have `runs-on` (move `runs-on` into the workflow that is called)",
            "ci.yml:6:5 a job with `uses` cannot have `env` (move `env` into the workflow that is called)",
        ]
    );
    assert_eq!(
        found("on: push\njobs:\n  a: {runs-on: x, steps: [{run: a}], with: {a: b}}", &[]),
        ["ci.yml:3:38 `with` of the job `a` belongs to jobs with `uses` (steps have `with`)"]
    );
}

#[test]
fn what_is_called_must_be_a_workflow_file_made_for_it() {
    assert_eq!(
        found("on: push\njobs: {a: {uses: actions/checkout@v4}}", &[]),
        ["ci.yml:2:18 `actions/checkout@v4` is no workflow file: it names no file of the repository (write \
          `./.github/workflows/name.yml` or `owner/repo/.github/workflows/name.yml@ref`)"]
    );
    assert_eq!(
        found("on: push\njobs: {a: {uses: './${{ github.ref }}.yml'}}", &[]),
        ["ci.yml:2:18 `uses` cannot hold an expression (write the value out)"]
    );
    assert_eq!(
        found(&calling(""), &[("b.yml", "on: push\njobs: {a: {runs-on: x, steps: [{run: a}]}}")]),
        ["ci.yml:4:11 `b.yml` is not made to be called (add `workflow_call:` under its `on`)"]
    );
}

#[test]
fn mistakes_of_the_called_file_are_shown_where_they_are() {
    assert_eq!(
        found(&calling(""), &[("b.yml", "on: workflow_call\njobs: {a: {runs-on: x, step: []}}")]),
        ["b.yml:2:24 unknown key `step` in the job `a` (did you mean `steps`?)"]
    );
}

#[test]
fn inputs_and_secrets_are_those_that_are_declared() {
    let declares = "\
on:
  workflow_call:
    inputs:
      who: {type: string, required: true}
      times: {type: number}
    secrets: {token: {required: true}}
jobs: {a: {runs-on: x, steps: [{run: a}]}}
";
    assert_eq!(
        found(&calling("    with: {whom: x, times: often}\n    secrets: {tokn: x}\n"), &[("b.yml", declares)]),
        [
            "ci.yml:4:11 the call of `b.yml` lacks the input `who` (add `who: …` under `with`)",
            "ci.yml:4:11 the call of `b.yml` lacks the secret `token` (add `token: ${{ secrets.token }}` under `secrets`, \
             or `secrets: inherit`)",
            "ci.yml:5:12 `b.yml` has no input `whom` (did you mean `who`?)",
            "ci.yml:5:28 the input `times` of `b.yml` cannot be this: it must be a number, not text; `fromJSON` makes one \
             of text",
            "ci.yml:6:15 `b.yml` has no secret `tokn` (did you mean `token`?)",
        ]
    );
    assert_eq!(
        found(&calling("    with: {who: 1.5, times: 3}\n    secrets: inherit\n"), &[("b.yml", declares)]),
        [""; 0]
    );
}

#[test]
fn a_workflow_that_calls_itself_is_refused() {
    let b = "on: workflow_call\njobs: {a: {uses: ./c.yml}}";
    let c = "on: workflow_call\njobs: {a: {uses: ./b.yml}}";
    assert_eq!(
        found(&calling(""), &[("b.yml", b), ("c.yml", c)]),
        ["c.yml:2:18 a workflow cannot call itself: `b.yml` calls `c.yml` calls `b.yml` (remove one of the calls)"]
    );
}

#[test]
fn chains_and_numbers_of_files_are_bounded() {
    let names: Vec<String> = (0..12).map(|n| format!("f{n}.yml")).collect();
    let texts: Vec<String> =
        (0..12).map(|n| format!("on: workflow_call\njobs: {{a: {{uses: ./f{}.yml}}}}", n + 1)).collect();
    let files: Vec<(&str, &str)> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let findings = found("on: push\njobs: {a: {uses: ./f0.yml}}", &files);
    assert_eq!(findings, ["f8.yml:2:18 workflows call each other more than 10 levels deep (call fewer levels)"]);
    // Each of a few files calls the next one many times: small to write, large to run.
    let many = |n: usize| -> String {
        let jobs: String = (0..30).map(|job| format!("  j{job}: {{uses: ./f{}.yml}}\n", n + 1)).collect();
        format!("on: workflow_call\njobs:\n{jobs}")
    };
    let texts: Vec<String> = (0..6).map(many).chain([PLAIN.to_owned()]).collect();
    let files: Vec<(&str, &str)> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let findings = found("on: push\njobs: {a: {uses: ./f0.yml}}", &files);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].contains("jobs with those that it calls; the limit is 1000"), "{findings:?}");
}

#[test]
fn a_called_job_asks_for_no_more_than_its_caller_has() {
    let asks =
        "on: workflow_call\npermissions: {contents: write, issues: read}\njobs: {a: {runs-on: x, steps: [{run: a}]}}";
    assert_eq!(
        found(&calling("    permissions: {contents: read, issues: read}\n"), &[("b.yml", asks)]),
        [
            "ci.yml:4:11 the job `a` of `b.yml` asks for the permission `contents: write`, and its caller has `read` (give \
          the job `a` that permission, or take it from `b.yml`)"
        ]
    );
    assert_eq!(found(&calling("    permissions: write-all\n"), &[("b.yml", asks)]), [""; 0]);
    assert_eq!(found(&calling(""), &[("b.yml", asks)]), [""; 0], "nothing is said of the caller");
}
