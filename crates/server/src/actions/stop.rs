//! How long a cancelled job may take. A runner kills a worker that does not stop, and then says nothing more of the job
//! (actions/runner `JobDispatcher.cs`), so the service ends the job itself some time later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_dispatcher::GiveBack;
use startline_protocol::ids::{Epoch, JobId};
use uuid::Uuid;

use crate::App;

/// What a runner is given to stop where nothing is known of the job; it kills the worker 15 s before the end.
const TIMEOUT: SignedDuration = SignedDuration::from_mins(5);
/// What the service waits beyond that for a completion.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Jobs that official runners hold.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    held: Mutex<HashMap<JobId, Held>>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    epoch: Epoch,
    guid: Uuid,
    /// `cancel-timeout-minutes` of the job.
    timeout: SignedDuration,
    /// When the runner's time to stop is over.
    stop_by: Option<Timestamp>,
}

impl Stops {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes under which GUID a runner knows its job, and how long that may take to stop. A repeat changes nothing.
    pub(crate) fn acquired(&self, job: JobId, epoch: Epoch, guid: Uuid, minutes: u32) {
        let mut held = self.lock();
        if held.get(&job).is_none_or(|known| known.epoch != epoch) {
            let timeout = SignedDuration::from_mins(i64::from(minutes));
            held.insert(job, Held { epoch, guid, timeout, stop_by: None });
        }
    }

    /// Forgets a job that has ended or gone to somebody else.
    pub(crate) fn ended(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// The GUID under which the runner knows its job.
    pub(super) fn guid(&self, job: JobId, epoch: Epoch) -> Option<Uuid> {
        self.lock().get(&job).filter(|held| held.epoch == epoch).map(|held| held.guid)
    }

    /// What is left of the time to stop, which begins with the first question; and whether this was that.
    fn stop_within(&self, job: JobId, epoch: Epoch, now: Timestamp) -> Option<(SignedDuration, bool)> {
        let mut held = self.lock();
        let held = held.get_mut(&job).filter(|held| held.epoch == epoch)?;
        let first = held.stop_by.is_none();
        let end = now.saturating_add(held.timeout).unwrap_or(Timestamp::MAX);
        let stop_by = *held.stop_by.get_or_insert(end);
        Some((stop_by.duration_since(now).max(SignedDuration::ZERO), first))
    }
}

impl App {
    /// How long the job may still take to stop. The first call starts the time, at whose end the job is concluded.
    pub(super) fn stop_within(self: &Arc<Self>, job: JobId, epoch: Epoch) -> SignedDuration {
        let now = self.clock.now();
        let Some((left, first)) = self.actions.stops.stop_within(job, epoch, now) else { return TIMEOUT };
        if first {
            let app = Arc::clone(self);
            let end = now + left + GRACE;
            self.tasks.spawn(async move {
                tokio::select! {
                    () = app.drain.cancelled() => {}
                    () = app.clock.sleep_until(end) => app.end_cancelled(job, epoch),
                }
            });
        }
        left
    }

    /// Concludes a cancelled job whose runner said nothing more of it.
    fn end_cancelled(self: &Arc<Self>, job: JobId, epoch: Epoch) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        if let Ok(effects) = inner.dispatcher.give_back(now, job, epoch, GiveBack::RunnerFailed) {
            tracing::warn!(job.id = %job, "a cancelled job's runner did not say that it ended; concluded");
            self.apply(&mut inner, now, effects);
        }
        drop(inner);
        self.actions.stops.ended(job);
    }
}

/// `hh:mm:ss`, as .NET reads a time span.
pub(super) fn clock_text(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_cancel_carry_the_time_that_is_left() {
        let stops = Stops::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        stops.acquired(JobId(1), Epoch(2), Uuid::nil(), 5);
        stops.acquired(JobId(7), Epoch(1), Uuid::nil(), 1);
        assert_eq!(stops.stop_within(JobId(7), Epoch(1), at(0)), Some((SignedDuration::from_mins(1), true)));
        assert_eq!(stops.stop_within(JobId(1), Epoch(2), at(0)), Some((TIMEOUT, true)));
        assert_eq!(stops.stop_within(JobId(1), Epoch(2), at(50)), Some((SignedDuration::from_secs(250), false)));
        assert_eq!(stops.stop_within(JobId(1), Epoch(2), at(900)), Some((SignedDuration::ZERO, false)));
        assert_eq!(stops.stop_within(JobId(1), Epoch(3), at(0)), None, "another assignment");
    }

    #[test]
    fn a_time_span_is_written_as_dotnet_reads_it() {
        assert_eq!(clock_text(SignedDuration::from_mins(5)), "00:05:00");
        assert_eq!(clock_text(SignedDuration::from_secs(3725)), "01:02:05");
    }
}
