//! Registration, heartbeats and listings of runners.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use startline_crypto::token;
use startline_daemon::client_address::Networks;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{
    HeartbeatRequest, HeartbeatResponse, RegisterRequest, RegisterResponse, RegistrationTokenRequest,
    RegistrationTokenResponse, RunnerCommand, RunnerTokenResponse,
};
use startline_protocol::runs_api::{RunnerPage, RunnerView};
use startline_protocol::scope::Scope;
use startline_protocol::state::RunnerStatus;
use startline_store::{NewRegistrationToken, NewRunner, NewRunnerToken};

use super::Body;
use super::extract::{Path, Query};
use crate::audit::Record;
use crate::problem::{ApiError, ApiResult};
use crate::{App, auth, views};

/// Life of a runner token.
const RUNNER_TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);
const MAX_LABELS: usize = 64;
const MAX_NETWORKS: usize = 64;
const MAX_LABEL_BYTES: usize = 256;
const MAX_SUPPORTED_ACTIONS: usize = 256;
const MAX_ACTION_BYTES: usize = 256;
const MAX_VERSION_BYTES: usize = 256;
/// As many as a runner has slots at most.
const MAX_CURRENT_JOBS: usize = 1000;

pub(super) async fn registration_token(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Body(request): Body<RegistrationTokenRequest>,
) -> ApiResult<Json<RegistrationTokenResponse>> {
    mint_registration_token(&app, &admin, request).await
}

/// Mints a registration token, and writes down who did.
pub(crate) async fn mint_registration_token(
    app: &Arc<App>,
    admin: &auth::Admin,
    request: RegistrationTokenRequest,
) -> ApiResult<Json<RegistrationTokenResponse>> {
    let mut record = app.audit(admin, "token.create", "registration_token");
    let result = mint(app, admin, request, &mut record).await;
    record.conclude(result).await
}

async fn mint(
    app: &Arc<App>,
    admin: &auth::Admin,
    request: RegistrationTokenRequest,
    record: &mut Record,
) -> ApiResult<Json<RegistrationTokenResponse>> {
    admin.need(Permission::RunnersRegister)?;
    let scope = admin.within(request.scope)?;
    record.scope(scope.clone());
    let life = request.expires_in_seconds.unwrap_or(3600);
    if !(60..=604_800).contains(&life) {
        return Err(ApiError::invalid(format!("`expires_in_seconds` is {life}; it must be 60 to 604800 (7 days)")));
    }
    if request.max_uses == Some(0) {
        return Err(ApiError::invalid("`max_uses` is 0; leave it out for unlimited"));
    }
    check_labels(request.labels.as_deref().unwrap_or_default())?;
    let cidr = request.cidr.as_deref().map(networks).transpose()?;
    let name = request.name.unwrap_or_default();
    super::tokens::check_name(&name)?;
    let token = token::new_registration_token();
    let now = app.clock.now();
    let expires_at = now + SignedDuration::from_secs(i64::from(life));
    let created = app
        .store
        .create_registration_token(NewRegistrationToken {
            name,
            hash: token::hash(token.expose()).0,
            scope,
            labels: request.labels,
            cidr,
            group: request.runner_group.unwrap_or_else(|| "default".to_owned()),
            ephemeral: request.ephemeral,
            max_uses: request.max_uses.or_else(|| request.ephemeral.then_some(1)),
            created_at: now,
            expires_at,
        })
        .await?;
    app.limits.minted(token.expose());
    record.subject(format_args!("registration_token:{}", created.id));
    record.detail("group", &created.token.group);
    Ok(Json(RegistrationTokenResponse { token, expires_at: expires_at.as_second() }))
}

pub(super) async fn register(
    State(app): State<Arc<App>>,
    registrar: auth::Registrar,
    request: ApiResult<Body<RegisterRequest>>,
) -> ApiResult<(StatusCode, Json<RegisterResponse>)> {
    let asked = request.as_ref().is_ok_and(|Body(request)| request.ephemeral);
    let ephemeral = registrar.record.token.ephemeral || asked;
    let result = match request {
        Ok(Body(request)) => {
            let mut record = app.audit(&registrar, "runner.register", format_args!("runner ({})", request.name));
            let result = admit(&app, &registrar, request, &mut record).await;
            record.conclude(result).await
        }
        Err(unreadable) => Err(unreadable),
    };
    count(&app, ephemeral, &result);
    result
}

/// Counts a registration by how it ended.
pub(crate) fn count<T>(app: &App, ephemeral: bool, result: &ApiResult<T>) {
    let outcome = match result {
        Ok(_) => "registered",
        Err(error) if error.problem().status < 500 => "refused",
        Err(_) => "failed",
    };
    app.metrics.registration(ephemeral, outcome);
}

