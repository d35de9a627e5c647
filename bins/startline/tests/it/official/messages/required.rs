//! What workers need of a job message and fail without, often in silence.

use super::*;

/// The message of a job with each kind of token, and that of one with each kind of action.
async fn two() -> [Value; 2] {
    let variables = [("EXTRA_ENV", "{}"), ("PLACE", "src"), ("MINUTES", "2")];
    let tokens = SubmitRequest {
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..demo(include_str!("tokens.yml"))
    };
    let actions = demo(include_str!("actions.yml"));
    [messages(tokens, 1, &[]).await.remove(0), messages(actions, 1, &[]).await.remove(0)]
}

/// Each token below a value, by what a worker takes for one.
fn tokens<'a>(value: &'a Value, found: &mut Vec<&'a serde_json::Map<String, Value>>) {
    match value {
        Value::Object(members) => {
            found.extend(members.contains_key("type").then_some(members));
            members.values().for_each(|member| tokens(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| tokens(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_step_has_a_type_and_a_condition_and_no_literal_holds_an_expression() {
    for message in two().await {
        let mut found = Vec::new();
        for step in message["steps"].as_array().unwrap() {
            assert_eq!(step["type"], "action");
            assert!(step["condition"].as_str().is_some_and(|condition| !condition.trim().is_empty()), "{step}");
            for member in ["inputs", "environment", "continueOnError", "timeoutInMinutes", "displayNameToken"] {
                tokens(&step[member], &mut found);
            }
        }
        for member in ["environmentVariables", "defaults", "jobOutputs"] {
            tokens(&message[member], &mut found);
        }
        assert!(found.len() > 10);
        for token in found {
            assert!(token["type"].is_u64(), "words are not understood: {token:?}");
            let literal = token.get("lit").and_then(Value::as_str).unwrap_or_default();
            assert!(!literal.contains("${{"), "workers evaluate no literal: {token:?}");
        }
    }
}

#[tokio::test]
async fn ids_of_the_github_context_are_text_or_the_worker_exports_none() {
    for message in two().await {
        let github = message["contextData"]["github"]["d"].as_array().unwrap();
        let of = |name: &str| &github.iter().find(|pair| pair["k"] == name).unwrap_or_else(|| panic!("no {name}"))["v"];
        assert_eq!(of("repository"), "acme/demo");
        for name in ["run_id", "run_number", "run_attempt", "retention_days", "repository_id", "actor_id"] {
            assert!(of(name).as_str().is_some_and(|id| id.parse::<u64>().is_ok()), "{name}: {}", of(name));
        }
        let exported = github.iter().filter(|pair| pair["k"] != "event");
        for pair in exported {
            assert!(pair["v"].is_string() || pair["v"].is_boolean(), "{pair}");
        }
    }
}

#[tokio::test]
async fn the_jobs_token_has_both_of_its_names_and_is_secret_under_each() {
    for message in two().await {
        for name in ["system.github.token", "github_token"] {
            assert_eq!(message["variables"][name], json!({ "value": "TOKEN", "isSecret": true }));
        }
    }
}

#[tokio::test]
async fn switches_are_true_or_false_and_notices_and_annotations_are_switched_on() {
    for message in two().await {
        let variables = message["variables"].as_object().unwrap();
        let switches = variables.iter().filter(|(name, _)| {
            ["DistributedTask.", "RunService.", "actions_", "actions."].iter().any(|prefix| name.starts_with(prefix))
        });
        for (name, variable) in switches {
            assert!(variable["value"] == "true" || variable["value"] == "false", "{name}: {variable}");
        }
        for name in ["DistributedTask.EnhancedAnnotations", "actions_send_job_level_annotations"] {
            assert_eq!(variables[name]["value"], "true", "without it `::notice` is printed as it is");
        }
    }
}

#[tokio::test]
async fn inputs_are_a_dictionary_where_a_workflow_has_none() {
    for message in two().await {
        assert_eq!(message["contextData"]["inputs"], json!({ "t": 2 }), "null ends a reusable workflow's job");
    }
}

#[tokio::test]
async fn defaults_are_merged_key_by_key_because_workers_take_one_of_them_whole() {
    let [message, _] = two().await;
    let [defaults] = &message["defaults"].as_array().unwrap()[..] else { panic!("{}", message["defaults"]) };
    let keys: Vec<&Value> =
        defaults["map"][0]["Value"]["map"].as_array().unwrap().iter().map(|entry| &entry["Key"]).collect();
    assert_eq!(keys, ["shell", "working-directory"], "one of the workflow, one of the job");
}

#[tokio::test]
async fn what_workers_mask_is_long_or_logs_are_full_of_stars() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(include_str!("actions.yml"))).await;
    let held = runner.take(&service).await;
    let endpoint = &held.message["resources"]["endpoints"][0];
    let parameters = endpoint["authorization"]["parameters"].as_object().unwrap().values();
    let variables = held.message["variables"].as_object().unwrap().values();
    let secrets = variables.filter(|variable| variable["isSecret"] == true).map(|variable| &variable["value"]);
    let masked: Vec<&Value> = parameters.chain(secrets).collect();
    assert!(masked.len() >= 3);
    for value in masked {
        assert!(value.as_str().is_some_and(|text| text.len() >= 32), "{value}");
    }
}
