//! How errors are said. Inside there is one kind of error, the problem of the Runner API; each part of the Actions
//! protocol has words of its own for it, which its clients interpret.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use startline_protocol::actions::{broker, run_service};
use startline_protocol::problem::{CONTENT_TYPE, Problem, kind};

/// Which part of the protocol answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// GitHub's REST interface.
    Rest,
    /// The token endpoint.
    OAuth,
    /// The broker.
    Broker,
    /// The run service.
    RunService,
    /// Results, artifacts and caches.
    Twirp,
    /// The older plane below `_apis`, and the queues of scale sets.
    Vss,
}

/// In an answer's extensions: a body that its clients know as it is, also of an error.
#[derive(Clone, Debug)]
pub(super) struct AsIs(pub serde_json::Value);

/// Longest error that is translated; ours are short.
const LONGEST: usize = 1024 * 1024;

/// Says errors in the dialect, and puts the ids by which clients name a request into every answer.
pub(super) async fn translate(State(dialect): State<Dialect>, request: Request, next: Next) -> Response {
    static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    // The names under which GitHub's clients log it (`Runner.Sdk`, and `actions/scaleset` in its errors).
    static GITHUB_REQUEST_ID: HeaderName = HeaderName::from_static("x-github-request-id");
    static ACTIVITY_ID: HeaderName = HeaderName::from_static("activityid");
    let mut response = next.run(request).await;
    if let Some(AsIs(body)) = response.extensions_mut().remove() {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = body.to_string().into();
    } else if response.status().is_client_error() || response.status().is_server_error() {
        response = say(dialect, response).await;
    }
    let headers = response.headers_mut();
    if let Some(id) = headers.get(&REQUEST_ID).cloned() {
        headers.insert(GITHUB_REQUEST_ID.clone(), id.clone());
        headers.insert(ACTIVITY_ID.clone(), id);
    }
    response
}

async fn say(dialect: Dialect, response: Response) -> Response {
    let ours =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == CONTENT_TYPE.as_bytes());
    if !ours {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, LONGEST).await.unwrap_or_default();
    let Ok(problem) = serde_json::from_slice::<Problem>(&bytes) else {
        return Response::from_parts(head, bytes.into());
    };
    let (status, body) = words(dialect, &problem);
    head.status = status;
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(head, body.to_string().into())
}

fn words(dialect: Dialect, problem: &Problem) -> (StatusCode, serde_json::Value) {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = match &problem.detail {
        Some(detail) => format!("{}; {detail}", problem.title),
        None => problem.title.clone(),
    };
    match dialect {
        Dialect::Rest => (
            status,
            json!({ "message": text, "documentation_url": "", "status": status.as_str(), "request_id": problem.request_id }),
        ),
        // Any other status makes a runner go on without a token (`VssOAuthTokenHttpClient.cs`).
        Dialect::OAuth => {
            // `invalid_client` ends a runner for good, so it is said of nothing else.
            let error = match problem.kind.as_str() {
                kind::UNAUTHENTICATED | kind::RUNNER_OFFLINE => "invalid_client",
                _ if status.is_server_error() => "server_error",
                _ => "invalid_request",
            };
            (StatusCode::BAD_REQUEST, json!(broker::TokenError { error: error.to_owned(), error_description: text }))
        }
        Dialect::Broker => {
            let error_kind = match problem.kind.as_str() {
                kind::RUNNER_OFFLINE => broker::error_kind::RUNNER_NOT_FOUND,
                kind::SESSION_GONE => broker::error_kind::SESSION_INVALID,
                kind::TOO_OLD => broker::error_kind::VERSION_TOO_OLD,
                _ => broker::error_kind::OTHER,
            };
            // A 403 without a recognised body stops every released runner for good (`BrokerHttpClient.cs`).
            let status = if status == StatusCode::FORBIDDEN { StatusCode::BAD_REQUEST } else { status };
            let status = if problem.kind == kind::RUNNER_OFFLINE { StatusCode::NOT_FOUND } else { status };
            let error = broker::BrokerError {
                source: broker::ERROR_SOURCE.to_owned(),
                error_kind: error_kind.to_owned(),
                status_code: status.as_u16(),
                error_message: text,
            };
            (status, json!(error))
        }
        Dialect::RunService => {
            let error = run_service::RunServiceError {
                source: run_service::ERROR_SOURCE.to_owned(),
                status_code: status.as_u16(),
                error_message: text,
            };
            (status, json!(error))
        }
        // Clients show `msg`, and repeat a request for a minute when the body is not JSON (actions/toolkit
        // `artifact-twirp-client.ts`, `cacheTwirpClient.ts`).
        Dialect::Twirp => {
            let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
            (status, json!({ "code": twirp_code(status, &problem.kind), "msg": text }))
        }
        Dialect::Vss => {
            // Clients look for parts of the type's name, and otherwise show the message to people.
            let exception = match problem.kind.as_str() {
                named if named.ends_with("Exception") => named,
                kind::UNAUTHENTICATED | kind::FORBIDDEN => "VssUnauthorizedException",
                _ => "VssServiceException",
            };
            // What is wrong with a request is a 400 here.
            let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
            let body = json!({
                "$id": "1",
                "innerException": null,
                "message": text,
                "typeName": format!("GitHub.Actions.Runtime.WebApi.{exception}, GitHub.Actions.Runtime.WebApi"),
                "typeKey": exception,
                "errorCode": 0,
                "eventId": 3000,
            });
            (status, body)
        }
    }
}

