//! Sessions, and the long poll that tells a set's reader of jobs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};
use startline_crypto::purpose_token::Purpose;
use startline_protocol::ids::JobId;
use startline_protocol::problem::kind;
use startline_store::ScaleSetRecord;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::bearer::{Administrator, Reader, no_set};
use super::queue::{Message, Statistics};
use super::session::{Conflict, Over, QueueClaims};
use super::views::SessionWanted;
use super::{Look, ScaleSets};
use crate::App;
use crate::problem::{ApiError, ApiResult};
use crate::routes::Body;
use crate::routes::extract::{Path, Query};

/// Life of a queue token. The reader refreshes it when it is refused.
const LIFE: SignedDuration = SignedDuration::from_mins(60);
/// How many message ids are taken at a time.
const IDS: u32 = 64;

pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Path(id): Path<i64>,
    Body(wanted): Body<SessionWanted>,
) -> ApiResult<Json<Value>> {
    let record = caller.set(&app, id).await?;
    // Whoever listens will ask for just-in-time runners.
    app.actions.keys.want();
    let (claims, statistics) = {
        let inner = app.dispatch.lock();
        let sets = &app.actions.scale_sets;
        sets.open(&record, &inner.dispatcher);
        let now = app.clock.now();
        let mut known = sets.lock();
        let statistics = known.statistics(id, &inner.dispatcher);
        let set = known.sets.get_mut(&id).ok_or_else(|| no_set(id))?;
        let session = set.sessions.create(id, Uuid::new_v4(), &wanted.owner_name, now);
        let claims = session.map_err(|Conflict { owner }| {
            let title = format!(
                "The actions runner scaleset {} already has an active session for owner {owner}.",
                record.set.name
            );
            ApiError::new(StatusCode::CONFLICT, "RunnerScaleSetSessionConflictException", title)
        })?;
        set.queue.begin(statistics);
        (claims, statistics)
    };
    tracing::info!(scale_set.id = id, session.id = %claims.session, owner = claims.owner, "a scale set is listened to");
    app.session_view(&record, &claims, statistics)
}

#[derive(Debug, Deserialize)]
pub(super) struct SessionPath {
    id: i64,
    session: Uuid,
}

pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Path(path): Path<SessionPath>,
) -> ApiResult<Json<Value>> {
    let record = caller.set(&app, path.id).await?;
    let (claims, statistics) = {
        let inner = app.dispatch.lock();
        let sets = &app.actions.scale_sets;
        if !sets.is_open(path.id) {
            sets.open(&record, &inner.dispatcher);
        }
        let now = app.clock.now();
        let mut known = sets.lock();
        let statistics = known.statistics(path.id, &inner.dispatcher);
        let set = known.sets.get_mut(&path.id).ok_or_else(|| no_set(path.id))?;
        let claims = set.sessions.refresh(path.id, path.session, now).map_err(|Over| {
            let title = format!("session {} of scale set {} is over", path.session, path.id);
            ApiError::new(StatusCode::NOT_FOUND, "RunnerScaleSetSessionNotFoundException", title)
        })?;
        (claims, statistics)
    };
    app.session_view(&record, &claims, statistics)
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Path(path): Path<SessionPath>,
) -> ApiResult<StatusCode> {
    match caller.set(&app, path.id).await {
        Ok(_) => {}
        Err(error) if error.is_refusal() => return Ok(StatusCode::NO_CONTENT),
        Err(error) => return Err(error),
    }
    if let Some(set) = app.actions.scale_sets.lock().sets.get_mut(&path.id) {
        set.sessions.delete(path.session);
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageQuery {
    #[serde(default)]
    last_message_id: i64,
}

/// `GET …/message`: 200 with a message, 202 without one, 401 for a token that is over, and nothing else, which would end
/// the reader.
pub(super) async fn message(
    State(app): State<Arc<App>>,
    reader: Reader,
    Query(query): Query<MessageQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let claims = reader.claims;
    let polling = Polling::begin(&app, claims).await?;
    let capacity = capacity(&headers);
    let deadline = tokio::time::Instant::now() + app.actions.poll_timeout;
    loop {
        let woken = polling.wake.notified();
        let look = {
            let inner = app.dispatch.lock();
            let sets = &app.actions.scale_sets;
            sets.lock().look(
                polling.claims.set,
                capacity,
                query.last_message_id,
                sets.mode,
                &inner.dispatcher,
                app.clock.now(),
            )
        };
        if polling.over.is_cancelled() {
            return Err(over());
        }
        let tick = match look {
            None => return Err(over()),
            Some(Look::Say(message, statistics)) => {
                app.note_told(polling.claims.set, &message).await;
                return Ok(Json(app.told(polling.claims.set, &message, statistics).await?).into_response());
            }
            Some(Look::Number) => {
                app.take_ids(polling.claims.set).await?;
                continue;
            }
            Some(Look::Wait(tick)) => tick,
        };
        let due = async {
            match tick {
                Some(at) => app.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = polling.over.cancelled() => return Err(over()),
            () = app.drain.cancelled() => return Ok(StatusCode::ACCEPTED.into_response()),
            () = woken => {}
            () = due => {}
            () = tokio::time::sleep_until(deadline) => return Ok(StatusCode::ACCEPTED.into_response()),
        }
    }
}

/// How many jobs the reader takes altogether; any number when it does not say.
fn capacity(headers: &HeaderMap) -> usize {
    let text = headers.get("x-scalesetmaxcapacity").and_then(|value| value.to_str().ok());
    let number = text.and_then(|text| text.trim().parse::<i64>().ok());
    number.map_or(usize::MAX, |number| usize::try_from(number).unwrap_or(0))
}

#[derive(Debug, Deserialize)]
pub(super) struct MessagePath {
    message: i64,
}

/// `DELETE …/message/{id}`; of one that is gone already as well.
pub(super) async fn acknowledge(
    State(app): State<Arc<App>>,
    reader: Reader,
    Path(MessagePath { message }): Path<MessagePath>,
) -> ApiResult<StatusCode> {
    app.admit(&reader.claims).await?;
    if let Some(set) = app.actions.scale_sets.lock().sets.get_mut(&reader.claims.set) {
        set.queue.acknowledge(message);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/acquirejobs`, with the token of the queue: answers the jobs that are the set's now.
pub(super) async fn acquire(
    State(app): State<Arc<App>>,
    reader: Reader,
    Path(id): Path<i64>,
    body: axum::body::Bytes,
) -> ApiResult<Json<Value>> {
    let wanted: Vec<i64> = serde_json::from_slice(&body)
        .map_err(|error| ApiError::invalid(format!("the body is not a list of request ids: {error}")))?;
    if reader.claims.set != id {
        return Err(ApiError::unauthenticated("the token is of another scale set"));
    }
    app.admit(&reader.claims).await?;
    let won: Vec<i64> = {
        let inner = app.dispatch.lock();
        let mut known = app.actions.scale_sets.lock();
        let now = app.clock.now();
        wanted.into_iter().filter(|job| known.acquire(id, JobId(*job), &inner.dispatcher, now)).collect()
    };
    Ok(Json(json!({ "count": won.len(), "value": won })))
}

fn over() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, kind::UNAUTHENTICATED, "the session is over, or its token was replaced")
}

/// A poll that is held; its session is told when it ends.
struct Polling {
    app: Arc<App>,
    claims: QueueClaims,
    over: CancellationToken,
    wake: Arc<tokio::sync::Notify>,
}

impl Polling {
    async fn begin(app: &Arc<App>, claims: QueueClaims) -> ApiResult<Self> {
        app.open_for(&claims).await?;
        let now = app.clock.now();
        let mut known = app.actions.scale_sets.lock();
        let set = known.sets.get_mut(&claims.set).ok_or_else(over)?;
        let over = set.sessions.open(&claims, now).map_err(|Over| over())?;
        let wake = Arc::clone(&set.wake);
        drop(known);
        Ok(Self { app: Arc::clone(app), claims, over, wake })
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let now = self.app.clock.now();
        if let Some(set) = self.app.actions.scale_sets.lock().sets.get_mut(&self.claims.set) {
            set.sessions.close(self.claims.session, now);
        }
    }
}

impl App {
    /// Makes the claims' set known after a restart; one that was deleted is over.
    async fn open_for(self: &Arc<Self>, claims: &QueueClaims) -> ApiResult<()> {
        let sets = &self.actions.scale_sets;
        if !sets.is_open(claims.set) {
            let record = self.store.scale_set(claims.set).await?.ok_or_else(over)?;
            let inner = self.dispatch.lock();
            sets.open(&record, &inner.dispatcher);
        }
        Ok(())
    }

    /// Refuses claims of a session that is over.
    async fn admit(self: &Arc<Self>, claims: &QueueClaims) -> ApiResult<()> {
        self.open_for(claims).await?;
        let mut known = self.actions.scale_sets.lock();
        let set = known.sets.get_mut(&claims.set).ok_or_else(over)?;
        set.sessions.admit(claims, self.clock.now()).map_err(|Over| over())
    }

    /// Takes message ids for the set; they are durable and never given again.
    async fn take_ids(self: &Arc<Self>, id: i64) -> ApiResult<()> {
        let first = self.store.next_scale_set_message(id, IDS).await.map_err(|error| match error {
            startline_store::Error::NoScaleSet(_) => over(),
            other => other.into(),
        })?;
        if let Some(set) = self.actions.scale_sets.lock().sets.get_mut(&id)
            && set.ids.is_empty()
        {
            set.ids = first..first + i64::from(IDS);
        }
        Ok(())
    }

    /// Keeps what the reader knows of its runners' jobs, for after a restart. Before it is told: readers count their
    /// runners by beginnings and ends, and one that misses a beginning takes no harm from it, but one that hears of it
    /// twice may. A store that fails now holds no message up.
    async fn note_told(self: &Arc<Self>, set: i64, message: &Message) {
        let (begun, over) = message.news(set);
        if begun.is_empty() && over.is_empty() {
            return;
        }
        if let Err(error) = self.store.tell_scale_set(set, begun, over).await {
            tracing::warn!(scale_set.id = set, %error, "what a scale set is told is not kept over a restart");
        }
    }

    fn session_view(
        self: &Arc<Self>,
        record: &ScaleSetRecord,
        claims: &QueueClaims,
        statistics: Statistics,
    ) -> ApiResult<Json<Value>> {
        let (token, _) = self.mint(Purpose::Queue, claims, LIFE)?;
        Ok(Json(json!({
            "sessionId": claims.session,
            "ownerName": claims.owner,
            "runnerScaleSet": { "id": record.id, "name": record.set.name },
            "messageQueueUrl": format!("{}scalesets/message?ss={}", self.actions.urls.server(), record.id),
            "messageQueueAccessToken": token.expose(),
            "statistics": statistics,
        })))
    }

    /// What the queue says of a set, as far as somebody has read it.
    pub(super) fn scale_set_statistics(self: &Arc<Self>, record: &ScaleSetRecord) -> Statistics {
        let inner = self.dispatch.lock();
        self.actions.scale_sets.lock().statistics(record.id, &inner.dispatcher)
    }
}

impl ScaleSets {
    /// Whether somebody reads the set's queue.
    pub(super) fn is_read(&self, id: i64) -> bool {
        let now = self.clock.now();
        self.lock().sets.get(&id).is_some_and(|set| set.sessions.is_attended(now))
    }
}
