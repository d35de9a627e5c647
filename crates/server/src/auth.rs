//! Who is calling: one extractor a kind of bearer, so that a handler cannot take one for another.
//!
//! A bearer of the wrong kind, unknown, expired or revoked answers 401, is counted and goes into the audit log; what was
//! presented is never written anywhere. What an API token may do and see is asked of [`Admin`].

mod actions;
mod admin;
mod origin;
mod runner_tokens;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use startline_crypto::job_token::{Claims, JobTokenError};
use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::token::{ApiToken, JobToken, RegistrationToken, RunnerToken, TokenKind};
use startline_store::{Hash, RegistrationTokenRecord};

use crate::App;
use crate::audit::Refused;
use crate::limits::{self, NoBearer};
use crate::problem::ApiError;

pub(crate) use actions::{
    Configurer, JobBearer, LISTENER_LIFE, Listener, ListenerClaims, RemoveClaims, RepositoryReader, basic_password,
};
pub(crate) use admin::Admin;
pub(crate) use origin::{Origin, RequestId};
pub(crate) use runner_tokens::{KnownRunner, RunnerTokens};

/// The caller may register runners. The token was known and not revoked; the store checks and counts it in the step that
/// uses it.
pub(crate) struct Registrar {
    pub token: RegistrationToken,
    pub record: RegistrationTokenRecord,
    pub origin: Origin,
}

/// The caller is a registered runner.
pub(crate) struct Runner {
    pub id: RunnerId,
    pub known: Arc<KnownRunner>,
    pub origin: Origin,
}

/// The caller works on one attempt of one job, which is the one in the path.
pub(crate) struct Worker(pub JobBearer);

/// The caller administers or is a runner.
pub(crate) enum AdminOrRunner {
    Admin(Admin),
    Runner(Runner),
}

pub(crate) fn bearer<'a>(app: &App, headers: &'a HeaderMap) -> Result<&'a str, ApiError> {
    limits::token(headers).map_err(|why| {
        let (reason, title) = match why {
            NoBearer::Missing => ("missing", "this needs a bearer"),
            NoBearer::Scheme => ("scheme", "the Authorization header is not `Bearer <token>`"),
        };
        app.metrics.auth_failure(reason);
        ApiError::unauthenticated(title).detail("send `Authorization: Bearer <token>`")
    })
}

/// Refuses a bearer that says nothing of who it is.
async fn refuse(app: &Arc<App>, origin: &Origin, wanted: TokenKind, bearer: &str) -> ApiError {
    let (reason, title) = match TokenKind::of(bearer) {
        Some(kind) if kind != wanted => {
            ("wrong_kind", format!("this takes {}, not {}", wanted.name_with_article(), kind.name_with_article()))
        }
        Some(_) => ("unknown", format!("the {} is unknown, expired or revoked", wanted.name())),
        None => ("malformed", "the bearer is not a token of this service".to_owned()),
    };
    refuse_as(app, origin, bearer, "anonymous".to_owned(), Scope::Instance, reason).await;
    ApiError::unauthenticated(title)
}

/// Counts and writes down a refusal.
pub(crate) async fn refuse_as(
    app: &Arc<App>,
    origin: &Origin,
    bearer: &str,
    actor: String,
    scope: Scope,
    reason: &'static str,
) {
    app.metrics.auth_failure(reason);
    app.limits.was_refused(bearer, origin.address);
    app.refused(Refused { origin, actor, action: "authenticate", subject: origin.route.to_string(), scope, reason })
        .await;
}

/// The API token with this text, if it may be used now.
async fn admin(app: &Arc<App>, origin: Origin, text: &str) -> Result<Admin, ApiError> {
    let Ok(token) = ApiToken::parse(text) else { return Err(refuse(app, &origin, TokenKind::Api, text).await) };
    let hash = startline_crypto::token::hash(token.expose()).0;
    let now = app.clock.now();
    let record = match app.api_tokens.get(&hash, now) {
        Ok(record) => record,
        Err(mark) => {
            let Some(record) = app.store.api_token(hash).await?.map(Arc::new) else {
                return Err(refuse(app, &origin, TokenKind::Api, text).await);
            };
            app.api_tokens.put(hash, Arc::clone(&record), now, mark);
            record
        }
    };
    if record.is_valid(now) {
        app.limits.was_good(text, origin.address);
        return Ok(Admin { token: record, hash, origin });
    }
    let reason = if record.revoked_at.is_some() { "revoked" } else { "expired" };
    refuse_as(app, &origin, text, admin::actor(&record), record.scope.clone(), reason).await;
    Err(ApiError::unauthenticated("the API token is unknown, expired or revoked"))
}

