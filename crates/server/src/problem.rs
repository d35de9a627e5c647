//! The one error type of the routes: a status, a stable code, and text that a person can act on.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use startline_protocol::problem::{CONTENT_TYPE, Diagnostic, Problem, kind};
use startline_store::Error as StoreError;

/// An error answer under construction.
#[derive(Debug)]
pub(crate) struct ApiError {
    problem: Box<Problem>,
    retry_after: Option<u32>,
}

/// What routes return.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &str, title: impl Into<String>) -> Self {
        Self {
            problem: Box::new(Problem {
                kind: kind.to_owned(),
                title: title.into(),
                status: status.as_u16(),
                detail: None,
                request_id: None,
                offset: None,
                diagnostics: Vec::new(),
            }),
            retry_after: None,
        }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.problem.detail = Some(detail.into());
        self
    }

    pub(crate) fn invalid(title: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind::INVALID, title)
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, format!("there is no {what}"))
    }

    pub(crate) fn unauthenticated(title: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, kind::UNAUTHENTICATED, title)
    }

    pub(crate) fn unavailable(title: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind::UNAVAILABLE, title);
        error.retry_after = Some(1);
        error
    }

    pub(crate) fn stale(title: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind::STALE_EPOCH, title)
            .detail("the job was given to another runner or has ended; stop working on it")
    }

    pub(crate) const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Names the request that is answered so; the router's layer does it for all routes behind it.
    pub(crate) fn of_request(mut self, id: &HeaderValue) -> Self {
        self.problem.request_id = id.to_str().ok().map(str::to_owned);
        self
    }

    /// What the answer says.
    pub(crate) const fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The caller may not, now or ever; the fault is not the service's.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self.problem.status, 401 | 403 | 404 | 410)
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.problem.kind == kind::STALE_EPOCH
    }

    pub(crate) fn log_gap(wanted: u64) -> Self {
        let mut error = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            kind::LOG_GAP,
            format!("the log ends at byte {wanted}, before the start of this append"),
        )
        .detail("append again from the offset wanted");
        error.problem.offset = Some(wanted);
        error
    }

    pub(crate) fn not_triggered(reason: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind::NOT_TRIGGERED, format!("no run: {reason}"))
            .detail("leave `only_if_triggered` out to run it all the same")
    }

    pub(crate) fn workflow(diagnostics: Vec<Diagnostic>) -> Self {
        let mut error = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            kind::WORKFLOW_INVALID,
            format!("the workflow has {} mistake(s)", diagnostics.len()),
        );
        error.problem.diagnostics = diagnostics;
        error
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::TokenUnknown => Self::unauthenticated(text)
                .detail("mint a new one: `startline token registration`, or POST /api/v1/runners/registration-token"),
            StoreError::TokenRevoked | StoreError::TokenExpired => {
                Self::unauthenticated(text).detail("mint a new registration token")
            }
            StoreError::TokenExhausted(_) => Self::new(StatusCode::FORBIDDEN, kind::TOKEN_EXHAUSTED, text)
                .detail("mint a new registration token, with a higher `max_uses` if several runners share it"),
            StoreError::LabelNotAllowed(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind::LABEL_NOT_ALLOWED, text)
                    .detail("register without these labels, or with a token that allows them")
            }
            StoreError::LabelProtected(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind::LABEL_NOT_ALLOWED, text)
                .detail("register without these labels, or with a token whose `labels` name them"),
            StoreError::NoGroup { .. } => Self::invalid(text).detail("make the group first, or leave the group out"),
            StoreError::GroupInUse { .. } | StoreError::DefaultGroup => {
                Self::new(StatusCode::CONFLICT, kind::IN_USE, text)
            }
            StoreError::TooMany { .. } => Self::invalid(text).detail("delete some that are not needed any more"),
            StoreError::NameTaken(_) => Self::new(StatusCode::CONFLICT, kind::NAME_TAKEN, text)
                .detail("choose another name, or register with `replace` to take this one over"),
            StoreError::ScaleSetExists { .. } | StoreError::ArtifactExists(_) => {
                Self::new(StatusCode::CONFLICT, kind::NAME_TAKEN, text)
            }
            StoreError::RunnerGone(_) => Self::new(StatusCode::GONE, kind::RUNNER_OFFLINE, text)
                .detail("register again: `startline runner register`"),
            StoreError::StaleEpoch { .. } => Self::stale(text),
            StoreError::NoJob(_) | StoreError::NoRun(_) | StoreError::NoScaleSet(_) => {
                Self::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, text)
            }
            StoreError::Closed => Self::unavailable("the service is shutting down"),
            StoreError::Unusable(_) | StoreError::Engine { .. } => {
                tracing::error!(error = %text, "the store failed");
                Self::unavailable("the service cannot reach its database now")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&*self.problem)).into_response();
        response.extensions_mut().insert(*self.problem);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
