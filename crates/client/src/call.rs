//! One request and what its answer means.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use startline_protocol::problem::{self, Problem};

use crate::error::{Error, root_cause};
use crate::transport::{BoxError, ResponseBody, Transport};

/// How long an ordinary call may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What a held call may take beyond the time that it asked to be held.
pub(crate) const HELD_DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer that is read into memory: a job message with all its steps stays far below.
const LARGEST_ANSWER: usize = 64 << 20;

/// The largest error answer; the diagnostics of a big workflow file fit.
const LARGEST_PROBLEM: usize = 4 << 20;

/// Where a service is, and how to get there.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) transport: Transport,
    base: String,
}

impl Service {
    /// `base` may have a path prefix; a slash at its end makes no difference.
    pub(crate) fn new(transport: Transport, base: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::invalid(format!("{base:?} is not the address of a server: {why}; write it as http://host:port"))
        };
        let uri: http::Uri = base.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(bad("it must begin with http:// or https://"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("it names no host"));
        }
        if uri.query().is_some() {
            return Err(bad("it must not have a query"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad("it must not carry a user name or password"));
        }
        Ok(Self { transport, base: base.trim_end_matches('/').to_owned() })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }
}

/// A request that can be sent any number of times.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    url: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    deadline: Duration,
}

impl Call {
    pub(crate) fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: Bytes::new(), deadline: DEADLINE }
    }

    pub(crate) fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    pub(crate) fn post(url: impl Into<String>) -> Self {
        Self::new(Method::POST, url)
    }

    pub(crate) fn bearer(self, token: &str) -> Result<Self, Error> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::invalid("the token holds characters that no token has; was it copied whole?"))?;
        value.set_sensitive(true);
        Ok(self.header(header::AUTHORIZATION, value))
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body).map_err(|error| Error::invalid(format!("cannot write JSON: {error}")))?;
        Ok(self.body(bytes.into(), HeaderValue::from_static("application/json")))
    }

    pub(crate) fn body(mut self, body: Bytes, content_type: HeaderValue) -> Self {
        self.body = body;
        self.header(header::CONTENT_TYPE, content_type)
    }

    pub(crate) const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends once and returns as soon as the answer's head is there and says success.
    pub(crate) async fn begin(&self, transport: &Transport) -> Result<Response<ResponseBody>, Error> {
        self.in_time(self.exchange(transport)).await
    }

    /// Sends once and reads the answer as JSON.
    pub(crate) async fn receive<T: DeserializeOwned>(&self, transport: &Transport) -> Result<T, Error> {
        let (_, body) = self.collect(transport).await?;
        self.decode(&body)
    }

    /// Sends once and reads the answer as JSON, or as nothing when it is a 204.
    pub(crate) async fn receive_optional<T: DeserializeOwned>(
        &self,
        transport: &Transport,
    ) -> Result<Option<T>, Error> {
        let (status, body) = self.collect(transport).await?;
        if status == StatusCode::NO_CONTENT { Ok(None) } else { self.decode(&body).map(Some) }
    }

    /// Sends once; what a successful answer says is of no interest.
    pub(crate) async fn done(&self, transport: &Transport) -> Result<(), Error> {
        self.collect(transport).await.map(drop)
    }

    /// Sends once and reads the whole answer.
    pub(crate) async fn collect(&self, transport: &Transport) -> Result<(StatusCode, Bytes), Error> {
        self.in_time(async {
            let (head, body) = self.exchange(transport).await?.into_parts();
            let bytes = read(body, LARGEST_ANSWER).await.map_err(|error| self.broken(&*error))?;
            Ok((head.status, bytes))
        })
        .await
    }

    /// Sends once and reads the whole answer, also one that says which parts of the request cannot be done (422, 429 with
    /// JSON of its own).
    pub(crate) async fn answer(&self, transport: &Transport) -> Result<(StatusCode, Bytes), Error> {
        self.in_time(async {
            let response = transport.send(self.request(transport)?).await.map_err(|error| self.failed(&error))?;
            let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let own = kind.is_some_and(|kind| kind.starts_with("application/json"));
            let partly = matches!(response.status(), StatusCode::UNPROCESSABLE_ENTITY | StatusCode::TOO_MANY_REQUESTS);
            if !(response.status().is_success() || partly && own) {
                return Err(self.problem(response).await);
            }
            let (head, body) = response.into_parts();
            let bytes = read(body, LARGEST_ANSWER).await.map_err(|error| self.broken(&*error))?;
            Ok((head.status, bytes))
        })
        .await
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| Error::Decode { url: self.url.clone(), cause: error.to_string() })
    }

    async fn in_time<T>(&self, exchange: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { url: self.url.clone(), after: self.deadline }),
        }
    }

    async fn exchange(&self, transport: &Transport) -> Result<Response<ResponseBody>, Error> {
        let response = transport.send(self.request(transport)?).await.map_err(|error| self.failed(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    fn request(&self, transport: &Transport) -> Result<Request<Bytes>, Error> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&*self.url)
            .header(header::USER_AGENT, transport.user_agent())
            // One a try, so that each line in the service's log is one request.
            .header("x-request-id", uuid::Uuid::new_v4().to_string());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.clone()).map_err(|error| Error::invalid(format!("cannot ask {}: {error}", self.url)))
    }

    fn failed(&self, error: &BoxError) -> Error {
        let error: &(dyn std::error::Error + 'static) = &**error;
        let mut cause = Some(error);
        while let Some(inner) = cause {
            if let Some(Error::Invalid { what }) = inner.downcast_ref::<Error>() {
                return Error::invalid(what.clone());
            }
            cause = inner.source();
        }
        if never_sent(error) {
            Error::Connect { origin: origin(&self.url), cause: root_cause(error) }
        } else {
            self.broken(error)
        }
    }

    pub(crate) fn broken(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::Transport { url: self.url.clone(), cause: root_cause(error) }
    }

    /// What an answer that is no success says.
    async fn problem(&self, response: Response<ResponseBody>) -> Error {
        let (head, body) = response.into_parts();
        let status = head.status;
        let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        let retry_after = text(header::RETRY_AFTER).and_then(|value| parse_retry_after(value, Timestamp::now()));
        let is_problem = text(header::CONTENT_TYPE).is_some_and(|value| value.starts_with(problem::CONTENT_TYPE));
        let mut parsed = None;
        if is_problem && let Ok(body) = read(body, LARGEST_PROBLEM).await {
            parsed = serde_json::from_slice::<Problem>(&body).ok();
        }
        let problem = parsed.unwrap_or_else(|| Problem {
            kind: String::new(),
            title: format!("the answer is {status} without an explanation"),
            status: status.as_u16(),
            detail: Some("is there a proxy in between, or another program at this address?".to_owned()),
            request_id: text(HeaderName::from_static("x-request-id")).map(str::to_owned),
            offset: None,
            diagnostics: Vec::new(),
        });
        Error::Problem { status: status.as_u16(), url: self.url.clone(), problem: Box::new(problem), retry_after }
    }
}

