//! Which commit an action is, and its archive (actions/runner `LaunchHttpClient.cs`, `ActionManager.cs`).
//!
//! The bearer of an archive is made for that one archive: the job's own token is never shown to whoever serves them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use startline_crypto::signed_url::UrlAccess;
use startline_protocol::actions::launch::{
    ActionAuthentication, ActionDownload, ActionReference, ResolveAnswer, ResolveError, ResolveRefusal, ResolveRequest,
};
use uuid::Uuid;

use super::dialect::AsIs;
use super::doors::Doors;
use super::ranges;
use super::run_service::is_of;
use crate::App;
use crate::auth::{JobBearer, basic_password};
use crate::problem::{ApiError, ApiResult};
use crate::routes::Body;
use crate::sources::{Form, GitRef, RepositoryName};

/// How long a bearer opens its archive.
const LIFE: SignedDuration = SignedDuration::from_mins(60);
/// Most actions in one request.
const MOST: usize = 500;

pub(super) fn routes() -> Doors {
    Doors::new()
        .post("/actions/build/{plan}/jobs/{job}/runnerresolve/actions", resolve)
        .get("/_actions/{owner}/{repo}/{file}", archive)
}

async fn resolve(
    State(app): State<Arc<App>>,
    JobBearer { claims, .. }: JobBearer,
    Path((plan, job)): Path<(Uuid, Uuid)>,
    Body(request): Body<ResolveRequest>,
) -> ApiResult<Response> {
    is_of(&claims, plan, job)?;
    if request.actions.len() > MOST {
        return Err(ApiError::invalid(format!(
            "{} actions are asked for; at most {MOST} at once",
            request.actions.len()
        )));
    }
    let mut asked = request.actions;
    asked.sort();
    asked.dedup();
    let answers = join_all(asked.iter().map(|asked| one(&app, asked))).await;
    let (mut found, mut errors, mut rate_limited) = (BTreeMap::new(), BTreeMap::new(), false);
    for (asked, answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(download) => drop(found.insert(asked.key(), download)),
            Err((message, limited)) => {
                rate_limited |= limited;
                errors.insert(asked.key(), ResolveError { message });
            }
        }
    }
    if errors.is_empty() {
        return Ok(Json(ResolveAnswer { actions: found }).into_response());
    }
    // Neither is tried again by a runner, and of the first one it shows the messages.
    let status = if rate_limited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, Extension(AsIs(json!(ResolveRefusal { errors })))).into_response())
}

async fn one(app: &Arc<App>, asked: &ActionReference) -> Result<ActionDownload, (String, bool)> {
    let ActionReference { action, version } = asked;
    let name = RepositoryName::parse(action)
        .ok_or_else(|| (format!("`{}` is not a repository; write owner/name", action.escape_debug()), false))?;
    let git_ref = GitRef::parse(version)
        .ok_or_else(|| (format!("`{}` is not a branch, tag or commit", version.escape_debug()), false))?;
    let resolved =
        app.sources.resolve(name.clone(), git_ref).await.map_err(|error| (error.message, error.rate_limited))?;
    let commit = resolved.commit;
    let expires_at = app.clock.now() + LIFE;
    let expires_at = Timestamp::from_second(expires_at.as_second()).unwrap_or(expires_at);
    let query = app.actions.addresses.sign(UrlAccess::Read, &subject(&name, &commit), expires_at);
    let url = |form: Form| format!("{}/_actions/{name}/{commit}.{}", app.actions.urls.root(), form.suffix());
    let digest = app.sources.digest(&name, &commit).await;
    let tar_digest = digest.ok_or_else(|| (format!("the archive of {name}@{commit} cannot be read now"), false))?;
    Ok(ActionDownload {
        name: action.clone(),
        version: version.clone(),
        resolved_name: name.to_string(),
        tar_url: url(Form::Tar),
        zip_url: url(Form::Zip),
        resolved_sha: commit,
        tar_digest: Some(format!("sha256:{tar_digest}")),
        authentication: Some(ActionAuthentication { token: URL_SAFE_NO_PAD.encode(query), expires_at }),
    })
}

/// What a bearer of an archive is good for.
fn subject(name: &RepositoryName, commit: &str) -> String {
    format!("action {name} {commit}")
}

async fn archive(
    State(app): State<Arc<App>>,
    Path((owner, repo, file)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let nothing = || ApiError::not_found("such archive");
    let name = RepositoryName::new(&owner, &repo).ok_or_else(nothing)?;
    let (form, commit) = [Form::Tar, Form::Zip]
        .into_iter()
        .find_map(|form| Some((form, file.strip_suffix(form.suffix())?.strip_suffix('.')?)))
        .ok_or_else(nothing)?;
    let commit = GitRef::parse(commit).filter(|commit| commit.commit().is_some()).ok_or_else(nothing)?;
    // The address may be signed, or the signature be the password.
    let query = match basic_password(&headers) {
        Some(password) => URL_SAFE_NO_PAD.decode(password).ok().and_then(|bytes| String::from_utf8(bytes).ok()),
        None => query,
    };
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(query.as_deref().unwrap_or_default()).unwrap_or_default();
    let subject = subject(&name, commit.as_str());
    app.actions.addresses.verify(UrlAccess::Read, &subject, pairs, app.clock.now()).map_err(|error| {
        app.metrics.auth_failure("archive");
        ApiError::unauthenticated(format!("this archive is not open to this bearer: {error}"))
    })?;
    let path = app.sources.archive(name, &commit, form).await.ok_or_else(nothing)?;
    let kind = if form == Form::Tar { "application/gzip" } else { "application/zip" };
    ranges::answer(&path, kind, commit.as_str(), &headers).await
}
