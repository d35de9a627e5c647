//! The calls of people and forges: runs, jobs, logs, runners; those of administrators are in `admin`.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use serde::de::DeserializeOwned;
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::runs_api::{
    Explanation, JobPage, JobRequest, JobView, RerunRequest, RunDetail, RunPage, RunnerPage, RunnerView, SubmitRequest,
};
use startline_protocol::state::JobStatus;
use startline_protocol::token::ApiToken;

use crate::call::{Call, HELD_DEADLINE, Service};
use crate::error::Error;
use crate::events::{EventFollow, EventOptions};
use crate::retry::Retry;
use crate::transport::Transport;

mod admin;
mod follow;
mod lines;

pub use admin::{AuditExport, AuditFilter};
pub use follow::LogFollow;

/// How long a whole log may take to arrive.
const LOG_DEADLINE: Duration = Duration::from_secs(300);

/// Administers the service and looks at what it does. Clones are cheap.
///
/// Calls that only read, and those whose repetition does no harm, are retried after transient failures.
#[derive(Clone, Debug)]
pub struct ApiClient {
    service: Service,
    token: ApiToken,
    retry: Retry,
}

impl ApiClient {
    /// A client of the service at `base_url`, which may have a path prefix.
    ///
    /// # Errors
    /// When `base_url` is no `http` or `https` address.
    pub fn new(transport: Transport, base_url: &str, token: ApiToken) -> Result<Self, Error> {
        Ok(Self { service: Service::new(transport, base_url)?, token, retry: Retry::BRIEF })
    }

