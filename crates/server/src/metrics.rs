//! What the service measures. Labels are bounded: never a name, an id or a repository.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use startline_dispatcher::{Braked, Gone, RequeueReason};
use startline_protocol::state::Conclusion;

use crate::dispatch::Dispatch;
use crate::limits::{LIMITS, Turns};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConclusionLabel {
    conclusion: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    plane: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistrationLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Cow<'static, str>,
    code: u32,
}

/// What is purged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PurgedKind {
    Runs,
    Jobs,
    Registrations,
    AuditLines,
}

impl PurgedKind {
    const ALL: [Self; 4] = [Self::Runs, Self::Jobs, Self::Registrations, Self::AuditLines];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Jobs => "jobs",
            Self::Registrations => "registrations",
            Self::AuditLines => "audit_lines",
        }
    }
}

/// The service's metrics; each is registered under the prefix `startline_`.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub polls_open: Gauge<i64, AtomicI64>,
    poll: Histogram,
    dispatch_latency: Histogram,
    queue: Histogram,
    duration: Histogram,
    completed: Family<ConclusionLabel, Counter>,
    requeued: Counter,
    offers_expired: Family<ReasonLabel, Counter>,
    lapsed: Counter,
    brake: Family<KindLabel, Counter>,
    registrations: Family<RegistrationLabels, Counter>,
    auth_failures: Family<FailureLabels, Counter>,
    limited: Family<LimitLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    purged: Family<KindLabel, Counter>,
    commit: Histogram,
    batch: Histogram,
}

const FAST: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
const SLOW: [f64; 10] = [0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10800.0, 21600.0];
const POLL: [f64; 9] = [0.01, 0.1, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
/// Why an offer ended: nobody acquired it within its window.
const WINDOW: &str = "window";
/// What a mass expiry was about.
const LEASES: &str = "leases";
const RUNNERS: &str = "runners";
/// Its runner fell silent.
const OFFLINE: &str = "runner_offline";
/// Its runner's registration was removed.
const REMOVED: &str = "runner_removed";
const BATCH: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

impl Metrics {
    /// Makes the metrics known to a registry that already carries the prefix.
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            polls_open: Gauge::default(),
            poll: Histogram::new(POLL),
            dispatch_latency: Histogram::new(FAST),
            queue: Histogram::new(SLOW),
            duration: Histogram::new(SLOW),
            completed: Family::default(),
            requeued: Counter::default(),
            offers_expired: Family::default(),
            lapsed: Counter::default(),
            brake: Family::default(),
            registrations: Family::default(),
            auth_failures: Family::default(),
            limited: Family::default(),
            requests: Family::default(),
            purged: Family::default(),
            commit: Histogram::new(FAST),
            batch: Histogram::new(BATCH),
        };
        let m = metrics.clone();
        registry.register("polls_open", "Long polls held open", m.polls_open);
        let seconds = |registry: &mut Registry, name, help, histogram: Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram);
        };
        seconds(
            registry,
            "dispatch_latency",
            "From queued to offered or leased, waiting for a runner included",
            m.dispatch_latency,
        );
        seconds(registry, "poll_duration", "From a poll being opened to its end, however it ended", m.poll);
        seconds(registry, "job_queue", "From queued to acquired", m.queue);
        seconds(registry, "job_duration", "From acquired to completed", m.duration);
        registry.register("jobs_completed", "Jobs completed", m.completed);
        registry.register("jobs_requeued", "Jobs returned to the queue, for whatever reason", m.requeued);
        registry.register("offers_expired", "Offers that ended without being acquired", m.offers_expired);
        registry.register("leases_lapsed", "Leases that ran out", m.lapsed);
        let help = "Mass expiries that were put off as the service's own fault";
        registry.register("brake", help, m.brake);
        registry.register("registrations", "Registrations of runners", m.registrations);
        registry.register("auth_failures", "Requests refused for their bearer", m.auth_failures);
        registry.register("rate_limited", "Requests refused because too many came", m.limited);
        registry.register("http_requests", "Requests answered, by route and status", m.requests);
        registry.register("purged", "What was purged because of its age", m.purged);
        seconds(registry, "store_commit", "Durable commits", m.commit);
        registry.register("store_batch_size", "Steps in one durable commit", m.batch);
        metrics.begin();
        Arc::new(metrics)
    }

    /// Shows counters of which the labels are known from the beginning, so that their first step is an increase.
    fn begin(&self) {
        for conclusion in [Conclusion::Success, Conclusion::Failure, Conclusion::Cancelled, Conclusion::Skipped] {
            drop(self.completed.get_or_create(&ConclusionLabel { conclusion: conclusion.as_str() }));
        }
        for reason in [WINDOW, OFFLINE, REMOVED] {
            drop(self.offers_expired.get_or_create(&ReasonLabel { reason }));
        }
        for kind in [LEASES, RUNNERS] {
            drop(self.brake.get_or_create(&KindLabel { kind }));
        }
        for kind in PurgedKind::ALL {
            drop(self.purged.get_or_create(&KindLabel { kind: kind.as_str() }));
        }
        for limit in LIMITS {
            drop(self.limited.get_or_create(&LimitLabel { limit }));
        }
    }

    /// A request was answered. `route` is as the router knows it, never as the caller wrote it.
    pub(crate) fn request(&self, route: Cow<'static, str>, code: StatusCode) {
        self.requests.get_or_create(&RequestLabels { route, code: code.as_u16().into() }).inc();
    }

    /// A poll ended, whatever with.
    pub(crate) fn poll_ended(&self, after: Duration) {
        self.poll.observe(after.as_secs_f64());
    }

    pub(crate) fn auth_failure(&self, reason: &'static str) {
        // The one front door that there is.
        self.auth_failures.get_or_create(&FailureLabels { plane: "api", reason }).inc();
    }

    pub(crate) fn registration(&self, ephemeral: bool, outcome: &'static str) {
        let kind = if ephemeral { "ephemeral" } else { "long_lived" };
        self.registrations.get_or_create(&RegistrationLabels { kind, outcome }).inc();
    }

    /// A mass expiry was put off.
    pub(crate) fn braked(&self, what: Braked) {
        let kind = match what {
            Braked::Leases => LEASES,
            Braked::Runners => RUNNERS,
        };
        self.brake.get_or_create(&KindLabel { kind }).inc();
    }

    /// A request was refused because of this limit.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&LimitLabel { limit }).inc();
    }

    /// So many of these were purged.
    pub(crate) fn purged(&self, kind: PurgedKind, count: u32) {
        self.purged.get_or_create(&KindLabel { kind: kind.as_str() }).inc_by(count.into());
    }

    pub(crate) fn commit(&self, took: Duration, batch: usize) {
        self.commit.observe(took.as_secs_f64());
        self.batch.observe(f64::from(u32::try_from(batch).unwrap_or(u32::MAX)));
    }

    pub(crate) fn assigned(&self, waited: Duration) {
        self.dispatch_latency.observe(waited.as_secs_f64());
    }

    pub(crate) fn acquired(&self, queued: Duration) {
        self.queue.observe(queued.as_secs_f64());
    }

    pub(crate) fn completed(&self, conclusion: Conclusion, ran: Option<Duration>) {
        self.completed.get_or_create(&ConclusionLabel { conclusion: conclusion.as_str() }).inc();
        if let Some(ran) = ran {
            self.duration.observe(ran.as_secs_f64());
        }
    }

    pub(crate) fn requeued(&self, reason: &RequeueReason) {
        self.requeued.inc();
        let expired = match reason {
            RequeueReason::OfferExpired { .. } => WINDOW,
            RequeueReason::OfferWithdrawn { why: Gone::Offline, .. } => OFFLINE,
            RequeueReason::OfferWithdrawn { why: Gone::Removed, .. } => REMOVED,
            RequeueReason::RunnerLost(_) => return self.lapsed(),
            RequeueReason::GivenBack { .. } => return,
        };
        self.offers_expired.get_or_create(&ReasonLabel { reason: expired }).inc();
    }

    pub(crate) fn lapsed(&self) {
        self.lapsed.inc();
    }
}

