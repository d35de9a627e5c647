//! Runs: submission, listing, cancel.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use startline_protocol::ids::RunId;
use startline_protocol::permission::Permission;
use startline_protocol::runs_api::{RunDetail, RunPage, RunView, SubmitRequest};
use startline_store::{Answer, CreatedRun, NewAudit, Page, RunRecord};

use super::Body;
use super::extract::{Path, Query};
use crate::audit::Record;
use crate::intake::{Intake, Repeat};
use crate::problem::{ApiError, ApiResult};
use crate::submission::{self, Submission};
use crate::{App, auth, views};

/// How long a look at a run waits for further changes once there is one.
const FLOCK: Duration = Duration::from_millis(10);
/// How often the token of somebody who waits is looked at again.
const RECHECK: Duration = Duration::from_secs(4);
/// Most rows that one request looks through for those that its caller may see.
const SCAN: u32 = 5000;

pub(super) async fn submit(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    headers: HeaderMap,
    Body(request): Body<SubmitRequest>,
) -> ApiResult<(StatusCode, Json<RunDetail>)> {
    let mut record = app.audit(&admin, "run.submit", "run");
    let result = create(&app, &admin, &headers, request, &mut record).await;
    record.conclude(result).await
}

async fn create(
    app: &Arc<App>,
    admin: &auth::Admin,
    headers: &HeaderMap,
    mut request: SubmitRequest,
    record: &mut Record,
) -> ApiResult<(StatusCode, Json<RunDetail>)> {
    admin.need(Permission::JobsWrite)?;
    let _turn = app.turn_to_submit(&admin.token.scope, request.repository.as_deref()).await?;
    request.repository = admin.repository_of(request.repository);
    let secrets = std::mem::take(&mut request.secrets);
    let trusted = !request.untrusted;
    let repeat = Repeat::of(headers, admin.token.id, "run.submit", &request)?;
    secrets.keys().try_for_each(|name| check_secret_name(name))?;
    app.fetch_called(&mut request).await?;
    let path = request.path.as_deref().unwrap_or(submission::DEFAULT_PATH);
    let workflow = submission::compile(&request.workflow, path, &request.files)?;
    let submission = Submission::new(request, &workflow)?;
    admin.must_see(&submission.repository)?;
    record.repository(&submission.repository);
    record.detail("path", &submission.path);
    let trace = admin.origin.trace;
    let intake = Intake { submission, workflow, secrets, trusted, repeat, requirement: None, trace };
    let tell = |created: &CreatedRun, line: &mut NewAudit| line.subject = format!("run:{}", created.run.id);
    let (run, _) = app.take_in(intake, |_| Vec::new(), record, tell).await?;
    tracing::info!(run.id = %run.id, run.name = run.run.name, token.id = admin.token.id, "run submitted");
    Ok((StatusCode::CREATED, Json(detail(app, run).await?)))
}

/// GitHub's rules: letters, digits and `_`, not beginning with a digit or `GITHUB_`.
pub(super) fn check_secret_name(name: &str) -> ApiResult<()> {
    let good = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
        && (!name.to_ascii_uppercase().starts_with("GITHUB_") || name.eq_ignore_ascii_case("GITHUB_TOKEN"));
    if good {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("`{}` is not a secret's name", name.escape_debug()))
            .detail("use letters, digits and `_`, beginning with neither a digit nor `GITHUB_`"))
    }
}