/// The whole body, unless it is longer than `limit`.
async fn read(mut body: ResponseBody, limit: usize) -> Result<Bytes, BoxError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(format!("the answer is longer than {limit} bytes").into());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Whether the failure happened before any byte of a request was written.
fn never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()) {
            return true;
        }
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Scheme, host and port of `url`.
fn origin(url: &str) -> String {
    match url.parse::<http::Uri>() {
        Ok(uri) => format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("", |a| a.as_str())),
        Err(_) => url.to_owned(),
    }
}

/// RFC 9110, section 10.2.3: seconds or a date.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport() -> Transport {
        Transport::from_service(tower::service_fn(|_| async { Err::<Response<String>, _>("no network") }))
    }

    #[test]
    fn a_base_address_may_have_a_prefix_and_a_slash() {
        let service = Service::new(transport(), "https://host:1/startline/").unwrap();
        assert_eq!(service.url("/api/v1/runs"), "https://host:1/startline/api/v1/runs");
        for bad in ["", "host", "ftp://host", "http://", "http://host?x=1", "http://user:pw@host"] {
            assert!(Service::new(transport(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        assert_eq!(parse_retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
    }

    #[tokio::test]
    async fn a_token_with_a_line_break_is_refused_without_being_shown() {
        let Err(error) = Call::get("http://host/").bearer("slp_secret\n") else { panic!("accepted") };
        assert!(!error.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_call_ends_at_its_deadline() {
        let silent = tower::service_fn(|_| std::future::pending::<Result<Response<String>, BoxError>>());
        let call = Call::get("http://host/").deadline(Duration::from_millis(20));
        let error = call.done(&Transport::from_service(silent)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert_eq!(error.to_string(), "no answer from http://host/ within 0.02 s");
    }
}
