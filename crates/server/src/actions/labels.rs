//! The labels of a runner, as GitHub's REST interface changes them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use startline_protocol::actions::configuration::{LabelNames, Labels};
use startline_protocol::permission::Permission;
use startline_store::RunnerRecord;

use super::rest::{Place, label};
use crate::App;
use crate::auth::Configurer;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::Path;
use crate::routes::{Body, runners};

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
) -> ApiResult<Json<Labels>> {
    let runner = app.runner_at(&caller, &place, Permission::RunnersRead).await?;
    Ok(Json(shown(&runner.labels)))
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
    Body(request): Body<LabelNames>,
) -> ApiResult<Json<Labels>> {
    change(&app, &caller, &place, |labels| labels.extend(request.labels)).await
}

pub(super) async fn set(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
    Body(request): Body<LabelNames>,
) -> ApiResult<Json<Labels>> {
    change(&app, &caller, &place, |labels| {
        labels.retain(|name| is_system(name));
        labels.extend(request.labels);
    })
    .await
}

pub(super) async fn clear(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
) -> ApiResult<Json<Labels>> {
    change(&app, &caller, &place, |labels| labels.retain(|name| is_system(name))).await
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
) -> ApiResult<Json<Labels>> {
    let name = place.label.clone().unwrap_or_default();
    if is_system(&name) {
        return Err(ApiError::invalid(format!("label `{}` is read-only", name.escape_debug())));
    }
    change(&app, &caller, &place, |labels| labels.retain(|known| !known.eq_ignore_ascii_case(&name))).await
}

fn is_system(name: &str) -> bool {
    label(name).kind == "read-only"
}

/// Changes the labels that a person may change, in the store and in dispatch.
async fn change(
    app: &Arc<App>,
    caller: &Configurer,
    place: &Place,
    change: impl FnOnce(&mut Vec<String>),
) -> ApiResult<Json<Labels>> {
    let record = app.audit(caller, "runner.labels", format_args!("runner:{}", place.id.map_or(0, |id| id.0)));
    let result = async {
        // A remove token removes registrations and changes none.
        caller.admin()?;
        let RunnerRecord { id, mut labels, .. } = app.runner_at(caller, place, Permission::RunnersWrite).await?;
        change(&mut labels);
        let labels = runners::distinct(labels);
        runners::check_labels(&labels)?;
        let runner = app.store.set_runner_labels(id, labels);
        let runner = app.to_its_end(runner, |app, runner| app.take_into_dispatch(runner)).await?;
        Ok(Json(shown(&runner.labels)))
    }
    .await;
    record.conclude(result).await
}

fn shown(labels: &[String]) -> Labels {
    let labels: Vec<_> = labels.iter().map(|name| label(name)).collect();
    Labels { total_count: labels.len(), labels }
}
