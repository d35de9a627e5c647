//! The job messages that official runners get, as reviewed snapshots.

mod required;
mod shape;

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use startline_protocol::runs_api::SubmitRequest;

use super::client::Held;
use super::{SHORT, demo, listening};
use crate::harness::{Service, root};

/// How one job is ended.
struct End {
    key: &'static str,
    conclusion: &'static str,
    outputs: Value,
}

/// The messages of all jobs of a run, in the order in which one runner gets them.
async fn messages(request: SubmitRequest, jobs: usize, ends: &[End]) -> Vec<Value> {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    let run = service.submit_with(request).await;
    let mut all = Vec::new();
    for _ in 0..jobs {
        let held = runner.take(&service).await;
        let key = held.message["variables"]["system.github.job"]["value"].as_str().unwrap();
        let end = ends.iter().find(|end| end.key == key);
        let over = json!({ "outputs": end.map_or(json!({}), |end| end.outputs.clone()) });
        let reply = held.complete(&service, end.map_or("succeeded", |end| end.conclusion), over).await;
        assert_eq!(reply.code(), 204, "{reply:?}");
        all.push(redacted(&service, &held));
    }
    service.ended(run).await;
    all
}

/// A message without what differs between two runs.
fn redacted(service: &Service, held: &Held) -> Value {
    let address = service.url.trim_start_matches("http://");
    let mut names =
        vec![(address.to_owned(), "startline.example".to_owned()), (held.token.clone(), "TOKEN".to_owned())];
    let mut name = |id: &Value, text: String| names.push((id.as_str().unwrap().to_owned(), text));
    name(&held.message["plan"]["planId"], "PLAN".to_owned());
    name(&held.message["jobId"], "JOB".to_owned());
    for (index, step) in held.message["steps"].as_array().unwrap().iter().enumerate() {
        name(&step["id"], format!("STEP {index}"));
    }
    let mut message = held.message.clone();
    rename(&mut message, &names);
    message
}

fn rename(value: &mut Value, names: &[(String, String)]) {
    match value {
        Value::String(text) => {
            for (from, to) in names {
                *text = text.replace(from, to);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(members) => members.values_mut().for_each(|member| rename(member, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// JSON with whatever fits on one line on one line, for reviewers.
fn readable(value: &Value, indent: usize) -> String {
    let line = value.to_string();
    if indent + line.len() <= 116 {
        return line;
    }
    let inner = " ".repeat(indent + 2);
    let (open, close, entries): (_, _, Vec<String>) = match value {
        Value::Array(items) => ('[', ']', items.iter().map(|item| readable(item, indent + 2)).collect()),
        Value::Object(members) => {
            let entries = members
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), readable(value, indent + 2)));
            ('{', '}', entries.collect())
        }
        _ => return line,
    };
    format!("{open}\n{inner}{}\n{}{close}", entries.join(&format!(",\n{inner}")), " ".repeat(indent))
}

fn example(name: &str) -> SubmitRequest {
    let path = format!("examples/{name}.yml");
    SubmitRequest { path: Some(path.clone()), ..demo(&fs::read_to_string(root().join(path)).unwrap()) }
}

/// Compares the messages of a run with those that were reviewed.
async fn golden(name: &str, request: SubmitRequest, jobs: usize, ends: &[End]) {
    let all = Value::from(messages(request, jobs, ends).await);
    insta::assert_snapshot!(name, readable(&all, 0));
}

#[tokio::test]
async fn the_messages_of_hello_are_those_that_were_reviewed() {
    golden("hello", example("hello"), 1, &[]).await;
}

#[tokio::test]
async fn the_messages_of_failing_are_those_that_were_reviewed() {
    let ends = [End { key: "work", conclusion: "failed", outputs: json!({}) }];
    golden("failing", example("failing"), 1, &ends).await;
}

#[tokio::test]
async fn the_messages_of_matrix_are_those_that_were_reviewed() {
    let sizes = json!({ "sizes": { "value": "[\"small\",\"large\"]" } });
    let ends = [
        End { key: "plan", conclusion: "succeeded", outputs: sizes },
        End { key: "build", conclusion: "succeeded", outputs: json!({ "last": { "value": "small" } }) },
    ];
    golden("matrix", example("matrix"), 5, &ends).await;
}

#[tokio::test]
async fn the_messages_of_composite_are_those_that_were_reviewed() {
    golden("composite", example("composite"), 1, &[]).await;
}

#[tokio::test]
async fn the_messages_of_secrets_are_those_that_were_reviewed() {
    let secrets = BTreeMap::from([("API_KEY".to_owned(), "swordfish-4711".to_owned())]);
    golden("secrets", SubmitRequest { secrets, ..example("secrets") }, 1, &[]).await;
}

#[tokio::test]
async fn every_kind_of_token_is_as_it_was_reviewed() {
    let variables = [("EXTRA_ENV", "{\"MORE\":\"1\"}"), ("PLACE", "src"), ("MINUTES", "2")];
    let request = SubmitRequest {
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        env: BTreeMap::from([("FROM_OUTSIDE".to_owned(), "${{ not.an.expression }}".to_owned())]),
        event: Some(json!({ "commits": [], "head": { "id": 4711, "ratio": 0.5, "tags": ["a"], "gone": null } })),
        ..demo(include_str!("messages/tokens.yml"))
    };
    golden("tokens", request, 1, &[]).await;
}

#[tokio::test]
async fn actions_of_every_kind_are_as_they_were_reviewed() {
    let secrets = BTreeMap::from([("LINT_TOKEN".to_owned(), "lint-4711".to_owned())]);
    golden("actions", SubmitRequest { secrets, ..demo(include_str!("messages/actions.yml")) }, 1, &[]).await;
}

#[tokio::test]
async fn a_matrix_with_needs_and_inputs_is_as_it_was_reviewed() {
    let sizes = json!({ "sizes": { "value": "[\"small\",\"medium\",\"large\"]" } });
    let request = SubmitRequest {
        git_ref: Some("refs/tags/v1.0".to_owned()),
        actor: Some("ann".to_owned()),
        inputs: BTreeMap::from([("note".to_owned(), "by hand".to_owned())]),
        ..demo(include_str!("messages/fan.yml"))
    };
    golden("fan", request, 4, &[End { key: "list", conclusion: "succeeded", outputs: sizes }]).await;
}

#[tokio::test]
async fn permissions_of_a_pull_requests_jobs_are_as_they_were_reviewed() {
    let request = SubmitRequest {
        git_ref: Some("refs/pull/5/merge".to_owned()),
        event: Some(json!({
            "action": "opened", "number": 5,
            "pull_request": { "head": { "ref": "topic" }, "base": { "ref": "main" } },
            "repository": { "id": 42, "owner": { "id": 7 } }, "sender": { "id": 9 },
        })),
        ..demo(include_str!("messages/cloud.yml"))
    };
    golden("cloud", request, 2, &[]).await;
}

#[test]
fn the_messages_of_every_example_were_reviewed() {
    for entry in fs::read_dir(root().join("examples")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".yml") {
            assert!(include_str!("messages.rs").contains(&format!("example(\"{name}\")")), "examples/{name}.yml");
        }
    }
}
