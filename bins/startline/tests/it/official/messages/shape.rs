//! A message of ours beside one that GitHub sent, key by key. `acquirejob_shape.txt` has the paths and types of the latter,
//! and none of its values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use startline_protocol::runs_api::SubmitRequest;

use super::{demo, messages};

/// Types by path. `*` is each entry of a list.
type Shape = BTreeMap<String, BTreeSet<String>>;

/// What GitHub sends and we do not, and why. A path stands for all that is below it, and `*` for any name.
const ONLY_THEIRS: &[(&str, &str)] = &[
    ("/billingOwnerId", "there is nobody to bill; the worker only repeats it"),
    ("/contextData/github/artifact_cache_size_limit", "nothing reads it, and quotas are the service's own"),
    ("/contextData/job/check_run_id", "there are no check runs"),
    ("/jobContainer", "absent is null"),
    ("/jobOutputs", "absent is null"),
    ("/jobServiceContainers", "absent is null"),
    ("/lockedUntil", "of the older protocol; `renewjob` tells it"),
    ("/plan/artifactLocation", "of the older protocol"),
    ("/plan/artifactUri", "of the older protocol"),
    ("/resources/endpoints/*/data/ConnectivityChecks", "there is one service to reach, and the job came from it"),
    (
        "/resources/endpoints/*/data/GenerateIdTokenUrl",
        "only where the job may have id tokens: its presence makes workers wait",
    ),
    ("/resources/endpoints/*/data/ServerId", "empty and not read"),
    ("/resources/endpoints/*/data/ServerName", "empty and not read"),
    ("/snapshot", "machine images are made by GitHub alone"),
    ("/steps/*/continueOnError", "absent is null"),
    ("/steps/*/timeoutInMinutes", "absent is null"),
    ("/timeline/location", "of the older protocol"),
    ("/variables/Actions.EnableHttpRedirects", "of the older protocol"),
    ("/variables/DistributedTask.AddWarningToNode12Action", "no worker that we work with reads it"),
    ("/variables/DistributedTask.AddWarningToNode16Action", "no worker that we work with reads it"),
    ("/variables/DistributedTask.DetailUntarFailure", "no worker that we work with reads it"),
    ("/variables/DistributedTask.EnableCompositeActions", "no worker that we work with reads it"),
    ("/variables/DistributedTask.EnableJobServerQueueTelemetry", "no worker that we work with reads it"),
    ("/variables/DistributedTask.ForceGithubJavascriptActionsToNode16", "no worker that we work with reads it"),
    ("/variables/DistributedTask.ForceGithubJavascriptActionsToNode20", "no worker that we work with reads it"),
    (
        "/variables/DistributedTask.MarkJobAsFailedOnWorkerCrash",
        "of the older protocol; here the listener completes the job",
    ),
    ("/variables/DistributedTask.NewActionMetadata", "no worker that we work with reads it"),
    ("/variables/DistributedTask.UploadStepSummary", "no worker that we work with reads it"),
    ("/variables/DistributedTask.UseActionArchiveCache", "no worker that we work with reads it"),
    ("/variables/DistributedTask.UseWhich2", "no worker that we work with reads it"),
    ("/variables/actions.runner.requirenode24", "the worker itself knows on which Node.js actions run"),
    ("/variables/actions.runner.usenode24bydefault", "the worker itself knows on which Node.js actions run"),
    ("/variables/actions.runner.warnonnode20", "the worker itself knows on which Node.js actions run"),
    ("/variables/actions_runner_node20_removal_date", "the worker itself knows on which Node.js actions run"),
    ("/variables/actions_runner_node24_default_date", "the worker itself knows on which Node.js actions run"),
    ("/variables/actions_runner_deprecate_linux_arm32", "we withdraw no machine from anybody; absent is false"),
    ("/variables/actions_runner_kill_linux_arm32", "we withdraw no machine from anybody; absent is false"),
    ("/variables/actions_add_check_run_id_to_job_context", "read by GitHub's own service"),
    ("/variables/actions_runner_compare_workflow_parser", "for GitHub's own tests of two parsers"),
    ("/variables/actions_runner_emit_composite_markers", "false there, and absent is false"),
    ("/variables/actions_snapshot_preflight_hosted_runner_check", "machine images are made by GitHub alone"),
    ("/variables/actions_snapshot_preflight_image_gen_pool_check", "machine images are made by GitHub alone"),
    ("/variables/actions_use_bearer_token_for_codeload", "false there, and absent is false"),
    ("/variables/system.phaseDisplayName", "of the older protocol"),
    ("/variables/system.runner.lowdiskspacethreshold", "the worker's own threshold is the same"),
];