async fn admit(
    app: &Arc<App>,
    registrar: &auth::Registrar,
    request: RegisterRequest,
    record: &mut Record,
) -> ApiResult<(StatusCode, Json<RegisterResponse>)> {
    check_network(registrar)?;
    check_name(&request.name)?;
    check_labels(&request.labels)?;
    check_capabilities(&request.capabilities)?;
    if request.version.len() > MAX_VERSION_BYTES || request.version.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!("`version` must be at most {MAX_VERSION_BYTES} printable bytes")));
    }
    let token = token::new_runner_token();
    let now = app.clock.now();
    let expires_at = now + RUNNER_TOKEN_LIFE;
    let registered = app.store.register_runner(
        token::hash(registrar.token.expose()).0,
        NewRunner {
            name: request.name,
            labels: request.labels,
            capabilities: request.capabilities,
            ephemeral: request.ephemeral,
            version: request.version,
            replace: request.replace,
            token: Some(NewRunnerToken { hash: token::hash(token.expose()).0, expires_at }),
            actions: None,
        },
        now,
    );
    app.limits.minted(token.expose());
    let runner = app.welcome(registered, record).await?;
    let answer = RegisterResponse {
        runner_id: runner.id,
        runner_token: token,
        expires_at: expires_at.as_second(),
        labels: runner.labels,
        runner_group: runner.group,
        poll_timeout_seconds: app.config.poll_timeout_seconds,
        heartbeat_interval_seconds: app.config.heartbeat_interval_seconds,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct DeleteQuery {
    /// Even when it holds a job, which then follows the lost-runner policy.
    #[serde(default)]
    force: bool,
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: auth::AdminOrRunner,
    Path(id): Path<RunnerId>,
    Query(query): Query<DeleteQuery>,
) -> ApiResult<StatusCode> {
    let mut record = app.audit(&caller, "runner.delete", format_args!("runner:{id}"));
    if query.force {
        record.detail("force", true);
    }
    let result = remove(&app, &caller, id, query.force, &mut record).await;
    record.conclude(result).await
}

async fn remove(
    app: &Arc<App>,
    caller: &auth::AdminOrRunner,
    id: RunnerId,
    force: bool,
    record: &mut Record,
) -> ApiResult<StatusCode> {
    may(caller, Permission::RunnersWrite, id)?;
    if id.0 < 1 {
        return Err(ApiError::not_found(format_args!("runner {id}")));
    }
    match (app.store.runner(id).await?, caller) {
        (Some(runner), auth::AdminOrRunner::Admin(admin)) if !admin.covers(&runner.scope) => {
            return Err(ApiError::not_found(format_args!("runner {id}")));
        }
        // Whose it was is not known any more, so it must look like one of somebody else.
        (None, auth::AdminOrRunner::Admin(admin)) if admin.token.scope != Scope::Instance => {
            return Err(ApiError::not_found(format_args!("runner {id}")));
        }
        (Some(runner), _) => {
            record.subject(format_args!("runner:{id} ({})", runner.name));
            record.scope(runner.scope);
        }
        (None, _) => {}
    }
    let busy = app.dispatch.lock().dispatcher.runner(id).is_some_and(|runner| !runner.current_jobs.is_empty());
    if busy && !force {
        return Err(ApiError::new(StatusCode::CONFLICT, kind::RUNNER_BUSY, format!("runner {id} holds a job"))
            .detail("drain it first, or delete with `?force=true`: its job then follows the lost-runner policy"));
    }
    app.delete_runner(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list(State(app): State<Arc<App>>, admin: auth::Admin) -> ApiResult<Json<RunnerPage>> {
    admin.need(Permission::RunnersRead)?;
    let _turn = app.turn(&admin.token.scope).await?;
    let records = app.store.runners().await?;
    let inner = app.dispatch.lock();
    let runners = records
        .into_iter()
        .filter(|record| admin.covers(&record.scope))
        .map(|record| {
            let live = inner.dispatcher.runner(record.id);
            views::runner(record, live)
        })
        .collect();
    Ok(Json(RunnerPage { runners, next_cursor: None }))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: auth::AdminOrRunner,
    Path(id): Path<RunnerId>,
) -> ApiResult<Json<RunnerView>> {
    may(&caller, Permission::RunnersRead, id)?;
    let found = app.store.runner(id).await?.filter(|record| match &caller {
        auth::AdminOrRunner::Admin(admin) => admin.covers(&record.scope),
        auth::AdminOrRunner::Runner(_) => true,
    });
    let record = found.ok_or_else(|| ApiError::not_found(format_args!("runner {id}")))?;
    let live = app.dispatch.lock().dispatcher.runner(id);
    Ok(Json(views::runner(record, live)))
}

pub(super) async fn heartbeat(
    State(app): State<Arc<App>>,
    runner: auth::Runner,
    Body(request): Body<HeartbeatRequest>,
) -> ApiResult<Json<HeartbeatResponse>> {
    if request.current_jobs.len() > MAX_CURRENT_JOBS {
        let given = request.current_jobs.len();
        return Err(ApiError::invalid(format!("`current_jobs` has {given}; a runner has at most {MAX_CURRENT_JOBS}")));
    }
    if let Some(info) = &request.system_info {
        for (name, value) in
            [("cpu_usage", info.cpu_usage), ("memory_usage", info.memory_usage), ("disk_usage", info.disk_usage)]
        {
            if !(0.0..=100.0).contains(&value) {
                return Err(ApiError::invalid(format!(
                    "`system_info.{name}` is {value}; it is a percentage, 0 to 100"
                )));
            }
        }
    }
    let now = app.clock.now();
    let mut inner = app.dispatch.lock();
    let draining = matches!(request.status, RunnerStatus::Draining | RunnerStatus::Offline);
    // First what it says, then that it is there: one that comes back to drain must get nothing by coming back.
    let effects = inner.dispatcher.set_draining(now, runner.id, draining).map_err(|_| super::gone(runner.id))?;
    app.apply(&mut inner, now, effects);
    let effects = inner.dispatcher.heartbeat(now, runner.id).map_err(|_| super::gone(runner.id))?;
    app.apply(&mut inner, now, effects);
    let held = inner.dispatcher.runner(runner.id).map(|live| live.current_jobs).unwrap_or_default();
    drop(inner);
    let mut commands = Vec::new();
    for job_id in request.current_jobs {
        if !held.contains(&job_id) {
            commands.push(RunnerCommand::AbandonJob { job_id });
        } else if app.leases.cancel_reason(job_id).is_some() {
            commands.push(RunnerCommand::CancelJob { job_id });
        }
    }
    Ok(Json(HeartbeatResponse { commands }))
}

pub(super) async fn capabilities(
    State(app): State<Arc<App>>,
    runner: auth::Runner,
    Body(capabilities): Body<Capabilities>,
) -> ApiResult<StatusCode> {
    let record = app.audit(&runner, "runner.capabilities", format_args!("runner:{}", runner.id));
    let result = app.set_capabilities(runner.id, capabilities).await.map(|()| StatusCode::OK);
    record.conclude(result).await
}

pub(super) async fn renew_token(
    State(app): State<Arc<App>>,
    runner: auth::Runner,
) -> ApiResult<Json<RunnerTokenResponse>> {
    let token = token::new_runner_token();
    let now = app.clock.now();
    let expires_at = now + RUNNER_TOKEN_LIFE;
    let record = app.audit(&runner, "token.renew", format_args!("runner:{}", runner.id));
    let renewed = app.store.renew_runner_token(runner.id, token::hash(token.expose()).0, expires_at, now);
    let renewed = app.to_its_end(renewed, move |app, _| app.runner_tokens.forget(runner.id)).await;
    record.conclude(renewed.map_err(ApiError::from)).await?;
    app.limits.minted(token.expose());
    Ok(Json(RunnerTokenResponse { runner_token: token, expires_at: expires_at.as_second() }))
}

impl App {
    /// Replaces a runner's capabilities; a parked poll of its sees them at once.
    pub(crate) async fn set_capabilities(
        self: &Arc<Self>,
        runner: RunnerId,
        capabilities: Capabilities,
    ) -> ApiResult<()> {
        check_capabilities(&capabilities)?;
        let updated = self.store.update_capabilities(runner, capabilities.clone());
        let updated = self.to_its_end(updated, move |app, ()| {
            let now = app.clock.now();
            let mut inner = app.dispatch.lock();
            // One that is gone by now hears of it from what it asks next.
            let effects = inner.dispatcher.update_capabilities(now, runner, capabilities);
            app.apply(&mut inner, now, effects.unwrap_or_default());
        });
        Ok(updated.await?)
    }

    /// Deletes a registration and takes its runner out of dispatch; both, also when the caller goes away meanwhile.
    pub(crate) async fn delete_runner(self: &Arc<Self>, runner: RunnerId) -> Result<bool, startline_store::Error> {
        let deleted = self.store.delete_runner(runner, self.clock.now());
        self.to_its_end(deleted, move |app, _| app.forget_runner(runner)).await
    }

    /// Takes a runner out of dispatch after its registration is gone.
    pub(crate) fn forget_runner(self: &Arc<Self>, runner: RunnerId) {
        self.runner_tokens.forget(runner);
        self.actions.sessions.forget(runner);
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        let effects = inner.dispatcher.remove_runner(now, runner);
        self.apply(&mut inner, now, effects);
    }
}

/// Refuses a registration token that may not be used from where the caller is.
pub(crate) fn check_network(registrar: &auth::Registrar) -> ApiResult<()> {
    if let Some(networks) = &registrar.record.token.cidr
        && !is_within(registrar.origin.address, networks)
    {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            kind::FORBIDDEN,
            "the registration token may not be used from this address",
        )
        .detail("register from one of the networks that the token was minted for"));
    }
    Ok(())
}

/// A runner may do all to itself; of others it may not even know whether they exist.
fn may(caller: &auth::AdminOrRunner, permission: Permission, id: RunnerId) -> ApiResult<()> {
    match caller {
        auth::AdminOrRunner::Runner(own) if own.id != id => Err(ApiError::not_found(format_args!("runner {id}"))),
        auth::AdminOrRunner::Runner(_) => Ok(()),
        auth::AdminOrRunner::Admin(admin) => admin.need(permission),
    }
}

/// Networks as they are kept, or what is wrong with them.
fn networks(given: &[String]) -> ApiResult<Vec<String>> {
    if given.is_empty() || given.len() > MAX_NETWORKS {
        return Err(ApiError::invalid(format!(
            "`cidr` has {} networks; it must have 1 to {MAX_NETWORKS}",
            given.len()
        ))
        .detail("leave it out to allow any address"));
    }
    let parsed = given.iter().map(|text| text.parse::<Networks>()).collect::<Result<Vec<_>, _>>();
    let parsed = parsed.map_err(|error| ApiError::invalid(format!("`cidr`: {error}")))?;
    if parsed.iter().any(|networks| networks.0.len() != 1) {
        return Err(ApiError::invalid("`cidr` has an entry that is not one network").detail("write one in each string"));
    }
    Ok(parsed.into_iter().flatten().map(|network| network.to_string()).collect())
}

/// An address that is not known lies in no network, and a network that cannot be read holds no address.
fn is_within(address: Option<IpAddr>, networks: &[String]) -> bool {
    let parsed = networks.iter().filter_map(|text| text.parse::<Networks>().ok()).flatten();
    address.is_some_and(|address| parsed.into_iter().any(|network| network.contains(&address)))
}

pub(crate) fn check_name(name: &str) -> ApiResult<()> {
    let good = (1..=64).contains(&name.chars().count()) && name.chars().all(|c| !c.is_control()) && name.trim() == name;
    if good {
        Ok(())
    } else {
        Err(ApiError::invalid("`name` must be 1 to 64 printable characters, with no blank at either end"))
    }
}

/// Names of labels, each once; they are compared without case, and the first spelling stays.
pub(crate) fn distinct(labels: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for label in labels {
        if !distinct.iter().any(|known| known.eq_ignore_ascii_case(&label)) {
            distinct.push(label);
        }
    }
    distinct
}

pub(crate) fn check_labels(labels: &[String]) -> ApiResult<()> {
    if labels.len() > MAX_LABELS {
        return Err(ApiError::invalid(format!("{} labels; a runner has at most {MAX_LABELS}", labels.len())));
    }
    for label in labels {
        if label.trim().is_empty() || label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) {
            let shown = &label[..label.floor_char_boundary(64)];
            return Err(ApiError::invalid(format!(
                "label `{}` must be 1 to {MAX_LABEL_BYTES} printable bytes",
                shown.escape_debug()
            )));
        }
    }
    Ok(())
}

