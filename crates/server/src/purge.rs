//! Purging of what is old: runs with their jobs, messages and logs, what is left of registrations, the audit log's first lines.
//!
//! A round goes on until nothing is due, in steps of some milliseconds. Behind each it pauses for three times as long as
//! that step kept the database's one writer, so that purging never has more than a quarter of the writer's time.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use startline_daemon::config::Period;
use startline_protocol::ids::RunnerId;
use startline_store::Purged;
use startline_store::logs::LogError;

use crate::App;
use crate::housekeeping::before;
use crate::metrics::PurgedKind;
use crate::problem::ApiError;

/// What is kept for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Between two rounds.
    pub every: Duration,
    /// Runs, from their end on; zero: for ever.
    pub runs: Period,
    /// Lines of the audit log; zero: for ever.
    pub audit: Period,
}

/// How long something is kept of a registration that was deleted, at most: its tokens ended long before.
const GONE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Pauses as long as what it follows are this many.
const PAUSES: u32 = 3;
/// The shortest pause.
const SHORTEST: Duration = Duration::from_millis(1);

/// Why a round ended early; the next one begins anew.
#[derive(Debug, thiserror::Error)]
enum PurgeError {
    #[error(transparent)]
    Store(#[from] startline_store::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the service stops")]
    Stopping,
}

/// What a round has done.
#[derive(Debug, Default)]
struct Done {
    runs: u32,
    jobs: u32,
    logs: u32,
    registrations: u32,
    lines: u32,
}

/// How long `period` says that something is kept; `None`: for ever.
fn kept_for(period: Period) -> Option<SignedDuration> {
    (!period.get().is_zero()).then(|| SignedDuration::try_from(period.get()).unwrap_or(SignedDuration::MAX))
}

impl App {
    /// Purges what is old until the service stops.
    pub(crate) async fn purge(self: Arc<Self>, limits: Limits) {
        loop {
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(limits.every) => {}
            }
            let mut done = Done::default();
            let ended = self.purge_round(limits, &mut done).await;
            let Done { runs, jobs, logs, registrations, lines } = done;
            if runs + jobs + registrations + lines > 0 {
                tracing::info!(
                    runs,
                    jobs,
                    logs,
                    registrations,
                    audit.lines = lines,
                    "purged what is older than is kept"
                );
            }
            match ended {
                Ok(()) => {}
                Err(PurgeError::Stopping) => return,
                Err(error) => tracing::warn!(%error, "what is old is purged in the next round"),
            }
        }
    }

    async fn purge_round(&self, limits: Limits, done: &mut Done) -> Result<(), PurgeError> {
        let now = self.clock.now();
        let mut runs = kept_for(limits.runs).map(|age| (before(now, age), None));
        let gone = kept_for(limits.runs).map_or(GONE, |age| age.min(GONE));
        let mut registrations = Some(0);
        let mut lines = kept_for(limits.audit).map(|age| before(now, age));
        // In turn, so that none waits for the end of the others.
        while runs.is_some() || registrations.is_some() || lines.is_some() {
            if let Some((before, from)) = runs.take() {
                let part = self.store.due_runs(before, from).await?;
                runs = part.next.map(|next| (before, Some(next)));
                if !part.jobs.is_empty() || !part.runs.is_empty() {
                    // First the files: what a crash leaves then is found again by its rows.
                    done.logs += self.logs.remove_all(part.jobs.clone()).await?;
                    let purged = self.store.purge_runs(before, part).await?;
                    (done.runs, done.jobs) = (done.runs + purged.count, done.jobs + purged.jobs);
                    self.metrics.purged(PurgedKind::Runs, purged.count);
                    self.metrics.purged(PurgedKind::Jobs, purged.jobs);
                    self.pause(&purged).await?;
                }
            }
            if let Some(after) = registrations.take() {
                let purged = self.store.purge_runners(before(now, gone), RunnerId(after)).await?;
                registrations = purged.next;
                done.registrations += purged.count;
                self.metrics.purged(PurgedKind::Registrations, purged.count);
                self.pause(&purged).await?;
            }
            if let Some(before) = lines.take() {
                let purged = self.store.purge_audit(before, now).await?;
                lines = purged.next.map(|_| before);
                done.lines += purged.count;
                self.metrics.purged(PurgedKind::AuditLines, purged.count);
                self.pause(&purged).await?;
            }
        }
        Ok(())
    }

    /// Leaves the writer to others.
    async fn pause(&self, step: &Purged) -> Result<(), PurgeError> {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(PurgeError::Stopping),
            () = tokio::time::sleep((step.took * PAUSES).max(SHORTEST)) => Ok(()),
        }
    }

    /// Whether a run that ended then is kept no more: it counts as gone from that moment on, purged or not yet.
    pub(crate) fn is_past(&self, completed_at: Option<Timestamp>) -> bool {
        let Some(age) = kept_for(self.config.run_retention) else { return false };
        completed_at.is_some_and(|at| at < before(self.clock.now(), age))
    }

    /// There is no such run or job, perhaps any more.
    pub(crate) fn not_kept(&self, what: impl std::fmt::Display) -> ApiError {
        let missing = ApiError::not_found(what);
        let period = self.config.run_retention;
        if kept_for(period).is_none() {
            return missing;
        }
        missing.detail(format!("a run is kept for {period} after its end (--run-retention), with its jobs and logs"))
    }
}
