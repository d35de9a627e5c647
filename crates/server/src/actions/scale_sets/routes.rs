//! Scale sets and runner groups, as their controller keeps them (`actions/scaleset`, `client.go`). It takes exactly one
//! status for a success, another one for each call.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use startline_protocol::problem::kind;
use startline_store::{NewScaleSet, ScaleSetChanges, ScaleSetRecord};

use super::bearer::Administrator;
use super::views::{self, JitAnswer, JitWanted, Wanted};
use super::{agents, poll};
use crate::App;
use crate::actions::configuration::check_plain_name;
use crate::actions::doors::Doors;
use crate::actions::jit;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::{Path, Query};
use crate::routes::{Body, runners};

/// The only version of this plane.
const VERSION: &str = "6.0-preview";

/// Most jobs that are listed to be acquired.
const LISTED: usize = 50;

/// Everything below `_apis`, with the bearer of scale set calls; and the acquisition, with the queue's.
pub(in super::super) fn administration() -> Doors {
    let sets = "/_runner/_apis/runtime/runnerscalesets";
    let at = |path: &str| format!("{sets}/{{id}}{path}");
    let agents = "/_runner/_apis/distributedtask/pools/{pool}/agents";
    Doors::new()
        .get("/_runner/_apis/runtime/runnergroups/", groups)
        .get("/_runner/_apis/runtime/runnergroups", groups)
        .get(sets, list)
        .post(sets, create)
        .get(&at(""), show)
        .patch(&at(""), update)
        .delete(&at(""), remove)
        .post(&at("/generatejitconfig"), generate)
        .post(&at("/sessions"), poll::create)
        .patch(&at("/sessions/{session}"), poll::refresh)
        .delete(&at("/sessions/{session}"), poll::delete)
        .post(&at("/acquirejobs"), poll::acquire)
        // Until 0.13 actions-runner-controller puts its path behind our address as text, slash or no slash
        // (`github/actions/client.go`, `AcquireJobs`).
        .post("/_runner//_apis/runtime/runnerscalesets/{id}/acquirejobs", poll::acquire)
        .get(&at("/acquirablejobs"), acquirable)
        .get(agents, agents::list)
        .get(&format!("{agents}/{{id}}"), agents::show)
        .delete(&format!("{agents}/{{id}}"), agents::remove)
        .layered(|routes| routes.route_layer(middleware::from_fn(of_version)))
}

/// The queue, with a bearer of its own.
pub(in super::super) fn queue_plane() -> Doors {
    Doors::new()
        .get("/_runner/scalesets/message", poll::message)
        .delete("/_runner/scalesets/message/{message}", poll::acknowledge)
}

