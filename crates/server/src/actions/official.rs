//! The job message as official runners want it: beside what every worker needs, the addresses of the services that they
//! report to, and secrets as variables.

use std::collections::BTreeMap;

use startline_protocol::job_message::{MaskHint, Variable};

use super::urls::Urls;
use crate::message::Bound;
use crate::routes::polls::Taken;

/// Switches that the worker reads from its variables (actions/runner `Constants.cs`, `JobServerQueue.cs`).
const SWITCHES: [&str; 11] = [
    // Logs of more than one block arrive whole in no other way (`startline_protocol::actions::results::STORAGE_TYPE`).
    "system.github.results_upload_with_sdk",
    // Scripts around containers, as actions-runner-controller has them.
    "DistributedTask.AllowRunnerContainerHooks",
    "DistributedTask.DeprecateStepOutputCommands",
    "DistributedTask.LogTemplateErrorsAsDebugMessages",
    "DistributedTask.UseContainerPathForTemplate",
    "actions_batch_action_resolution",
    "actions_display_helpful_actions_download_errors",
    "actions_service_container_command",
    "actions_set_orchestration_id_env_for_actions",
    // What newer workers do in any case.
    "actions_container_action_runner_temp",
    "actions_skip_retry_complete_job_upon_known_errors",
];

/// What no log shows, whoever's it is: tokens of this service, and bearers of the form that job and id tokens have.
const MASKS: [&str; 2] =
    [r"\bsl[prt]_[0-9A-Za-z]{49}\b", r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{20,}"];

/// What is sent to an official runner that acquired a job.
pub(super) fn message(taken: Taken, urls: &Urls, group: &str) -> Bound {
    let Taken { mut message, secrets, token, .. } = taken;
    message.endpoint.url = urls.run_service();
    message.endpoint.data.insert("FeedStreamUrl".to_owned(), urls.feed(message.job_id));
    let masks = MASKS.iter().map(|pattern| MaskHint { kind: "regex".to_owned(), value: (*pattern).to_owned() });
    message.mask.extend(masks);
    let plain = |value: &str| Variable { value: value.to_owned(), is_secret: false };
    let secret = |value: String| Variable { value, is_secret: true };
    let variables = &mut message.variables;
    for name in SWITCHES {
        variables.insert(name.to_owned(), plain("true"));
    }
    // Both end with a slash or lose their last segment: names are resolved relative to them (`ResultsHttpClient.cs`).
    variables.insert("system.github.results_endpoint".to_owned(), plain(&urls.results()));
    variables.insert("system.github.launch_endpoint".to_owned(), plain(&urls.results()));
    variables.insert("system.from_run_service".to_owned(), plain("true"));
    variables.insert("system.runnerGroupName".to_owned(), plain(group));
    variables.insert("system.github.token".to_owned(), secret(token.expose().to_owned()));
    variables.insert("github_token".to_owned(), secret(token.expose().to_owned()));
    for (name, value) in secrets_by_name(secrets) {
        variables.insert(name, secret(value));
    }
    message
}

/// Names are compared without case and become members of the `secrets` context as they are. A secret that is named like
/// one of the protocol's own variables would take its place.
fn secrets_by_name(secrets: BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    secrets.into_iter().filter(|(name, _)| !name.contains('.') && !name.eq_ignore_ascii_case("github_token"))
}
