//! Read-only smart HTTP (git's `http-protocol`), so that `actions/checkout` finds the repositories that the service was
//! told about below `github.server_url`.

use std::io::Read as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::middleware;
use axum::response::Response;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;

use super::doors::Doors;
use super::grants::may_read_contents;
use crate::App;
use crate::auth::RepositoryReader;
use crate::problem::{ApiError, ApiResult};
use crate::routes::work;
use crate::sources::{Question, RepositoryName};

/// Largest request: a client with many branches names what it has.
const REQUEST: usize = 16 * 1024 * 1024;
/// The same when it was compressed.
const UNPACKED: usize = 64 * 1024 * 1024;

pub(super) fn routes() -> Doors {
    Doors::new()
        .get("/{owner}/{repo}/info/refs", refs)
        .post("/{owner}/{repo}/git-upload-pack", pack)
        .layered(|routes| routes.layer(DefaultBodyLimit::max(REQUEST)).layer(middleware::map_response(challenge)))
}

#[derive(Deserialize)]
struct Service {
    service: Option<String>,
}

async fn refs(
    State(app): State<Arc<App>>,
    Path((owner, repo)): Path<(String, String)>,
    Query(Service { service }): Query<Service>,
    headers: HeaderMap,
    reader: RepositoryReader,
) -> ApiResult<Response> {
    let name = readable(&app, &owner, &repo, &reader).await?;
    if service.as_deref() != Some("git-upload-pack") {
        return Err(ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, "repositories are served for reading alone")
            .detail("use git 1.7 or newer to fetch, and push to where the repository comes from"));
    }
    let protocol = protocol(&headers);
    // From version 2 on the answer begins with the capabilities (git's `http-backend.c`).
    let greeting = if protocol.is_some_and(|text| text.contains("version=2")) {
        ""
    } else {
        "001e# service=git-upload-pack\n0000"
    };
    answer(&app, &name, protocol, Question::Refs, greeting, "application/x-git-upload-pack-advertisement").await
}

async fn pack(
    State(app): State<Arc<App>>,
    Path((owner, repo)): Path<(String, String)>,
    headers: HeaderMap,
    reader: RepositoryReader,
    body: Bytes,
) -> ApiResult<Response> {
    let name = readable(&app, &owner, &repo, &reader).await?;
    let said = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    if said(header::CONTENT_TYPE) != "application/x-git-upload-pack-request" {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            kind::INVALID,
            "this is not a request of git fetch",
        ));
    }
    let body = match said(header::CONTENT_ENCODING) {
        "" | "identity" => body,
        "gzip" | "x-gzip" => unzip(&body)?,
        other => return Err(ApiError::invalid(format!("`{}` is not an encoding taken here", other.escape_debug()))),
    };
    answer(&app, &name, protocol(&headers), Question::Pack(body), "", "application/x-git-upload-pack-result").await
}

async fn answer(
    app: &Arc<App>,
    name: &RepositoryName,
    protocol: Option<&str>,
    question: Question,
    greeting: &'static str,
    kind: &'static str,
) -> ApiResult<Response> {
    let git_dir = app.repositories.find(name).ok_or_else(|| nothing(name))?;
    let pieces = app.repositories.upload_pack(git_dir, protocol, question).await.map_err(|error| {
        tracing::error!(repository = %name, %error, "a repository cannot be served");
        ApiError::unavailable("the repository cannot be read now")
    })?;
    let greeting = (!greeting.is_empty()).then(|| Ok(Bytes::from_static(greeting.as_bytes())));
    let body = Body::from_stream(futures_util::stream::iter(greeting).chain(pieces));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The repository's name, where the caller may read it: a job its own, as long as it runs; an API token those of its
/// scope. Anything else looks as if there were none.
async fn readable(app: &Arc<App>, owner: &str, repo: &str, reader: &RepositoryReader) -> ApiResult<RepositoryName> {
    let name = RepositoryName::new(owner, repo.strip_suffix(".git").unwrap_or(repo))
        .ok_or_else(|| ApiError::not_found("such repository"))?;
    let full = name.to_string();
    match reader {
        RepositoryReader::Job(claims) => {
            work::holds(app, claims.job, claims.epoch)
                .map_err(|_| ApiError::unauthenticated("the job of this token is over"))?;
            let job = app.store.job(claims.job).await?.ok_or_else(|| nothing(&name))?;
            if !job.repository.eq_ignore_ascii_case(&full) {
                return Err(nothing(&name));
            }
            let message = app.store.job_message(claims.job).await?.unwrap_or_default();
            if !serde_json::from_str(&message).is_ok_and(|message| may_read_contents(&message)) {
                return Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    kind::FORBIDDEN,
                    "this job may not read its repository",
                )
                .detail("its `permissions` do not name `contents`; add `contents: read`"));
            }
        }
        RepositoryReader::Admin(admin) => {
            admin.need(Permission::JobsRead)?;
            if !admin.sees(&full) {
                return Err(nothing(&name));
            }
        }
    }
    Ok(name)
}

fn nothing(name: &RepositoryName) -> ApiError {
    ApiError::not_found(format_args!("repository {name}"))
}

/// The version that the client speaks, which becomes a variable of git's environment.
fn protocol(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("git-protocol")?.to_str().ok()?;
    let plain = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=:.-".contains(&byte));
    plain.then_some(text)
}

fn unzip(body: &[u8]) -> ApiResult<Bytes> {
    let mut text = Vec::new();
    let read = MultiGzDecoder::new(body).take(UNPACKED as u64 + 1).read_to_end(&mut text);
    read.map_err(|error| ApiError::invalid(format!("the body is not gzip: {error}")))?;
    if text.len() > UNPACKED {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            kind::TOO_LARGE,
            "the body is larger than this route takes",
        ));
    }
    Ok(text.into())
}

/// Git sends credentials of a URL only when it is asked for Basic ones.
async fn challenge(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"startline\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}