/// Gauges that are counted from the dispatcher's state when they are read, so that they cannot drift from it.
#[derive(Debug)]
pub(crate) struct Derived {
    dispatch: Arc<Dispatch>,
    turns: Arc<Turns>,
}

impl Derived {
    pub(crate) fn new(dispatch: &Arc<Dispatch>, turns: &Arc<Turns>) -> Self {
        Self { dispatch: Arc::clone(dispatch), turns: Arc::clone(turns) }
    }
}

impl Collector for Derived {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.dispatch.lock().dispatcher.stats();
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let jobs = Family::<StateLabel, Gauge>::default();
        for (state, value) in
            [("queued", stats.jobs_queued), ("offered", stats.jobs_offered), ("running", stats.jobs_running)]
        {
            jobs.get_or_create(&StateLabel { state }).set(count(value));
        }
        let runners = Family::<StatusLabel, Gauge>::default();
        for (status, value) in [
            ("online", stats.runners_online),
            ("busy", stats.runners_busy),
            ("draining", stats.runners_draining),
            ("offline", stats.runners_offline),
        ] {
            runners.get_or_create(&StatusLabel { status }).set(count(value));
        }
        let metric = encoder.encode_descriptor("jobs", "Jobs in the dispatcher by state", None, jobs.metric_type())?;
        jobs.encode(metric)?;
        let waiting = ConstGauge::new(count(self.turns.waiting()));
        let help = "Requests that wait for their tenant's turn";
        waiting.encode(encoder.encode_descriptor("turns_waiting", help, None, waiting.metric_type())?)?;
        let help = "Registered runners by status";
        let metric = encoder.encode_descriptor("runners", help, None, runners.metric_type())?;
        runners.encode(metric)
    }
}
