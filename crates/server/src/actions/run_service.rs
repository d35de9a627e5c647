//! The run service: acquire, renew, complete. Every word may come again, so each repeat answers what the first one did.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use jiff::SignedDuration;
use startline_crypto::job_token::Claims;
use startline_dispatcher::{LeaseError, Patience};
use startline_protocol::actions::run_service::{
    AcquireJobRequest, CompleteJobRequest, Output, RenewJobAnswer, RenewJobRequest,
};
use startline_protocol::ids::RunnerId;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::CompleteRequest;
use uuid::Uuid;

use super::broker::parse_request_id;
use super::doors::Doors;
use super::{official, steps};
use crate::App;
use crate::auth::{JobBearer, Listener};
use crate::dispatch::Delivery;
use crate::problem::{ApiError, ApiResult};
use crate::routes::{Body, polls, work};

/// After this long without a poll, a renewal or anything else a runner counts as offline: it may sleep for a minute
/// between two polls after a fault (actions/runner `BrokerMessageListener.cs`).
const OFFLINE_AFTER: SignedDuration = SignedDuration::from_secs(120);

/// At what pace official runners speak. They renew each minute, and after a fault may need some minutes for it.
pub(crate) const fn patience(lease: SignedDuration) -> Patience {
    Patience { lease_duration: Some(lease), offline_after: Some(OFFLINE_AFTER) }
}

pub(super) fn routes() -> Doors {
    Doors::new().post("/_run/acquirejob", acquire).post("/_run/renewjob", renew).post("/_run/completejob", complete)
}

async fn acquire(
    State(app): State<Arc<App>>,
    listener: Listener,
    Body(request): Body<AcquireJobRequest>,
) -> ApiResult<Response> {
    let runner = listener.claims.runner;
    let (job, epoch) = parse_request_id(&request.job_message_id)
        .ok_or_else(|| ApiError::not_found(format_args!("job message `{}`", request.job_message_id.escape_debug())))?;
    let acquired = {
        let mut inner = app.dispatch.lock();
        inner.dispatcher.acquire(app.clock.now(), runner, job, epoch).map_err(|error| match error {
            LeaseError::Unknown { .. } => ApiError::not_found(format_args!("job {job}, or it has ended")),
            other => ApiError::stale(other.to_string()),
        })
    };
    let assignment = match acquired {
        Ok(assignment) => assignment,
        Err(error) => {
            app.dismiss(runner).await;
            return Err(error);
        }
    };
    let delivery = Delivery::new(&app, &assignment);
    let group = app.dispatch.lock().dispatcher.runner(runner).map(|live| live.group).unwrap_or_default();
    let written = async {
        let taken = polls::take(&app, &assignment, &listener.origin).await?;
        let minutes = taken.job.cancel_timeout_minutes;
        let message = official::message(taken, &app.actions.urls, &group);
        let answer = polls::json(&message, |out| message.write(out));
        Ok((answer.map_err(|error| polls::unreadable(job, &error))?, message.job_id, minutes))
    };
    let (answer, guid, minutes) = delivery.settle(written.await)?;
    app.actions.sessions.settle(runner);
    app.actions.stops.acquired(job, epoch, guid, minutes);
    Ok(answer)
}

impl App {
    /// Removes a runner of a scale set whose job was taken away before it had it. It would go on listening without ever
    /// working (actions/runner#4617); its next poll tells it to leave, and the set's listener starts another one if there
    /// is a job for it.
    async fn dismiss(self: &Arc<Self>, runner: RunnerId) {
        if !self.actions.scale_sets.is_of_set(runner) {
            return;
        }
        match self.remove_idle_runner(runner).await {
            Ok(()) => tracing::info!(runner.id = %runner, "a runner whose job was taken away is told to leave"),
            Err(error) => tracing::debug!(runner.id = %runner, reason = error.problem().title, "a runner stays"),
        }
    }
}

/// Answers from memory: a runner whose renewals fail for some seconds gives its job up (actions/runner#4635).
async fn renew(
    State(app): State<Arc<App>>,
    JobBearer { claims, .. }: JobBearer,
    Body(request): Body<RenewJobRequest>,
) -> ApiResult<Json<RenewJobAnswer>> {
    is_of(&claims, request.plan_id, request.job_id)?;
    let locked_until = work::extend(&app, &claims).map_err(|_| over(&claims))?;
    Ok(Json(RenewJobAnswer { locked_until }))
}

async fn complete(
    State(app): State<Arc<App>>,
    worker: JobBearer,
    Body(request): Body<CompleteJobRequest>,
) -> ApiResult<StatusCode> {
    let claims = &worker.claims;
    is_of(claims, request.plan_id, request.job_id)?;
    let mut record = app.audit(&worker, "job.complete", format_args!("job:{}", claims.job));
    let conclusion = steps::conclusion(request.conclusion);
    record.detail("conclusion", conclusion);
    record.detail("attempt", claims.attempt);
    // Workers repeat it for some minutes and then give the job up: it is held rather than refused.
    record.is_awaited();
    let result = async {
        // A report that is under way ends first, or the list of steps would be written over.
        let reporting = app.reporting(claims.job, claims.epoch);
        let _reporting = reporting.lock().await;
        let known = work::job(&app, claims.job).await?.ok_or_else(|| over(claims))?;
        let runner = known.runner_id;
        let completion = CompleteRequest {
            conclusion,
            outputs: request.outputs.into_iter().filter_map(|(name, output)| Some((name, value(output)?))).collect(),
            environment_url: request.environment_url,
            steps: steps::ended(known.steps, &request.step_results, conclusion),
            annotations: steps::annotations(&request.step_results, &request.annotations),
        };
        // Before the end is told, so that the runner's last polls meet it.
        if let Some(runner) = runner
            && app.dispatch.lock().dispatcher.runner(runner).is_some_and(|live| live.ephemeral)
        {
            app.actions.sessions.spent(runner, app.clock.now());
        }
        work::end(&app, claims, completion, &mut record).await.map_err(|error| {
            // Final to the worker: the job is somebody else's or over, and no repeat would change that.
            if error.is_stale() { over(claims) } else { error }
        })?;
        app.actions.results.ended(claims.job, claims.epoch);
        Ok(StatusCode::NO_CONTENT)
    }
    .await;
    record.conclude(result).await
}

fn value(output: Output) -> Option<String> {
    output.value.filter(|_| output.is_secret != Some(true))
}

/// Refuses a body that speaks of another job than the bearer.
pub(super) fn is_of(claims: &Claims, plan: Uuid, job: Uuid) -> ApiResult<()> {
    if claims.plan_id == plan && claims.job_guid == job {
        Ok(())
    } else {
        Err(ApiError::not_found(format_args!("job {job} for this bearer")))
    }
}

/// Tells a worker to stop: there is nothing to renew or complete any more.
fn over(claims: &Claims) -> ApiError {
    let title = format!("job {} under epoch {} has ended or was given to another runner", claims.job, claims.epoch);
    ApiError::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, title)
}
