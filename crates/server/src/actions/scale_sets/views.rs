//! What is said of scale sets on the wire. Spelled as `actions/scaleset` (`types.go`) reads it, capital letters and all.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::state::Conclusion;
use startline_store::{JobRecord, RunRecord, RunnerRecord, ScaleSetRecord};

use super::queue::{Event, Message, Statistics, What};
use crate::App;
use crate::problem::ApiResult;
use crate::routes::polls::job_guid;
use crate::routes::runners;

/// Body of `POST` and `PATCH …/runnerscalesets`. What is empty or zero was not said: the Go client writes such members
/// out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Wanted {
    pub name: Option<String>,
    pub runner_group_id: Option<i32>,
    pub labels: Option<Vec<Label>>,
    #[serde(rename = "RunnerSetting", alias = "runnerSetting")]
    pub runner_setting: Option<serde_json::Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Label {
    #[serde(default)]
    pub name: String,
}

impl Wanted {
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| !name.is_empty())
    }

    pub(super) fn group(&self) -> Option<i32> {
        self.runner_group_id.filter(|id| *id != 0)
    }

    /// Labels by name; a repeat is left out.
    pub(super) fn labels(&self) -> Option<Vec<String>> {
        let named = self.labels.iter().flatten().map(|label| label.name.clone()).filter(|name| !name.is_empty());
        let names = runners::distinct(named);
        (!names.is_empty()).then_some(names)
    }

    /// The settings, those put over what there is.
    pub(super) fn settings(&self, old: &str) -> String {
        let mut settings: serde_json::Map<String, Value> = serde_json::from_str(old).unwrap_or_default();
        settings.extend(self.runner_setting.clone().unwrap_or_default());
        Value::Object(settings).to_string()
    }
}

/// A list as this plane writes it.
pub(super) fn list(value: Vec<Value>) -> Value {
    json!({ "count": value.len(), "value": value })
}

/// A runner as the pool shows it.
pub(super) fn agent(runner: &RunnerRecord) -> Value {
    let set = runner.actions.as_ref().and_then(|actions| actions.scale_set).unwrap_or(0);
    json!({ "id": runner.id.0, "name": runner.name, "runnerScaleSetId": set })
}

/// The name of the group that clients know by heart is GitHub's.
pub(super) fn group_name(id: i32, name: &str) -> &str {
    if id == 1 { "Default" } else { name }
}

impl App {
    /// A scale set, statistics included.
    pub(super) async fn shown_set(self: &Arc<Self>, record: &ScaleSetRecord) -> ApiResult<Value> {
        let set = &record.set;
        let group = self.group_number(&set.scope, &set.group).await?;
        let labels: Vec<Value> = set.labels.iter().map(|name| json!({ "type": "System", "name": name })).collect();
        let settings: Value = serde_json::from_str(&set.settings).unwrap_or_else(|_| json!({}));
        let server = self.actions.urls.server();
        Ok(json!({
            "id": record.id,
            "name": set.name,
            "runnerGroupId": group,
            "runnerGroupName": group_name(group, &set.group),
            "labels": labels,
            "RunnerSetting": settings,
            "createdOn": set.created_at,
            "runnerJitConfigUrl": format!("{server}_apis/runtime/runnerscalesets/{}/generatejitconfig", record.id),
            "statistics": self.scale_set_statistics(record),
        }))
    }

    /// A message, with what there is to say of its jobs.
    pub(super) async fn told(
        self: &Arc<Self>,
        set: i64,
        message: &Message,
        statistics: Statistics,
    ) -> ApiResult<Value> {
        let mut runs: BTreeMap<RunId, RunRecord> = BTreeMap::new();
        let url = self.acquire_url(set);
        let mut inside = Vec::with_capacity(message.events.len());
        for event in &message.events {
            // One whose job is not there any more has nothing to say; the statistics do not count it either.
            let Some((job, run)) = self.job_and_run(event.job, &mut runs).await? else { continue };
            inside.push(inner(&url, event, &job, &run));
        }
        Ok(outer(message.id, inside, statistics))
    }