fn check_capabilities(capabilities: &Capabilities) -> ApiResult<()> {
    let one_of = |member: &str, value: &str, known: &[&str]| {
        if known.contains(&value) {
            Ok(())
        } else {
            Err(ApiError::invalid(format!(
                "`capabilities.{member}` is `{value}`; it must be one of {}",
                known.join(", ")
            )))
        }
    };
    one_of("architecture", &capabilities.architecture, &["x64", "arm64", "x86", "arm"])?;
    one_of("operating_system", &capabilities.operating_system, &["linux", "windows", "macos"])?;
    if !(1..=1000).contains(&capabilities.max_parallel_jobs) {
        return Err(ApiError::invalid("`capabilities.max_parallel_jobs` must be 1 to 1000"));
    }
    if capabilities.supported_actions.len() > MAX_SUPPORTED_ACTIONS {
        return Err(ApiError::invalid(format!("a runner names at most {MAX_SUPPORTED_ACTIONS} supported actions")));
    }
    for action in &capabilities.supported_actions {
        if action.is_empty() || action.len() > MAX_ACTION_BYTES || action.chars().any(char::is_control) {
            return Err(ApiError::invalid(format!(
                "a supported action must be 1 to {MAX_ACTION_BYTES} printable bytes"
            )));
        }
    }
    Ok(())
}
