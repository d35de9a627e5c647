//! A poll's place in the dispatcher.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use startline_dispatcher::{Assignment, PollId, PollOutcome};
use startline_protocol::ids::RunnerId;
use startline_protocol::problem::kind;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::App;
use crate::dispatch::Arrival;
use crate::problem::{ApiError, ApiResult};
use crate::routes::gone;

/// A poll that is in the dispatcher; taken out when it is dropped, and a job that arrived meanwhile goes back.
pub(crate) struct OpenPoll {
    pub(super) app: Arc<App>,
    runner: RunnerId,
    id: PollId,
    /// Where the assignment arrives; closed when there will be none. `None` once it has arrived.
    receiver: Option<oneshot::Receiver<Arrival>>,
}

impl Drop for OpenPoll {
    fn drop(&mut self) {
        self.app.metrics.polls_open.dec();
        let Some(mut receiver) = self.receiver.take() else { return };
        let arrived = {
            let mut inner = self.app.dispatch.lock();
            inner.close_poll(self.id);
            inner.dispatcher.abort_poll(self.id);
            // A lease that is durable is sent without this lock: from here on that fails, and it knows.
            receiver.close();
            receiver.try_recv().ok()
        };
        if let Some(Arrival { assignment, .. }) = arrived {
            self.app.give_back(assignment.job, assignment.epoch);
        }
    }
}

/// A poll without a job yet: everything that is kept of it while it waits.
pub(crate) struct Parked {
    pub(super) open: OpenPoll,
    deadline: Pin<Box<Sleep>>,
    /// What was asked for; with the deadline it tells since when the poll is open.
    seconds: u8,
}

impl Drop for Parked {
    fn drop(&mut self) {
        let left = self.deadline.deadline().saturating_duration_since(Instant::now());
        let open = Duration::from_secs(self.seconds.into()).saturating_sub(left);
        self.open.app.metrics.poll_ended(open);
    }
}

/// When polls end: all that end at about the same time do so together. An end costs the service little, being woken for
/// it costs as much again, and so it does at the other side, which begins anew at once.
#[derive(Debug)]
pub(crate) struct Ends {
    begin: Instant,
}

impl Ends {
    /// What lies between two ends.
    const STEP: Duration = Duration::from_millis(16);
    /// Polls that are shorter end when they should.
    const LONG: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self { begin: Instant::now() }
    }

    /// The end of a poll of this length: not before its time.
    fn at(&self, now: Instant, timeout: Duration) -> Instant {
        let end = now + timeout;
        if timeout < Self::LONG {
            return end;
        }
        let beyond = end.saturating_duration_since(self.begin).as_nanos() % Self::STEP.as_nanos();
        let beyond = Duration::from_nanos(u64::try_from(beyond).unwrap_or_default());
        if beyond.is_zero() { end } else { end + (Self::STEP - beyond) }
    }
}

/// How a poll began.
pub(crate) enum Begun {
    Assigned(Assignment),
    Parked(Parked),
}

impl Parked {
    /// Asks the dispatcher for a job, and opens the poll if there is none now.
    pub(crate) fn begin(app: &Arc<App>, runner: RunnerId, timeout: Duration, auto_acquire: bool) -> ApiResult<Begun> {
        let deadline = app.polls_end.at(Instant::now(), timeout);
        let seconds = u8::try_from(timeout.as_secs()).unwrap_or(u8::MAX);
        let (outcome, open) = {
            let now = app.clock.now();
            let mut inner = app.dispatch.lock();
            let (id, receiver) = inner.open_poll();
            let (outcome, effects) = inner.dispatcher.poll(now, runner, id, auto_acquire);
            if outcome != PollOutcome::Parked {
                inner.close_poll(id);
            }
            app.apply(&mut inner, now, effects);
            (outcome, (id, receiver))
        };
        match outcome {
            PollOutcome::Assigned(assignment) => {
                app.metrics.poll_ended(Duration::ZERO);
                Ok(Begun::Assigned(assignment))
            }
            PollOutcome::Parked => {
                app.metrics.polls_open.inc();
                let (id, receiver) = open;
                let open = OpenPoll { app: Arc::clone(app), runner, id, receiver: Some(receiver) };
                Ok(Begun::Parked(Self { open, deadline: Box::pin(tokio::time::sleep_until(deadline)), seconds }))
            }
            PollOutcome::UnknownRunner => Err(gone(runner)),
            PollOutcome::NoFreeSlot | PollOutcome::Spent => {
                Err(ApiError::new(StatusCode::CONFLICT, kind::RUNNER_BUSY, "the runner holds as many jobs as it takes")
                    .detail("finish a job first, or register with a higher `max_parallel_jobs`"))
            }
        }
    }

    /// What the wait ends with; `None` is no job.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<ApiResult<Option<Arrival>>> {
        let open = &mut self.open;
        let Some(receiver) = open.receiver.as_mut() else { return Poll::Ready(Ok(None)) };
        match Pin::new(receiver).poll(cx) {
            Poll::Ready(Ok(arrival)) => {
                open.receiver = None;
                return Poll::Ready(Ok(Some(arrival)));
            }
            // Closed: the service drains, a newer poll of the runner takes this one's place, or the runner is gone.
            Poll::Ready(Err(_)) => {
                let still =
                    open.app.drain.is_cancelled() || open.app.dispatch.lock().dispatcher.runner(open.runner).is_some();
                return Poll::Ready(if still { Ok(None) } else { Err(gone(open.runner)) });
            }
            Poll::Pending => {}
        }
        self.deadline.as_mut().poll(cx).map(|()| Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_polls_end_together_and_not_before_their_time() {
        let ends = Ends::new();
        let at = |micros| ends.begin + Duration::from_micros(micros);
        let minute = Duration::from_secs(60);
        for micros in [0, 1, 999, 15_999, 16_000, 16_001, 31_999, 3_600_000_123, 400 * 86_400_000_000 + 7] {
            let end = ends.at(at(micros), minute);
            let over = end - (at(micros) + minute);
            assert!(over < Ends::STEP, "{micros}: {over:?}");
            assert_eq!((end - ends.begin).as_nanos() % Ends::STEP.as_nanos(), 0, "{micros}");
        }
        assert_eq!(ends.at(at(5), Duration::from_secs(4)), at(4_000_005));
    }
}
