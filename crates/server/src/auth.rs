//! Who is calling: one extractor a kind of bearer, so that a handler cannot take one for another.
//!
//! A bearer of the wrong kind, unknown, expired or revoked answers 401 and is counted; what was presented is never
//! logged.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use startline_crypto::job_token::{Claims, JobTokenError};
use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::token::{ApiToken, JobToken, RegistrationToken, RunnerToken, TokenKind};
use startline_store::{ApiTokenRecord, Hash};

use crate::App;
use crate::problem::ApiError;

/// The caller administers.
pub(crate) struct Admin(pub ApiTokenRecord);

/// The caller may register runners; the store checks and counts the token in the step that uses it.
pub(crate) struct Registrar(pub RegistrationToken);

/// The caller is a registered runner.
pub(crate) struct Runner(pub KnownRunner);

/// What a runner token says of its bearer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownRunner {
    pub id: RunnerId,
}

/// The caller works on one attempt of one job, which is the one in the path.
pub(crate) struct Worker(pub Claims);

/// The caller administers or is a runner.
pub(crate) enum AdminOrRunner {
    Admin,
    Runner(RunnerId),
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let header = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        ApiError::unauthenticated("this needs a bearer").detail("send `Authorization: Bearer <token>`")
    })?;
    let text = header.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(ApiError::unauthenticated("the Authorization header is not `Bearer <token>`")),
    }
}

fn refuse(app: &App, wanted: TokenKind, bearer: &str) -> ApiError {
    let (reason, title) = match TokenKind::of(bearer) {
        Some(kind) if kind != wanted => {
            ("wrong_kind", format!("this takes a {}, not a {}", wanted.name(), kind.name()))
        }
        Some(_) => ("unknown", format!("the {} is unknown, expired or revoked", wanted.name())),
        None => ("malformed", "the bearer is not a token of this service".to_owned()),
    };
    app.metrics.auth_failure(reason);
    ApiError::unauthenticated(title)
}

async fn admin(app: &App, text: &str) -> Result<ApiTokenRecord, ApiError> {
    let token = ApiToken::parse(text).map_err(|_| refuse(app, TokenKind::Api, text))?;
    let found = app.store.api_token(startline_crypto::token::hash(token.expose()).0).await?;
    match found {
        Some(record) if record.is_valid(app.clock.now()) => Ok(record),
        _ => Err(refuse(app, TokenKind::Api, text)),
    }
}

/// A runner token as it was presented, not yet looked up: all that a held request keeps of its head.
pub(crate) struct PresentedRunnerToken(Hash);

impl PresentedRunnerToken {
    pub(crate) fn of(app: &App, headers: &HeaderMap) -> Result<Self, ApiError> {
        Self::parse(app, bearer(headers)?)
    }

    fn parse(app: &App, text: &str) -> Result<Self, ApiError> {
        let token = RunnerToken::parse(text).map_err(|_| refuse(app, TokenKind::Runner, text))?;
        Ok(Self(startline_crypto::token::hash(token.expose()).0))
    }

    /// The runner that the token speaks for, as of at most five seconds ago.
    pub(crate) async fn runner(self, app: &App) -> Result<KnownRunner, ApiError> {
        let now = app.clock.now();
        if let Some(id) = app.runner_tokens.get(&self.0, now) {
            return Ok(KnownRunner { id });
        }
        let found = app.store.runner_by_token(self.0, now).await?;
        let runner = found.ok_or_else(|| refuse(app, TokenKind::Runner, RunnerToken::PREFIX))?;
        app.runner_tokens.put(self.0, runner.id, now);
        Ok(KnownRunner { id: runner.id })
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        admin(app, bearer(&parts.headers)?).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for Registrar {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let text = bearer(&parts.headers)?;
        RegistrationToken::parse(text).map(Self).map_err(|_| refuse(app, TokenKind::Registration, text))
    }
}

impl FromRequestParts<Arc<App>> for Runner {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        PresentedRunnerToken::of(app, &parts.headers)?.runner(app).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for AdminOrRunner {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let text = bearer(&parts.headers)?;
        if TokenKind::of(text) == Some(TokenKind::Runner) {
            let runner = PresentedRunnerToken::parse(app, text)?.runner(app).await?;
            Ok(Self::Runner(runner.id))
        } else {
            admin(app, text).await.map(|_| Self::Admin)
        }
    }
}

impl FromRequestParts<Arc<App>> for Worker {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let text = bearer(&parts.headers)?;
        if TokenKind::of(text) != Some(TokenKind::Job) {
            return Err(refuse(app, TokenKind::Job, text));
        }
        let token = JobToken::parse(text).map_err(|_| refuse(app, TokenKind::Job, text))?;
        let claims = app.job_tokens.verify(token.expose(), app.clock.now()).map_err(|error: JobTokenError| {
            tracing::debug!(%error, "refused a job token");
            refuse(app, TokenKind::Job, text)
        })?;
        let axum::extract::Path(job) = axum::extract::Path::<JobId>::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::not_found("such job"))?;
        if claims.job != job {
            app.metrics.auth_failure("other_job");
            return Err(ApiError::not_found(format_args!("job {job}")));
        }
        Ok(Self(claims))
    }
}
