//! What the service clears away by itself: registrations that nobody stands behind any more, and tokens long dead.
//!
//! Driven by one timer on the service's clock. Each round is bounded; what is left over waits for the next one.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use startline_daemon::config::Period;
use startline_protocol::ids::RunnerId;
use startline_protocol::state::RunnerStatus;

use crate::App;

/// When what is cleared away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Between two rounds.
    pub every: std::time::Duration,
    /// An ephemeral runner without a job and without a sign of life.
    pub ephemeral_idle: SignedDuration,
    /// Any other runner without a sign of life.
    pub runner_retention: SignedDuration,
    /// A job that no runner took.
    pub queue_timeout: Period,
}

/// How long a token is listed after its end.
const TOKEN_RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How many signs of life are written in one step. Others wait for that step, so it is a short one: a millisecond or so.
const SEEN_AT_ONCE: usize = 128;

/// The moment that is `age` ago.
pub(crate) fn before(now: Timestamp, age: SignedDuration) -> Timestamp {
    now.saturating_sub(age).unwrap_or(Timestamp::MIN)
}

impl App {
    /// Keeps house until the service stops.
    pub(crate) async fn keep_house(self: Arc<Self>, limits: Limits) {
        let mut written = Timestamp::MIN;
        loop {
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(limits.every) => {}
            }
            if let Err(error) = self.write_signs_of_life(&mut written).await {
                tracing::warn!(%error, "when runners were last seen is written in the next round");
            }
            if let Err(error) = self.clear(limits).await {
                tracing::warn!(%error, "housekeeping goes on in the next round");
            }
            if let Err(error) = self.give_up_waiting(limits.queue_timeout).await {
                tracing::warn!(%error, "jobs that wait for too long are looked at again in the next round");
            }
            if let Err(error) = self.clear_storage(self.clock.now()).await {
                tracing::warn!(%error, "clearing of artifacts and caches goes on in the next round");
            }
        }
    }

    /// Writes down what came since `written`, and moves that. Signs of life are kept in memory; written, they outlive a
    /// restart.
    async fn write_signs_of_life(&self, written: &mut Timestamp) -> Result<(), startline_store::Error> {
        let now = self.clock.now();
        let seen: Vec<_> = self.dispatch.lock().dispatcher.seen_since(*written).collect();
        for few in seen.chunks(SEEN_AT_ONCE) {
            self.store.touch_runners(few.to_vec()).await?;
        }
        *written = now;
        Ok(())
    }

    async fn clear(self: &Arc<Self>, limits: Limits) -> Result<(), startline_store::Error> {
        let now = self.clock.now();
        let ephemeral = self.store.expired_ephemeral_runners(before(now, limits.ephemeral_idle)).await?;
        self.remove_silent(ephemeral, before(now, limits.ephemeral_idle)).await?;
        let stale = self.store.stale_runners(before(now, limits.runner_retention)).await?;
        self.remove_silent(stale, before(now, limits.runner_retention)).await?;
        let purged = self.store.purge_tokens(before(now, TOKEN_RETENTION)).await?;
        if purged > 0 {
            tracing::info!(tokens = purged, "purged tokens that ended long ago");
        }
        Ok(())
    }

    /// Fails the jobs that have waited for a runner for longer than this.
    async fn give_up_waiting(self: &Arc<Self>, timeout: Period) -> Result<(), startline_store::Error> {
        let age = SignedDuration::try_from(timeout.get()).unwrap_or(SignedDuration::MAX);
        let since = before(self.clock.now(), age);
        let waiting = self.dispatch.lock().dispatcher.queued_since_before(since);
        for id in waiting {
            self.give_up(id, &format!("no runner took the job within {timeout} (--queue-timeout)")).await?;
        }
        Ok(())
    }

    /// Removes the registrations of those among `runners` that are offline and were last seen before `before`.
    async fn remove_silent(
        self: &Arc<Self>,
        runners: Vec<RunnerId>,
        before: Timestamp,
    ) -> Result<(), startline_store::Error> {
        for id in runners {
            let live = self.dispatch.lock().dispatcher.runner(id);
            if live.is_some_and(|live| live.status != RunnerStatus::Offline || live.last_seen_at >= before) {
                continue;
            }
            let Some(record) = self.store.runner(id).await? else { continue };
            if self.delete_runner(id).await? {
                tracing::info!(runner.id = %id, runner.name = record.name, "removed a runner that has not been seen for long");
                self.audit_own(
                    "runner.expire",
                    format_args!("runner:{id} ({})", record.name),
                    record.scope,
                    &[("ephemeral", &record.ephemeral)],
                );
            }
        }
        Ok(())
    }
}
