//! The calls of a worker and its runner about one job.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{CompleteRequest, JobUrls, LogOffset, RenewRequest, RenewResponse, StatusRequest};
use startline_protocol::token::JobToken;

use crate::call::{Call, DEADLINE, HELD_DEADLINE};
use crate::error::Error;
use crate::retry::Retry;
use crate::transport::Transport;

/// A log append may carry a megabyte over a slow line.
const APPEND_DEADLINE: Duration = Duration::from_secs(120);

/// Speaks for one assignment of one job. Clones are cheap.
///
/// Every report is level-triggered or carries its offset, so a repeat does no harm: transient failures are retried
/// without end, because a job must outlast any outage of the service. Dropping the future ends the tries. A failure
/// that comes back is final; [`Error::is_stale`] tells whether the job is no longer the caller's.
#[derive(Clone, Debug)]
pub struct JobClient {
    transport: Transport,
    urls: JobUrls,
    token: JobToken,
    trace: Option<HeaderValue>,
    reports: Retry,
    renewals: Retry,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The service holds everything before `offset`.
    Stored {
        /// Where the next append starts.
        offset: u64,
    },
    /// Bytes before the append are missing; nothing was stored.
    Gap {
        /// Where the service wants the next append to start.
        wanted: u64,
    },
}

impl JobClient {
    /// A client for the assignment that `urls` and `token` came with.
    #[must_use]
    pub const fn new(transport: Transport, urls: JobUrls, token: JobToken) -> Self {
        Self { transport, urls, token, trace: None, reports: Retry::ENDLESS, renewals: Retry::RENEWAL }
    }

    /// Sends this `traceparent` with every call, so that they are parts of the job's trace; what is none is left out.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: Option<&str>) -> Self {
        self.trace = traceparent.and_then(|text| HeaderValue::from_str(text).ok());
        self
    }

    /// Retries all calls as `retry` says instead.
    #[must_use]
    pub const fn with_retry(mut self, retry: Retry) -> Self {
        self.reports = retry;
        self.renewals = retry;
        self
    }

    /// Extends the lease, and hears of a cancel: with `wait_seconds` the answer is held until there is one.
    ///
    /// Cancel-safe: the lease is extended when the request arrives.
    ///
    /// # Errors
    /// See [`JobClient`].
    pub async fn renew(&self, request: &RenewRequest) -> Result<RenewResponse, Error> {
        let held = Duration::from_secs(request.wait_seconds.into());
        let call = self.post(&self.urls.renew)?.json(request)?.deadline(held + HELD_DEADLINE);
        self.renewals.run(Error::is_transient, || call.receive(&self.transport)).await
    }

    /// Reports all steps as they stand.
    ///
    /// # Errors
    /// See [`JobClient`].
    pub async fn update_job_status(&self, request: &StatusRequest) -> Result<(), Error> {
        let call = self.post(&self.urls.status)?.json(request)?;
        self.reports.run(Error::is_transient, || call.done(&self.transport)).await
    }

    /// Appends `bytes` to the log at `offset`. Appends of up to a megabyte are welcome anywhere; an empty one asks
    /// nothing.
    ///
    /// # Errors
    /// See [`JobClient`].
    pub async fn append_log(&self, offset: u64, bytes: Bytes) -> Result<AppendOutcome, Error> {
        if bytes.is_empty() {
            return Ok(AppendOutcome::Stored { offset });
        }
        let last = offset + bytes.len() as u64 - 1;
        let range = HeaderValue::from_str(&format!("bytes {offset}-{last}/*"))
            .map_err(|error| Error::invalid(format!("cannot name the range of a log append: {error}")))?;
        let call = self
            .call(Method::PATCH, &self.urls.logs)?
            .header(header::CONTENT_RANGE, range)
            .body(bytes, HeaderValue::from_static("text/plain; charset=utf-8"))
            .deadline(APPEND_DEADLINE);
        match self.reports.run(Error::is_transient, || call.receive::<LogOffset>(&self.transport)).await {
            Ok(LogOffset { offset }) => Ok(AppendOutcome::Stored { offset }),
            Err(error) => match (error.kind(), error.problem().and_then(|problem| problem.offset)) {
                (Some(kind::LOG_GAP), Some(wanted)) => Ok(AppendOutcome::Gap { wanted }),
                _ => Err(error),
            },
        }
    }

    /// Ends the job. An exact repeat is answered like the first time.
    ///
    /// # Errors
    /// See [`JobClient`].
    pub async fn complete_job(&self, request: &CompleteRequest) -> Result<(), Error> {
        let call = self.post(&self.urls.complete)?.json(request)?.deadline(2 * DEADLINE);
        self.reports.run(Error::is_transient, || call.done(&self.transport)).await
    }

    fn post(&self, url: &str) -> Result<Call, Error> {
        self.call(Method::POST, url)
    }

    fn call(&self, method: Method, url: &str) -> Result<Call, Error> {
        let call = Call::new(method, url).bearer(self.token.expose())?;
        Ok(match &self.trace {
            Some(trace) => call.header(HeaderName::from_static("traceparent"), trace.clone()),
            None => call,
        })
    }
}
