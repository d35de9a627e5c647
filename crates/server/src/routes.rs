//! The routes of `/api/v1`, one file a resource.

mod audit;
mod events;
pub(crate) mod extract;
mod groups;
mod jobs;
pub(crate) mod polls;
mod rerun;
pub(crate) mod runners;
mod runs;
mod single;
mod table;
mod tokens;
mod values;
pub(crate) mod work;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::delete;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use startline_protocol::ids::RunnerId;
use startline_protocol::problem::{CONTENT_TYPE, Problem, kind};
use tower_http::timeout::TimeoutLayer;

use crate::App;
use crate::auth::RequestId;
use crate::endpoint::Class;
use crate::front::Route;
use crate::problem::{ApiError, ApiResult};

pub(crate) use events::Streams;
pub(crate) use table::table;

/// Largest body of an ordinary request.
const BODY_LIMIT: usize = 2 * 1024 * 1024;
/// Largest submission: a workflow of the largest size with its escapes, and an event.
const SUBMISSION_LIMIT: usize = 16 * 1024 * 1024;
/// Largest append to a log.
const LOG_LIMIT: usize = 4 * 1024 * 1024;
/// Deepest nesting of a JSON body, far below what the parser's stack bears; payloads of forges have some ten levels.
const MAX_DEPTH: usize = 64;
/// What the API does not have.
const REST: &str = "/api/v1/{*rest}";
/// How long an ordinary request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// All routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for class in Class::ALL {
        let endpoints = table().into_iter().filter(|endpoint| endpoint.class == class);
        let routes = endpoints.fold(Router::new(), |routes, endpoint| routes.route(endpoint.path, endpoint.route));
        let limit = match class {
            Class::Ordinary | Class::Held => BODY_LIMIT,
            Class::Submission => SUBMISSION_LIMIT,
            Class::Log => LOG_LIMIT,
        };
        let routes = routes.layer(DefaultBodyLimit::max(limit));
        router = router.merge(match class {
            Class::Held => routes,
            _ => routes.layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT)),
        });
    }
    let router = router
        .route(REST, delete(no_route).get(no_route).post(no_route).put(no_route).patch(no_route))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method);
    answering(router).with_state(Arc::clone(app))
}

/// Routes whose every answer names its request, and whose every error is a problem; also that of a panic.
pub(crate) fn answering<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.layer(tower_http::catch_panic::CatchPanicLayer::custom(panicked)).layer(middleware::from_fn(request_id))
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    fault(&*cause).into_response()
}

/// What is answered in place of a handler that panicked.
pub(crate) fn fault(cause: &(dyn std::any::Any + Send)) -> ApiError {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(cause = %text, "a handler panicked");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, "the service failed to handle the request")
}

async fn no_route(request: Request) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, format!("there is no {}", request.uri().path()))
        .detail("the API is described in docs/runner-api.md, GitHub's protocol in docs/interoperability.md")
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        kind::INVALID,
        format!("{} does not take {}", request.uri().path(), request.method()),
    )
}

/// The header with a request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The caller's request id, or a new one.
pub(crate) fn request_id_of(headers: &HeaderMap) -> HeaderValue {
    match headers.get(REQUEST_ID) {
        Some(given) if given.len() <= 128 && given.to_str().is_ok() => given.clone(),
        _ => new_request_id(),
    }
}

/// Answers under the caller's request id, or a new one.
pub(crate) async fn request_id(mut request: Request, next: Next) -> Response {
    let id = request_id_of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = route_of(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    tracing::debug!(
        http.method = %method, http.path = path, http.status = response.status().as_u16(),
        request.id = id.to_str().unwrap_or_default(), "request answered"
    );
    if response.status().is_client_error() || response.status().is_server_error() {
        response = as_problem(response, &id).await;
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response.extensions_mut().insert(route);
    response
}

/// Where a request goes, in bounded words: callers choose neither paths nor methods of our metrics.
fn route_of(request: &Request) -> Route {
    let method = match *request.method() {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            request.method().as_str()
        }
        _ => "other",
    };
    match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some(path) if path != REST => Route(format!("{method} {path}").into()),
        _ => Route("none".into()),
    }
}

