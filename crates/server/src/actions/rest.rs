//! GitHub's REST interface to runners, as far as its clients use it to configure them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::SignedDuration;
use serde::Deserialize;
use startline_crypto::purpose_token::Purpose;
use startline_dispatcher::RunnerSnapshot;
use startline_protocol::actions::configuration::{ExpiringToken, Label, Runner, RunnerGroups, Runners};
use startline_protocol::ids::RunnerId;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::RegistrationTokenRequest;
use startline_protocol::scope::Scope;
use startline_protocol::state::RunnerStatus;
use startline_store::RunnerRecord;

use super::doors::Doors;
use super::{configuration, groups, jit, labels};
use crate::App;
use crate::auth::{Configurer, RemoveClaims};
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::{Path, Query};
use crate::routes::{Body, runners};

/// Life of a remove token, as on GitHub.
const REMOVE_LIFE: SignedDuration = SignedDuration::from_hours(1);
/// Most runners on a page.
const PAGE: usize = 100;

/// The three places below which GitHub keeps the same resources.
const PLACES: [&str; 3] = [
    "/api/v3/orgs/{owner}/actions",
    "/api/v3/repos/{owner}/{repository}/actions",
    "/api/v3/enterprises/{enterprise}/actions",
];

pub(super) fn routes() -> Doors {
    let router = Doors::new()
        .post("/api/v3/actions/runner-registration", configuration::connect)
        .post("/api/v3/actions/runners/register", configuration::register)
        .get("/api/v3/meta", meta)
        .get("/api/v3", meta);
    PLACES.iter().fold(router, |router, place| {
        let at = |path: &str| format!("{place}{path}");
        router
            .get(&at("/runner-groups"), runner_groups)
            .get(&at("/runners"), list)
            .post(&at("/runners/registration-token"), registration_token)
            .post(&at("/runners/remove-token"), remove_token)
            .post(&at("/runners/generate-jitconfig"), jit::generate)
            .get(&at("/runners/{id}"), show)
            .delete(&at("/runners/{id}"), remove)
            .get(&at("/runners/{id}/labels"), labels::list)
            .post(&at("/runners/{id}/labels"), labels::add)
            .put(&at("/runners/{id}/labels"), labels::set)
            .delete(&at("/runners/{id}/labels"), labels::clear)
            .delete(&at("/runners/{id}/labels/{label}"), labels::remove)
    })
}

async fn meta() -> Json<serde_json::Value> {
    Json(
        serde_json::json!({ "installed_version": env!("CARGO_PKG_VERSION"), "verifiable_password_authentication": false }),
    )
}

/// The place in a path.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Place {
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    repository: Option<String>,
    #[serde(default)]
    pub id: Option<RunnerId>,
    #[serde(default)]
    pub label: Option<String>,
}

impl Place {
    pub(super) fn scope(&self) -> ApiResult<Scope> {
        let found = match (&self.owner, &self.repository) {
            (Some(owner), Some(repository)) => Scope::repository(&format!("{owner}/{repository}")),
            (Some(owner), None) => Scope::organization(owner),
            _ => return Ok(Scope::Instance),
        };
        // As if it were not there; what it says is why it cannot be.
        found.map_err(|error| ApiError::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, error.to_string()))
    }
}

async fn runner_groups(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
) -> ApiResult<Json<RunnerGroups>> {
    let scope = place.scope()?;
    caller.within(&scope)?;
    if let Configurer::Admin(admin) = &caller {
        admin.need(Permission::GroupsRead)?;
    }
    let runner_groups = app.groups_shown(&caller, &scope).await?;
    Ok(Json(RunnerGroups { total_count: runner_groups.len(), runner_groups }))
}

#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    name: Option<String>,
    per_page: Option<usize>,
    page: Option<usize>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Runners>> {
    let scope = place.scope()?;
    caller.within(&scope)?;
    if let Configurer::Admin(admin) = &caller {
        admin.need(Permission::RunnersRead)?;
    }
    let records = app.store.runners().await?;
    // `config.sh` takes the first one without a look at its name, so the whole name must be the one that it asked for.
    // A registration token registers in its own scope, where alone a name can be in the way.
    let within = |record: &RunnerRecord| match &caller {
        Configurer::Registrar(registrar) => record.scope == registrar.record.token.scope,
        _ => scope.covers(&record.scope),
    };
    let named = |record: &RunnerRecord| query.name.as_ref().is_none_or(|name| record.name.eq_ignore_ascii_case(name));
    let wanted = |record: &RunnerRecord| within(record) && named(record);
    let found: Vec<RunnerRecord> = records.into_iter().filter(|record| wanted(record)).collect();
    let total_count = found.len();
    let size = query.per_page.unwrap_or(30).clamp(1, PAGE);
    let skip = query.page.unwrap_or(1).max(1).saturating_sub(1).saturating_mul(size);
    let mut runners = Vec::new();
    for record in found.into_iter().skip(skip).take(size) {
        runners.push(app.shown(record).await?);
    }
    Ok(Json(Runners { total_count, runners }))
}

