//! Whether the process is alive and ready, and the routes that say so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::metrics::{self, Exposition};
use crate::serve::Drain;

/// What `/readyz` answers from: ready while every component says so and no drain has begun. A copy is the same one.
#[derive(Clone, Debug)]
pub struct Health {
    drain: Drain,
    /// Component → why it is not ready; `None` when it is.
    components: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Health {
    /// Without components: ready until `drain` begins.
    #[must_use]
    pub fn new(drain: &Drain) -> Self {
        Self { drain: drain.clone(), components: Arc::default() }
    }

    /// Adds a component, which is not ready (`starting`) until it says so through the answer.
    ///
    /// A name that is already there is the same component, starting again.
    #[must_use]
    pub fn component(&self, name: &'static str) -> Readiness {
        let readiness = Readiness { health: self.clone(), name };
        readiness.not_ready("starting");
        readiness
    }

    /// Why the process is not ready, a line each; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_draining() {
            reasons.push("draining".to_owned());
        }
        let components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.extend(components.iter().filter_map(|(name, reason)| Some(format!("{name}: {}", reason.as_ref()?))));
        reasons
    }
}

/// One component's say in whether the process is ready. A copy speaks for the same component.
#[derive(Clone, Debug)]
pub struct Readiness {
    health: Health,
    name: &'static str,
}

impl Readiness {
    /// The component can do its work.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The component cannot do its work at the moment; `reason` is shown to whoever asks, so it names no secret.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.health.components.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name, reason);
    }
}

/// `GET /healthz` (200 while the process can answer at all), `GET /readyz` (200, or 503 with the reasons) and
/// `GET /metrics` (`OpenMetrics` text).
///
/// To merge into a router, or to serve alone on a port that is not public.
pub fn health_router<S>(health: Health, metrics: Exposition) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/healthz", get(|| async { plain(StatusCode::OK, "ok\n".to_owned()) }))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(exposition).with_state(metrics))
}

async fn ready(State(health): State<Health>) -> Response {
    let reasons = health.reasons();
    if reasons.is_empty() {
        plain(StatusCode::OK, "ready\n".to_owned())
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", reasons.join("\n")))
    }
}

async fn exposition(State(metrics): State<Exposition>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()).into_response()
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], text).into_response()
}
