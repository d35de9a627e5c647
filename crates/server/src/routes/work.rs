//! What a worker reports of the job it holds: renewals, steps, log and end.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use http::{StatusCode, header};
use jiff::Timestamp;
use startline_crypto::job_token::Claims;
use startline_dispatcher::LeaseError;
use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{CompleteRequest, LogOffset, RenewRequest, RenewResponse, StatusRequest};
use startline_protocol::scope::Scope;
use startline_protocol::state::JobStatus;
use startline_store::logs::LogError;
use startline_store::{Answer, CompleteOutcome, Completion, Error as StoreError, JobRecord, NewAudit};

use super::Body;
use crate::audit::{self, Record};
use crate::auth::JobBearer;
use crate::problem::{ApiError, ApiResult};
use crate::{App, auth};

/// Longest URL of a deployment.
const LONGEST_URL: usize = 2048;
/// How long it takes until a write that failed is tried again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn renew(
    State(app): State<Arc<App>>,
    auth::Worker(JobBearer { claims, .. }): auth::Worker,
    Body(request): Body<RenewRequest>,
) -> ApiResult<Json<RenewResponse>> {
    if request.wait_seconds > 60 {
        return Err(ApiError::invalid(format!("`wait_seconds` is {}; it must be 0 to 60", request.wait_seconds)));
    }
    let mut switch = app.leases.watch(claims.job).ok_or_else(|| ended(claims.job, claims.epoch))?;
    let expires_at = extend(&app, &claims)?;
    let mut reason = switch.borrow_and_update().clone();
    if reason.is_none() && request.wait_seconds > 0 {
        tokio::select! {
            biased;
            changed = switch.changed() => {
                // The switch goes with the lease.
                changed.map_err(|_| ended(claims.job, claims.epoch))?;
                reason = switch.borrow_and_update().clone();
            }
            () = app.drain.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(u64::from(request.wait_seconds))) => {}
        }
    }
    Ok(Json(RenewResponse {
        lease_expires_at: expires_at.as_second(),
        cancel_requested: reason.is_some(),
        cancel_reason: reason,
    }))
}

fn ended(job: JobId, epoch: Epoch) -> ApiError {
    ApiError::stale(format!("the lease of job {job} under epoch {epoch} has ended"))
}

/// Extends the lease; answers from memory, so that it works while the database does not.
pub(crate) fn extend(app: &Arc<App>, claims: &Claims) -> ApiResult<jiff::Timestamp> {
    let now = app.clock.now();
    let mut inner = app.dispatch.lock();
    match inner.dispatcher.renew(now, claims.job, claims.epoch) {
        Ok(lease) => Ok(lease.expires_at),
        Err(error) => Err(ApiError::stale(error.to_string())),
    }
}

pub(super) async fn status(
    State(app): State<Arc<App>>,
    auth::Worker(JobBearer { claims, .. }): auth::Worker,
    Body(request): Body<StatusRequest>,
) -> ApiResult<StatusCode> {
    let job = app.store.update_steps(claims.job, claims.epoch, request.steps).await?;
    app.changes.bump(job.run_id);
    Ok(StatusCode::OK)
}

pub(super) async fn logs(
    State(app): State<Arc<App>>,
    auth::Worker(JobBearer { claims, .. }): auth::Worker,
    request: Request,
) -> ApiResult<Json<LogOffset>> {
    holds(&app, claims.job, claims.epoch)?;
    let offset = offset(&request)?;
    let bytes = super::bytes(request, &()).await?;
    let _turn = app.turn_of_job(claims.job).await?;
    let length = append(&app, claims.run, claims.job, claims.attempt, offset, &bytes).await?;
    Ok(Json(LogOffset { offset: length }))
}

/// Adds to the log of an attempt, tells its followers, and answers its length.
pub(crate) async fn append(
    app: &App,
    run: RunId,
    job: JobId,
    attempt: u32,
    offset: u64,
    bytes: &[u8],
) -> ApiResult<u64> {
    let length = app.logs.append(job, attempt, offset, bytes).await.map_err(|error| match error {
        LogError::Gap { wanted } => ApiError::log_gap(wanted),
        LogError::TooLarge { .. } => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, error.to_string())
            .detail("the rest of this job's log is not kept"),
        other => {
            tracing::error!(job.id = %job, error = %other, "a log cannot be written");
            ApiError::unavailable("the log cannot be written now")
        }
    })?;
    app.events.log(run, job, attempt, length);
    Ok(length)
}

/// Refuses a worker whose lease is over.
pub(crate) fn holds(app: &App, job: JobId, epoch: Epoch) -> ApiResult<()> {
    let current = app.dispatch.lock().dispatcher.job(job);
    let holds = current.is_some_and(|job| job.status == JobStatus::Running && job.epoch == epoch);
    if holds { Ok(()) } else { Err(ended(job, epoch)) }
}

/// The first byte's place, from `Content-Range: bytes <first>-<last>/*`.
fn offset(request: &Request) -> ApiResult<u64> {
    let header = request.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    header
        .and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok())
        .ok_or_else(|| ApiError::invalid("an append needs a header `Content-Range: bytes <first>-<last>/*`"))
}