async fn show(State(app): State<Arc<App>>, caller: Configurer, Path(place): Path<Place>) -> ApiResult<Json<Runner>> {
    let record = app.runner_at(&caller, &place, Permission::RunnersRead).await?;
    Ok(Json(app.shown(record).await?))
}

async fn remove(State(app): State<Arc<App>>, caller: Configurer, Path(place): Path<Place>) -> ApiResult<StatusCode> {
    let id = place.id.unwrap_or(RunnerId(0));
    let mut record = app.audit(&caller, "runner.delete", format_args!("runner:{id}"));
    let result = async {
        let runner = app.runner_at(&caller, &place, Permission::RunnersWrite).await?;
        record.subject(format_args!("runner:{id} ({})", runner.name));
        record.scope(runner.scope);
        app.remove_idle_runner(id).await?;
        Ok(StatusCode::NO_CONTENT)
    }
    .await;
    record.conclude(result).await
}

async fn registration_token(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
    body: Body<RegistrationTokenRequest>,
) -> ApiResult<(StatusCode, Json<ExpiringToken>)> {
    let Body(request) = body;
    let scope = place.scope()?;
    let admin = caller.admin()?;
    caller.within(&scope)?;
    let request = RegistrationTokenRequest { scope: Some(scope), ..request };
    let Json(minted) = runners::mint_registration_token(&app, admin, request).await?;
    let expires_at = jiff::Timestamp::from_second(minted.expires_at).unwrap_or_default();
    Ok((StatusCode::CREATED, Json(ExpiringToken { token: minted.token.expose().to_owned(), expires_at })))
}

async fn remove_token(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
) -> ApiResult<(StatusCode, Json<ExpiringToken>)> {
    let scope = place.scope()?;
    let record = app.audit(&caller, "token.create", "remove_token");
    let result = (|| {
        let admin = caller.admin()?;
        caller.within(&scope)?;
        admin.need(Permission::RunnersWrite)?;
        let claims = RemoveClaims { scope, by: crate::audit::Principal::actor(&caller) };
        let (token, expires_at) = app.mint(Purpose::Remove, &claims, REMOVE_LIFE)?;
        Ok((StatusCode::CREATED, Json(ExpiringToken { token: token.expose().to_owned(), expires_at })))
    })();
    record.conclude(result).await
}

impl App {
    /// The runner in a path, if the caller may do this with it.
    pub(super) async fn runner_at(
        self: &Arc<Self>,
        caller: &Configurer,
        place: &Place,
        permission: Permission,
    ) -> ApiResult<RunnerRecord> {
        let scope = place.scope()?;
        caller.within(&scope)?;
        match caller {
            Configurer::Admin(admin) => admin.need(permission)?,
            Configurer::Remover(..) if permission == Permission::RunnersWrite => {}
            _ => {
                return Err(ApiError::unauthenticated("this takes an API token, or to remove a runner a remove token"));
            }
        }
        let id = place.id.unwrap_or(RunnerId(0));
        let found = self.store.runner(id).await?.filter(|record| scope.covers(&record.scope));
        found.ok_or_else(|| ApiError::not_found(format_args!("runner {id}")))
    }

    /// Removes a registration, unless its runner holds a job.
    pub(super) async fn remove_idle_runner(self: &Arc<Self>, id: RunnerId) -> ApiResult<()> {
        let busy = self.dispatch.lock().dispatcher.runner(id).is_some_and(|live| !live.current_jobs.is_empty());
        if busy {
            let title = format!("runner {id} is running a job and cannot be deleted");
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, kind::RUNNER_BUSY, title));
        }
        self.delete_runner(id).await?;
        Ok(())
    }

    /// A registration as GitHub shows it.
    pub(super) async fn shown(self: &Arc<Self>, record: RunnerRecord) -> ApiResult<Runner> {
        let live = self.dispatch.lock().dispatcher.runner(record.id);
        let group = self.group_number(&record.scope, &record.group).await?;
        Ok(view(record, live.as_ref(), group))
    }
}

fn view(record: RunnerRecord, live: Option<&RunnerSnapshot>, group: i32) -> Runner {
    let online = live.is_some_and(|live| live.status != RunnerStatus::Offline);
    Runner {
        id: record.id.0,
        os: record.capabilities.operating_system,
        status: if online { "online" } else { "offline" }.to_owned(),
        busy: live.is_some_and(|live| !live.current_jobs.is_empty()),
        ephemeral: record.ephemeral,
        runner_group_id: group,
        version: record.version,
        labels: record.labels.iter().map(|name| label(name)).collect(),
        name: record.name,
    }
}

/// A label with its kind: what every runner carries is read-only.
pub(super) fn label(name: &str) -> Label {
    const SYSTEM: [&str; 8] = ["self-hosted", "linux", "macos", "windows", "x64", "x86", "arm", "arm64"];
    let kind = if SYSTEM.iter().any(|known| known.eq_ignore_ascii_case(name)) { "read-only" } else { "custom" };
    Label { id: i64::from(groups::id(&Scope::Instance, name)), name: name.to_owned(), kind: kind.to_owned() }
}
