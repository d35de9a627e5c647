//! Runners of a pool, as a scale set's controller looks them up and clears them away. The number of the pool is always 0
//! and means nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use startline_protocol::ids::RunnerId;
use startline_protocol::problem::kind;
use startline_store::RunnerRecord;

use super::bearer::Administrator;
use super::views;
use crate::App;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::{Path, Query};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListQuery {
    agent_name: Option<String>,
}

/// The number of the pool is not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct AgentPath {
    id: RunnerId,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let wanted = |runner: &RunnerRecord| {
        let is_named = query.agent_name.as_ref().is_none_or(|name| runner.name.eq_ignore_ascii_case(name));
        is_named && caller.claims.scope.covers(&runner.scope)
    };
    let found = app.store.runners().await?;
    Ok(Json(views::list(found.iter().filter(|runner| wanted(runner)).map(views::agent).collect())))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Path(AgentPath { id }): Path<AgentPath>,
) -> ApiResult<Json<Value>> {
    Ok(Json(views::agent(&find(&app, &caller, id).await?)))
}

/// A runner that is gone already is answered like one that goes now: the controller asks until it hears that.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Path(AgentPath { id }): Path<AgentPath>,
) -> ApiResult<StatusCode> {
    let runner = match find(&app, &caller, id).await {
        Ok(runner) => runner,
        Err(error) if error.is_refusal() => return Ok(StatusCode::NO_CONTENT),
        Err(error) => return Err(error),
    };
    let mut record = app.audit(&caller, "runner.delete", format_args!("runner:{id} ({})", runner.name));
    record.scope(runner.scope);
    let result = app.remove_idle_runner(id).await.map_err(|error| {
        if error.problem().kind == kind::RUNNER_BUSY {
            ApiError::new(StatusCode::BAD_REQUEST, "JobStillRunningException", error.problem().title.clone())
        } else {
            error
        }
    });
    record.conclude(result.map(|()| StatusCode::NO_CONTENT)).await
}

async fn find(app: &Arc<App>, caller: &Administrator, id: RunnerId) -> ApiResult<RunnerRecord> {
    let found = app.store.runner(id).await?.filter(|runner| caller.claims.scope.covers(&runner.scope));
    found.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "AgentNotFoundException", format!("there is no runner {id}"))
    })
}
