//! What a worker tells of its job while it runs: steps, logs, summaries.
//!
//! Everything ends where a native worker's reports end: steps in the job's records, lines in the log of its attempt.
//! One report of a job is taken at a time, since each changes the list of steps.

mod reports;
mod target;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use startline_crypto::job_token::Claims;
use startline_protocol::actions::results::{
    DiagLogsUrl, Done, LogsUrl, STORAGE_TYPE, StepsUpdate, Subject, SummaryUrl,
};
use startline_protocol::ids::{Epoch, JobId};
use startline_protocol::state::JobStatus;
use startline_protocol::step::StepRecord;
use startline_store::JobRecord;
use uuid::Uuid;

use super::doors::Doors;
use super::run_service::is_of;
use crate::App;
use crate::auth::JobBearer;
use crate::problem::{ApiError, ApiResult};
use crate::routes::{Body, work};
use reports::Progress;
use target::{Kind, Target};

/// A summary may have this many bytes; the worker has the same limit (actions/runner `FileCommandManager.cs`).
const SUMMARY_LIMIT: usize = 1 << 20;
/// Written for logs; nothing enforces it.
const LOG_LIMIT: u64 = 1 << 30;
/// How many jobs are remembered before those that have ended are looked for.
const SWEEP_AT: usize = 256;

macro_rules! receiver {
    ($method:literal) => {
        concat!("/twirp/results.services.receiver.Receiver/", $method)
    };
}

pub(super) fn routes() -> Doors {
    Doors::new()
        .post(receiver!("GetStepLogsSignedBlobURL"), step_logs_url)
        .post(receiver!("CreateStepLogsMetadata"), noted)
        .post(receiver!("GetJobLogsSignedBlobURL"), job_logs_url)
        .post(receiver!("CreateJobLogsMetadata"), noted)
        .post(receiver!("GetStepSummarySignedBlobURL"), summary_url)
        .post(receiver!("CreateStepSummaryMetadata"), noted)
        .post(receiver!("GetJobDiagLogsSignedBlobURL"), diag_logs_url)
        .post("/twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate", update_steps)
        .put(target::ROUTE, upload::put)
}

async fn step_logs_url(
    State(app): State<Arc<App>>,
    worker: JobBearer,
    Body(subject): Body<Subject>,
) -> ApiResult<Json<LogsUrl>> {
    logs_url(&app, &worker.claims, &subject, Kind::StepLog)
}

async fn job_logs_url(
    State(app): State<Arc<App>>,
    worker: JobBearer,
    Body(subject): Body<Subject>,
) -> ApiResult<Json<LogsUrl>> {
    logs_url(&app, &worker.claims, &subject, Kind::JobLog)
}

fn logs_url(app: &App, claims: &Claims, subject: &Subject, kind: Kind) -> ApiResult<Json<LogsUrl>> {
    Ok(Json(LogsUrl {
        logs_url: signed(app, claims, subject, kind)?,
        blob_storage_type: STORAGE_TYPE.to_owned(),
        soft_size_limit: LOG_LIMIT.to_string(),
    }))
}

async fn summary_url(
    State(app): State<Arc<App>>,
    worker: JobBearer,
    Body(subject): Body<Subject>,
) -> ApiResult<Json<SummaryUrl>> {
    Ok(Json(SummaryUrl {
        summary_url: signed(&app, &worker.claims, &subject, Kind::StepSummary)?,
        soft_size_limit: SUMMARY_LIMIT.to_string(),
        blob_storage_type: STORAGE_TYPE.to_owned(),
    }))
}

async fn diag_logs_url(
    State(app): State<Arc<App>>,
    worker: JobBearer,
    Body(subject): Body<Subject>,
) -> ApiResult<Json<DiagLogsUrl>> {
    Ok(Json(DiagLogsUrl {
        diag_logs_url: signed(&app, &worker.claims, &subject, Kind::DiagLog)?,
        blob_storage_type: STORAGE_TYPE.to_owned(),
    }))
}

/// The same address for every block, but for its end and signature.
fn signed(app: &App, claims: &Claims, subject: &Subject, kind: Kind) -> ApiResult<String> {
    is_of(claims, subject.workflow_run_backend_id, subject.workflow_job_run_backend_id)?;
    work::holds(app, claims.job, claims.epoch)?;
    let step = match kind {
        Kind::StepLog | Kind::StepSummary => {
            subject.step_backend_id.ok_or_else(|| ApiError::invalid("the body has no `step_backend_id`"))?
        }
        Kind::JobLog | Kind::DiagLog => claims.job_guid,
    };
    Ok(Target::new(claims, kind, step).sign(&app.actions.urls, &app.actions.addresses, app.clock.now()))
}

