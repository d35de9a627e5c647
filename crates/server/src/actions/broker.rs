//! The broker: sessions, and the long poll that carries messages to a listening runner.
//!
//! A poll's answer is an offer and no delivery: clients throw polls away with whatever was just written into them
//! (actions/runner `BrokerMessageListener.cs`). So jobs are offered to polls with `status=Online` alone, and an offer
//! stays the runner's until it is acquired or its window ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;
use startline_dispatcher::Assignment;
use startline_protocol::actions::broker::{
    AcknowledgeRequest, JOB_CANCELLATION, JOB_REQUEST, JobCancellation, JobRequest, Message, MessageQuery, Session,
};
use startline_protocol::ids::{Epoch, JobId};
use startline_protocol::problem::kind;
use startline_protocol::state::JobStatus;
use uuid::Uuid;

use super::doors::Doors;
use super::sessions::{Conflict, Listening, Replaced, SENDS, Status};
use super::stop::clock_text;
use crate::App;
use crate::auth::Listener;
use crate::dispatch::Delivery;
use crate::front::{Begun, Parked};
use crate::problem::{ApiError, ApiResult};
use crate::routes::Body;
use crate::routes::extract::Query;

/// The oldest runner that is worked for: earlier ones neither acknowledge nor remove themselves this way.
const OLDEST: (u32, u32) = (2, 328);

pub(super) fn routes() -> Doors {
    Doors::new()
        .post("/_runner/session", create)
        .delete("/_runner/session", delete)
        .get("/_runner/message", message)
        .delete("/_runner/message", deleted)
        .post("/_runner/acknowledge", acknowledge)
        .get("/_runner/_apis/connectionData", connection_data)
}

/// What a runner wants to see at the base of the service before it makes a session, if that differs from the broker's
/// (`BrokerMessageListener.cs`, from 2.323 on). There is nothing to be found in it.
async fn connection_data() -> Json<serde_json::Value> {
    Json(json!({
        "instanceId": "6b2a4c1e-7d35-4f0a-9a43-53746172746c",
        "locationServiceData": { "serviceDefinitions": [] },
    }))
}

async fn create(
    State(app): State<Arc<App>>,
    listener: Listener,
    Body(request): Body<Session>,
) -> ApiResult<Json<Session>> {
    let now = app.clock.now();
    let runner = listener.claims.runner;
    known(&app, &listener)?;
    let session_id = app.actions.sessions.create(runner, &request.owner_name, now).map_err(|Conflict { owner }| {
        let title = format!("a session of runner {} is open, held by {owner}", listener.claims.name);
        ApiError::new(StatusCode::CONFLICT, kind::RUNNER_BUSY, title)
    })?;
    if !request.agent.version.is_empty() {
        // Not waited for: the version is for people.
        drop(app.store.update_runner_version(runner, request.agent.version.clone()));
    }
    app.alive(runner);
    tracing::info!(runner.id = %runner, session.id = %session_id, "a runner listens");
    Ok(Json(Session { session_id, ..request }))
}

async fn delete(State(app): State<Arc<App>>, listener: Listener) -> StatusCode {
    let runner = listener.claims.runner;
    if let Some(offer) = app.actions.sessions.delete(runner) {
        app.give_back(offer.job, offer.epoch);
    }
    tracing::info!(runner.id = %runner, "a runner stopped listening");
    StatusCode::OK
}

/// Messages are not deleted in this generation of the protocol; clients of the earlier one may try.
async fn deleted(_: Listener) -> StatusCode {
    StatusCode::OK
}

/// Says that an offer was seen. It changes nothing: only the acquisition does.
async fn acknowledge(
    State(app): State<Arc<App>>,
    listener: Listener,
    Body(request): Body<AcknowledgeRequest>,
) -> StatusCode {
    tracing::debug!(runner.id = %listener.claims.runner, request = request.runner_request_id, "an offer was acknowledged");
    app.alive(listener.claims.runner);
    StatusCode::OK
}

async fn message(
    State(app): State<Arc<App>>,
    listener: Listener,
    Query(query): Query<MessageQuery>,
) -> ApiResult<Response> {
    let now = app.clock.now();
    let runner = listener.claims.runner;
    if let Some(version) = query.runner_version.as_deref().filter(|version| is_too_old(version)) {
        let title = format!("runner version {version} is too old");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, kind::TOO_OLD, title)
            .detail(format!("update the runner to {}.{} or newer", OLDEST.0, OLDEST.1)));
    }
    if app.actions.sessions.is_leaving(runner, now) {
        return Ok(farewell(&app).await);
    }
    known(&app, &listener)?;
    let session = query.session_id.unwrap_or_else(Uuid::nil);
    let listening = app.actions.sessions.listen(runner, session, &app.clock).map_err(|Replaced| {
        ApiError::new(StatusCode::BAD_REQUEST, kind::SESSION_GONE, "the session was replaced by another one")
    })?;
    let status = match query.status.as_deref() {
        Some(status) if status.eq_ignore_ascii_case("busy") => Status::Busy,
        _ => Status::Online,
    };
    app.alive(runner);
    if let Some(answer) = cancellation(&app, &listener, status) {
        return Ok(answer);
    }
    match status {
        Status::Online => online(&app, &listener, &listening).await,
        Status::Busy => busy(&app, &listener, &listening).await,
    }
}