    async fn job_and_run(
        self: &Arc<Self>,
        id: JobId,
        runs: &mut BTreeMap<RunId, RunRecord>,
    ) -> ApiResult<Option<(JobRecord, RunRecord)>> {
        let Some(job) = self.store.job(id).await? else { return Ok(None) };
        if !runs.contains_key(&job.run_id)
            && let Some(run) = self.store.run(job.run_id).await?
        {
            runs.insert(job.run_id, run);
        }
        let run = runs.get(&job.run_id).cloned();
        Ok(run.map(|run| (job, run)))
    }

    pub(super) fn acquire_url(&self, set: i64) -> String {
        format!("{}_apis/runtime/runnerscalesets/{set}/acquirejobs", self.actions.urls.server())
    }
}

/// A message as its reader takes it: a text with a list in it, and statistics, which are never missing.
fn outer(id: i64, inside: Vec<Value>, statistics: Statistics) -> Value {
    json!({
        "messageId": id,
        "messageType": "RunnerScaleSetJobMessages",
        "body": Value::Array(inside).to_string(),
        "statistics": statistics,
    })
}

/// What became of a job; `url` is where jobs of the set are acquired.
fn inner(url: &str, event: &Event, job: &JobRecord, run: &RunRecord) -> Value {
    let mut said = job_view(job, run);
    let more = match &event.what {
        What::Available => json!({ "messageType": "JobAvailable", "acquireJobUrl": url }),
        What::Assigned { at } => json!({ "messageType": "JobAssigned", "scaleSetAssignTime": at }),
        What::Started { by, assigned, at } => json!({
            "messageType": "JobStarted", "runnerId": by.id.0, "runnerName": by.name,
            "scaleSetAssignTime": assigned, "runnerAssignTime": at,
        }),
        What::Completed { by, assigned, started, at, result } => json!({
            "messageType": "JobCompleted",
            "result": match result {
                Conclusion::Success => "succeeded",
                Conclusion::Failure => "failed",
                Conclusion::Cancelled | Conclusion::Skipped => "canceled",
            },
            "runnerId": by.as_ref().map_or(0, |by| by.id.0),
            "runnerName": by.as_ref().map_or("", |by| by.name.as_str()),
            "scaleSetAssignTime": assigned, "runnerAssignTime": started, "finishTime": at,
        }),
    };
    if let (Value::Object(said), Value::Object(more)) = (&mut said, more) {
        said.extend(more);
        // A time that there is not is left out: the reader takes null, other clients may not.
        said.retain(|_, value| !value.is_null());
    }
    said
}

/// What every inner message says of its job.
pub(super) fn job_view(job: &JobRecord, run: &RunRecord) -> Value {
    let (owner, repository) = job.repository.split_once('/').unwrap_or(("", &job.repository));
    json!({
        "runnerRequestId": job.id.0,
        "repositoryName": repository,
        "ownerName": owner,
        // The same over all attempts.
        "jobId": job_guid(run.run.plan_id, job.id, Epoch::ZERO),
        "jobWorkflowRef": format!("{}/{}@{}", job.repository, run.run.path, run.run.git_ref),
        "jobDisplayName": job.name,
        "workflowRunId": run.id.0,
        "eventName": run.run.event_name,
        "requestLabels": job.labels,
        "queueTime": job.queued_at,
    })
}

/// Body of `POST …/sessions`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionWanted {
    #[serde(default)]
    pub owner_name: String,
}

/// Body of `POST …/generatejitconfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JitWanted {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub work_folder: Option<String>,
}

/// One answer of `…/generatejitconfig`.
#[derive(Serialize)]
pub(super) struct JitAnswer {
    pub runner: Value,
    #[serde(rename = "encodedJITConfig")]
    pub encoded_jit_config: String,
}

#[cfg(test)]
mod tests;