/// What we send and GitHub did not.
const ONLY_OURS: &[(&str, &str)] = &[
    ("/steps/*/inputs/col", "where a mapping begins, for the worker's messages"),
    ("/steps/*/inputs/file", "where a mapping begins, for the worker's messages"),
    ("/steps/*/inputs/line", "where a mapping begins, for the worker's messages"),
    ("/variables/*/isSecret", "GitHub leaves `false` out"),
    (
        "/variables/DistributedTask.UseContainerPathForTemplate",
        "paths that expressions give within containers are those of containers",
    ),
    ("/variables/actions_send_job_level_annotations", "or annotations of the job itself are not reported"),
];

/// What both send and in another form.
const OTHERWISE: &[(&str, &str)] =
    &[("/steps/*/inputs/map/*/Key", "the short form of a literal, which workers take as well")];

/// The body of an event is the submitter's own.
const EVENT: &str = "/contextData/github/event";

fn read(value: &Value, path: &str, shape: &mut Shape) {
    let mut note = |what: &str| {
        shape.entry(path.to_owned()).or_default().insert(what.to_owned());
    };
    match value {
        Value::Null => note("null"),
        Value::Bool(_) => note("boolean"),
        Value::Number(_) => note("number"),
        Value::String(_) => note("string"),
        Value::Array(items) => {
            note("list");
            items.iter().for_each(|item| read(item, &format!("{path}/*"), shape));
        }
        // A context is written as pairs, and read by its names.
        Value::Object(members) if path.starts_with("/contextData/") && members["t"] == 2 => {
            note("dictionary");
            for pair in members.get("d").and_then(Value::as_array).into_iter().flatten().filter(|_| path != EVENT) {
                read(&pair["v"], &format!("{path}/{}", pair["k"].as_str().unwrap()), shape);
            }
        }
        Value::Object(members) => {
            note("object");
            members.iter().for_each(|(name, value)| read(value, &format!("{path}/{name}"), shape));
        }
    }
}

fn shape_of(message: &Value) -> Shape {
    let mut shape = Shape::new();
    read(message, "", &mut shape);
    shape
}

fn theirs() -> Shape {
    let lines = include_str!("acquirejob_shape.txt").lines();
    let pairs = lines.map(|line| line.split_once(": ").unwrap());
    pairs.map(|(path, types)| (path.to_owned(), types.split(" or ").map(str::to_owned).collect())).collect()
}

/// Whether a list has an entry for a path, which is noted as used.
fn covered<'a>(path: &str, list: &[(&'a str, &str)], used: &mut BTreeSet<&'a str>) -> bool {
    let found = list.iter().find(|(known, _)| {
        let mut names = path.split('/');
        known.split('/').all(|wanted| names.next().is_some_and(|name| wanted == "*" || wanted == name))
    });
    found.is_some_and(|(known, _)| {
        used.insert(known);
        true
    })
}

#[tokio::test]
async fn our_message_has_the_shape_of_githubs_key_by_key() {
    let request = SubmitRequest {
        event: Some(json!({ "repository": { "id": 1 }, "sender": { "id": 2 } })),
        ..demo(include_str!("probe.yml"))
    };
    let message = messages(request, 1, &[]).await.remove(0);
    let (ours, theirs) = (shape_of(&message), theirs());
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for (path, types) in &theirs {
        match ours.get(path) {
            Some(own) if own == types || covered(path, OTHERWISE, &mut used) => {}
            Some(own) => wrong.push(format!("{path} is {own:?} and should be {types:?}")),
            None if covered(path, ONLY_THEIRS, &mut used) || covered(path, OTHERWISE, &mut used) => {}
            None => wrong.push(format!("{path} ({types:?}) is missing")),
        }
    }
    for (path, types) in ours.iter().filter(|(path, _)| !theirs.contains_key(*path)) {
        if !covered(path, ONLY_OURS, &mut used) && !covered(path, OTHERWISE, &mut used) {
            wrong.push(format!("{path} ({types:?}) is ours alone"));
        }
    }
    assert!(wrong.is_empty(), "differences that nobody meant: {wrong:#?}");
    let listed = [ONLY_THEIRS, ONLY_OURS, OTHERWISE].concat();
    let stale: Vec<&str> = listed.iter().map(|(path, _)| *path).filter(|path| !used.contains(path)).collect();
    assert!(stale.is_empty(), "differences that are none any more: {stale:?}");
    assert!(listed.iter().all(|(_, why)| why.len() > 10), "each says why");
}