/// A runner that has had its only job leaves by itself; until then its poll is held, because a refusal would be an error
/// to it.
async fn farewell(app: &App) -> Response {
    tokio::select! {
        () = app.drain.cancelled() => {}
        () = tokio::time::sleep(app.actions.poll_timeout) => {}
    }
    nothing()
}

async fn online(app: &Arc<App>, listener: &Listener, listening: &Listening<'_>) -> ApiResult<Response> {
    let runner = listener.claims.runner;
    let deadline = tokio::time::Instant::now() + app.actions.poll_timeout;
    match offer_again(app, listener) {
        Again::Nothing => {}
        Again::Offer(answer) => return Ok(answer),
        // Whoever else waits has it first: this poll is given nothing.
        Again::GivenUp => return busy(app, listener, listening).await,
    }
    let mut parked = match Parked::begin(app, runner, app.actions.poll_timeout, false) {
        Ok(Begun::Assigned(assignment)) => return offer(app, listener, &assignment, deadline).await,
        Ok(Begun::Parked(parked)) => parked,
        // It has its job, or has had its only one.
        Err(error) if error.problem().kind == kind::RUNNER_BUSY => return busy(app, listener, listening).await,
        Err(error) => return Err(error),
    };
    let arrival = tokio::select! {
        biased;
        () = listening.over.cancelled() => return Ok(nothing()),
        end = poll_fn(|cx| parked.poll_end(cx)) => end?,
    };
    match arrival {
        Some(arrival) => offer(app, listener, &arrival.assignment, deadline).await,
        None => Ok(nothing()),
    }
}

/// Makes an offer durable and writes it; nothing if it is not durable by the end of the poll.
async fn offer(
    app: &Arc<App>,
    listener: &Listener,
    assignment: &Assignment,
    deadline: tokio::time::Instant,
) -> ApiResult<Response> {
    let delivery = Delivery::new(app, assignment);
    let written = app.store.record_offer(assignment.job, assignment.epoch, assignment.runner);
    // One that comes at the poll's end is still written.
    let deadline = deadline.max(tokio::time::Instant::now() + LAST_OFFER);
    let written = tokio::select! {
        biased;
        written = written => written,
        // The database does not answer: the job goes back, and the runner comes again.
        () = tokio::time::sleep_until(deadline) => return Ok(nothing()),
        () = app.drain.cancelled() => return Ok(nothing()),
    };
    if let Err(error) = &written
        && error.is_transient()
    {
        // A refusal would be an error to the runner, and ten of those restart it; an answer at once would be a hot loop.
        tracing::error!(job.id = %assignment.job, %error, "an offer was not written");
        drop(delivery);
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = app.drain.cancelled() => {}
        }
        return Ok(nothing());
    }
    delivery.settle(written.map_err(ApiError::from))?;
    app.actions.sessions.offered(assignment.runner, assignment.job, assignment.epoch);
    if let Ok(Some(job)) = app.store.job(assignment.job).await {
        app.note_assigned(&job);
    }
    Ok(job_request(app, listener, assignment.job, assignment.epoch))
}

/// What became of an offer that was written before.
enum Again {
    /// There is none.
    Nothing,
    /// The poll that carried it was thrown away; here it is again.
    Offer(Response),
    /// It was written often enough.
    GivenUp,
}

fn offer_again(app: &Arc<App>, listener: &Listener) -> Again {
    let runner = listener.claims.runner;
    let sessions = &app.actions.sessions;
    let Some(offer) = sessions.offer_again(runner) else { return Again::Nothing };
    let still = {
        let inner = app.dispatch.lock();
        let job = inner.dispatcher.job(offer.job);
        job.is_some_and(|job| job.status == JobStatus::Offered && job.epoch == offer.epoch)
    };
    if !still {
        sessions.settle(runner);
        return Again::Nothing;
    }
    if offer.sends > SENDS {
        tracing::warn!(runner.id = %runner, job.id = %offer.job, "a runner did not take an offer that it got several times");
        sessions.settle(runner);
        app.give_back(offer.job, offer.epoch);
        return Again::GivenUp;
    }
    Again::Offer(job_request(app, listener, offer.job, offer.epoch))
}