pub(super) async fn detail(app: &Arc<App>, run: RunRecord) -> ApiResult<RunDetail> {
    let version = app.changes.subscribe(run.id).map_or(0, |version| *version.borrow());
    let jobs = app.store.jobs_of_run(run.id).await?;
    let pending = app.pending(&run, &jobs).await?;
    Ok(RunDetail { run: views::run(run), version, jobs: jobs.into_iter().map(views::job).collect(), pending })
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Held {
    /// The `version` last seen: the answer is held until it is another.
    after_version: Option<u64>,
    /// How long to hold the answer, in seconds; at most 60.
    #[serde(default)]
    timeout_seconds: u64,
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(id): Path<RunId>,
    Query(held): Query<Held>,
) -> ApiResult<Json<RunDetail>> {
    find(&app, &admin, Permission::JobsRead, id).await?;
    if let Some(after) = held.after_version
        && let Some(mut version) = app.changes.subscribe(id)
    {
        let wait = Duration::from_secs(held.timeout_seconds.min(60));
        tokio::select! {
            biased;
            () = app.drain.cancelled() => {}
            // An error means that the run is finished.
            () = async { drop(version.wait_for(|version| *version != after).await) } => {
                // Changes come in flocks; one look sees all of them.
                tokio::time::sleep(FLOCK).await;
            }
            () = lapsed(&app, &admin) => return Err(ApiError::unauthenticated("the API token was revoked or expired")),
            () = tokio::time::sleep(wait) => {}
        }
    }
    let run = find(&app, &admin, Permission::JobsRead, id).await?;
    Ok(Json(detail(&app, run).await?))
}

/// The run, if the caller has the permission and may know of it.
pub(super) async fn find(app: &App, admin: &auth::Admin, permission: Permission, id: RunId) -> ApiResult<RunRecord> {
    admin.need(permission)?;
    let run = app.store.run(id).await?.filter(|run| admin.sees(&run.run.repository) && !app.is_past(run.completed_at));
    run.ok_or_else(|| app.not_kept(format_args!("run {id}")))
}

/// Ends when the caller's token is no longer good, within a few seconds.
async fn lapsed(app: &Arc<App>, admin: &auth::Admin) {
    loop {
        tokio::time::sleep(RECHECK).await;
        if !admin.still_stands(app).await {
            return;
        }
    }
}

/// Where a listing starts and how much of it is wanted.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Window {
    /// `next_cursor` of the page before.
    #[schemars(regex(pattern = r"^[0-9]{1,18}$"))]
    pub cursor: Option<String>,
    /// At most so many: 1 to 500, 50 when absent.
    pub limit: Option<u32>,
}

impl Window {
    pub(super) fn before(&self) -> ApiResult<Option<i64>> {
        self.cursor
            .as_deref()
            .map(|cursor| cursor.parse().map_err(|_| ApiError::invalid("`cursor` is not one of this listing's")))
            .transpose()
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(50).clamp(1, 500)
    }

    /// One page of those that the caller may see, and where the next one starts, if there may be more. A page may be
    /// short, or even empty, where a caller sees little of what there is.
    pub(super) async fn gather<T>(
        &self,
        read: impl Fn(Option<i64>, u32) -> Answer<Page<T>>,
        id: impl Fn(&T) -> i64,
        seen: impl Fn(&T) -> bool,
    ) -> ApiResult<(Vec<T>, Option<i64>)> {
        let wanted = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        let (mut found, mut before, mut scanned) = (Vec::new(), self.before()?, 0);
        while scanned < SCAN {
            // All of a first page are seen by most callers; those who see little look through more at once.
            let size = if scanned == 0 { self.limit() } else { 500 };
            let page = read(before, size).await?;
            for item in page.items {
                if found.len() == wanted {
                    return Ok((found, before));
                }
                before = Some(id(&item));
                if seen(&item) {
                    found.push(item);
                }
            }
            if !page.more {
                return Ok((found, None));
            }
            if found.len() == wanted {
                break;
            }
            scanned += size;
        }
        Ok((found, before))
    }
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Query(window): Query<Window>,
) -> ApiResult<Json<RunPage>> {
    admin.need(Permission::JobsRead)?;
    let _turn = app.turn(&admin.token.scope).await?;
    let read = |before: Option<i64>, limit| app.store.runs(before.map(RunId), limit);
    let seen = |run: &RunRecord| admin.sees(&run.run.repository) && !app.is_past(run.completed_at);
    let (runs, next) = window.gather(read, |run| run.id.0, seen).await?;
    Ok(Json(RunPage { runs: runs.into_iter().map(views::run).collect(), next_cursor: next.map(|id| id.to_string()) }))
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(id): Path<RunId>,
) -> ApiResult<Json<RunView>> {
    let mut record = app.audit(&admin, "run.cancel", format_args!("run:{id}"));
    let result = stop(&app, &admin, id, &mut record).await;
    record.conclude(result).await
}

async fn stop(app: &Arc<App>, admin: &auth::Admin, id: RunId, record: &mut Record) -> ApiResult<Json<RunView>> {
    let run = find(app, admin, Permission::JobsWrite, id).await?;
    record.repository(&run.run.repository);
    tracing::info!(run.id = %id, token.id = admin.token.id, token.name = admin.token.name, "cancel asked for");
    let run = app.cancel_run(id).await?.ok_or_else(|| ApiError::not_found(format_args!("run {id}")))?;
    Ok(Json(views::run(run)))
}