/// Makes a problem of every error, also of those that the framework answers as plain text or without a body, and puts
/// the request's id in.
async fn as_problem(response: Response, id: &HeaderValue) -> Response {
    /// Errors are short; a longer body is not one of ours.
    const LONGEST: usize = 4 * 1024 * 1024;
    let (mut head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, LONGEST).await.unwrap_or_default();
    let mut problem = head.extensions.remove::<Problem>().unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&bytes);
        let (kind, title) = match head.status {
            StatusCode::SERVICE_UNAVAILABLE => (kind::UNAVAILABLE, "the service took too long to answer"),
            status if status.is_server_error() => (kind::INTERNAL, "the service failed to handle the request"),
            _ => (kind::INVALID, "the request is not what this route takes"),
        };
        Problem {
            kind: kind.to_owned(),
            title: title.to_owned(),
            status: head.status.as_u16(),
            detail: (!text.is_empty()).then(|| text.into_owned()),
            request_id: None,
            offset: None,
            diagnostics: Vec::new(),
        }
    });
    problem.request_id = id.to_str().ok().map(str::to_owned);
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    head.extensions.insert(problem);
    Response::from_parts(head, body.into())
}

/// An id for a request that came without one. It tells requests apart and guards nothing, so that it takes no randomness
/// from the operating system.
pub(crate) fn new_request_id() -> HeaderValue {
    let half = || u128::from(RandomState::new().build_hasher().finish());
    let id = uuid::Builder::from_random_bytes((half() << 64 | half()).to_be_bytes()).into_uuid();
    let text = id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("-"))
}

/// The answer to a runner whose registration was deleted.
pub(crate) fn gone(runner: RunnerId) -> ApiError {
    ApiError::new(StatusCode::GONE, kind::RUNNER_OFFLINE, format!("runner {runner} is no longer registered"))
        .detail("register again: `startline runner register`")
}

/// A JSON body, whatever its declared content type; errors name the member and the place.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = bytes(request, state).await?;
        json(&bytes).map(Self)
    }
}

/// Reads a JSON body; an empty one is an empty object.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> ApiResult<T> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    // A list of values would be taken for the members in their order.
    if text.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::invalid("the body is a list; this route takes an object")
            .detail("send JSON as docs/runner-api.md describes it"));
    }
    if is_deeper(text, MAX_DEPTH) {
        return Err(ApiError::invalid(format!("the body is nested more than {MAX_DEPTH} levels deep")));
    }
    serde_json::from_slice(text).map_err(|error| {
        ApiError::invalid(format!("the body is not what this route takes: {error}"))
            .detail("send JSON as docs/runner-api.md describes it")
    })
}

/// Whether arrays and objects are nested more than `most` levels deep. Of text that is no JSON it says anything.
fn is_deeper(json: &[u8], most: usize) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The raw body within the route's limit.
pub(crate) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> ApiResult<bytes::Bytes> {
    bytes::Bytes::from_request(request, state).await.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, "the body is larger than this route takes")
        } else {
            ApiError::new(error.status(), kind::INVALID, error.body_text())
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http::{Request, StatusCode};
    use startline_protocol::problem::Problem;
    use tower::ServiceExt as _;
    use tower_http::timeout::TimeoutLayer;

    use super::{answering, is_deeper};
    use crate::actions::{Dialect, translate};

    /// What is answered at a path of the run service to a request that is called `mine`.
    async fn asked(routes: Router) -> (StatusCode, http::HeaderMap, serde_json::Value) {
        let request = Request::get("/_run/x").header("x-request-id", "mine").body(Body::empty()).unwrap();
        let mut response = answering(routes).oneshot(request).await.unwrap();
        assert_eq!(response.extensions().get::<Problem>().unwrap().request_id.as_deref(), Some("mine"));
        translate(Dialect::at("/_run/x").unwrap(), &mut response);
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 4096).await.unwrap();
        (head.status, head.headers, serde_json::from_slice(&body).unwrap())
    }

    async fn panics() -> &'static str {
        panic!("on purpose")
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_a_panic_or_a_timeout_names_its_request_in_the_dialect_of_the_place() {
        let late = TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, super::REQUEST_TIMEOUT);
        for (routes, status) in [
            (Router::new().route("/_run/x", get(panics)), 500),
            (Router::new().route("/_run/x", get(std::future::pending::<&'static str>)).layer(late), 503),
        ] {
            let (code, headers, body) = asked(routes).await;
            assert_eq!((code.as_u16(), &body["statusCode"]), (status, &serde_json::json!(status)));
            assert_eq!(body["source"], "actions-run-service");
            for name in ["x-request-id", "x-github-request-id", "activityid"] {
                assert_eq!(headers[name], "mine", "{name}");
            }
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!is_deeper(nested(64).as_bytes(), 64));
        assert!(is_deeper(nested(65).as_bytes(), 64));
        assert!(is_deeper(&b"[".repeat(65), 64), "its end need not be there");
        assert!(is_deeper("{\"a\":".repeat(65).as_bytes(), 64));
        let flat = format!("[{}0]", r#"["\"[[\\", {"]": "}"}],"#.repeat(100));
        assert!(!is_deeper(flat.as_bytes(), 3));
        assert!(is_deeper(flat.as_bytes(), 2));
    }
}
