//! The token endpoint: a runner's signed assertion becomes a listener token (OAuth 2 client credentials, RFC 7523).

use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::{Request, State};
use startline_crypto::client_assertion::{self, Expected, LEEWAY, Padding};
use startline_crypto::purpose_token::Purpose;
use startline_crypto::runner_key::RunnerPublicKey;
use startline_protocol::actions::broker::{TokenAnswer, TokenRequest};
use startline_store::{Error as StoreError, RunnerRecord};
use uuid::Uuid;

use super::doors::Doors;
use super::urls;
use crate::App;
use crate::auth::{LISTENER_LIFE, ListenerClaims};
use crate::problem::{ApiError, ApiResult};

/// An assertion has some hundred bytes.
const BODY_LIMIT: usize = 32 * 1024;

pub(super) fn routes() -> Doors {
    Doors::new().post_up_to(BODY_LIMIT, urls::TOKEN, exchange)
}

async fn exchange(State(app): State<Arc<App>>, request: Request) -> ApiResult<Json<TokenAnswer>> {
    let body = crate::routes::bytes(request, &()).await?;
    let form: TokenRequest = serde_urlencoded::from_bytes(&body)
        .map_err(|error| ApiError::invalid(format!("the body is not a token request: {error}")))?;
    if form.grant_type != "client_credentials" {
        return Err(ApiError::invalid(format!(
            "`grant_type` is `{}`; it must be client_credentials",
            form.grant_type.escape_debug()
        )));
    }
    let now = app.clock.now();
    let runner = runner_of(&app, &form.client_assertion).await?;
    let (Some(actions), id) = (&runner.actions, runner.id) else { return Err(unknown(&app)) };
    let key = RunnerPublicKey::from_bytes(&actions.public_key).map_err(|error| {
        tracing::error!(runner.id = %id, %error, "a stored runner key cannot be read");
        ApiError::unavailable("the runner's key cannot be read now")
    })?;
    let client = actions.client_id.to_string();
    let audience = app.actions.urls.token();
    let expected = Expected {
        client_id: &client,
        audiences: &[&audience],
        padding: if actions.pss_only { Padding::PssOnly } else { Padding::Any },
        leeway: LEEWAY,
    };
    let assertion = client_assertion::verify(&form.client_assertion, &key, &expected, now).map_err(|error| {
        app.metrics.auth_failure("assertion");
        tracing::info!(runner.id = %id, %error, "refused a client assertion");
        ApiError::unauthenticated(error.to_string())
    })?;
    let fresh = {
        let mut replays = app.actions.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.check_and_insert(&client, &assertion.jti, assertion.accepted_until, now)
    };
    if !fresh {
        app.metrics.auth_failure("replay");
        return Err(ApiError::unauthenticated("the client assertion was used before"));
    }
    let claims = ListenerClaims { runner: id, name: runner.name, scope: runner.scope, ephemeral: runner.ephemeral };
    let (token, _) = app.mint(Purpose::Listener, &claims, LISTENER_LIFE)?;
    app.limits.minted(token.expose());
    Ok(Json(TokenAnswer {
        access_token: token.expose().to_owned(),
        token_type: "bearer".to_owned(),
        expires_in: LISTENER_LIFE.as_secs(),
    }))
}

/// The runner that an assertion claims to be of.
async fn runner_of(app: &Arc<App>, assertion: &str) -> ApiResult<RunnerRecord> {
    let issuer = client_assertion::peek_issuer(assertion).and_then(|issuer| issuer.parse::<Uuid>().ok());
    let Some(client) = issuer else { return Err(unknown(app)) };
    match app.store.runner_by_client(client).await {
        Ok(Some(runner)) => Ok(runner),
        Ok(None) => Err(unknown(app)),
        Err(StoreError::RunnerGone(runner)) => Err(crate::routes::gone(runner)),
        Err(error) => Err(error.into()),
    }
}

fn unknown(app: &App) -> ApiError {
    app.metrics.auth_failure("unknown_client");
    ApiError::unauthenticated("no runner is registered under this client id").detail("configure the runner anew")
}
