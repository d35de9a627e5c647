//! Who calls: the administrator of scale sets, and the reader of a queue. Neither bearer passes for the other.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;
use startline_crypto::purpose_token::{Purpose, PurposeTokenError};
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use startline_store::ScaleSetRecord;

use super::session::QueueClaims;
use crate::App;
use crate::actions::configuration::AdminClaims;
use crate::audit::Principal;
use crate::auth::{Origin, bearer, refuse_as};
use crate::problem::{ApiError, ApiResult};

/// Holds the bearer of scale set calls.
pub(super) struct Administrator {
    pub claims: AdminClaims,
    origin: Origin,
}

/// Holds the token of a queue's session.
pub(super) struct Reader {
    pub claims: QueueClaims,
}

async fn refused(app: &Arc<App>, origin: &Origin, text: &str, error: &PurposeTokenError) -> ApiError {
    tracing::debug!(%error, "refused a bearer");
    let reason = if matches!(error, PurposeTokenError::Expired { .. }) { "expired" } else { "unknown" };
    refuse_as(app, origin, text, "anonymous".to_owned(), Scope::Instance, reason).await;
    ApiError::unauthenticated(format!("the bearer is no good here: {error}"))
}

impl FromRequestParts<Arc<App>> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let text = bearer(app, &parts.headers)?.to_owned();
        let claims: AdminClaims = match app.actions.tokens.verify(Purpose::Admin, &text, app.clock.now()) {
            Ok(claims) => claims,
            Err(error) => return Err(refused(app, &origin, &text, &error).await),
        };
        app.limits.was_good(&text, origin.address);
        if !claims.scale_sets {
            let title = format!("{} may not administer scale sets", claims.by);
            return Err(ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, title).detail(
                "use an API token with the permission `runners:register`, or a registration token without `max_uses`",
            ));
        }
        Ok(Self { claims, origin })
    }
}

impl FromRequestParts<Arc<App>> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let origin = Origin::of(parts);
        let text = bearer(app, &parts.headers)?.to_owned();
        match app.actions.tokens.verify(Purpose::Queue, &text, app.clock.now()) {
            Ok(claims) => {
                app.limits.was_good(&text, origin.address);
                Ok(Self { claims })
            }
            Err(error) => Err(refused(app, &origin, &text, &error).await),
        }
    }
}

impl Principal for Administrator {
    fn actor(&self) -> String {
        self.claims.by.clone()
    }

    fn home(&self) -> Scope {
        self.claims.scope.clone()
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Administrator {
    /// The set with this number, if it is one that the caller administers.
    pub(super) async fn set(&self, app: &Arc<App>, id: i64) -> ApiResult<ScaleSetRecord> {
        let found = app.store.scale_set(id).await?;
        found.filter(|found| self.claims.scope.covers(&found.set.scope)).ok_or_else(|| no_set(id))
    }

    /// Refuses what a registration token does not allow: other groups than its own, and labels.
    pub(super) async fn check(&self, app: &Arc<App>, group: &str, labels: &[String]) -> ApiResult<()> {
        let Some(own) = &self.claims.group else { return Ok(()) };
        let refuse = |title: String| {
            ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, title)
                .detail("use another registration token, or an API token")
        };
        if !own.eq_ignore_ascii_case(group) {
            return Err(refuse(format!("the registration token is bound to group {own}, not {group}")));
        }
        let named = |label: &str| {
            let allowed = self.claims.labels.iter().flatten();
            allowed.clone().any(|allowed| allowed.eq_ignore_ascii_case(label))
        };
        let groups = app.groups_for(&self.claims.scope).await?;
        let policy = groups.iter().find(|found| found.name.eq_ignore_ascii_case(group)).map(|found| &found.policy);
        let is_protected = |label: &str| {
            policy.is_some_and(|policy| policy.protected_labels.iter().any(|known| known.eq_ignore_ascii_case(label)))
        };
        for label in labels {
            if (self.claims.labels.is_some() || is_protected(label)) && !named(label) {
                return Err(refuse(format!("the registration token does not allow label {label}")));
            }
        }
        Ok(())
    }
}

pub(super) fn no_set(id: i64) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "RunnerScaleSetNotFoundException", format!("there is no scale set {id}"))
}
