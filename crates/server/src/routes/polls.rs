//! What a runner gets: the answer to a poll, and the lease of a job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use startline_crypto::job_token::Claims;
use startline_dispatcher::{Assignment, AssignmentKind};
use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{AcquireRequest, JobAssignment, JobUrls};
use startline_protocol::token::JobToken;
use startline_store::{JobRecord, TakenJob};
use uuid::Uuid;

use super::Body;
use super::extract::Path;
use crate::auth::Origin;
use crate::dispatch::{Arrival, Delivery};
use crate::front::HeldPoll;
use crate::message::Bound;
use crate::problem::{ApiError, ApiResult};
use crate::values::SecretsError;
use crate::{App, audit, auth};

/// The poll, when it reaches the router; [`crate::front`] takes most past it.
pub(super) async fn poll(State(app): State<Arc<App>>, request: Request) -> Response {
    HeldPoll::new(&app, request).await
}

/// Makes an assignment durable and answers with it.
pub(crate) async fn answer(app: Arc<App>, arrival: Arrival, delivery: Delivery) -> ApiResult<Response> {
    let Arrival { assignment, taken } = arrival;
    let answer = match assignment.kind {
        AssignmentKind::Offer { .. } => match offer(&app, &assignment) {
            Some(answer) => delivery.settle(Ok(answer))?,
            None => return Ok(StatusCode::NO_CONTENT.into_response()),
        },
        AssignmentKind::Lease { .. } => {
            let (answer, job) = delivery.settle(lease(&app, &assignment, taken, &Origin::default()).await)?;
            app.note_assigned(&job);
            app.trace_assigned(&job, assignment.epoch, app.clock.now());
            return Ok(answer);
        }
    };
    Ok(Json(answer).into_response())
}

/// Outlines an offer, whose record nobody waits for. `None` when it was withdrawn in the same moment.
fn offer(app: &App, assignment: &Assignment) -> Option<JobAssignment> {
    let known = app.note_offer(assignment)?;
    let mut answer = outline(app, assignment, known.run, known.timeout_minutes);
    answer.offer_expires_at = Some(assignment.kind.expires_at().as_second());
    Some(answer)
}

pub(super) async fn acquire(
    State(app): State<Arc<App>>,
    runner: auth::Runner,
    Path(job): Path<startline_protocol::ids::JobId>,
    Body(request): Body<AcquireRequest>,
) -> ApiResult<Response> {
    let now = app.clock.now();
    let (assignment, offer) = {
        let mut inner = app.dispatch.lock();
        let outcome = inner.dispatcher.acquire(now, runner.id, job, request.epoch);
        let assignment = outcome.map_err(|error| ApiError::stale(error.to_string()))?;
        (assignment, inner.offers.take(job, request.epoch))
    };
    let delivery = Delivery::new(&app, &assignment);
    let (answer, job) = delivery.settle(lease(&app, &assignment, None, &runner.origin).await)?;
    if let Some(offer) = offer {
        app.trace_assigned(&job, assignment.epoch, offer.at);
    }
    Ok(answer)
}

/// Makes a lease durable and answers with what its runner needs: a [`JobAssignment`], into whose text the job's definition
/// is written as it lies in the store.
/// What of it is durable already comes as `taken`.
async fn lease(
    app: &Arc<App>,
    assignment: &Assignment,
    taken: Option<Box<TakenJob>>,
    origin: &Origin,
) -> ApiResult<(Response, JobRecord)> {
    let taken = match taken {
        Some(taken) => hand_out(app, assignment, *taken).await?,
        None => take(app, assignment, origin).await?,
    };
    let Taken { job, message, secrets, token, .. } = taken;
    let mut answer = outline(app, assignment, job.run_id, job.timeout_minutes);
    answer.secrets = secrets;
    answer.job_token = Some(token);
    answer.lease_expires_at = Some(assignment.kind.expires_at().as_second());
    let written = json(&message, |out| {
        serde_json::to_writer(&mut *out, &answer)?;
        out.pop();
        out.extend_from_slice(b",\"job_definition\":");
        message.write(out)?;
        out.push(b'}');
        Ok(())
    });
    Ok((written.map_err(|error| unreadable(job.id, &error))?, job))
}

/// An answer of JSON around this message.
pub(crate) fn json(
    message: &Bound,
    write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<Response> {
    let mut out = Vec::with_capacity(message.expected_size() + 2048);
    write(&mut out)?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], out).into_response())
}

/// The refusal of a job whose stored message is none.
pub(crate) fn unreadable(job: JobId, error: &serde_json::Error) -> ApiError {
    tracing::error!(job.id = %job, %error, "a stored job message cannot be read");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, "the stored job cannot be read")
}

/// A job that a runner has taken, with all that executing it needs.
pub(crate) struct Taken {
    pub job: JobRecord,
    /// Bound to this assignment.
    pub message: Bound,
    pub secrets: BTreeMap<String, String>,
    pub token: JobToken,
}

