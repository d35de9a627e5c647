//! From the queue to the collector.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CollectorHeaders, Span, TraceMetrics, wire};

/// Most spans in one request.
const BATCH: usize = 512;
/// How long a batch is filled.
const LINGER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before a batch is sent again; after the last one it is dropped.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// How long what is left may take when the service stops.
const LAST: Duration = Duration::from_secs(3);

/// The collector's address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL of HTTP.
    #[error("`{0}` is not a URL; write it like http://127.0.0.1:4318")]
    Url(String),
    /// The system's authorities cannot be read.
    #[error("the system's certificate authorities cannot be read: {0}")]
    Roots(#[source] std::io::Error),
}

/// Whom spans are sent to, and as whose.
#[derive(Debug)]
pub struct Collector {
    traces: Uri,
    headers: CollectorHeaders,
    service: String,
    version: &'static str,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Collector {
    /// The collector at `endpoint`, to which `/v1/traces` is added.
    ///
    /// # Errors
    /// When the endpoint is no URL of HTTP, or is one of HTTPS and the system trusts no authority.
    pub fn new(
        endpoint: &str,
        headers: CollectorHeaders,
        service: String,
        version: &'static str,
    ) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Url(endpoint.to_owned());
        let traces: Uri = format!("{}/v1/traces", endpoint.trim_end_matches('/')).parse().map_err(|_| wrong())?;
        let builder = HttpsConnectorBuilder::new();
        let builder = match traces.scheme_str() {
            Some("https") => builder.with_native_roots().map_err(EndpointError::Roots)?,
            Some("http") => builder.with_tls_config(
                rustls::ClientConfig::builder()
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth(),
            ),
            _ => return Err(wrong()),
        };
        let client = Client::builder(TokioExecutor::new()).build(builder.https_or_http().enable_http1().build());
        Ok(Self { traces, headers, service, version, client })
    }

    /// Sends a request once.
    async fn send(&self, body: Bytes) -> Result<(), Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.traces.clone();
        *request.headers_mut() = self.headers.map().clone();
        let kind = http::HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        match tokio::time::timeout(TIMEOUT, self.client.request(request)).await {
            Err(_) => Err(Failure { may_pass: true, text: "no answer in time".to_owned() }),
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                Err(Failure { may_pass: true, text: format!("{error}{cause}") })
            }
            // The answer's body only says how many it did not like.
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => {
                let may_pass = matches!(
                    answer.status(),
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                );
                Err(Failure { may_pass, text: format!("it answered {}", answer.status()) })
            }
        }
    }
}

struct Failure {
    /// The same again may succeed.
    may_pass: bool,
    text: String,
}

/// Takes spans out of the queue and sends them, a batch at a time.
#[derive(Debug)]
pub struct Exporter {
    collector: Collector,
    spans: mpsc::Receiver<Span>,
    metrics: TraceMetrics,
    /// The last batch could not be sent; said once.
    failing: bool,
}

impl Exporter {
    pub(super) const fn new(collector: Collector, spans: mpsc::Receiver<Span>, metrics: TraceMetrics) -> Self {
        Self { collector, spans, metrics, failing: false }
    }

    /// Exports until `stop`, then what is there, for at most three seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = fill(&mut self.spans, &mut batch) => {}
            }
            if batch.is_empty() {
                // Nobody is left who could record any.
                return;
            }
            if !self.deliver(&batch, &stop).await {
                break;
            }
            batch.clear();
        }
        self.spans.close();
        let until = tokio::time::Instant::now() + LAST;
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let body = self.body(&batch);
            match tokio::time::timeout_at(until, self.collector.send(body)).await {
                Ok(Ok(())) => self.took(&batch),
                _ => self.metrics.drop("shutdown", batch.len()),
            }
            batch.clear();
        }
    }

    fn body(&self, batch: &[Span]) -> Bytes {
        wire::request(&self.collector.service, self.collector.version, batch).into()
    }

    fn took(&mut self, batch: &[Span]) {
        self.metrics.exported.inc_by(batch.len() as u64);
        if std::mem::take(&mut self.failing) {
            tracing::info!("the trace collector takes spans again");
        }
    }

    /// Sends a batch, again where that may help; false when the service stops meanwhile and the batch is still here.
    async fn deliver(&mut self, batch: &[Span], stop: &CancellationToken) -> bool {
        let body = self.body(batch);
        let mut pauses = PAUSES.into_iter();
        loop {
            let sent = tokio::select! {
                biased;
                sent = self.collector.send(body.clone()) => sent,
                () = stop.cancelled() => return false,
            };
            let Err(failure) = sent else {
                self.took(batch);
                return true;
            };
            if !std::mem::replace(&mut self.failing, true) {
                tracing::warn!(error = failure.text, "the trace collector does not take spans; some will be dropped");
            }
            let Some(pause) = pauses.next().filter(|_| failure.may_pass) else {
                self.metrics.drop("collector", batch.len());
                return true;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Waits for a first span, then for as many as come soon. Cancel safe: what is there is in `batch`.
async fn fill(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    if spans.recv_many(batch, BATCH).await == 0 {
        return;
    }
    let full = async { while batch.len() < BATCH && spans.recv_many(batch, BATCH - batch.len()).await > 0 {} };
    // What has come by then is sent.
    drop(tokio::time::timeout(LINGER, full).await);
}
