//! One job without a workflow file.
//!
//! It is a job of a run all the same, so that everything that is true of jobs is true of it: the run's workflow only
//! stands for it, and the job with the message that was given is stored in the step that makes the run.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use startline_dispatcher::Requirement;
use startline_protocol::permission::Permission;
use startline_protocol::runs_api::{JobRequest, JobView, SubmitRequest};
use startline_protocol::state::JobStatus;
use startline_store::{CreatedRun, NewAudit, NewJob};
use startline_workflow::Workflow;
use startline_workflow::plan::DEFAULT_CANCEL_TIMEOUT_MINUTES;

use super::Body;
use super::runs::check_secret_name;
use crate::audit::Record;
use crate::intake::{Intake, Repeat};
use crate::problem::{ApiError, ApiResult};
use crate::submission::{self, Submission};
use crate::{App, auth, message, views};

/// As many as a runner may carry.
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: usize = 256;
/// The job's key in its run.
const KEY: &str = "job";
const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;
/// Up to 30 days.
const TIMEOUTS: std::ops::RangeInclusive<u32> = 1..=43_200;
/// As GitHub's.
const DEFAULT_TIMEOUT: u32 = 360;

/// `POST /api/v1/jobs`.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    headers: HeaderMap,
    Body(request): Body<JobRequest>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let mut record = app.audit(&admin, "job.submit", "job");
    let result = create(&app, &admin, &headers, request, &mut record).await;
    record.conclude(result).await
}

async fn create(
    app: &Arc<App>,
    admin: &auth::Admin,
    headers: &HeaderMap,
    mut request: JobRequest,
    record: &mut Record,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    admin.need(Permission::JobsWrite)?;
    let _turn = app.turn_to_submit(&admin.token.scope, request.repository.as_deref()).await?;
    request.repository = admin.repository_of(request.repository);
    let secrets = std::mem::take(&mut request.secrets);
    let repeat = Repeat::of(headers, admin.token.id, "job.submit", &request)?;
    secrets.keys().try_for_each(|name| check_secret_name(name))?;
    let name = request.name.clone().unwrap_or_else(|| KEY.to_owned());
    check(&request, &name)?;
    let stands_for =
        SubmitRequest { workflow: workflow(&name), repository: request.repository.clone(), ..SubmitRequest::default() };
    let workflow = Workflow { name: Some(name.clone()), ..STAND_IN.clone() };
    let mut submission = Submission::new(stands_for, &workflow)?;
    submission.single = true;
    admin.must_see(&submission.repository)?;
    record.repository(&submission.repository);
    let labels = request.requirements.as_labels();
    if labels.len() > MOST_LABELS || labels.iter().any(|label| label.len() > LONGEST_LABEL) {
        return Err(ApiError::invalid(format!(
            "`requirements` come to at most {MOST_LABELS} labels of {LONGEST_LABEL} bytes"
        )));
    }
    let requirement = Requirement {
        labels: labels.clone(),
        group: request.requirements.runner_group.clone(),
        repository: submission.repository.clone(),
        trusted: !request.untrusted,
    };
    requirement.check().map_err(|error| ApiError::invalid(format!("`requirements` cannot be understood: {error}")))?;
    let requirement = Some(Arc::new(requirement));
    let (trusted, trace) = (!request.untrusted, admin.origin.trace);
    let intake = Intake { submission, workflow, secrets, trusted, repeat, requirement, trace };
    let (now, requeues_left) = (app.clock.now(), app.config.requeues);
    let make = |plan_id| {
        let message = message::single(plan_id, KEY, &name, request.job_definition);
        vec![NewJob {
            key: KEY.to_owned(),
            index: 0,
            name,
            status: JobStatus::Queued,
            conclusion: None,
            reason: None,
            labels,
            group: request.requirements.runner_group,
            claim: None,
            trusted: !request.untrusted,
            priority: request.priority,
            timeout_minutes: request.timeout_minutes.unwrap_or(DEFAULT_TIMEOUT),
            cancel_timeout_minutes: DEFAULT_CANCEL_TIMEOUT_MINUTES,
            environment: None,
            continue_on_error: false,
            requeues_left,
            message: message::stored(&message),
            outputs: BTreeMap::new(),
            queued_at: now,
        }]
    };
    let tell = |created: &CreatedRun, line: &mut NewAudit| {
        line.subject = created.jobs.first().map(|job| format!("job:{}", job.id)).unwrap_or_default();
    };
    let (run, jobs) = app.take_in(intake, make, record, tell).await?;
    let job = jobs.into_iter().next().ok_or_else(|| ApiError::not_found(format_args!("job of run {}", run.id)))?;
    tracing::info!(run.id = %run.id, job.id = %job.id, token.id = admin.token.id, "job submitted");
    Ok((StatusCode::CREATED, Json(views::job(job))))
}

fn check(request: &JobRequest, name: &str) -> ApiResult<()> {
    if name.trim().is_empty() || name.chars().count() > 255 || name.chars().any(char::is_control) {
        return Err(ApiError::invalid("`name` must be 1 to 255 printable characters, not all of them blanks"));
    }
    if name.contains("${{") {
        return Err(ApiError::invalid("`name` cannot hold an expression").detail("write the value out"));
    }
    if !PRIORITIES.contains(&request.priority) {
        return Err(ApiError::invalid(format!("`priority` is {}; it must be -1000 to 1000", request.priority)));
    }
    if let Some(minutes) = request.timeout_minutes.filter(|minutes| !TIMEOUTS.contains(minutes)) {
        return Err(ApiError::invalid(format!("`timeout_minutes` is {minutes}; it must be 1 to 43200 (30 days)")));
    }
    let definition = &request.job_definition;
    if definition.steps.is_empty() {
        return Err(ApiError::invalid("`job_definition.steps` is empty"));
    }
    if let Some(step) = definition.steps.iter().position(|step| step.condition.trim().is_empty()) {
        return Err(ApiError::invalid(format!("`job_definition.steps[{step}].condition` is empty"))
            .detail("write `success()` for the usual condition"));
    }
    if let Some((name, _)) = definition.variables.iter().find(|(_, variable)| variable.is_secret) {
        return Err(ApiError::invalid(format!("variable `{}` is secret", name.escape_debug()))
            .detail("variables are kept in the open; put it under `secrets`"));
    }
    Ok(())
}

/// What [`workflow`] comes to, whatever the name: compiled once.
static STAND_IN: LazyLock<Workflow> = LazyLock::new(|| {
    let compiled = submission::compile(&workflow(KEY), submission::DEFAULT_PATH, &BTreeMap::new());
    compiled.unwrap_or_else(|_| unreachable!("a test compiles it"))
});

/// A workflow of this name with one job, which is never compiled to a message.
fn workflow(name: &str) -> String {
    // Text of JSON is text of YAML. At the end, so that all else has the same place under any name.
    let name = serde_json::Value::from(name).to_string();
    format!(
        "on: workflow_dispatch\njobs:\n  {KEY}:\n    runs-on: self-hosted\n    steps:\n      - run: exit 1\nname: {name}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_the_workflow_that_is_compiled_once() {
        for name in ["build", "a: b", "\"quoted\" 'both'", "$ { {", "#", "ünï 🦀", "- x", "yes", "a\\b", "a\u{2028}b"]
        {
            let parsed = submission::compile(&workflow(name), submission::DEFAULT_PATH, &BTreeMap::new()).unwrap();
            assert_eq!(parsed, Workflow { name: Some(name.to_owned()), ..STAND_IN.clone() });
        }
    }
}
