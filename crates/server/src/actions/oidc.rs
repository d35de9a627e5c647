//! Id tokens: what a job shows to a cloud instead of a secret.

mod identity;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use startline_protocol::job_message::JobMessage;
use startline_protocol::problem::kind;

use super::doors::Doors;
use super::grants::may_have_tokens;
use super::holder::Holder;
use crate::App;
use crate::message::PERMISSIONS;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::Query;

pub(crate) use identity::{Identity, IdentityRules};

/// Longest audience.
const LONGEST_AUDIENCE: usize = 512;
/// How long verifiers may keep the documents. A new key's tokens make them ask again.
const KEEP: &str = "public, max-age=300";

pub(super) fn routes() -> Doors {
    Doors::new()
        .get("/_oidc/token", token)
        .get("/.well-known/openid-configuration", discovery)
        .get("/.well-known/jwks", jwks)
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    audience: Option<String>,
}

#[derive(Debug, Serialize)]
struct Token {
    value: String,
}

async fn token(State(app): State<Arc<App>>, holder: Holder, Query(asked): Query<Asked>) -> ApiResult<Json<Token>> {
    let claims = holder.claims();
    let audience = asked.audience.filter(|audience| !audience.is_empty());
    if audience.as_ref().is_some_and(|audience| audience.len() > LONGEST_AUDIENCE) {
        return Err(ApiError::invalid(format!("`audience` has more than {LONGEST_AUDIENCE} bytes")));
    }
    let mut record = app.audit(&holder.bearer, "id_token.mint", format_args!("job:{}", claims.job));
    record.repository(&holder.run.run.repository);
    if let Some(audience) = &audience {
        record.detail("audience", audience.escape_debug());
    }
    let result = async {
        let message = app.store.job_message(claims.job).await?.unwrap_or_default();
        let message = serde_json::from_str::<JobMessage>(&message).ok();
        let Some(message) =
            message.filter(|message| may_have_tokens(message.variable(PERMISSIONS), holder.run.run.trusted))
        else {
            return Err(ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, "this job may not have id tokens")
                .detail("give the job `permissions: {id-token: write}`; untrusted runs never have it"));
        };
        let compiled = app.runs.get(holder.run.id).ok_or_else(|| ApiError::not_found("such run in progress"))?;
        let context = compiled.submission.context(&compiled.workflow, &holder.run, &app.config.forge);
        let mut github = context.github.to_json();
        let variable = |name: &str| message.variables.get(name).map_or("", |variable| variable.value.as_str());
        if !variable(crate::message::FILE_PATH).is_empty() {
            let file = format!("{}@{}", variable(crate::message::FILE_PATH), variable(crate::message::FILE_REF));
            github["job_workflow_ref"] = file.into();
            github["job_workflow_sha"] = variable(crate::message::FILE_SHA).into();
        }
        if let Some(environment) = &message.actions_environment {
            github["environment"] = environment.name.clone().into();
        }
        let value = app.actions.identity.mint(&github, audience.as_deref(), app.clock.now()).await?;
        Ok(Json(Token { value }))
    }
    .await;
    record.conclude(result).await
}

async fn discovery(State(app): State<Arc<App>>) -> Response {
    let issuer = app.actions.urls.root();
    let document = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks"),
        "subject_types_supported": ["public", "pairwise"],
        "response_types_supported": ["id_token"],
        "claims_supported": app.actions.identity.claims(),
        "id_token_signing_alg_values_supported": [startline_crypto::id_token::ALGORITHM],
        "scopes_supported": ["openid"],
    });
    ([(header::CACHE_CONTROL, KEEP)], Json(document)).into_response()
}

async fn jwks(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let keys = app.actions.identity.jwks().await?;
    Ok(([(header::CACHE_CONTROL, KEEP)], Json(keys)).into_response())
}
