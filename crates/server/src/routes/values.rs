//! Secrets and variables of the instance, of organizations, of repositories and of their environments.
//!
//! A job gets those of its environment, of its repository, of the repository's organization and of the instance, the
//! narrower one winning. A secret's value goes in and never comes out again, except sealed in the answer to an acquisition.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use startline_protocol::admin_api::{SecretPage, SecretView, ValueRequest, VariablePage, VariableView};
use startline_protocol::permission::Permission;
use startline_protocol::scope::Scope;
use startline_protocol::value_scope::ValueScope;
use startline_store::{SecretRecord, VariableRecord};

use super::Body;
use super::extract::{Path, Query};
use crate::problem::{ApiError, ApiResult};
use crate::values::bound_to;
use crate::{App, auth};

/// Largest value, as on GitHub.
const LARGEST: usize = 48 * 1024;

/// Where the values are set; in the scope of the caller's token when all are absent.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Where {
    /// An organization.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}$"))]
    organization: Option<String>,
    /// A repository, `owner/name`; not together with `organization`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$"))]
    repository: Option<String>,
    /// An environment of the repository.
    #[schemars(length(min = 1, max = 255))]
    environment: Option<String>,
}

impl Where {
    fn scope(&self, admin: &auth::Admin) -> ApiResult<ValueScope> {
        let scope = admin.scope(self.organization.as_deref(), self.repository.as_deref())?;
        match (&self.environment, scope) {
            (None, scope) => Ok(scope.into()),
            (Some(name), Scope::Repository(repository)) => {
                ValueScope::environment(&repository, name).map_err(|error| ApiError::invalid(error.to_string()))
            }
            (Some(name), scope) => {
                Err(ApiError::invalid(format!("`{}` would be an environment of {scope}", name.escape_debug()))
                    .detail("environments belong to repositories; give `repository` too"))
            }
        }
    }
}

pub(super) async fn secrets(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Query(whose): Query<Where>,
) -> ApiResult<Json<SecretPage>> {
    admin.need(Permission::SecretsRead)?;
    let records = app.store.secrets(whose.scope(&admin)?).await?;
    Ok(Json(SecretPage { secrets: records.into_iter().map(secret).collect() }))
}

pub(super) async fn put_secret(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(name): Path<String>,
    Query(whose): Query<Where>,
    Body(request): Body<ValueRequest>,
) -> ApiResult<Json<SecretView>> {
    let mut record = app.audit(&admin, "secret.set", format_args!("secret:{name}"));
    let result = async {
        admin.need(Permission::SecretsWrite)?;
        let scope = whose.scope(&admin)?;
        record.place(&scope);
        check(&name, "secret", &request.value)?;
        let name = name.to_ascii_uppercase();
        let sealed = app.sealing.seal(request.value.as_bytes(), bound_to(&scope, &name).as_bytes());
        Ok(Json(secret(app.change_values(app.store.put_secret(scope, name, sealed, app.clock.now())).await?)))
    };
    let result = result.await;
    record.conclude(result).await
}

pub(super) async fn delete_secret(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(name): Path<String>,
    Query(whose): Query<Where>,
) -> ApiResult<StatusCode> {
    let mut record = app.audit(&admin, "secret.delete", format_args!("secret:{name}"));
    let result = async {
        admin.need(Permission::SecretsWrite)?;
        let scope = whose.scope(&admin)?;
        record.place(&scope);
        app.change_values(app.store.delete_secret(scope, name)).await?;
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    record.conclude(result).await
}

pub(super) async fn variables(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Query(whose): Query<Where>,
) -> ApiResult<Json<VariablePage>> {
    admin.need(Permission::VariablesRead)?;
    let records = app.store.variables(vec![whose.scope(&admin)?]).await?;
    Ok(Json(VariablePage { variables: records.into_iter().map(variable).collect() }))
}

pub(super) async fn put_variable(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(name): Path<String>,
    Query(whose): Query<Where>,
    Body(request): Body<ValueRequest>,
) -> ApiResult<Json<VariableView>> {
    let mut record = app.audit(&admin, "variable.set", format_args!("variable:{name}"));
    let result = async {
        admin.need(Permission::VariablesWrite)?;
        let scope = whose.scope(&admin)?;
        record.place(&scope);
        check(&name, "variable", &request.value)?;
        Ok(Json(variable(
            app.change_values(app.store.put_variable(scope, name, request.value, app.clock.now())).await?,
        )))
    };
    let result = result.await;
    record.conclude(result).await
}

pub(super) async fn delete_variable(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path(name): Path<String>,
    Query(whose): Query<Where>,
) -> ApiResult<StatusCode> {
    let mut record = app.audit(&admin, "variable.delete", format_args!("variable:{name}"));
    let result = async {
        admin.need(Permission::VariablesWrite)?;
        let scope = whose.scope(&admin)?;
        record.place(&scope);
        app.change_values(app.store.delete_variable(scope, name)).await?;
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    record.conclude(result).await
}

fn secret(record: SecretRecord) -> SecretView {
    SecretView { name: record.name, scope: record.scope, created_at: record.created_at, updated_at: record.updated_at }
}

fn variable(record: VariableRecord) -> VariableView {
    VariableView {
        name: record.name,
        value: record.value,
        scope: record.scope,
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

fn check(name: &str, what: &str, value: &str) -> ApiResult<()> {
    check_name(name, what)?;
    if value.is_empty() || value.len() > LARGEST {
        return Err(ApiError::invalid(format!("the value of {what} `{name}` has {} bytes", value.len()))
            .detail(format!("a value has 1 to {LARGEST} bytes; delete the {what} to take it away")));
    }
    Ok(())
}

/// GitHub's rules for names: letters, digits and `_`, beginning with neither a digit nor `GITHUB_`.
pub(crate) fn check_name(name: &str, what: &str) -> ApiResult<()> {
    let good = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
        && name.len() <= 255
        && !name.to_ascii_uppercase().starts_with("GITHUB_");
    if good {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("`{}` is not the name of a {what}", name.escape_debug()))
            .detail("use letters, digits and `_`, beginning with neither a digit nor `GITHUB_`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_githubs_rules() {
        for good in ["A", "api_key", "_X1"] {
            check_name(good, "secret").unwrap();
        }
        for bad in ["", "1A", "GITHUB_TOKEN", "github_x", "A-B", "Ä", "A B"] {
            assert!(check_name(bad, "secret").is_err(), "{bad}");
        }
    }
}
