//! Requests to the object store, one try each: who waits for how long, and what an answer means.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use crate::blobs::Chunks;

/// The longest document that is read: a list of 1000 objects has less.
const LONGEST_DOCUMENT: usize = 4 << 20;

/// Why the object store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such object, or no such upload.
    Absent,
    /// The range begins behind the object's end.
    Beyond,
    /// The next try may go better: no connection, a cut, silence, too many requests, a fault of the store.
    Passing(String),
    /// It stays so until somebody changes something: rights, names, keys.
    Lasting(String),
}

impl Failure {
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Passing(_))
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Absent => "it is not there".to_owned(),
            Self::Beyond => "it ends before that".to_owned(),
            Self::Passing(text) | Self::Lasting(text) => text,
        }
    }
}

/// Bytes to send, and how many there are.
pub(super) struct Sent {
    pub(super) chunks: Chunks,
    pub(super) length: u64,
}

/// Sends requests over pooled connections.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, UnsyncBoxBody<Bytes, io::Error>>,
    patience: Duration,
}

impl Http {
    /// A client that gives up on a peer that does nothing for `patience`.
    pub(super) fn new(patience: Duration) -> io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(patience));
        connector.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(15))
            .build(connector);
        Ok(Self { client, patience })
    }

    /// Sends a request once; an answer that is no success is a failure.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        sent: Option<Sent>,
    ) -> Result<Response<Incoming>, Failure> {
        let progress = Arc::new(AtomicU64::new(0));
        let length = sent.as_ref().map(|sent| sent.length);
        let is_body_wanted = matches!(method, Method::PUT | Method::POST);
        let body = match sent {
            Some(sent) => {
                let progress = Arc::clone(&progress);
                let frames = sent.chunks.map(move |piece| {
                    progress.fetch_add(1, Ordering::Relaxed);
                    piece.map(Frame::data)
                });
                StreamBody::new(frames).boxed_unsync()
            }
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        };
        let mut request = Request::builder().method(method).uri(url.as_str());
        if is_body_wanted {
            request = request.header(header::CONTENT_LENGTH, length.unwrap_or_default());
        }
        let mut request = request.body(body).map_err(|error| Failure::Lasting(error.to_string()))?;
        request.headers_mut().extend(headers);
        let answer = self.client.request(request);
        tokio::pin!(answer);
        let mut seen = 0;
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer.map_err(|error| Failure::Passing(chain(&error)))?,
                () = tokio::time::sleep(self.patience) => {
                    let now = progress.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(self.silence());
                    }
                    seen = now;
                }
            }
        };
        if answer.status().is_success() { Ok(answer) } else { Err(self.failure(answer).await) }
    }

    fn silence(&self) -> Failure {
        Failure::Passing(format!("it was silent for {} s", self.patience.as_secs_f32()))
    }

    /// The next bytes of an answer.
    pub(super) async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = tokio::time::timeout(self.patience, body.frame()).await.map_err(|_| self.silence())?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::Passing(chain(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// A short document as a whole.
    pub(super) async fn document(&self, mut body: Incoming) -> Result<String, Failure> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next(&mut body).await? {
            all.extend_from_slice(&bytes);
            if all.len() > LONGEST_DOCUMENT {
                return Err(Failure::Lasting(format!("its answer has more than {LONGEST_DOCUMENT} bytes")));
            }
        }
        String::from_utf8(all).map_err(|_| Failure::Lasting("its answer is not text".to_owned()))
    }

    async fn failure(&self, answer: Response<Incoming>) -> Failure {
        let status = answer.status();
        // Why it was refused is good to know, and no more.
        let document = self.document(answer.into_body()).await.unwrap_or_default();
        refusal(status, &document)
    }
}

/// What an answer means that is no success, or a success whose document says otherwise.
pub(super) fn refusal(status: StatusCode, document: &str) -> Failure {
    let code = element(document, "Code").unwrap_or_default();
    let why = [code, element(document, "Message").unwrap_or_default()].into_iter().filter(|text| !text.is_empty());
    let why = why.collect::<Vec<_>>().join(": ");
    let text = if why.is_empty() {
        format!("it answered {}", status.as_u16())
    } else {
        format!("it answered {} ({why})", status.as_u16())
    };
    match (status.as_u16(), code) {
        (404, "NoSuchBucket") => Failure::Lasting(text),
        (404, _) => Failure::Absent,
        (416, _) => Failure::Beyond,
        (408 | 425 | 429 | 500 | 502..=504 | 509, _)
        | (_, "RequestTimeout" | "SlowDown" | "InternalError" | "OperationAborted") => Failure::Passing(text),
        _ => Failure::Lasting(text),
    }
}

/// The text of the first element of this name; error documents are flat.
fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_tried_again_only_where_that_may_help() {
        let error = |status, code: &str| {
            let document = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>why</Message></Error>");
            refusal(StatusCode::from_u16(status).unwrap(), &document)
        };
        for (status, code) in [(500, "InternalError"), (503, "SlowDown"), (400, "RequestTimeout"), (429, "")] {
            assert!(error(status, code).is_passing(), "{status} {code}");
        }
        for (status, code) in [(403, "AccessDenied"), (404, "NoSuchBucket"), (400, "InvalidPart"), (301, "")] {
            assert!(matches!(error(status, code), Failure::Lasting(_)), "{status} {code}");
        }
        assert_eq!(error(404, "NoSuchKey"), Failure::Absent);
        assert_eq!(error(404, "NoSuchUpload"), Failure::Absent);
        assert_eq!(refusal(StatusCode::NOT_FOUND, ""), Failure::Absent, "a HEAD has no document");
        assert_eq!(error(403, "AccessDenied").text(), "it answered 403 (AccessDenied: why)");
        assert!(refusal(StatusCode::OK, "<Error><Code>InternalError</Code></Error>").is_passing());
    }
}
