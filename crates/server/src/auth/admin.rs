//! What an API token may do, and what it may know of.
//!
//! Permissions answer 403 and say which one is missing. Scopes answer 404: what lies outside must look as if it did not
//! exist.

use std::sync::Arc;

use http::StatusCode;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use startline_store::{ApiTokenRecord, Hash};

use super::Origin;
use crate::App;
use crate::problem::{ApiError, ApiResult};

/// The caller administers within its token's scope, as far as its permissions go.
pub(crate) struct Admin {
    pub token: Arc<ApiTokenRecord>,
    pub hash: Hash,
    pub origin: Origin,
}

/// How the audit log names a token.
pub(super) fn actor(token: &ApiTokenRecord) -> String {
    format!("api_token:{} ({})", token.id, token.name)
}

impl Admin {
    pub(crate) fn actor(&self) -> String {
        actor(&self.token)
    }

    /// Refuses a token without the permission.
    pub(crate) fn need(&self, permission: Permission) -> ApiResult<()> {
        if permission.is_in(&self.token.permissions) {
            return Ok(());
        }
        let title = format!("the API token has no permission `{permission}`");
        Err(ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, title)
            .detail("use a token with that permission; `startline token create` makes one"))
    }

    /// The scope that a query names, or else the token's own.
    pub(crate) fn scope(&self, organization: Option<&str>, repository: Option<&str>) -> ApiResult<Scope> {
        let invalid = |error: startline_protocol::scope::NotAScope| ApiError::invalid(error.to_string());
        let asked = match (organization, repository) {
            (None, None) => None,
            (Some(name), None) => Some(Scope::organization(name).map_err(invalid)?),
            (None, Some(name)) => Some(Scope::repository(name).map_err(invalid)?),
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("give `organization` or `repository`, not both"));
            }
        };
        self.within(asked)
    }

    /// The scope that a body names, or else the token's own.
    pub(crate) fn within(&self, asked: Option<Scope>) -> ApiResult<Scope> {
        match asked {
            None => Ok(self.token.scope.clone()),
            Some(scope) if self.covers(&scope) => Ok(scope),
            Some(scope) => Err(ApiError::not_found(format_args!("{scope} for this token"))),
        }
    }

    /// The repository that a submission goes to: the one it names, or the token's own.
    pub(crate) fn repository_of(&self, asked: Option<String>) -> Option<String> {
        match (asked, &self.token.scope) {
            (None, Scope::Repository(name)) => Some(name.clone()),
            (asked, _) => asked,
        }
    }

    /// Refuses a repository that lies outside, as if there were none.
    pub(crate) fn must_see(&self, repository: &str) -> ApiResult<()> {
        if self.sees(repository) { Ok(()) } else { Err(ApiError::not_found(format_args!("repository {repository}"))) }
    }

    /// Whether it may know of what belongs to `scope`.
    pub(crate) fn covers(&self, scope: &Scope) -> bool {
        self.token.scope.covers(scope)
    }

    /// Whether it may know of what belongs to a repository, `owner/name`.
    pub(crate) fn sees(&self, repository: &str) -> bool {
        self.token.scope == Scope::Instance || self.token.scope.covers_repository(repository)
    }

    /// Whether the token may still be used: asked again by answers that last. A fault of ours is no reason to end them.
    pub(crate) async fn still_stands(&self, app: &Arc<App>) -> bool {
        match app.store.api_token(self.hash).await {
            Ok(found) => found.is_some_and(|token| token.is_valid(app.clock.now())),
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(scope: &str, permissions: &[Permission]) -> Admin {
        let token = ApiTokenRecord {
            id: 3,
            name: "ci".to_owned(),
            scope: scope.parse().unwrap(),
            permissions: permissions.to_vec(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            revoked_at: None,
        };
        Admin { token: Arc::new(token), hash: [0; 32], origin: Origin::default() }
    }

    fn status<T: std::fmt::Debug>(result: ApiResult<T>) -> u16 {
        result.unwrap_err().problem().status
    }

    #[test]
    fn a_missing_permission_is_named() {
        let admin = admin("instance", &[Permission::JobsRead]);
        admin.need(Permission::JobsRead).unwrap();
        let error = admin.need(Permission::JobsWrite).unwrap_err();
        assert_eq!(error.problem().status, 403);
        assert!(error.problem().title.contains("`jobs:write`"), "{error:?}");
    }

    #[test]
    fn what_lies_outside_the_scope_does_not_exist() {
        let admin = admin("organization:acme", &[]);
        assert!(admin.sees("acme/a") && admin.sees("ACME/a") && !admin.sees("acmes/a") && !admin.sees("nonsense"));
        assert_eq!(admin.scope(None, None).unwrap().to_string(), "organization:acme");
        assert_eq!(admin.scope(None, Some("Acme/A")).unwrap().to_string(), "repository:acme/a");
        assert_eq!(status(admin.scope(Some("other"), None)), 404);
        assert_eq!(status(admin.scope(None, Some("other/a"))), 404);
        assert_eq!(status(admin.within(Some(Scope::Instance))), 404);
        assert_eq!(status(admin.scope(None, Some("a"))), 422);
        assert_eq!(status(admin.scope(Some("acme"), Some("acme/a"))), 422);
    }
}
