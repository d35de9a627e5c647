//! What all services that speak Twirp share: `POST /twirp/<package.Service>/<Method>` at the host's root, JSON both ways.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use crate::App;
use crate::problem::ApiError;

/// Answers methods that no service here has, in words that a Twirp client reads.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/twirp/{*method}", any(no_method))
}

async fn no_method(request: Request) -> ApiError {
    ApiError::not_found(format_args!("method {} here", request.uri().path()))
}