/// The word of Twirp's specification.
fn twirp_code(status: StatusCode, kind: &str) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "invalid_argument",
        StatusCode::UNAUTHORIZED => "unauthenticated",
        StatusCode::FORBIDDEN => "permission_denied",
        StatusCode::NOT_FOUND | StatusCode::GONE => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "bad_route",
        StatusCode::CONFLICT if kind == kind::STALE_EPOCH => "failed_precondition",
        StatusCode::CONFLICT => "already_exists",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => "resource_exhausted",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ if status.is_server_error() => "internal",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ApiError;

    fn said(dialect: Dialect, error: &ApiError) -> (u16, serde_json::Value) {
        let (status, body) = words(dialect, error.problem());
        (status.as_u16(), body)
    }

    #[test]
    fn a_deleted_registration_is_said_so_that_the_runner_understands() {
        let gone = crate::routes::gone(startline_protocol::ids::RunnerId(7));
        let (status, body) = said(Dialect::Broker, &gone);
        assert_eq!(
            (status, &body["errorKind"], &body["source"]),
            (404, &json!("RunnerNotFound"), &json!("actions-broker-listener"))
        );
        let (status, body) = said(Dialect::OAuth, &gone);
        assert_eq!((status, &body["error"]), (400, &json!("invalid_client")));
    }

    #[test]
    fn no_answer_of_the_broker_is_a_bare_403() {
        let forbidden = ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, "no");
        assert_eq!(said(Dialect::Broker, &forbidden).0, 400);
    }

    #[test]
    fn a_fault_of_ours_does_not_tell_a_runner_that_it_is_unknown() {
        let (status, body) = said(Dialect::OAuth, &ApiError::unavailable("the database is away"));
        assert_eq!((status, &body["error"]), (400, &json!("server_error")));
    }

    #[test]
    fn only_who_is_unknown_is_told_so_by_the_token_endpoint() {
        let large = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large");
        assert_eq!(said(Dialect::OAuth, &large).1["error"], "invalid_request");
        assert_eq!(said(Dialect::OAuth, &ApiError::unauthenticated("used before")).1["error"], "invalid_client");
    }

    #[test]
    fn the_status_in_the_body_is_that_of_the_answer() {
        let (status, body) = said(Dialect::RunService, &ApiError::not_found("job 7"));
        assert_eq!((status, &body["statusCode"], &body["source"]), (404, &json!(404), &json!("actions-run-service")));
    }

    #[test]
    fn the_toolkit_reads_a_code_and_a_message() {
        let (status, body) = said(Dialect::Twirp, &ApiError::invalid("`size` is no number"));
        assert_eq!((status, body), (400, json!({ "code": "invalid_argument", "msg": "`size` is no number" })));
        let taken = ApiError::new(StatusCode::CONFLICT, kind::NAME_TAKEN, "an artifact `dist` is there already");
        assert_eq!(said(Dialect::Twirp, &taken).1["code"], "already_exists");
        let over = ApiError::stale("job 7 has ended");
        let (status, body) = said(Dialect::Twirp, &over);
        assert_eq!((status, &body["code"]), (409, &json!("failed_precondition")));
    }
}