/// Refuses versions that are not known; none is the only one.
async fn of_version(request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("api-version="));
    match asked {
        None | Some("" | VERSION) => next.run(request).await,
        Some(other) => {
            let title = format!("api-version {} is out of range; this is {VERSION}", other.escape_debug());
            ApiError::new(StatusCode::BAD_REQUEST, "VssVersionOutOfRangeException", title).into_response()
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupQuery {
    group_name: Option<String>,
}

async fn groups(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Query(query): Query<GroupQuery>,
) -> ApiResult<Json<Value>> {
    let scope = &caller.claims.scope;
    let mut found = Vec::new();
    for group in app.groups_for(scope).await? {
        let id = app.group_number(scope, &group.name).await?;
        let name = views::group_name(id, &group.name);
        let is_shown = caller.claims.group.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(&group.name));
        if is_shown && query.group_name.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(name)) {
            found.push(json!({ "id": id, "name": name, "size": 0, "isDefaultGroup": id == 1 }));
        }
    }
    Ok(Json(views::list(found)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    runner_group_id: Option<i32>,
    name: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let scope = caller.claims.scope.clone();
    let mut found = Vec::new();
    for record in app.store.scale_sets(scope.clone()).await? {
        if query.name.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(&record.set.name)) {
            continue;
        }
        if let Some(wanted) = query.runner_group_id
            && app.group_number(&scope, &record.set.group).await? != wanted
        {
            continue;
        }
        found.push(app.shown_set(&record).await?);
    }
    Ok(Json(views::list(found)))
}

async fn show(State(app): State<Arc<App>>, caller: Administrator, Path(id): Path<i64>) -> ApiResult<Json<Value>> {
    let record = caller.set(&app, id).await?;
    Ok(Json(app.shown_set(&record).await?))
}

fn name_taken(error: startline_store::Error) -> ApiError {
    match error {
        startline_store::Error::ScaleSetExists { .. } => {
            ApiError::new(StatusCode::CONFLICT, "RunnerScaleSetExistsException", error.to_string())
        }
        other => other.into(),
    }
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Body(wanted): Body<Wanted>,
) -> ApiResult<Json<Value>> {
    let name = wanted.name().unwrap_or_default().to_owned();
    let mut record = app.audit(&caller, "scale_set.create", format_args!("scale_set ({name})"));
    let result = async {
        check_plain_name("the name", &name)?;
        let scope = caller.claims.scope.clone();
        let group = app.group_name(&scope, wanted.group().unwrap_or(1)).await?;
        // A job asks for a set by its name, if by nothing else.
        let labels = wanted.labels().unwrap_or_else(|| vec![name.clone()]);
        runners::check_labels(&labels)?;
        caller.check(&app, &group, &labels).await?;
        let created_at = app.clock.now();
        let owner = caller.claims.by.clone();
        let set = NewScaleSet { scope, group, name, labels, settings: wanted.settings("{}"), owner, created_at };
        let made = app.store.create_scale_set(set).await.map_err(name_taken)?;
        record.subject(format_args!("scale_set:{} ({})", made.id, made.set.name));
        record.detail("group", &made.set.group);
        record.detail("labels", made.set.labels.join(", "));
        Ok(Json(app.shown_set(&made).await?))
    }
    .await;
    record.conclude(result).await
}

async fn update(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Path(id): Path<i64>,
    Body(wanted): Body<Wanted>,
) -> ApiResult<Json<Value>> {
    let mut record = app.audit(&caller, "scale_set.update", format_args!("scale_set:{id}"));
    let result = async {
        let old = caller.set(&app, id).await?;
        record.scope(old.set.scope.clone());
        let group = match wanted.group() {
            Some(number) => Some(app.group_name(&old.set.scope, number).await?),
            None => None,
        };
        if let Some(name) = wanted.name() {
            check_plain_name("the name", name)?;
        }
        let labels = wanted.labels();
        runners::check_labels(labels.as_deref().unwrap_or_default())?;
        let after = (group.as_deref().unwrap_or(&old.set.group), labels.as_deref().unwrap_or(&old.set.labels));
        caller.check(&app, after.0, after.1).await?;
        let settings = wanted.runner_setting.as_ref().map(|_| wanted.settings(&old.set.settings));
        let changes = ScaleSetChanges { group, name: wanted.name().map(str::to_owned), labels, settings };
        let changed = app.store.update_scale_set(id, changes);
        let changed = app.to_its_end(changed, move |app, changed| {
            let Some(changed) = changed else { return };
            let inner = app.dispatch.lock();
            if app.actions.scale_sets.is_open(id) {
                app.actions.scale_sets.open(changed, &inner.dispatcher);
            }
        });
        let changed = changed.await.map_err(name_taken)?.ok_or_else(|| super::bearer::no_set(id))?;
        Ok(Json(app.shown_set(&changed).await?))
    }
    .await;
    record.conclude(result).await
}

/// Of one that is gone already as well: actions-runner-controller repeats a deletion that fails, for ever.
async fn remove(State(app): State<Arc<App>>, caller: Administrator, Path(id): Path<i64>) -> ApiResult<StatusCode> {
    let old = match caller.set(&app, id).await {
        Ok(old) => old,
        Err(error) if error.is_refusal() => return Ok(StatusCode::NO_CONTENT),
        Err(error) => return Err(error),
    };
    let mut record = app.audit(&caller, "scale_set.delete", format_args!("scale_set:{id} ({})", old.set.name));
    record.scope(old.set.scope);
    let result = async {
        if app.actions.scale_sets.is_read(id) {
            record.detail("listened", true);
        }
        let deleted = app.store.delete_scale_set(id, app.clock.now());
        app.to_its_end(deleted, move |app, runners| {
            runners.iter().flatten().for_each(|runner| app.forget_runner(*runner));
            app.actions.scale_sets.close(id);
        })
        .await?;
        Ok(StatusCode::NO_CONTENT)
    }
    .await;
    record.conclude(result).await
}

async fn generate(
    State(app): State<Arc<App>>,
    caller: Administrator,
    Path(id): Path<i64>,
    Body(wanted): Body<JitWanted>,
) -> ApiResult<Json<JitAnswer>> {
    let mut record = app.audit(&caller, "runner.register", format_args!("runner ({})", wanted.name));
    let result = async {
        let ScaleSetRecord { set, .. } = caller.set(&app, id).await?;
        caller.check(&app, &set.group, &set.labels).await?;
        record.scope(set.scope.clone());
        record.detail("scale_set", id);
        let wanted = jit::Wanted {
            scope: set.scope,
            group: set.group,
            name: wanted.name,
            labels: set.labels,
            work_folder: wanted.work_folder,
            scale_set: Some(id),
        };
        let (runner, encoded_jit_config) = app.make_jit(wanted, &mut record).await.map_err(|error| {
            if error.problem().kind == kind::NAME_TAKEN {
                ApiError::new(StatusCode::CONFLICT, "TaskAgentExistsException", error.problem().title.clone())
            } else {
                error
            }
        })?;
        Ok(Json(JitAnswer { runner: views::agent(&runner), encoded_jit_config }))
    }
    .await;
    record.conclude(result).await
}

/// Jobs that a set could acquire, for controllers that ask instead of being told; 204 when there are none.
async fn acquirable(State(app): State<Arc<App>>, caller: Administrator, Path(id): Path<i64>) -> ApiResult<Response> {
    let record = caller.set(&app, id).await?;
    let jobs = {
        let inner = app.dispatch.lock();
        app.actions.scale_sets.open(&record, &inner.dispatcher);
        app.actions.scale_sets.lock().free_jobs(id, LISTED, &inner.dispatcher)
    };
    let mut found = Vec::new();
    for job in jobs {
        if let Some(job) = app.store.job(job).await?
            && let Some(run) = app.store.run(job.run_id).await?
        {
            let mut said = views::job_view(&job, &run);
            said["messageType"] = "JobAvailable".into();
            said["acquireJobUrl"] = app.acquire_url(id).into();
            found.push(said);
        }
    }
    if found.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(views::list(found)).into_response())
}
