//! What happens because time passes: offers, leases and runners expire, and jobs run for too long.
//!
//! One timer sleeps until the earliest of all that. Whoever brings something about that is due before wakes it; that is
//! rare, since what is begun now mostly ends after what was begun before.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_protocol::ids::JobId;

use crate::App;

/// How much longer than its limit a job may run before the service steps in: its worker enforces the same limit.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// When running jobs must be stopped.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    of: HashMap<JobId, Deadline>,
    in_order: BTreeSet<(Timestamp, JobId)>,
}

/// When a running job must be stopped.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Timestamp,
    minutes: u32,
}

impl Deadlines {
    /// Sets a job's deadline; true when it is the next of all.
    fn set(&mut self, job: JobId, deadline: Deadline) -> bool {
        self.remove(job);
        self.of.insert(job, deadline);
        self.in_order.insert((deadline.at, job));
        self.in_order.first() == Some(&(deadline.at, job))
    }

    fn remove(&mut self, job: JobId) {
        if let Some(old) = self.of.remove(&job) {
            self.in_order.remove(&(old.at, job));
        }
    }

    /// Takes out those that have passed, with the minutes that were allowed, and says when the next one is.
    fn take_passed(&mut self, now: Timestamp) -> (Vec<(JobId, u32)>, Option<Timestamp>) {
        let mut passed = Vec::new();
        while let Some(&(at, job)) = self.in_order.first() {
            if at > now {
                return (passed, Some(at));
            }
            self.in_order.pop_first();
            passed.extend(self.of.remove(&job).map(|deadline| (job, deadline.minutes)));
        }
        (passed, None)
    }
}

impl App {
    /// Has a job stopped that runs for too long, if it is running since `started`.
    pub(crate) fn set_deadline(&self, job: JobId, started: Option<Timestamp>, minutes: u32) {
        let Some(started) = started else { return };
        let at = started + SignedDuration::from_mins(i64::from(minutes)) + GRACE;
        let is_next = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner).set(job, Deadline { at, minutes });
        if is_next {
            self.dispatch.timer.notify_one();
        }
    }

    pub(super) fn forget_deadline(&self, job: JobId) {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }

    /// Runs due expiries until the service stops: one timer for offers, leases, runners and jobs.
    pub(crate) async fn run_timer(self: Arc<Self>) {
        loop {
            let next = {
                let now = self.clock.now();
                let mut inner = self.dispatch.lock();
                let effects = inner.dispatcher.advance(now);
                self.apply(&mut inner, now, effects);
                inner.armed = inner.dispatcher.next_expiry();
                inner.armed
            };
            let overdue = self.stop_overdue();
            let next = match (next, overdue) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return self.dispatch.lock().close_polls(),
                () = self.dispatch.timer.notified() => {}
                () = async { match next {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                } } => {}
            }
        }
    }

    /// Asks jobs to stop that ran longer than they may; returns when the next one is due.
    fn stop_overdue(self: &Arc<Self>) -> Option<Timestamp> {
        let now = self.clock.now();
        let (overdue, next) = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner).take_passed(now);
        for (job, minutes) in overdue {
            let reason = format!("the job has exceeded the maximum execution time of {minutes} minutes");
            tracing::info!(job.id = %job, minutes, "job exceeded its time; telling it to stop");
            // The answer only tells of a failing database; the lease's own switch is thrown all the same.
            let answer = self.store.request_job_cancel(job, reason.clone());
            let app = Arc::clone(self);
            self.tasks.spawn(async move {
                if let Ok(Some(job)) = answer.await {
                    app.audit_job("job.overdue", &job, &[("minutes", &minutes)]);
                }
            });
            self.tell_to_stop(job, &reason);
        }
        next
    }

    /// Throws the switch of a running job: its renewals say so from now on, and a loss of its runner ends it.
    pub(crate) fn tell_to_stop(self: &Arc<Self>, job: JobId, reason: &str) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        self.leases.cancel(job, reason);
        let (_, effects) = inner.dispatcher.request_cancel(now, job);
        self.apply(&mut inner, now, effects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn set(deadlines: &mut Deadlines, job: i64, second: i64) -> bool {
        deadlines.set(JobId(job), Deadline { at: at(second), minutes: 7 })
    }

    #[test]
    fn only_a_deadline_before_all_others_wakes_the_timer() {
        let mut deadlines = Deadlines::default();
        assert!(set(&mut deadlines, 1, 50));
        assert!(!set(&mut deadlines, 2, 60));
        assert!(set(&mut deadlines, 3, 40));
        assert!(!set(&mut deadlines, 3, 70), "it has moved to the end");
        assert_eq!(deadlines.take_passed(at(0)), (vec![], Some(at(50))));
    }

    #[test]
    fn what_has_passed_is_told_once_and_in_order() {
        let mut deadlines = Deadlines::default();
        for (job, second) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
            set(&mut deadlines, job, second);
        }
        deadlines.remove(JobId(3));
        deadlines.remove(JobId(9));
        assert_eq!(deadlines.take_passed(at(30)), (vec![(JobId(2), 7), (JobId(1), 7)], Some(at(40))));
        assert_eq!(deadlines.take_passed(at(50)), (vec![(JobId(4), 7)], None));
        assert_eq!(deadlines.take_passed(at(50)), (vec![], None));
    }
}
