//! GitHub Apps: whoever signs in the name of an App that the operator has named gets an API token for its installation.
//!
//! Controllers of scale sets are configured with an App as often as with a token. An App here is a line of
//! `--apps-file` and a public key; its tokens are ordinary API tokens that live for an hour.

use std::path::Path as FilePath;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use startline_crypto::client_assertion::{AppKey, AssertionError, peek_app, verify_app};
use startline_crypto::token;
use startline_protocol::permission::Permission;
use startline_protocol::scope::Scope;
use startline_store::NewApiToken;

use super::doors::Doors;
use crate::App;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::Path;

/// Life of an installation token, as on GitHub.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// What an installation's token may do: what runners and scale sets are configured with.
const PERMISSIONS: [Permission; 4] =
    [Permission::RunnersRegister, Permission::RunnersRead, Permission::RunnersWrite, Permission::JobsRead];

/// The Apps that there are.
#[derive(Debug, Default)]
pub(crate) struct Apps {
    apps: Vec<Installation>,
}

#[derive(Debug)]
struct Installation {
    app: String,
    installation: u64,
    scope: Scope,
    key: AppKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    app: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    installation: u64,
    scope: String,
    public_key: std::path::PathBuf,
}

impl Apps {
    /// Reads `--apps-file`; keys stand in files beside it.
    pub(crate) fn read(file: Option<&FilePath>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read --apps-file {shown}"))?;
        let read: File = toml::from_str(&text).with_context(|| format!("--apps-file {shown} is not a list of Apps"))?;
        let mut apps: Vec<Installation> = Vec::with_capacity(read.app.len());
        for entry in read.app {
            let Entry { id, installation, scope, public_key } = entry;
            let path = file.parent().unwrap_or_else(|| FilePath::new(".")).join(public_key);
            let pem = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read the public key {} of the App `{id}`", path.display()))?;
            let Some(key) = AppKey::from_pem(&pem) else {
                bail!(
                    "{} is no public key in PEM; make one with `openssl rsa -in app.pem -pubout -out app.pub.pem`",
                    path.display()
                );
            };
            let scope = scope.parse().with_context(|| format!("the App `{id}` of --apps-file {shown}"))?;
            if apps.iter().any(|known| known.installation == installation) {
                bail!("--apps-file {shown} names the installation {installation} twice");
            }
            apps.push(Installation { app: id, installation, scope, key });
        }
        Ok(Self { apps })
    }
}

impl Apps {
    /// The installation `id` of the App that has signed this word, if the App has it. Of one App, each installation may
    /// have a key of its own.
    fn signed(&self, word: &str, app: &str, id: u64, now: Timestamp) -> Result<Option<&Installation>, AssertionError> {
        let mut last = AssertionError::Client;
        let mut is_known = false;
        for known in self.apps.iter().filter(|known| known.app == app) {
            match verify_app(word, &known.key, &known.app, now) {
                Ok(()) if known.installation == id => return Ok(Some(known)),
                Ok(()) => is_known = true,
                Err(error) => last = error,
            }
        }
        if is_known { Ok(None) } else { Err(last) }
    }
}

pub(super) fn routes() -> Doors {
    Doors::new().post("/api/v3/app/installations/{id}/access_tokens", access_token)
}

async fn access_token(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> ApiResult<(StatusCode, Json<serde_json::Value>)> {
    let now = app.clock.now();
    let refused = |why: &str| {
        app.metrics.auth_failure("app");
        tracing::info!(installation = id, why, "refused an App's word");
        ApiError::unauthenticated(why)
    };
    let word = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let word = word.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, word)) = word else { return Err(refused("a JSON web token could not be decoded")) };
    let Some(claimed) = peek_app(word) else { return Err(refused("a JSON web token could not be decoded")) };
    let found = app.actions.apps.signed(word, &claimed, id, now).map_err(|error| refused(&error.to_string()))?;
    let Some(found) = found else {
        return Err(ApiError::not_found(format_args!("installation {id} of this App")));
    };
    let expires_at = now + LIFE;
    let minted = token::new_api_token();
    let created = app
        .store
        .create_api_token(NewApiToken {
            name: format!("App {}, installation {id}", found.app),
            hash: token::hash(minted.expose()).0,
            scope: found.scope.clone(),
            permissions: PERMISSIONS.to_vec(),
            created_at: now,
            expires_at: Some(expires_at),
        })
        .await?;
    app.limits.minted(minted.expose());
    app.audit_own(
        "token.create",
        format_args!("api_token:{} ({})", created.id, created.name),
        found.scope.clone(),
        &[("app", &found.app)],
    );
    let body = serde_json::json!({
        "token": minted.expose(), "expires_at": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "permissions": {"administration": "write", "organization_self_hosted_runners": "write"},
        "repository_selection": "all",
    });
    Ok((StatusCode::CREATED, Json(body)))
}
