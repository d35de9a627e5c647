//! Traces: finished spans, handed to a collector over OTLP (HTTP, protobuf).
//!
//! A span is a record that is made when what it tells of is over, so that nothing has to stay open for it. Whoever
//! records one hands it to a bounded queue and goes on; what the queue or the collector does not take is dropped and
//! counted. Without a collector a [`Tracer`] samples nothing, and nothing is made.

mod context;
mod export;
mod headers;
mod wire;

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

pub use context::TraceContext;
pub use export::{Collector, EndpointError, Exporter};
pub use headers::{CollectorHeaders, NotAHeader};

/// Most spans that wait for the collector.
const QUEUE: usize = 4096;

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work inside the service.
    Internal,
    /// The answer to somebody's request.
    Server,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// Whole number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Something that took its time and is over.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace that it is in, and its own id.
    pub context: TraceContext,
    /// The span that it is a part of.
    pub parent: Option<[u8; 8]>,
    /// What happened, in few different words.
    pub name: Cow<'static, str>,
    /// What it is of.
    pub kind: Kind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is known of it. Never a token or the value of a secret.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it counts as failed.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabel {
    reason: &'static str,
}

/// What became of spans, for the registry. A copy counts into the same metrics.
#[derive(Clone, Debug, Default)]
pub struct TraceMetrics {
    exported: Counter,
    dropped: Family<DropLabel, Counter>,
}

impl TraceMetrics {
    /// New metrics in `registry`, with its prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("trace_spans_exported", "Spans that the collector has taken", metrics.exported.clone());
        let help = "Spans that were dropped, by reason: queue_full, collector, shutdown";
        registry.register("trace_spans_dropped", help, metrics.dropped.clone());
        for reason in ["queue_full", "collector", "shutdown"] {
            metrics.drop(reason, 0);
        }
        metrics
    }

    fn drop(&self, reason: &'static str, spans: usize) {
        self.dropped.get_or_create(&DropLabel { reason }).inc_by(spans as u64);
    }
}

/// Where finished spans go. A copy is the same one.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<Span>,
    /// Traces that begin here are sampled when their number is below this; all of them where there is none.
    below: Option<u64>,
    metrics: TraceMetrics,
}

impl Tracer {
    /// Samples nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// A tracer and what exports for it. `ratio` of the traces that begin here are sampled, from 0 to 1; of those that
    /// begin elsewhere, the ones that are sampled there.
    #[must_use]
    pub fn new(collector: Collector, ratio: f64, metrics: TraceMetrics) -> (Self, Exporter) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let queue = Queue { spans: sender, below: below(ratio), metrics: metrics.clone() };
        (Self(Some(Arc::new(queue))), Exporter::new(collector, receiver, metrics))
    }

    /// The context of a new span under `parent`, or of a new trace; nothing where it is not sampled.
    #[must_use]
    pub fn begin(&self, parent: Option<&TraceContext>) -> Option<TraceContext> {
        let queue = self.0.as_ref()?;
        if let Some(parent) = parent {
            return parent.sampled.then(|| parent.child());
        }
        let context = TraceContext::random();
        queue.below.is_none_or(|below| context.number() < below).then_some(context)
    }

    /// Whether anything is exported.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands a span over, or drops and counts it where too many wait already. Never waits.
    pub fn record(&self, span: Span) {
        if let Some(queue) = &self.0
            && queue.spans.try_send(span).is_err()
        {
            queue.metrics.drop("queue_full", 1);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the ratio is within 0 and 1")]
fn below(ratio: f64) -> Option<u64> {
    // 2^64, which a float can say.
    (ratio < 1.0).then(|| (ratio.max(0.0) * 18_446_744_073_709_551_616.0) as u64)
}

#[cfg(test)]
mod tests;
