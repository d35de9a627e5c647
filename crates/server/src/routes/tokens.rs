//! API tokens, and the listing and revocation of both kinds that people mint.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use startline_crypto::token;
use startline_protocol::admin_api::{CreateTokenRequest, CreatedToken, TokenPage, TokenView};
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use startline_protocol::token::TokenKind;
use startline_store::{ApiTokenRecord, NewApiToken, RegistrationTokenRecord};

use super::Body;
use super::extract::{Path, Query};
use crate::audit::Record;
use crate::problem::{ApiError, ApiResult};
use crate::{App, auth};

/// Shortest and longest life of an API token that expires: a minute, and ten years.
const LIFE: std::ops::RangeInclusive<u64> = 60..=315_360_000;
/// Longest note.
const MAX_NAME: usize = 100;

/// Whose things are wanted; the caller's own when both are absent.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Whose {
    /// An organization.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}$"))]
    organization: Option<String>,
    /// A repository, `owner/name`; not together with `organization`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$"))]
    repository: Option<String>,
}

impl Whose {
    pub(super) fn scope(&self, admin: &auth::Admin) -> ApiResult<Scope> {
        admin.scope(self.organization.as_deref(), self.repository.as_deref())
    }
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Query(whose): Query<Whose>,
) -> ApiResult<Json<TokenPage>> {
    admin.need(Permission::TokensRead)?;
    let scope = whose.scope(&admin)?;
    let found = app.store.tokens().await?;
    let api = found.api.into_iter().map(api);
    let all = api.chain(found.registration.into_iter().map(registration));
    Ok(Json(TokenPage { tokens: all.filter(|token| scope.covers(&token.scope)).collect() }))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Body(request): Body<CreateTokenRequest>,
) -> ApiResult<(StatusCode, Json<CreatedToken>)> {
    let mut record = app.audit(&admin, "token.create", "api_token");
    let result = mint(&app, &admin, request, &mut record).await;
    record.conclude(result).await
}

async fn mint(
    app: &Arc<App>,
    admin: &auth::Admin,
    request: CreateTokenRequest,
    record: &mut Record,
) -> ApiResult<(StatusCode, Json<CreatedToken>)> {
    admin.need(Permission::TokensWrite)?;
    let scope = admin.within(request.scope)?;
    record.scope(scope.clone());
    for permission in &request.permissions {
        admin.need(*permission)?;
    }
    check_name(&request.name)?;
    if request.name.is_empty() {
        return Err(ApiError::invalid("`name` is empty; say what the token is for"));
    }
    let now = app.clock.now();
    let expires_at = match request.expires_in_seconds {
        None => None,
        Some(life) if LIFE.contains(&life) => Some(now + SignedDuration::from_secs(i64::try_from(life).unwrap_or(0))),
        Some(life) => {
            return Err(ApiError::invalid(format!(
                "`expires_in_seconds` is {life}; it must be {} to {}",
                LIFE.start(),
                LIFE.end()
            )));
        }
    };
    // A token that ends must not leave one behind that does not.
    let expires_at = match (expires_at, admin.token.expires_at) {
        (Some(asked), Some(own)) if asked > own => {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                kind::FORBIDDEN,
                "the token would outlive the one that it is made with",
            )
            .detail(format!("ask for an end before {own}")));
        }
        (None, own) => own,
        (asked, _) => asked,
    };
    let mut permissions = request.permissions;
    permissions.sort_unstable_by_key(|permission| permission.as_str());
    permissions.dedup();
    let token = token::new_api_token();
    let created = app
        .store
        .create_api_token(NewApiToken {
            name: request.name,
            hash: token::hash(token.expose()).0,
            scope,
            permissions,
            created_at: now,
            expires_at,
        })
        .await?;
    app.limits.minted(token.expose());
    record.subject(format_args!("api_token:{} ({})", created.id, created.name));
    let granted: Vec<&str> = created.permissions.iter().map(|permission| permission.as_str()).collect();
    record.detail("permissions", granted.join(" "));
    Ok((StatusCode::CREATED, Json(CreatedToken { token, view: api(created) })))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Path((kind, id)): Path<(String, i64)>,
) -> ApiResult<StatusCode> {
    let mut record = app.audit(&admin, "token.revoke", "token");
    let result = end(&app, &admin, &kind, id, &mut record).await;
    record.conclude(result).await
}

/// Revokes; a repeat changes nothing.
async fn end(app: &Arc<App>, admin: &auth::Admin, kind: &str, id: i64, record: &mut Record) -> ApiResult<StatusCode> {
    admin.need(Permission::TokensWrite)?;
    let no_such = || ApiError::not_found(format_args!("{} token {id}", kind.escape_debug()));
    let kind = match kind {
        "api" => TokenKind::Api,
        "registration" => TokenKind::Registration,
        _ => return Err(no_such()),
    };
    let found = app.store.tokens().await?;
    let (scope, name, prefix): (Scope, String, &str) = match kind {
        TokenKind::Registration => {
            let found = found.registration.into_iter().find(|token| token.id == id).ok_or_else(no_such)?;
            (found.token.scope, found.token.name, "registration_token")
        }
        _ => {
            let found = found.api.into_iter().find(|token| token.id == id).ok_or_else(no_such)?;
            (found.scope, found.name, "api_token")
        }
    };
    if !admin.covers(&scope) {
        return Err(no_such());
    }
    record.subject(format_args!("{prefix}:{id} ({name})"));
    record.scope(scope);
    let now = app.clock.now();
    let revoked = match kind {
        TokenKind::Registration => app.store.revoke_registration_token(id, now),
        _ => app.store.revoke_api_token(id, now),
    };
    app.to_its_end(revoked, move |app, _| app.api_tokens.forget(|token| token.id == id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A note for people: short, and printable on one line.
pub(super) fn check_name(name: &str) -> ApiResult<()> {
    if name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("`name` must be at most {MAX_NAME} printable characters")))
    }
}

fn api(record: ApiTokenRecord) -> TokenView {
    TokenView {
        id: record.id,
        kind: TokenKind::Api,
        name: record.name,
        scope: record.scope,
        permissions: record.permissions,
        labels: None,
        runner_group: None,
        cidr: None,
        max_uses: None,
        uses: 0,
        created_at: record.created_at,
        expires_at: record.expires_at,
        revoked_at: record.revoked_at,
    }
}

fn registration(record: RegistrationTokenRecord) -> TokenView {
    let RegistrationTokenRecord { id, uses, revoked_at, token } = record;
    TokenView {
        id,
        kind: TokenKind::Registration,
        name: token.name,
        scope: token.scope,
        permissions: Vec::new(),
        labels: token.labels,
        runner_group: Some(token.group),
        cidr: token.cidr,
        max_uses: token.max_uses,
        uses,
        created_at: token.created_at,
        expires_at: Some(token.expires_at),
        revoked_at,
    }
}