/// What was uploaded is in its place already, whether or not anybody says that it was the last of it.
async fn noted(worker: JobBearer, Body(subject): Body<Subject>) -> ApiResult<Json<Done>> {
    is_of(&worker.claims, subject.workflow_run_backend_id, subject.workflow_job_run_backend_id)?;
    Ok(Json(Done { ok: true }))
}

async fn update_steps(
    State(app): State<Arc<App>>,
    JobBearer { claims, .. }: JobBearer,
    Body(update): Body<StepsUpdate>,
) -> ApiResult<Json<Done>> {
    is_of(&claims, update.subject.workflow_run_backend_id, update.subject.workflow_job_run_backend_id)?;
    app.report(claims.job, claims.epoch, |progress, steps| progress.update(steps, &update)).await?;
    Ok(Json(Done { ok: true }))
}

/// What is remembered of the jobs in the hands of official runners, so that their reports do not cross.
#[derive(Debug, Default)]
pub(crate) struct Results {
    jobs: Mutex<Jobs>,
}

#[derive(Debug, Default)]
struct Jobs {
    open: HashMap<(JobId, Epoch), Reporting>,
    /// How many there were after the last sweep.
    swept: usize,
}

/// One report at a time; holds what must be known between two.
pub(super) type Reporting = Arc<tokio::sync::Mutex<Progress>>;

impl Results {
    /// Forgets a job that has ended.
    pub(super) fn ended(&self, job: JobId, epoch: Epoch) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&(job, epoch));
    }

    fn reporting(&self, job: JobId, epoch: Epoch, is_running: impl Fn(JobId, Epoch) -> bool) -> Reporting {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.open.len() >= SWEEP_AT.max(jobs.swept * 2) {
            // Jobs whose runner was lost.
            jobs.open.retain(|(job, epoch), known| Arc::strong_count(known) > 1 || is_running(*job, *epoch));
            jobs.swept = jobs.open.len();
        }
        Arc::clone(jobs.open.entry((job, epoch)).or_default())
    }
}

impl App {
    /// The reports of this assignment; hold it while the job's steps are read and written.
    pub(super) fn reporting(&self, job: JobId, epoch: Epoch) -> Reporting {
        self.actions.results.reporting(job, epoch, |job, epoch| work::holds(self, job, epoch).is_ok())
    }

    /// Changes the steps of a job that the caller still holds. Durable when it answers.
    async fn report<T>(
        &self,
        job: JobId,
        epoch: Epoch,
        change: impl FnOnce(&mut Progress, &mut Vec<StepRecord>) -> ApiResult<T>,
    ) -> ApiResult<T> {
        let _turn = self.turn_of_job(job).await?;
        let reporting = self.reporting(job, epoch);
        let mut progress = reporting.lock().await;
        let known = self.held(job, epoch).await?;
        let mut steps = known.steps.clone();
        let changed = change(&mut progress, &mut steps)?;
        self.write_steps(&known, steps).await?;
        Ok(changed)
    }

    /// The job, if this assignment of it still stands.
    async fn held(&self, job: JobId, epoch: Epoch) -> ApiResult<JobRecord> {
        let known = self.store.job(job).await?.filter(|job| job.status == JobStatus::Running && job.epoch == epoch);
        known.ok_or_else(|| ApiError::stale(format!("job {job} under epoch {epoch} has ended")))
    }

    async fn write_steps(&self, known: &JobRecord, steps: Vec<StepRecord>) -> ApiResult<()> {
        if steps != known.steps {
            let job = self.store.update_steps(known.id, known.epoch, steps).await?;
            self.changes.bump(job.run_id);
        }
        Ok(())
    }
}

/// The GUIDs of the steps that a job message names.
async fn steps_of_message(app: &App, job: JobId) -> ApiResult<Vec<Uuid>> {
    let message = app.store.job_message(job).await?.unwrap_or_default();
    let message: serde_json::Value = serde_json::from_str(&message).unwrap_or_default();
    let steps = message["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(steps.iter().filter_map(|step| step["id"].as_str()?.parse().ok()).collect())
}
