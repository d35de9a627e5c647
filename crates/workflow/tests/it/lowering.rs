//! What a good file is read as.

use std::collections::BTreeMap;

use startline_workflow::model::{InputKind, Permissions, Reference};
use startline_workflow::template::{Kind, Template};
use startline_workflow::{Workflow, action, parse, resolve_inputs};

fn read(source: &str) -> Workflow {
    let (workflow, findings) = parse(source);
    let text: Vec<String> = findings.iter().map(|finding| finding.render(source, "ci.yml", false)).collect();
    workflow.unwrap_or_else(|| panic!("{}", text.join("\n")))
}

/// A template on one line: text in quotes, expressions in `${{ }}`.
fn show(template: &Template) -> String {
    match &template.kind {
        Kind::String(text) => format!("{text:?}"),
        Kind::Expression(text) => format!("${{{{ {text} }}}}"),
        Kind::Insert => "insert".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(value) => value.to_string(),
        Kind::Null => "null".to_owned(),
        Kind::Sequence(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Kind::Mapping(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", show(key), show(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn maybe(template: Option<&Template>) -> String {
    template.map(show).unwrap_or_default()
}

const FULL: &str = include_str!("full.yml");

#[test]
fn every_key_arrives_where_it_belongs() {
    let workflow = read(FULL);
    assert_eq!(workflow.name.as_deref(), Some("Full"));
    assert_eq!(maybe(workflow.run_name.as_ref()), "${{ format('by {0}', github.actor) }}");
    assert_eq!(
        maybe(workflow.env.as_ref()),
        r#"{"MSG": ${{ format('build {0} {{x}} it''s #{1}', github.ref_name, github.run_number) }}, insert: ${{ fromJSON(vars.EXTRA) }}}"#
    );
    assert_eq!(maybe(workflow.defaults.shell.as_ref()), r#""bash""#);
    assert_eq!(workflow.permissions, Some(Permissions::ReadAll));
    let ids: Vec<&str> = workflow.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["build", "Test-2", "last"]);

    let build = workflow.job("Build").unwrap();
    assert_eq!(maybe(build.name.as_ref()), "${{ format('Build {0}', matrix.os) }}");
    assert_eq!(show(&build.runs_on), "${{ matrix.os }}");
    assert_eq!(maybe(build.timeout_minutes.as_ref()), "10");
    assert_eq!(maybe(build.continue_on_error.as_ref()), "${{ matrix.soft }}");
    assert_eq!(
        maybe(build.strategy.as_ref()),
        r#"{"fail-fast": false, "matrix": {"os": ["linux", {"name": "mac", "v": 1}]}}"#
    );
    assert_eq!(maybe(build.defaults.working_directory.as_ref()), "${{ env.DIR }}");
    assert_eq!(maybe(build.env.as_ref()), r#"{"A": 1, "B": true, "C": null, "D": "x"}"#);
    assert_eq!(maybe(build.outputs.as_ref()), r#"{"tag": ${{ steps.one.outputs.tag }}}"#);
    assert_eq!(build.condition, "success()");

    let test = workflow.job("Test-2").unwrap();
    assert_eq!(test.needs, ["build"]);
    assert_eq!(test.condition, "always()");
    assert_eq!(show(&test.runs_on), r#"{"group": "big", "labels": ["self-hosted", ${{ inputs.who }}]}"#);
    assert_eq!(workflow.job("last").unwrap().needs, ["Test-2"]);
}

#[test]
fn steps_are_ready_to_be_sent() {
    let workflow = read(FULL);
    let steps = &workflow.jobs[0].steps;
    let names: Vec<&str> = steps.iter().map(|step| step.context_name.as_str()).collect();
    assert_eq!(names, ["one", "__run", "__self", "__self_2"]);
    let conditions: Vec<&str> = steps.iter().map(|step| step.condition.as_str()).collect();
    assert_eq!(conditions, ["success()", "failure()", "success() && (github.ref == 'x')", "success()"]);
    let inputs: Vec<String> = steps.iter().map(|step| show(&step.inputs)).collect();
    assert_eq!(
        inputs,
        [
            r#"{"script": "echo one\n"}"#,
            r#"{"script": "echo two", "shell": "python", "workingDirectory": ""}"#,
            r#"{"level": 3, "name": "folded"}"#,
            "{}",
        ]
    );
    assert_eq!(steps[0].reference, Reference::Script);
    assert_eq!(steps[2].reference, Reference::Local { path: "./action".to_owned() });
    assert_eq!(maybe(steps[1].name.as_ref()), r#""two""#);
    assert_eq!(maybe(steps[1].env.as_ref()), r#"{"X": "y"}"#);
    assert_eq!(maybe(steps[1].continue_on_error.as_ref()), "true");
    assert_eq!(maybe(steps[1].timeout_minutes.as_ref()), "${{ fromJSON('5') }}");
    let place = &steps[1].inputs.get("script").unwrap();
    assert_eq!((place.line, place.column), (41, 14));
}

#[test]
fn actions_of_other_repositories_become_references_with_generated_names() {
    let steps = ["actions/checkout@v4", "acme/tools/lint@releases/v1", "actions/checkout@v3", "docker://ghcr.io/a/b:1"];
    let list: String = steps.iter().map(|uses| format!("      - uses: {uses}\n")).collect();
    let workflow = read(&format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{list}"));
    let steps = &workflow.jobs[0].steps;
    let names: Vec<&str> = steps.iter().map(|step| step.context_name.as_str()).collect();
    assert_eq!(names, ["__actions_checkout", "__acme_tools", "__actions_checkout_2", "__ghcr_io_a_b_1"]);
    let repository = |name: &str, git_ref: &str, path: Option<&str>| Reference::Repository {
        name: name.to_owned(),
        git_ref: git_ref.to_owned(),
        path: path.map(str::to_owned),
    };
    assert_eq!(steps[0].reference, repository("actions/checkout", "v4", None));
    assert_eq!(steps[1].reference, repository("acme/tools", "releases/v1", Some("lint")));
    assert_eq!(steps[3].reference, Reference::Docker { image: "ghcr.io/a/b:1".to_owned() });
}

#[test]
fn triggers_keep_their_filters() {
    let workflow = read(FULL);
    let push = workflow.on.get("push").unwrap();
    assert_eq!(push.branches.as_ref().unwrap().patterns, ["main", "release/**"]);
    assert!(push.paths.as_ref().unwrap().ignore && push.tags.is_none());
    assert!(workflow.on.get("pull_request").is_some() && workflow.on.get("release").is_none());
    assert_eq!(workflow.on.get("schedule").unwrap().cron, ["30 5 * * 1-5"]);
    let inputs = &workflow.on.get("workflow_dispatch").unwrap().inputs;
    assert_eq!(
        inputs.iter().map(|input| input.kind).collect::<Vec<_>>(),
        [InputKind::Choice, InputKind::Boolean, InputKind::Number, InputKind::String]
    );
    for on in ["push", "[push, push]", "{push: {}}"] {
        let workflow = read(&format!("on: {on}\njobs: {{a: {{runs-on: x, steps: [{{run: a}}]}}}}\n"));
        assert_eq!(workflow.on.events.len(), 1, "{on}");
    }
}

fn given(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn inputs_are_typed_and_defaulted() {
    let workflow = read(FULL);
    let inputs = |values: &[(&str, &str)]| resolve_inputs(&workflow, &given(values)).unwrap().to_json().to_string();
    assert_eq!(inputs(&[("who", "me")]), r#"{"level":"high","dry":true,"count":0,"who":"me"}"#);
    assert_eq!(
        inputs(&[("WHO", ""), ("dry", "False"), ("count", "2.5"), ("level", "low")]),
        r#"{"level":"low","dry":false,"count":2.5,"who":""}"#
    );
}

#[test]
fn every_input_that_does_not_fit_is_reported() {
    let workflow = read(FULL);
    let values = given(&[("levle", "x"), ("dry", "maybe"), ("count", "many"), ("level", "hihg")]);
    let errors: Vec<String> = resolve_inputs(&workflow, &values).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "unknown input `levle`: did you mean `level`?",
            "the input `level` cannot be `hihg`: did you mean `high`?",
            "the input `dry` cannot be `maybe`: it must be `true` or `false`",
            "the input `count` cannot be `many`: it must be a number",
            "the input `who` is required and has no default",
        ]
    );
    let without = read("on: push\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n");
    assert_eq!(resolve_inputs(&without, &given(&[])).unwrap().to_json().to_string(), "{}");
    assert!(resolve_inputs(&without, &given(&[("a", "b")])).unwrap_err()[0].to_string().contains("declares none"));
}

#[test]
fn conditions_are_compiled_by_the_official_rule() {
    let cases = [
        ("", "success()"),
        ("true", "success() && (true)"),
        ("'false'", "success() && (false)"),
        ("github.ref == 'a'", "success() && (github.ref == 'a')"),
        ("${{ github.ref == 'a' }}", "success() && (github.ref == 'a')"),
        ("\"!cancelled() && github.ref\"", "!cancelled() && github.ref"),
        ("${{ success() }}", "success()"),
        ("|\n      always() ||\n      github.ref", "always() ||\ngithub.ref"),
        ("failure('a', 'b')", "failure('a', 'b')"),
    ];
    for (written, expected) in cases {
        let source = format!("on: push\njobs:\n  a:\n    if: {written}\n    runs-on: x\n    steps: [{{run: a}}]\n");
        assert_eq!(read(&source).jobs[0].condition, expected, "{written}");
    }
}

#[test]
fn a_composite_action_is_read() {
    let source = r#"
name: Greet
description: says hello
author: me
inputs:
  who: {description: name, default: "${{ github.actor }}", required: true}
  old: {deprecationMessage: use who}
  plain:
outputs:
  text: {value: "${{ steps.say.outputs.text }}"}
runs:
  using: composite
  steps:
    - id: say
      run: echo "${{ inputs.who }}"
      shell: ${{ inputs.shell || 'bash' }}
    - uses: ./other
      if: always()
branding: {icon: x}
"#;
    let (manifest, findings) = action::parse(source);
    assert_eq!(findings, []);
    let manifest = manifest.unwrap();
    assert_eq!(manifest.name.as_deref(), Some("Greet"));
    let inputs: Vec<(&str, bool, String)> =
        manifest.inputs.iter().map(|i| (i.name.as_str(), i.required, maybe(i.default.as_ref()))).collect();
    assert_eq!(
        inputs,
        [
            ("who", true, "${{ github.actor }}".to_owned()),
            ("old", false, String::new()),
            ("plain", false, String::new())
        ]
    );
    assert_eq!(manifest.inputs[1].deprecation.as_deref(), Some("use who"));
    assert_eq!(show(&manifest.outputs[0].value), "${{ steps.say.outputs.text }}");
    let action::Runs::Composite { steps } = manifest.runs else { panic!("not composite") };
    assert_eq!(
        show(&steps[0].inputs),
        r#"{"script": ${{ format('echo "{0}"', inputs.who) }}, "shell": ${{ inputs.shell || 'bash' }}}"#
    );
    assert_eq!((steps[1].context_name.as_str(), steps[1].condition.as_str()), ("__self", "always()"));
}

#[test]
fn a_script_has_stages_whose_conditions_are_as_they_are_written() {
    let source = "outputs: {a: {description: b}}\nruns: {using: node24, main: m.js, pre: p.js, pre-if: '${{ github.ref == 1 }}', post: q.js, \
                  post-if: success()}\n";
    let (manifest, findings) = action::parse(source);
    assert_eq!(findings, []);
    let action::Runs::Node(node) = manifest.unwrap().runs else { panic!("no script") };
    assert_eq!((node.version, node.main.as_str()), (24, "m.js"));
    assert_eq!((node.pre.as_deref(), node.pre_if.as_str()), (Some("p.js"), "github.ref == 1"));
    assert_eq!((node.post.as_deref(), node.post_if.as_str()), (Some("q.js"), "success()"));
    let (manifest, _) = action::parse("runs: {using: node20, main: m.js}\n");
    let action::Runs::Node(node) = manifest.unwrap().runs else { panic!("no script") };
    assert_eq!((node.pre, node.pre_if.as_str(), node.post_if.as_str()), (None, "always()", "always()"));
}

#[test]
fn mistakes_in_actions_have_their_code_and_place() {
    let cases: &[(&str, &[&str])] = &[
        ("name: x\n", &["1:1 missing-key"]),
        ("runs: {using: node20}\n", &["1:1 missing-key"]),
        ("runs: {using: node20, main: a, pre-if: 'nothing'}\n", &["1:41 expression"]),
        ("runs: {using: node20, main: a, image: b}\n", &["1:32 unknown-key"]),
        ("runs: {using: node18, main: a}\n", &["1:15 value"]),
        ("runs: {using: docker, image: debian}\n", &["1:30 value"]),
        ("runs: {using: composit, steps: []}\n", &["1:15 value"]),
        ("runs: {steps: []}\n", &["1:1 missing-key"]),
        ("runs: {using: composite}\n", &["1:1 missing-key"]),
        ("runs: {using: composite, steps: [{run: a}]}\n", &["1:35 missing-key"]),
        ("runs: {using: composite, steps: [{run: a, shell: bash, timeout-minutes: 1}]}\n", &["1:56 unknown-key"]),
        ("runs: {using: composite, steps: [{run: '${{ secrets.A }}', shell: bash}]}\n", &["1:45 expression"]),
        ("runs: {using: composite, steps: [{uses: 'docker://a'}]}\n", &[]),
        ("outputs: {a: {}}\nruns: {using: composite, steps: [{run: a, shell: bash}]}\n", &["1:11 missing-key"]),
        ("output: {}\nruns: {using: composite, steps: [{run: a, shell: bash}]}\n", &["1:1 unknown-key"]),
    ];
    for (source, expected) in cases {
        let (_, findings) = action::parse(source);
        let found: Vec<String> =
            findings.iter().map(|d| format!("{}:{} {}", d.span.start.line, d.span.start.column, d.code)).collect();
        assert_eq!(found, *expected, "{source}");
    }
}