pub(super) async fn complete(
    State(app): State<Arc<App>>,
    auth::Worker(worker): auth::Worker,
    Body(request): Body<CompleteRequest>,
) -> ApiResult<StatusCode> {
    let _turn = app.turn_of_job(worker.claims.job).await?;
    let mut record = app.audit(&worker, "job.complete", format_args!("job:{}", worker.claims.job));
    record.detail("conclusion", request.conclusion);
    record.detail("attempt", worker.claims.attempt);
    let result = end(&app, &worker.claims, request, &mut record).await;
    record.conclude(result).await
}

/// The job, as soon as the database tells.
pub(crate) async fn job(app: &App, job: JobId) -> ApiResult<Option<JobRecord>> {
    loop {
        match app.store.job(job).await {
            Err(error) if error.is_transient() && !app.drain.is_cancelled() => {
                tracing::error!(job.id = %job, %error, "a job cannot be read; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            other => return Ok(other?),
        }
    }
}

pub(crate) async fn end(
    app: &Arc<App>,
    claims: &Claims,
    request: CompleteRequest,
    record: &mut Record,
) -> ApiResult<StatusCode> {
    if let Err(error) = app.logs.sync(claims.job, claims.attempt).await {
        tracing::error!(job.id = %claims.job, %error, "a log cannot be written");
        return Err(ApiError::unavailable("the log cannot be written now"));
    }
    let now = app.clock.now();
    let completion = Completion {
        conclusion: request.conclusion,
        outputs: request.outputs,
        environment_url: request.environment_url.filter(|url| !url.is_empty() && url.len() <= LONGEST_URL),
        steps: request.steps,
        annotations: request.annotations,
        ends_run: app.is_single(claims.run),
    };
    let line = record.hand_over();
    let written = conclude(app, claims, completion, line.clone(), now).await;
    match written {
        Ok(CompleteOutcome::Completed { .. }) => {}
        Ok(CompleteOutcome::AlreadyCompleted(job)) => {
            record.take_back(line);
            record.repository(&job.repository);
            record.detail("repeat", true);
        }
        Err(error) => {
            // What is still under way when the service stops writes its line itself, or none.
            if !app.drain.is_cancelled() {
                record.take_back(line);
            }
            return Err(error);
        }
    }
    Ok(StatusCode::OK)
}

/// Ends the job for the dispatcher and the store, in this order for both.
async fn conclude(
    app: &Arc<App>,
    claims: &Claims,
    completion: Completion,
    line: Option<NewAudit>,
    now: Timestamp,
) -> ApiResult<CompleteOutcome> {
    let (freed, answer) = {
        let mut inner = app.dispatch.lock();
        let outcome = inner.dispatcher.complete(now, claims.job, claims.epoch);
        // Sent under the lock, before anything that the freed runner is given next.
        let answer = match &outcome {
            // Another assignment is current: the store would say the same.
            Err(error @ (LeaseError::Stale { .. } | LeaseError::Over { .. })) => {
                return Err(ApiError::stale(error.to_string()));
            }
            _ => app.complete_noted(claims, completion.clone(), line.clone(), now),
        };
        let freed = outcome.ok();
        if let Some(freed) = &freed {
            app.apply(&mut inner, now, freed.effects.clone());
        }
        (freed, answer)
    };
    app.leases.end(claims.job);
    let is_spent = freed.is_some_and(|freed| freed.ephemeral);
    // On its own from here on: the dispatcher has let the job go, so that nobody else would bring this to its end if the
    // caller went away.
    let writing = app.tasks.spawn(Arc::clone(app).write_end(claims.clone(), completion, line, answer, is_spent));
    let written = tokio::select! {
        written = writing => written.map_err(|_| ApiError::unavailable("the end of the job was not written"))?,
        // The caller comes again, to the process that follows.
        () = app.drain.cancelled() => return Err(ApiError::unavailable("the service is shutting down")),
    };
    Ok(written?)
}

impl App {
    fn complete_noted(
        &self,
        claims: &Claims,
        completion: Completion,
        line: Option<NewAudit>,
        now: Timestamp,
    ) -> Answer<CompleteOutcome> {
        let note = audit::noted(line, |outcome: &CompleteOutcome, line| match outcome {
            CompleteOutcome::Completed { job, .. } => {
                line.scope = Scope::repository(&job.repository).unwrap_or_default();
                true
            }
            CompleteOutcome::AlreadyCompleted(_) => false,
        });
        self.store.complete_noted(claims.job, claims.epoch, completion, now, note)
    }

    /// Waits until a job's end is written, however long that takes, and goes on with its run.
    async fn write_end(
        self: Arc<Self>,
        claims: Claims,
        completion: Completion,
        line: Option<NewAudit>,
        mut answer: Answer<CompleteOutcome>,
        is_spent: bool,
    ) -> Result<CompleteOutcome, StoreError> {
        let outcome = loop {
            match answer.await {
                Err(error) if error.is_transient() && !self.drain.is_cancelled() => {
                    tracing::error!(job.id = %claims.job, %error, "the end of a job was not written; trying again");
                    tokio::time::sleep(AGAIN).await;
                    answer = self.complete_noted(&claims, completion.clone(), line.clone(), self.clock.now());
                }
                other => break other?,
            }
        };
        if let CompleteOutcome::Completed { job, run_ended } = &outcome {
            tracing::info!(job.id = %job.id, conclusion = %completion.conclusion, "job completed");
            if is_spent && let Some(runner) = job.runner_id {
                self.forget_spent_runner(runner);
            }
            self.job_ended(job, *run_ended);
        }
        Ok(outcome)
    }
}