/// Holds a poll that waits for a cancel.
async fn busy(app: &Arc<App>, listener: &Listener, listening: &Listening<'_>) -> ApiResult<Response> {
    let deadline = tokio::time::Instant::now() + app.actions.poll_timeout;
    let runner = listener.claims.runner;
    let held = app.dispatch.lock().dispatcher.runner(runner).map(|live| live.current_jobs).unwrap_or_default();
    let mut switch = held.first().and_then(|job| app.leases.watch(*job));
    let cancelled = async {
        // A switch that goes with its lease is no cancel; what there is to do is seen at the next poll.
        let thrown = match &mut switch {
            Some(switch) => switch.wait_for(Option::is_some).await.is_ok(),
            None => false,
        };
        if !thrown {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = listening.over.cancelled() => return Ok(nothing()),
        () = app.drain.cancelled() => return Ok(nothing()),
        () = cancelled => {}
        () = tokio::time::sleep_until(deadline) => return Ok(nothing()),
    }
    if let Some(answer) = cancellation(app, listener, Status::Busy) {
        return Ok(answer);
    }
    // It was told before; the rest of the time is waited out, lest the runner ask in a hot loop.
    tokio::select! {
        () = listening.over.cancelled() => {}
        () = app.drain.cancelled() => {}
        () = tokio::time::sleep_until(deadline) => {}
    }
    Ok(nothing())
}

/// The cancel that the runner is still to be told of, if there is one.
fn cancellation(app: &Arc<App>, listener: &Listener, status: Status) -> Option<Response> {
    let runner = listener.claims.runner;
    let held: Vec<(JobId, Epoch)> = {
        let inner = app.dispatch.lock();
        let jobs = inner.dispatcher.runner(runner)?.current_jobs;
        let running = jobs.into_iter().filter_map(|id| inner.dispatcher.job(id).map(|job| (id, job)));
        running.filter(|(_, job)| job.status == JobStatus::Running).map(|(id, job)| (id, job.epoch)).collect()
    };
    for (job, epoch) in held {
        if app.leases.cancel_reason(job).is_none() {
            continue;
        }
        // Begins with the first time that the runner is told; copies carry what is left.
        let left = app.stop_within(job, epoch);
        if !app.actions.sessions.must_tell(runner, job, epoch, status) {
            continue;
        }
        let Some(job_id) = app.actions.stops.guid(job, epoch) else { continue };
        app.actions.sessions.told(runner, job, epoch, status);
        tracing::info!(runner.id = %runner, job.id = %job, "a runner is told to stop its job");
        let body = JobCancellation { job_id, timeout: clock_text(left) };
        return Some(answer(app, JOB_CANCELLATION, &body));
    }
    None
}

fn job_request(app: &App, listener: &Listener, job: JobId, epoch: Epoch) -> Response {
    let id = request_id(job, epoch);
    let request = JobRequest {
        id: id.clone(),
        runner_request_id: id,
        run_service_url: app.actions.urls.run_service(),
        should_acknowledge: true,
        billing_owner_id: listener.claims.scope.to_string(),
    };
    answer(app, JOB_REQUEST, &request)
}

/// By what name a runner acquires an offer.
pub(super) fn request_id(job: JobId, epoch: Epoch) -> String {
    format!("{job}-{epoch}")
}

/// What a [`request_id`] names.
pub(super) fn parse_request_id(text: &str) -> Option<(JobId, Epoch)> {
    let (job, epoch) = text.split_once('-')?;
    Some((job.parse().ok()?, Epoch(epoch.parse().ok()?)))
}

fn answer<T: serde::Serialize>(app: &App, message_type: &str, body: &T) -> Response {
    let message = Message {
        message_id: app.actions.sessions.next_message(app.clock.now()),
        message_type: message_type.to_owned(),
        body: serde_json::to_string(body).unwrap_or_default(),
    };
    Json(message).into_response()
}

fn nothing() -> Response {
    StatusCode::ACCEPTED.into_response()
}

/// Refuses a runner whose registration is gone.
fn known(app: &Arc<App>, listener: &Listener) -> ApiResult<()> {
    let runner = listener.claims.runner;
    if app.dispatch.lock().dispatcher.runner(runner).is_some() { Ok(()) } else { Err(crate::routes::gone(runner)) }
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST,
        // Not a version: a client of somebody's own.
        _ => false,
    }
}

impl App {
    /// Notes a sign of life.
    pub(super) fn alive(self: &Arc<Self>, runner: startline_protocol::ids::RunnerId) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        if let Ok(effects) = inner.dispatcher.heartbeat(now, runner) {
            self.apply(&mut inner, now, effects);
        }
    }
}

/// How long an offer may take to be written that comes at the end of a poll.
const LAST_OFFER: Duration = Duration::from_secs(3);

/// How long a poll is held at most: clients give up after 100 s, and many proxies after 60.
pub(crate) const LONGEST_POLL: Duration = Duration::from_secs(55);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_before_2_328_are_too_old_and_others_are_not() {
        assert!(is_too_old("2.327.1") && is_too_old("1.999.0"));
        assert!(!is_too_old("2.328.0") && !is_too_old("2.336.0") && !is_too_old("3.0.0") && !is_too_old("mine"));
    }

    #[test]
    fn a_request_is_found_by_its_name_again() {
        assert_eq!(parse_request_id(&request_id(JobId(91), Epoch(3))), Some((JobId(91), Epoch(3))));
        assert_eq!(parse_request_id("3c9a"), None);
        assert_eq!(parse_request_id("1-"), None);
    }
}
