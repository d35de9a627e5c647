//! Parts of a request, refused with a problem that names what is wrong.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::ApiError;

/// What stands between the braces of the path. What cannot be an id is the id of nothing.
pub(crate) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => {
                Err(ApiError::not_found(parts.uri.path().escape_debug()).detail(format!("the path says {error}")))
            }
        }
    }
}

/// Most parameters of a query; no route knows half as many.
const MAX_PARAMETERS: usize = 32;

/// The query.
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let given = parts.uri.query().map_or(0, |query| query.split('&').count());
        if given > MAX_PARAMETERS {
            return Err(ApiError::invalid(format!("the query has {given} parameters; at most {MAX_PARAMETERS}")));
        }
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(value)| Self(value)).map_err(|error| {
            ApiError::invalid(format!("the query is not what this route takes: {}", error.body_text()))
        })
    }
}
