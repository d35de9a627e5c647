//! The job message (`AgentJobRequestMessage`): what a worker executes.
//!
//! Field by field as the official worker reads it (actions/runner
//! `Sdk/DTPipelines/Pipelines/AgentJobRequestMessage.cs`), so that one worker executes jobs of both front doors.
//! Unknown members are ignored on read, as there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::context::ContextData;
use crate::template::TemplateToken;

/// The `messageType` of a job of the run service.
pub const MESSAGE_TYPE: &str = "RunnerJobRequest";
/// The variable with the `traceparent` (W3C Trace Context) of the job's execution; ours, and there only in traced jobs.
pub const TRACEPARENT: &str = "startline.traceparent";
/// The variable with the minutes that a cancelled job may still take; ours, and there only where it is not 5.
pub const CANCEL_TIMEOUT: &str = "startline.cancel_timeout_minutes";
/// Minutes that a cancelled job may still take unless its message says otherwise.
const DEFAULT_CANCEL_TIMEOUT: u32 = 5;

/// What a worker executes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobMessage {
    /// [`MESSAGE_TYPE`].
    pub message_type: String,
    /// The run attempt.
    pub plan: Plan,
    /// Where step records hang; only `id` matters.
    pub timeline: Timeline,
    /// One GUID per job attempt.
    pub job_id: Uuid,
    /// Display name of the job.
    #[serde(default)]
    pub job_display_name: String,
    /// Configuration name; `__default` without a matrix.
    #[serde(default)]
    pub job_name: String,
    /// Lock id of the older protocol; 0.
    #[serde(default)]
    pub request_id: i64,
    /// Endpoints.
    #[serde(default)]
    pub resources: Resources,
    /// Flags and secrets; names are compared without case.
    #[serde(default)]
    pub variables: BTreeMap<String, Variable>,
    /// Contexts by name; `github` is required.
    #[serde(default)]
    pub context_data: BTreeMap<String, ContextData>,
    /// Steps in order.
    #[serde(default)]
    pub steps: Vec<ActionStep>,
    /// `env` of the workflow, then of the job; each a mapping.
    #[serde(default, deserialize_with = "null_as_default")]
    pub environment_variables: Vec<TemplateToken>,
    /// `defaults`, merged per key by the compiler into one mapping.
    #[serde(default, deserialize_with = "null_as_default")]
    pub defaults: Vec<TemplateToken>,
    /// `outputs` of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_outputs: Option<TemplateToken>,
    /// The environment that the job deploys to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions_environment: Option<ActionsEnvironment>,
    /// `container` of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_container: Option<TemplateToken>,
    /// `services` of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_service_containers: Option<TemplateToken>,
    /// Further patterns to mask.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub mask: Vec<MaskHint>,
    /// File names that tokens refer to, from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub file_table: Vec<String>,
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl JobMessage {
    /// A variable's value; names are compared without case.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v.value.as_str())
    }

    /// The span that reports on the job are parts of, where it is traced.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.variable(TRACEPARENT)
    }

    /// Minutes that the job may still take once it is cancelled.
    #[must_use]
    pub fn cancel_timeout_minutes(&self) -> u32 {
        self.variable(CANCEL_TIMEOUT).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_CANCEL_TIMEOUT)
    }

    /// A text member of the `github` context.
    #[must_use]
    pub fn github(&self, name: &str) -> Option<&str> {
        self.context_data.get("github").and_then(|github| github.get(name)).and_then(ContextData::as_str)
    }
}

/// The environment that a job deploys to (actions/runner `Sdk/DTPipelines/Pipelines/ActionsEnvironmentReference.cs`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ActionsEnvironment {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Where what was deployed can be seen; evaluated after the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<TemplateToken>,
}

/// The run attempt that a job belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// One GUID per workflow run attempt.
    pub plan_id: Uuid,
    /// `actions`.
    #[serde(default)]
    pub plan_type: String,
    /// 0 for the run service.
    #[serde(default)]
    pub version: i32,
}

/// Where step records hang.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Not empty.
    pub id: Uuid,
    /// 0.
    #[serde(default)]
    pub change_id: i32,
}

