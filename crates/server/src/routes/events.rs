//! Live events: one stream, as a WebSocket or as server-sent events.
//!
//! What both do alike is here: who reads, what is wanted, how many streams one bearer may hold, and looking at the
//! bearer again while the stream lives.

mod socket;
mod sse;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use startline_daemon::ClientIp;
use startline_protocol::ids::RunId;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use tokio::time::{Interval, MissedTickBehavior};

use super::extract::Query;
use crate::events::{Filter, Reader, Types, Viewer};
use crate::problem::{ApiError, ApiResult};
use crate::{App, auth};

/// How often a quiet stream shows that it lives.
const PING: Duration = Duration::from_secs(15);
/// How often the bearer of an open stream is looked at again.
const RECHECK: Duration = Duration::from_secs(2);
/// Most streams that one bearer may hold open: a few people who look at one dashboard, not a leak.
const MOST_STREAMS: usize = 64;

/// Which events are wanted.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Wanted {
    /// Kinds of events, separated by commas: `runner`, `job`, `run`, `log`; all when absent.
    types: Option<String>,
    /// Only those of this run.
    #[schemars(range(min = 1))]
    run_id: Option<i64>,
    /// Only those of this repository, `owner/name`.
    repository: Option<String>,
    /// The last `sequence` seen: begins with what follows it. From now on when absent.
    after: Option<u64>,
}

/// `GET /api/v1/events`.
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    caller: auth::AdminOrRunner,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> ApiResult<Response> {
    let (mut parts, _) = request.into_parts();
    let viewer = match &caller {
        auth::AdminOrRunner::Admin(admin) => {
            admin.need(Permission::EventsRead)?;
            Viewer::Scope(admin.token.scope.clone())
        }
        auth::AdminOrRunner::Runner(runner) => Viewer::Runner(runner.id),
    };
    let after = match parts.headers.get("last-event-id") {
        Some(last) => Some(last.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
            ApiError::invalid("`Last-Event-ID` is not a number").detail("send the `sequence` of the last event seen")
        })?),
        None => wanted.after,
    };
    let filter = wanted.filter(viewer)?;
    let place = app.streams.enter(&parts.headers)?;
    let standing = Standing::new(&parts);
    let reader = app.events.reader(after, filter);
    let stream = Stream { reader, standing, _place: place, recheck: every(RECHECK), ping: every(PING), app };
    if asks_for_socket(&parts.headers) { socket::answer(&mut parts, stream).await } else { Ok(sse::answer(stream)) }
}

fn asks_for_socket(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.split(',').any(|name| name.trim().eq_ignore_ascii_case("websocket")))
}

impl Wanted {
    fn filter(&self, viewer: Viewer) -> ApiResult<Filter> {
        let types = match &self.types {
            None => Types::ALL,
            Some(names) => {
                let mut types = Types::NONE;
                for name in names.split(',') {
                    if !types.add(name.trim()) {
                        return Err(ApiError::invalid(format!("`types` has `{}`", name.escape_debug()))
                            .detail("it is a list of runner, job, run, log, separated by commas"));
                    }
                }
                types
            }
        };
        let repository = match &self.repository {
            None => None,
            Some(name) => Some(Scope::repository(name).map_err(|_| {
                ApiError::invalid(format!("`{}` is not a repository", name.escape_debug()))
                    .detail("write it as `owner/name`")
            })?),
        };
        Ok(Filter { viewer, types, run: self.run_id.map(RunId), repository })
    }
}

/// An open stream, whatever its form.
struct Stream {
    app: Arc<App>,
    reader: Reader,
    standing: Standing,
    recheck: Interval,
    ping: Interval,
    _place: Place,
}

/// Ticks from one period on.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    // One late look is as good as several.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// A bearer that was accepted once: as much of its request as is needed to ask again.
struct Standing {
    parts: Parts,
}

impl Standing {
    fn new(parts: &Parts) -> Self {
        let (mut kept, ()) = http::Request::new(()).into_parts();
        kept.uri = parts.uri.clone();
        if let Some(bearer) = parts.headers.get(header::AUTHORIZATION) {
            kept.headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        keep::<ConnectInfo<SocketAddr>>(parts, &mut kept);
        keep::<ClientIp>(parts, &mut kept);
        keep::<auth::RequestId>(parts, &mut kept);
        keep::<MatchedPath>(parts, &mut kept);
        Self { parts: kept }
    }

    /// Why the bearer would be refused now, if it would. A fault of ours is no reason.
    async fn refusal(&mut self, app: &Arc<App>) -> Option<ApiError> {
        let error = auth::AdminOrRunner::from_request_parts(&mut self.parts, app).await.err()?;
        error.is_refusal().then_some(error)
    }
}

/// Takes over one of a request's extensions.
fn keep<T: Clone + Send + Sync + 'static>(from: &Parts, to: &mut Parts) {
    if let Some(value) = from.extensions.get::<T>() {
        to.extensions.insert(value.clone());
    }
}

/// How many streams each bearer holds open.
#[derive(Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<startline_store::Hash, usize>>>);

/// One of them, given back when it is dropped.
#[derive(Debug)]
struct Place {
    streams: Arc<Mutex<HashMap<startline_store::Hash, usize>>>,
    bearer: startline_store::Hash,
}

impl Streams {
    fn enter(&self, headers: &HeaderMap) -> ApiResult<Place> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let bearer = startline_crypto::token::hash(bearer).0;
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(bearer).or_default();
        if *count >= MOST_STREAMS {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                kind::TOO_MANY_REQUESTS,
                format!("this bearer holds {MOST_STREAMS} streams of events open already"),
            )
            .detail("close one of them, or use another token")
            .retry_after(5));
        }
        *count += 1;
        Ok(Place { streams: Arc::clone(&self.0), bearer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.bearer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.bearer);
            }
        }
    }
}
