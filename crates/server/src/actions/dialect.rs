//! How errors are said. Inside there is one kind of error, the problem of the Runner API; each part of the Actions
//! protocol has words of its own for it, which its clients interpret.

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use startline_protocol::actions::{broker, run_service};
use startline_protocol::problem::{Problem, kind};

use crate::routes;

/// Which part of the protocol answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
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
    /// Everything else that is outside of the API: errors are problems.
    Plain,
}

/// Which dialect is spoken where; the first that fits.
const PLACES: [(&str, Dialect); 18] = [
    ("/_runner/oauth", Dialect::OAuth),
    ("/_runner/_apis", Dialect::Vss),
    // As older controllers write it.
    ("/_runner//_apis", Dialect::Vss),
    ("/_runner/scalesets", Dialect::Vss),
    ("/_runner", Dialect::Broker),
    ("/_run", Dialect::RunService),
    ("/actions/build", Dialect::RunService),
    ("/_actions", Dialect::RunService),
    ("/twirp", Dialect::Twirp),
    ("/_results", Dialect::Twirp),
    ("/_feed", Dialect::Twirp),
    ("/api/v3", Dialect::Rest),
    // Where jobs are told that it is; octokit reads an error of no other type.
    ("/api/graphql", Dialect::Rest),
    ("/_cache", Dialect::Rest),
    ("/_apis", Dialect::Rest),
    ("/_blob", Dialect::Rest),
    ("/_oidc", Dialect::Rest),
    ("/.well-known", Dialect::Rest),
];
/// What is no part of the protocol.
const OTHERS: [&str; 4] = ["/api/v1", "/healthz", "/readyz", "/metrics"];

impl Dialect {
    /// What is spoken at a path; nothing where the path is none of the protocol's.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let below = |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if OTHERS.into_iter().any(below) {
            return None;
        }
        let place = PLACES.into_iter().find(|(base, _)| below(base));
        Some(place.map_or(Self::Plain, |(_, dialect)| dialect))
    }
}

/// In an answer's extensions: a body that its clients know as it is, also of an error.
#[derive(Clone, Debug)]
pub(super) struct AsIs(pub serde_json::Value);

/// Says an error in the dialect, and puts the ids by which clients name a request into every answer, whoever made it.
pub(crate) fn translate(dialect: Dialect, response: &mut Response) {
    // The names under which GitHub's clients log it (`Runner.Sdk`, and `actions/scaleset` in its errors).
    static GITHUB_REQUEST_ID: HeaderName = HeaderName::from_static("x-github-request-id");
    static ACTIVITY_ID: HeaderName = HeaderName::from_static("activityid");
    let problem = response.extensions_mut().remove::<Problem>();
    let body = if let Some(AsIs(body)) = response.extensions_mut().remove() {
        Some(body)
    } else if let (Some(problem), true) = (problem, dialect != Dialect::Plain) {
        let (status, body) = words(dialect, &problem);
        *response.status_mut() = status;
        Some(body)
    } else {
        None
    };
    if let Some(body) = body {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = body.to_string().into();
    }
    let headers = response.headers_mut();
    let id = headers.entry(routes::REQUEST_ID).or_insert_with(routes::new_request_id).clone();
    headers.insert(GITHUB_REQUEST_ID.clone(), id.clone());
    headers.insert(ACTIVITY_ID.clone(), id);
}

fn words(dialect: Dialect, problem: &Problem) -> (StatusCode, serde_json::Value) {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = match &problem.detail {
        Some(detail) => format!("{}; {detail}", problem.title),
        None => problem.title.clone(),
    };
    match dialect {
        Dialect::Plain => (status, json!(problem)),
        Dialect::Rest => (
            status,
            json!({ "message": text, "documentation_url": "", "status": status.as_str(), "request_id": problem.request_id }),
        ),
        // Any other status makes a runner go on without a token, after some repeats (`VssOAuthTokenHttpClient.cs`).
        Dialect::OAuth => {
            // `invalid_client` ends a runner for good, so it is said of nothing else.
            let error = match problem.kind.as_str() {
                kind::UNAUTHENTICATED | kind::RUNNER_OFFLINE => "invalid_client",
                kind::TOO_MANY_REQUESTS => "server_error",
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
    fn a_runner_that_comes_too_often_does_not_take_its_registration_for_deleted() {
        let often = ApiError::new(StatusCode::TOO_MANY_REQUESTS, kind::TOO_MANY_REQUESTS, "too many requests");
        let (status, body) = said(Dialect::OAuth, &often);
        assert_eq!((status, &body["error"]), (400, &json!("server_error")));
        for status in [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::METHOD_NOT_ALLOWED, StatusCode::REQUEST_TIMEOUT] {
            assert_eq!(said(Dialect::OAuth, &ApiError::new(status, kind::INVALID, "no")).1["error"], "invalid_request");
        }
    }

    #[test]
    fn each_path_has_the_dialect_of_its_clients_and_the_api_none() {
        for (path, dialect) in [
            ("/api/v3", Some(Dialect::Rest)),
            ("/api/v3/orgs/acme/nothing", Some(Dialect::Rest)),
            ("/api/graphql", Some(Dialect::Rest)),
            ("/_runner/oauth/token", Some(Dialect::OAuth)),
            ("/_runner/_apis/runtime/runnerscalesets", Some(Dialect::Vss)),
            ("/_runner/scalesets/message", Some(Dialect::Vss)),
            ("/_runner/message", Some(Dialect::Broker)),
            ("/_run/renewjob", Some(Dialect::RunService)),
            ("/_running", Some(Dialect::Plain)),
            ("/acme/app/info/refs", Some(Dialect::Plain)),
            ("/api/v1/runs", None),
            ("/healthz", None),
        ] {
            assert_eq!(Dialect::at(path), dialect, "{path}");
        }
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
