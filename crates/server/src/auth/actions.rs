//! Who is calling in the Actions protocol.
//!
//! `config.sh` shows what it was given as `RemoteAuth`; administrators show an API token in any of the schemes that
//! clients of GitHub use; a listening runner shows a listener token, a worker the job token of its job message.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use base64::Engine as _;
use http::request::Parts;
use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use startline_crypto::job_token::Claims;
use startline_crypto::purpose_token::{Purpose, PurposeToken};
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;
use startline_protocol::token::{ApiToken, RegistrationToken, TokenKind};

use super::{Admin, Origin, Registrar, bearer, job_claims, refuse, refuse_as};
use crate::App;
use crate::problem::{ApiError, ApiResult};

/// Life of a listener token. Runners fetch a new one when they are told that it has expired.
pub(crate) const LISTENER_LIFE: SignedDuration = SignedDuration::from_mins(60);

/// What a listener token says of its bearer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerClaims {
    pub runner: RunnerId,
    pub name: String,
    pub scope: Scope,
    pub ephemeral: bool,
}

/// What a remove token says: registrations in the scope may be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoveClaims {
    pub scope: Scope,
    /// Who asked for it, for the audit log.
    pub by: String,
}

/// A registered runner of the Actions protocol that listens for jobs. That its registration still stands is asked of
/// the dispatcher, where it matters.
pub(crate) struct Listener {
    pub claims: ListenerClaims,
    pub origin: Origin,
}

/// The worker of some job.
pub(crate) struct JobBearer {
    pub claims: Claims,
    pub origin: Origin,
}

/// Whoever reads a repository.
pub(crate) enum RepositoryReader {
    /// The worker of some job.
    Job(Claims),
    /// Holds an API token.
    Admin(Admin),
}

/// Whoever configures runners.
pub(crate) enum Configurer {
    /// Holds a registration token.
    Registrar(Box<Registrar>),
    /// Holds a remove token.
    Remover(RemoveClaims, Origin),
    /// Holds an API token.
    Admin(Admin),
}

impl Configurer {
    /// The scope that the bearer is good for.
    pub(crate) fn scope(&self) -> &Scope {
        match self {
            Self::Registrar(registrar) => &registrar.record.token.scope,
            Self::Remover(claims, _) => &claims.scope,
            Self::Admin(admin) => &admin.token.scope,
        }
    }

    /// Refuses a scope that the bearer is not good for, as if there were nothing there.
    pub(crate) fn within(&self, scope: &Scope) -> ApiResult<()> {
        if self.scope().covers(scope) {
            Ok(())
        } else {
            Err(ApiError::not_found(format_args!("{scope} for this token"))
                .detail("check the URL, or use a token of that organization or repository"))
        }
    }

    /// The caller, who must show an API token.
    pub(crate) fn admin(&self) -> ApiResult<&Admin> {
        match self {
            Self::Admin(admin) => Ok(admin),
            _ => Err(ApiError::unauthenticated("this takes an API token")),
        }
    }
}

/// The credential of a request, whatever the scheme: `RemoteAuth x`, `Bearer x`, `token x`, or the password of `Basic`
/// (actions/runner `ConfigurationManager.cs` sends `basic` for `--pat`).
fn credential(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    let rest = rest.trim();
    if ["remoteauth", "bearer", "token"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Some(rest.to_owned());
    }
    basic_password(headers)
}

/// The password of Basic credentials.
pub(crate) fn basic_password(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    String::from_utf8(decoded).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

impl FromRequestParts<Arc<App>> for Configurer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let Some(text) = credential(&parts.headers) else {
            // Counts and answers what is missing or odd.
            let text = bearer(app, &parts.headers)?.to_owned();
            return Err(refuse(app, &origin, TokenKind::Registration, &text).await);
        };
        match TokenKind::of(&text) {
            Some(TokenKind::Api) if ApiToken::parse(text.as_str()).is_ok() => {
                super::admin(app, origin, &text).await.map(Self::Admin)
            }
            Some(TokenKind::Job) => match app.actions.tokens.verify(Purpose::Remove, &text, app.clock.now()) {
                Ok(claims) => Ok(Self::Remover(claims, origin)),
                Err(error) => {
                    tracing::debug!(%error, "refused a remove token");
                    Err(refuse(app, &origin, TokenKind::Registration, &text).await)
                }
            },
            _ => registrar(app, origin, &text).await.map(Box::new).map(Self::Registrar),
        }
    }
}