/// Endpoints of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// One is named `SystemVssConnection`.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// A service that the worker may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name.
    pub name: String,
    /// Base URL; ends with `/`.
    pub url: String,
    /// Credentials.
    #[serde(default)]
    pub authorization: Authorization,
    /// Further addresses by name.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Unused.
    #[serde(default)]
    pub is_shared: bool,
    /// Unused.
    #[serde(default)]
    pub is_ready: bool,
}

/// Credentials of an [`Endpoint`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Authorization {
    /// Exactly `OAuth`.
    pub scheme: String,
    /// Holds `AccessToken`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

/// A variable's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Text.
    #[serde(default, deserialize_with = "null_as_default")]
    pub value: String,
    /// Part of the `secrets` context, and masked.
    #[serde(default)]
    pub is_secret: bool,
}

/// A pattern to mask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct MaskHint {
    /// `regex`; others are ignored.
    #[serde(rename = "type")]
    pub kind: String,
    /// The pattern, itself masked.
    pub value: String,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ActionStep {
    /// `action`.
    #[serde(rename = "type")]
    pub kind: StepKind,
    /// Unique in the job.
    pub id: Uuid,
    /// `github.action`; the same as `context_name`.
    #[serde(default)]
    pub name: String,
    /// Key in the `steps` context; names that begin with `__` are not shown there.
    #[serde(default)]
    pub context_name: String,
    /// What to run.
    pub reference: StepReference,
    /// For scripts `script`, `shell`, `workingDirectory`; for actions the `with` mapping.
    pub inputs: TemplateToken,
    /// Expression text; never empty.
    pub condition: String,
    /// The step's `env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<TemplateToken>,
    /// Boolean or expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continue_on_error: Option<TemplateToken>,
    /// Number or expression; none or 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_in_minutes: Option<TemplateToken>,
    /// The step's `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name_token: Option<TemplateToken>,
}

/// The `type` of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum StepKind {
    /// Script or action.
    #[default]
    Action,
}

/// What a step runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StepReference {
    /// `run:`.
    Script,
    /// `uses: owner/name[/path]@ref` or `uses: ./path`.
    Repository {
        /// `owner/name`; absent for a local action.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Git ref; absent for a local action.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        git_ref: Option<String>,
        /// `GitHub`, or `self` for a local action.
        #[serde(default)]
        repository_type: String,
        /// Directory inside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// `uses: docker://image`.
    ContainerRegistry {
        /// Image.
        image: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest message that the page on the wire calls complete, shortened to what is read here.
    const MESSAGE: &str = r#"{
      "messageType": "RunnerJobRequest",
      "plan": { "planType": "actions", "version": 0, "planId": "3b7f6b52-5d0c-4b3e-9a54-0f3b1a6d2c11", "planGroup": "" },
      "timeline": { "id": "3b7f6b52-5d0c-4b3e-9a54-0f3b1a6d2c11", "changeId": 0, "location": null },
      "jobId": "6f0e7c0a-1c58-4b0e-8f0f-6a4d0f7f9a01",
      "jobDisplayName": "build", "jobName": "__default", "requestId": 0,
      "variables": { "GitHub_Token": { "value": "t", "isSecret": true }, "system.github.job": { "value": "build" } },
      "contextData": { "github": { "t": 2, "d": [ { "k": "repository", "v": "acme/demo" } ] } },
      "defaults": null,
      "steps": [ { "type": "action", "id": "a0000000-0000-4000-8000-000000000004", "name": "__self",
        "contextName": "__self", "condition": "success()", "continueOnError": null,
        "reference": { "type": "repository", "repositoryType": "self", "path": "./local" },
        "inputs": { "type": 2, "map": [ { "Key": "level", "Value": 3 } ] } } ]
    }"#;

    #[test]
    fn reads_a_message_and_writes_it_again_without_loss() {
        let message: JobMessage = serde_json::from_str(MESSAGE).unwrap();
        assert_eq!(message.variable("github_token"), Some("t"));
        assert_eq!(message.github("repository"), Some("acme/demo"));
        let again: JobMessage = serde_json::from_str(&serde_json::to_string(&message).unwrap()).unwrap();
        assert_eq!(again, message);
    }
}
