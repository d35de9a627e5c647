//! Whether the database takes what is written: asked when somebody asks whether the service is ready, and at most once a
//! second, so that nobody makes the disk busy by asking.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use startline_daemon::Readiness;
use startline_store::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// How long a commit may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The database, as far as readiness goes.
#[derive(Clone)]
pub(crate) struct Database {
    store: Arc<dyn Store>,
    readiness: Readiness,
    /// When it was asked last. Held while it is asked.
    asked: Arc<Mutex<Option<Instant>>>,
}

impl Database {
    /// Ready: the store has just been opened.
    pub(crate) fn new(store: &Arc<dyn Store>, readiness: Readiness) -> Self {
        readiness.ready();
        Self { store: Arc::clone(store), readiness, asked: Arc::default() }
    }

    /// Writes a probe. Whoever asks meanwhile waits for the answer.
    async fn ask(&self) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        match tokio::time::timeout(PATIENCE, self.store.probe()).await {
            Ok(Ok(())) => self.readiness.ready(),
            Ok(Err(error)) => {
                tracing::error!(%error, "the database does not take what is written");
                self.readiness.not_ready("a commit failed");
            }
            Err(_) => {
                tracing::error!(seconds = PATIENCE.as_secs(), "the database does not answer");
                self.readiness.not_ready(format!("a commit takes longer than {} s", PATIENCE.as_secs()));
            }
        }
        *asked = Some(Instant::now());
    }
}

/// Asks the database before `/readyz` is answered.
pub(crate) async fn ask(State(database): State<Database>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/readyz" {
        database.ask().await;
    }
    next.run(request).await
}