/// The GUID of one assignment of a job, the same however often it is asked for.
pub(crate) fn job_guid(plan_id: Uuid, job: JobId, epoch: Epoch) -> Uuid {
    let digest = startline_crypto::sha256(format!("{plan_id} {job} {epoch}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Makes a lease durable. A repeat under the same epoch answers the same.
pub(crate) async fn take(app: &Arc<App>, assignment: &Assignment, origin: &Origin) -> ApiResult<Taken> {
    let now = app.clock.now();
    app.leases.begin(assignment.job, assignment.epoch, None);
    let Assignment { job, epoch, runner, attempt, .. } = *assignment;
    let note = audit::acquired(runner, origin, now);
    let taken = app.store.acquire_noted(job, epoch, runner, attempt, now, note).await?;
    hand_out(app, assignment, taken).await
}

/// Adds what executing a job needs besides.
async fn hand_out(app: &Arc<App>, assignment: &Assignment, taken: TakenJob) -> ApiResult<Taken> {
    let now = app.clock.now();
    let TakenJob { run, job, message } = taken;
    let secrets = match app.secrets_of_job(&run, &job).await {
        Ok(secrets) => secrets,
        Err(SecretsError::Store(error)) => return Err(error.into()),
        Err(error) => {
            tracing::error!(run.id = %run.id, %error, "a job cannot be handed out");
            // No other runner would fare better, and the jobs behind it must not wait for it.
            app.fail_job(assignment, &error.to_string());
            let title = "the run's secrets cannot be opened";
            return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, title));
        }
    };
    let job_guid = job_guid(run.run.plan_id, job.id, assignment.epoch);
    let limit = SignedDuration::from_mins(i64::from(job.timeout_minutes));
    let second = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
    let claims = Claims {
        job: job.id,
        run: run.id,
        attempt: assignment.attempt,
        epoch: assignment.epoch,
        issued_at: second(now),
        // The lease ends a token's use long before; this only bounds what a forgotten one could be.
        expires_at: second(now + limit + SignedDuration::from_hours(24)),
        id: Uuid::new_v4(),
        plan_id: run.run.plan_id,
        job_guid,
    };
    let token = app.job_tokens.mint(&claims);
    // Its bearer comes back with it before anybody else does.
    app.job_claims.note(startline_crypto::token::hash(token.expose()).0, claims, now);
    app.limits.minted(token.expose());
    let mut message = Bound::new(message, job_guid, &app.actions.urls, token.expose(), run.run.trusted);
    app.complete_single(&mut message, &run).await?;
    app.add_variables_of_environment(&mut message, &run, &job).await?;
    app.hand_on_trace(&mut message, &job, assignment.epoch);
    app.trace_acquired(&job, assignment.epoch, now);
    app.begin_lease(&job, now);
    Ok(Taken { job, message, secrets, token })
}

impl App {
    /// Measures how long a job waited until it was assigned, and tells of it.
    pub(crate) fn note_assigned(&self, job: &JobRecord) {
        self.events.job(job);
        self.measure_assigned(job.queued_at, self.clock.now());
    }

    pub(crate) fn measure_assigned(&self, queued_at: Timestamp, now: Timestamp) {
        if let Ok(waited) = Duration::try_from(now.duration_since(queued_at)) {
            self.metrics.assigned(waited);
        }
    }

    /// Notes the start of a job: its deadline, its metrics, and that its run has changed.
    fn begin_lease(self: &Arc<Self>, job: &JobRecord, now: Timestamp) {
        if let Some(reason) = &job.cancel_reason {
            self.tell_to_stop(job.id, reason);
        }
        self.set_deadline(job.id, job.started_at, job.timeout_minutes);
        self.events.job(job);
        if let Ok(queued) = Duration::try_from(now.duration_since(job.queued_at)) {
            self.metrics.acquired(queued);
        }
        self.changes.bump(job.run_id);
    }
}

fn outline(app: &App, assignment: &Assignment, run: RunId, timeout_minutes: u32) -> JobAssignment {
    let job = assignment.job;
    let base = format!("{}/api/v1/runners/jobs/{job}/", app.config.url);
    let url = |what: &str| [&*base, what].concat();
    JobAssignment {
        job_assigned: true,
        job_id: job,
        workflow_run_id: run,
        attempt: assignment.attempt,
        epoch: assignment.epoch,
        job_definition: None,
        secrets: BTreeMap::new(),
        timeout_minutes,
        offer_expires_at: None,
        lease_expires_at: None,
        renew_interval_seconds: app.config.renew_interval_seconds(),
        job_token: None,
        urls: JobUrls {
            acquire: url("acquire"),
            renew: url("renew"),
            status: url("status"),
            logs: url("logs"),
            complete: url("complete"),
        },
    }
}
