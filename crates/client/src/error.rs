//! Why a call failed, and whether trying again can help.

use std::error::Error as StdError;
use std::time::Duration;

use startline_protocol::problem::{Problem, kind};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service, or something in front of it, answered with an error.
    #[error("{}", problem_text(url, problem))]
    Problem {
        /// HTTP status of the answer.
        status: u16,
        /// What was asked.
        url: String,
        /// What the answer says. Its `kind` is empty when the answer was no `application/problem+json`, which means
        /// that something between this program and the service spoke.
        problem: Box<Problem>,
        /// How long the service asks to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// No connection; the request was not sent.
    #[error("cannot connect to {origin}: {cause}; is `startline server` running there?")]
    Connect {
        /// Scheme, host and port.
        origin: String,
        /// What the system says.
        cause: String,
    },
    /// The connection broke while the request or the answer was under way; the service may have acted.
    #[error("the connection to {url} broke: {cause}")]
    Transport {
        /// What was asked.
        url: String,
        /// What the system says.
        cause: String,
    },
    /// No answer in time; the service may have acted.
    #[error("no answer from {url} within {} s", after.as_secs_f32())]
    Timeout {
        /// What was asked.
        url: String,
        /// The call's deadline.
        after: Duration,
    },
    /// The answer is not what the protocol says.
    #[error("cannot read the answer of {url}: {cause}; is that address a Startline server of this version?")]
    Decode {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// An argument of the caller cannot be used; nothing was sent.
    #[error("{what}")]
    Invalid {
        /// What is wrong, naming the value and the remedy.
        what: String,
    },
}

impl Error {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Problem { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            Self::Connect { .. } | Self::Transport { .. } | Self::Timeout { .. } => true,
            Self::Decode { .. } | Self::Invalid { .. } => false,
        }
    }

    /// Whether the service is known not to have acted on the request: it was never sent, or it was turned away at
    /// the door. Only then may a request be repeated whose repetition does harm.
    #[must_use]
    pub fn was_refused_unprocessed(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Problem { status: 429, .. } => true,
            // A 503 of a proxy says nothing about what the service did; its own is answered instead of acting.
            Self::Problem { status: 503, problem, .. } => problem.kind == kind::UNAVAILABLE,
            _ => false,
        }
    }

    /// Whether the job is no longer this caller's: its lease or token is gone for good, and nothing that it reports
    /// will be accepted.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Problem { status: 401, .. } => true,
            Self::Problem { problem, .. } => matches!(&*problem.kind, kind::STALE_EPOCH | kind::NOT_FOUND),
            _ => false,
        }
    }

    /// The stable code of the service's answer, one of [`startline_protocol::problem::kind`].
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.problem().map(|problem| &*problem.kind).filter(|kind| !kind.is_empty())
    }

    /// HTTP status of the answer, when there was one that said no.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Problem { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The service's answer in full.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// How long the service asks to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }
}

fn problem_text(url: &str, problem: &Problem) -> String {
    let mut text = format!("{} ({} from {url}", problem.title, problem.status);
    if let Some(id) = &problem.request_id {
        text.push_str(", request ");
        text.push_str(id);
    }
    text.push(')');
    if let Some(detail) = &problem.detail {
        text.push_str("; ");
        text.push_str(detail);
    }
    text
}

/// The innermost cause of `error`, which is the one that names what happened.
pub(crate) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, kind: &str) -> Error {
        Error::Problem {
            status,
            url: "http://host/api".into(),
            problem: Box::new(Problem {
                kind: kind.into(),
                title: "job 7 is no longer yours".into(),
                status,
                detail: Some("stop the job".into()),
                request_id: Some("abc".into()),
                offset: None,
                diagnostics: Vec::new(),
            }),
            retry_after: None,
        }
    }

    #[test]
    fn a_stale_lease_is_told_from_an_outage() {
        assert!(problem(409, kind::STALE_EPOCH).is_stale());
        assert!(problem(401, kind::UNAUTHENTICATED).is_stale());
        assert!(problem(404, kind::NOT_FOUND).is_stale());
        assert!(!problem(404, "").is_stale(), "a proxy whose backend is gone answers 404 too");
        assert!(!problem(503, kind::UNAVAILABLE).is_stale());
        assert!(problem(503, kind::UNAVAILABLE).is_transient());
        assert!(!problem(409, kind::NAME_TAKEN).is_transient());
    }

    #[test]
    fn only_a_request_that_cannot_have_been_processed_counts_as_refused() {
        assert!(Error::Connect { origin: String::new(), cause: String::new() }.was_refused_unprocessed());
        assert!(problem(503, kind::UNAVAILABLE).was_refused_unprocessed());
        assert!(!problem(503, "").was_refused_unprocessed());
        assert!(!Error::Transport { url: String::new(), cause: String::new() }.was_refused_unprocessed());
    }

    #[test]
    fn a_problem_is_told_with_its_title_its_origin_and_its_remedy() {
        assert_eq!(
            problem(409, kind::STALE_EPOCH).to_string(),
            "job 7 is no longer yours (409 from http://host/api, request abc); stop the job"
        );
    }
}
