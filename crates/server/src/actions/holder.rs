//! Which run a job bearer speaks for, and where its caches lie.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde_json::Value;
use startline_crypto::job_token::Claims;
use startline_store::RunRecord;

use crate::App;
use crate::auth::JobBearer;
use crate::problem::ApiError;
use crate::routes::work;
use crate::submission::Submission;

/// A job in a worker's hands, with its run.
pub(super) struct Holder {
    pub bearer: JobBearer,
    pub run: RunRecord,
}

impl Holder {
    pub(super) const fn claims(&self) -> &Claims {
        &self.bearer.claims
    }

    pub(super) fn repository(&self) -> String {
        self.run.run.repository.clone()
    }

    /// Where its caches lie.
    pub(super) fn caches(&self) -> CacheScopes {
        let event = serde_json::from_str::<Submission>(&self.run.run.submission).map(|known| known.event);
        CacheScopes::new(&self.run.run.git_ref, &event.unwrap_or_default(), self.run.run.trusted)
    }
}

impl FromRequestParts<Arc<App>> for Holder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let bearer = JobBearer::from_request_parts(parts, app).await?;
        // Final to clients, which repeat most other refusals for a minute.
        work::holds(app, bearer.claims.job, bearer.claims.epoch).map_err(|_| {
            ApiError::unauthenticated(format!("job {} has ended or was given to another runner", bearer.claims.job))
        })?;
        let run = app.store.run(bearer.claims.run).await?;
        let run = run.ok_or_else(|| ApiError::not_found(format_args!("run {}", bearer.claims.run)))?;
        Ok(Self { bearer, run })
    }
}

/// A git ref, and whether trusted code wrote there.
type Place = (String, bool);

/// Where a job writes caches, and where it looks for them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CacheScopes {
    pub own: Place,
    /// Its own ref, the base of its pull request, the default branch.
    pub lookup: Vec<Place>,
}

impl CacheScopes {
    /// Untrusted code reads what trusted code left, but nothing that it writes is ever found by trusted code.
    fn new(git_ref: &str, event: &Value, trusted: bool) -> Self {
        let branch = |pointer: &str| {
            let name = event.pointer(pointer).and_then(Value::as_str).filter(|name| !name.is_empty())?;
            Some(if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") })
        };
        let own = (git_ref.to_owned(), trusted);
        let default = branch("/repository/default_branch").unwrap_or_else(|| "refs/heads/main".to_owned());
        let refs = [Some(git_ref.to_owned()), branch("/pull_request/base/ref"), Some(default)];
        let mut lookup = vec![own.clone()];
        for git_ref in refs.into_iter().flatten() {
            if !lookup.contains(&(git_ref.clone(), true)) {
                lookup.push((git_ref, true));
            }
        }
        Self { own, lookup }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lookup(git_ref: &str, event: &Value, trusted: bool) -> Vec<String> {
        let scopes = CacheScopes::new(git_ref, event, trusted);
        assert_eq!(scopes.own, (git_ref.to_owned(), trusted), "a job writes nowhere else");
        let word = |trusted| if trusted { "trusted" } else { "untrusted" };
        scopes.lookup.into_iter().map(|(git_ref, trusted)| format!("{git_ref} {}", word(trusted))).collect()
    }

    #[test]
    fn a_pull_request_finds_its_own_caches_then_those_of_its_base_then_those_of_the_default_branch() {
        let event =
            json!({ "pull_request": { "base": { "ref": "dev" } }, "repository": { "default_branch": "trunk" } });
        assert_eq!(
            lookup("refs/pull/7/merge", &event, true),
            ["refs/pull/7/merge trusted", "refs/heads/dev trusted", "refs/heads/trunk trusted"]
        );
    }

    #[test]
    fn an_untrusted_job_finds_what_it_wrote_and_what_trusted_code_wrote() {
        assert_eq!(
            lookup("refs/heads/main", &json!({}), false),
            ["refs/heads/main untrusted", "refs/heads/main trusted"]
        );
    }

    #[test]
    fn a_trusted_job_never_finds_what_untrusted_code_wrote() {
        assert_eq!(lookup("refs/heads/main", &json!({}), true), ["refs/heads/main trusted"]);
        assert_eq!(lookup("refs/tags/v1", &json!({}), true), ["refs/tags/v1 trusted", "refs/heads/main trusted"]);
    }
}