    /// Retries as `retry` says instead of [`Retry::BRIEF`].
    #[must_use]
    pub const fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The service's address as given, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.service.base()
    }

    /// Submits a workflow. A repeat of the request makes nothing twice.
    ///
    /// # Errors
    /// `workflow-invalid` with all diagnostics when the file has mistakes; otherwise as every call.
    pub async fn submit_run(&self, request: &SubmitRequest) -> Result<RunDetail, Error> {
        self.once("/api/v1/runs", request).await
    }

    /// A run with its jobs. With `after_version` the answer is held until the run's version is another, or `timeout`
    /// (at most 60 s) has passed.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn run(&self, id: RunId, after_version: Option<u64>, timeout: Duration) -> Result<RunDetail, Error> {
        let mut path = format!("/api/v1/runs/{id}");
        let mut deadline = crate::call::DEADLINE;
        if let Some(version) = after_version {
            let held = timeout.min(Duration::from_secs(60));
            // The time is told in whole seconds.
            let _ = write!(path, "?after_version={version}&timeout_seconds={}", held.as_secs());
            deadline = held + HELD_DEADLINE;
        }
        let call = Call::get(self.service.url(&path)).bearer(self.token.expose())?.deadline(deadline);
        self.retry.run(Error::is_transient, || call.receive(&self.service.transport)).await
    }

    /// One page of runs, newest first.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn runs(&self, cursor: Option<&str>, limit: Option<u32>) -> Result<RunPage, Error> {
        self.get(&format!("/api/v1/runs{}", query(&[("cursor", cursor), ("limit", number(limit).as_deref())]))).await
    }

    /// Asks for a run to be cancelled; a repeat changes nothing.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn cancel_run(&self, id: RunId) -> Result<(), Error> {
        let url = self.service.url(&format!("/api/v1/runs/{id}/cancel"));
        let call = Call::post(url).bearer(self.token.expose())?;
        self.retry.run(Error::is_transient, || call.done(&self.service.transport)).await
    }

    /// Runs again what has ended: all of it, or only what failed. A repeat of the request makes nothing twice.
    ///
    /// # Errors
    /// `run-active` when it has not ended; otherwise as every call.
    pub async fn rerun_run(&self, id: RunId, request: RerunRequest) -> Result<RunDetail, Error> {
        self.once(&format!("/api/v1/runs/{id}/rerun"), &request).await
    }

    /// Submits one job without a workflow file. A repeat of the request makes nothing twice.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn submit_job(&self, request: &JobRequest) -> Result<JobView, Error> {
        self.once("/api/v1/jobs", request).await
    }

    /// Posts under a key of this call's own, under which the service acts once, however often it is asked.
    async fn once<T: DeserializeOwned>(&self, path: &str, request: &impl serde::Serialize) -> Result<T, Error> {
        let key = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).expect("a UUID can be a header");
        let call = Call::post(self.service.url(path)).bearer(self.token.expose())?.json(request)?;
        let call = call.header(HeaderName::from_static("idempotency-key"), key);
        self.retry.run(Error::is_transient, || call.receive(&self.service.transport)).await
    }

    /// One page of jobs, newest first, all or those with `status`.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn jobs(
        &self,
        status: Option<JobStatus>,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<JobPage, Error> {
        let query = query(&[
            ("status", status.map(JobStatus::as_str)),
            ("cursor", cursor),
            ("limit", number(limit).as_deref()),
        ]);
        self.get(&format!("/api/v1/jobs{query}")).await
    }

    /// A job with its steps.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn job(&self, id: JobId) -> Result<JobView, Error> {
        self.get(&format!("/api/v1/jobs/{id}")).await
    }

    /// Why a job waits.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn explain(&self, id: JobId) -> Result<Explanation, Error> {
        self.get(&format!("/api/v1/jobs/{id}/explain")).await
    }

    /// The log of a job as it stands: of `attempt`, or of the latest.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn job_log_text(&self, id: JobId, attempt: Option<u32>) -> Result<String, Error> {
        let path = format!("/api/v1/jobs/{id}/logs{}", query(&[("attempt", number(attempt).as_deref())]));
        let call = Call::get(self.service.url(&path))
            .bearer(self.token.expose())?
            .header(header::ACCEPT, HeaderValue::from_static("text/plain"))
            .deadline(LOG_DEADLINE);
        let (_, body) = self.retry.run(Error::is_transient, || call.collect(&self.service.transport)).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Follows a job and its log from `offset` of `attempt` (or of the current one) to the end, across cut
    /// connections and restarts of the service.
    #[must_use]
    pub fn follow_job_log(&self, id: JobId, offset: u64, attempt: Option<u32>) -> LogFollow {
        LogFollow::new(self.clone(), id, offset, attempt)
    }

    /// Follows what happens, as it happens, across cut connections and restarts of the service.
    #[must_use]
    pub fn events(&self, options: EventOptions) -> EventFollow {
        EventFollow::new(self.clone(), options)
    }

    pub(crate) const fn service(&self) -> &Service {
        &self.service
    }

    pub(crate) const fn retry(&self) -> Retry {
        self.retry
    }

    pub(crate) fn authorize(&self, call: Call) -> Result<Call, Error> {
        call.bearer(self.token.expose())
    }

    /// One page of runners.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn runners_page(&self, cursor: Option<&str>) -> Result<RunnerPage, Error> {
        self.get(&format!("/api/v1/runners{}", query(&[("cursor", cursor)]))).await
    }

    /// All runners.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn runners(&self) -> Result<Vec<RunnerView>, Error> {
        let mut page = self.runners_page(None).await?;
        let mut runners = page.runners;
        while let Some(cursor) = page.next_cursor {
            page = self.runners_page(Some(&cursor)).await?;
            runners.append(&mut page.runners);
        }
        Ok(runners)
    }

    /// A runner.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn runner(&self, id: RunnerId) -> Result<RunnerView, Error> {
        self.get(&format!("/api/v1/runners/{id}")).await
    }

    /// Removes a registration; with `force` even one that holds a job.
    ///
    /// # Errors
    /// `runner-busy` without `force`; otherwise as every call.
    pub async fn delete_runner(&self, id: RunnerId, force: bool) -> Result<(), Error> {
        let query = if force { "?force=true" } else { "" };
        let url = self.service.url(&format!("/api/v1/runners/{id}{query}"));
        let call = Call::new(Method::DELETE, url).bearer(self.token.expose())?;
        self.retry.run(Error::is_transient, || call.done(&self.service.transport)).await
    }

    /// Whether the service is up and ready. One try with a short deadline.
    ///
    /// # Errors
    /// When it is not.
    pub async fn health(&self) -> Result<(), Error> {
        let call = Call::get(self.service.url("/readyz")).deadline(Duration::from_secs(5));
        call.done(&self.service.transport).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let call = Call::get(self.service.url(path)).bearer(self.token.expose())?;
        self.retry.run(Error::is_transient, || call.receive(&self.service.transport)).await
    }
}

fn number(value: Option<u32>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// A query string of the parameters that have a value, with its question mark.
pub(crate) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&escaped(value));
    }
    text
}

/// `value` as one part of a path or a query (RFC 3986, section 2.3).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_only_what_was_given_and_is_escaped() {
        assert_eq!(query(&[("cursor", None), ("limit", None)]), "");
        assert_eq!(query(&[("cursor", Some("a&b=ü")), ("limit", Some("5"))]), "?cursor=a%26b%3D%C3%BC&limit=5");
    }
}