/// A runner token as it was presented, not yet looked up: all that a held request keeps of its head.
pub(crate) struct PresentedRunnerToken {
    token: RunnerToken,
    origin: Origin,
}

impl PresentedRunnerToken {
    pub(crate) async fn of(app: &Arc<App>, headers: &HeaderMap, origin: Origin) -> Result<Self, ApiError> {
        Self::parse(app, bearer(app, headers)?, origin).await
    }

    async fn parse(app: &Arc<App>, text: &str, origin: Origin) -> Result<Self, ApiError> {
        match RunnerToken::parse(text) {
            Ok(token) => Ok(Self { token, origin }),
            Err(_) => Err(refuse(app, &origin, TokenKind::Runner, text).await),
        }
    }

    /// The runner that the token speaks for.
    pub(crate) async fn runner(self, app: &Arc<App>) -> Result<Runner, ApiError> {
        let now = app.clock.now();
        let Self { token, origin } = self;
        let hash: Hash = startline_crypto::token::hash(token.expose()).0;
        let mark = match app.runner_tokens.get(&hash, now) {
            Ok(known) => return Ok(Runner { id: known.id, known, origin }),
            Err(mark) => mark,
        };
        let Some(found) = app.store.runner_by_token(hash, now).await? else {
            return Err(refuse(app, &origin, TokenKind::Runner, token.expose()).await);
        };
        app.limits.was_good(token.expose(), origin.address);
        let known = app.runner_tokens.put(hash, found, now, mark);
        Ok(Runner { id: known.id, known, origin })
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        admin(app, Origin::of(parts), bearer(app, &parts.headers)?).await
    }
}

impl FromRequestParts<Arc<App>> for Registrar {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let text = bearer(app, &parts.headers)?;
        let Ok(token) = RegistrationToken::parse(text) else {
            return Err(refuse(app, &origin, TokenKind::Registration, text).await);
        };
        let found = app.store.registration_token(startline_crypto::token::hash(token.expose()).0).await?;
        match found {
            Some(record) => {
                app.limits.was_good(text, origin.address);
                Ok(Self { token, record, origin })
            }
            None => Err(refuse(app, &origin, TokenKind::Registration, text).await),
        }
    }
}

impl FromRequestParts<Arc<App>> for Runner {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        PresentedRunnerToken::of(app, &parts.headers, Origin::of(parts)).await?.runner(app).await
    }
}

impl FromRequestParts<Arc<App>> for AdminOrRunner {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let text = bearer(app, &parts.headers)?;
        if TokenKind::of(text) == Some(TokenKind::Runner) {
            let presented = PresentedRunnerToken::parse(app, text, Origin::of(parts)).await?;
            presented.runner(app).await.map(Self::Runner)
        } else {
            admin(app, Origin::of(parts), text).await.map(Self::Admin)
        }
    }
}

/// What a job token says, if it is one of ours and not expired; whether its assignment still stands is asked later.
async fn job_claims(app: &Arc<App>, text: &str, origin: &Origin) -> Result<Claims, ApiError> {
    let token = match JobToken::parse(text) {
        Ok(token) if TokenKind::of(text) == Some(TokenKind::Job) => token,
        _ => return Err(refuse(app, origin, TokenKind::Job, text).await),
    };
    let now = app.clock.now();
    let hash = startline_crypto::token::hash(token.expose()).0;
    // That one has expired is said by who knows best.
    if let Ok(claims) = app.job_claims.get(&hash, now)
        && claims.expires_at > now
    {
        return Ok(claims);
    }
    match app.job_tokens.verify(token.expose(), now) {
        Ok(claims) => {
            app.job_claims.note(hash, claims.clone(), now);
            Ok(claims)
        }
        Err(error @ JobTokenError::Expired { .. }) => {
            tracing::debug!(%error, "refused a job token");
            refuse_as(app, origin, text, "anonymous".to_owned(), Scope::Instance, "expired").await;
            Err(ApiError::unauthenticated(error.to_string()))
        }
        Err(error) => {
            tracing::debug!(%error, "refused a job token");
            Err(refuse(app, origin, TokenKind::Job, text).await)
        }
    }
}

impl FromRequestParts<Arc<App>> for Worker {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let text = bearer(app, &parts.headers)?.to_owned();
        let text = text.as_str();
        let claims = job_claims(app, text, &origin).await?;
        let axum::extract::Path(job) = axum::extract::Path::<JobId>::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::not_found("such job"))?;
        if claims.job != job {
            refuse_as(app, &origin, text, format!("job:{}", claims.job), Scope::Instance, "other_job").await;
            return Err(ApiError::not_found(format_args!("job {job}")));
        }
        app.limits.was_good(text, origin.address);
        Ok(Self(JobBearer { claims, origin }))
    }
}