/// The holder of a registration token. Whether it may still be used is checked and counted by the step that uses it,
/// except that one which is over is refused here, so that a look at groups and names does not work with it either.
async fn registrar(app: &Arc<App>, origin: Origin, text: &str) -> ApiResult<Registrar> {
    let Ok(token) = RegistrationToken::parse(text) else {
        return Err(refuse(app, &origin, TokenKind::Registration, text).await);
    };
    let found = app.store.registration_token(startline_crypto::token::hash(token.expose()).0).await?;
    let Some(record) = found else { return Err(refuse(app, &origin, TokenKind::Registration, text).await) };
    if record.revoked_at.is_some() || record.token.expires_at <= app.clock.now() {
        let reason = if record.revoked_at.is_some() { "revoked" } else { "expired" };
        let actor = format!("registration_token:{}", record.id);
        refuse_as(app, &origin, text, actor, record.token.scope.clone(), reason).await;
        return Err(ApiError::unauthenticated(format!("the registration token is {reason}"))
            .detail("mint a new registration token"));
    }
    app.limits.was_good(text, origin.address);
    Ok(Registrar { token, record, origin })
}

impl FromRequestParts<Arc<App>> for Listener {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let text = bearer(app, &parts.headers)?.to_owned();
        match app.actions.tokens.verify(Purpose::Listener, &text, app.clock.now()) {
            Ok(claims) => {
                app.limits.was_good(&text, origin.address);
                Ok(Self { claims, origin })
            }
            Err(error) => {
                tracing::debug!(%error, "refused a listener token");
                Err(refuse(app, &origin, TokenKind::Runner, &text).await)
            }
        }
    }
}

impl FromRequestParts<Arc<App>> for JobBearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let text = bearer(app, &parts.headers)?.to_owned();
        let claims = job_claims(app, &text, &origin).await?;
        app.limits.was_good(&text, origin.address);
        Ok(Self { claims, origin })
    }
}

impl FromRequestParts<Arc<App>> for RepositoryReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let Some(text) = credential(&parts.headers) else {
            // Git asks without credentials first.
            return Err(ApiError::unauthenticated("reading a repository needs a job token or an API token"));
        };
        if TokenKind::of(&text) == Some(TokenKind::Api) {
            return super::admin(app, origin, &text).await.map(Self::Admin);
        }
        job_claims(app, &text, &origin).await.map(Self::Job)
    }
}

impl App {
    /// A stateless token of the Actions protocol.
    pub(crate) fn mint<T: Serialize>(
        &self,
        purpose: Purpose,
        payload: &T,
        life: SignedDuration,
    ) -> ApiResult<(PurposeToken, Timestamp)> {
        let now = self.clock.now();
        let expires_at = now + life;
        let token = self.actions.tokens.mint(purpose, payload, now, expires_at).map_err(|error| {
            tracing::error!(%error, "a token cannot be made");
            ApiError::unavailable("the token cannot be made now")
        })?;
        Ok((token, expires_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        credential(&headers)
    }

    #[test]
    fn a_credential_is_found_in_every_scheme_that_clients_of_github_use() {
        assert_eq!(with("RemoteAuth slr_x").as_deref(), Some("slr_x"));
        assert_eq!(with("Bearer slp_x").as_deref(), Some("slp_x"));
        assert_eq!(with("token slp_x").as_deref(), Some("slp_x"));
        // `github:slp_x`, with the lower-case scheme word of `config.sh --pat`.
        assert_eq!(with("basic Z2l0aHViOnNscF94").as_deref(), Some("slp_x"));
        assert_eq!(with("Negotiate x"), None);
        assert_eq!(with("slp_x"), None);
        assert_eq!(with("Basic !!"), None);
    }
}
