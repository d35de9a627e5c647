//! A run again: a new run from what was submitted for one that has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use startline_protocol::ids::RunId;
use startline_protocol::job_message::JobMessage;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::runs_api::{RerunRequest, RunDetail};
use startline_protocol::state::JobStatus;
use startline_store::{CreatedRun, JobRecord, NewAudit, NewJob, RunRecord};
use startline_workflow::plan::{self, Instance};

use super::Body;
use super::extract::Path;
use super::runs;
use crate::audit::Record;
use crate::intake::{Intake, Repeat};
use crate::problem::{ApiError, ApiResult};
use crate::submission::{self, Submission};
use crate::{App, auth};

/// `POST /api/v1/runs/{id}/rerun`.
pub(super) async fn rerun(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(id): Path<RunId>,
    headers: HeaderMap,
    Body(request): Body<RerunRequest>,
) -> ApiResult<(StatusCode, Json<RunDetail>)> {
    let mut record = app.audit(&admin, "run.rerun", format_args!("run:{id}"));
    let result = again(&app, &admin, id, &headers, request, &mut record).await;
    record.conclude(result).await
}

async fn again(
    app: &Arc<App>,
    admin: &auth::Admin,
    id: RunId,
    headers: &HeaderMap,
    request: RerunRequest,
    record: &mut Record,
) -> ApiResult<(StatusCode, Json<RunDetail>)> {
    let run = runs::find(app, admin, Permission::JobsWrite, id).await?;
    record.repository(&run.run.repository);
    let _turn = app.turn_to_submit(&admin.token.scope, Some(&run.run.repository)).await?;
    let repeat = Repeat::of(headers, admin.token.id, &format!("run.rerun:{id}"), &request)?;
    if run.conclusion.is_none() {
        return Err(ApiError::new(StatusCode::CONFLICT, kind::RUN_ACTIVE, format!("run {id} has not ended yet"))
            .detail("wait for its end, or cancel it first"));
    }
    let submission: Submission = serde_json::from_str(&run.run.submission).map_err(|error| {
        tracing::error!(run.id = %id, %error, "a stored submission cannot be read");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, "the stored submission cannot be read")
    })?;
    let workflow = submission::compile(&submission.workflow, &submission.path, &submission.files)?;
    let secrets = app.reopened(&run)?;
    let jobs = app.store.jobs_of_run(id).await?;
    let mut new = Vec::new();
    if request.failed_only {
        let instances: Vec<Instance> = jobs.iter().map(crate::runs::instance).collect();
        let again = plan::again(&workflow, &instances);
        if again.is_empty() {
            return Err(ApiError::invalid(format!("no job of run {id} has failed"))
                .detail("leave `failed_only` out to run all of it again"));
        }
        new.extend(jobs.iter().filter(|job| !again.contains(job.key.as_str())).map(|job| taken_over(&run, job)));
    }
    let mut single = None;
    if submission.single
        && let Some(job) = jobs.first()
    {
        let text = app.store.job_message(job.id).await?.ok_or_else(|| {
            tracing::error!(job.id = %job.id, "a stored job has no message");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, "the stored job cannot be read")
        })?;
        single = Some((job.clone(), text));
    }
    let (now, requeues) = (app.clock.now(), app.config.requeues);
    let (trusted, trace) = (run.run.trusted, admin.origin.trace);
    let intake = Intake { submission, workflow, secrets, trusted, repeat, requirement: None, trace };
    let jobs = |plan_id| {
        if let Some((job, text)) = single {
            new.push(NewJob {
                status: JobStatus::Queued,
                conclusion: None,
                reason: None,
                requeues_left: requeues,
                message: replanned(&text, plan_id),
                outputs: BTreeMap::new(),
                queued_at: now,
                ..taken_over(&run, &job)
            });
        }
        new
    };
    let tell = |created: &CreatedRun, line: &mut NewAudit| {
        line.details.insert("new_run".to_owned(), created.run.id.to_string());
    };
    let (made, _) = app.take_in(intake, jobs, record, tell).await?;
    tracing::info!(run.id = %made.id, run.from = %id, failed_only = request.failed_only, "run submitted again");
    Ok((StatusCode::CREATED, Json(runs::detail(app, made).await?)))
}

/// A job as it ended, for a run that takes it over.
fn taken_over(run: &RunRecord, job: &JobRecord) -> NewJob {
    NewJob {
        key: job.key.clone(),
        index: job.index,
        name: job.name.clone(),
        status: job.status,
        conclusion: job.conclusion,
        reason: Some(format!("taken over from job {} of run {}", job.id, run.id)),
        labels: job.labels.clone(),
        group: job.group.clone(),
        claim: None,
        trusted: job.trusted,
        priority: job.priority,
        timeout_minutes: job.timeout_minutes,
        cancel_timeout_minutes: job.cancel_timeout_minutes,
        environment: job.environment.clone(),
        continue_on_error: job.continue_on_error,
        requeues_left: 0,
        message: String::new(),
        outputs: job.outputs.clone(),
        queued_at: job.queued_at,
    }
}

/// A stored message, for another run.
fn replanned(text: &str, plan_id: uuid::Uuid) -> String {
    let Ok(mut message) = serde_json::from_str::<JobMessage>(text) else { return text.to_owned() };
    let (old, new) = (message.plan.plan_id.to_string(), plan_id.to_string());
    message.plan.plan_id = plan_id;
    message.timeline.id = plan_id;
    for variable in message.variables.values_mut() {
        variable.value = variable.value.replace(&old, &new);
    }
    crate::message::stored(&message)
}
