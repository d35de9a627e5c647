//! A job that a parked poll takes in the step that makes it: one commit for the submission and the lease.
//!
//! The dispatcher decides when the step is executed, on the writer's thread, and the poll hears of it when the commit is
//! there. If there is none, the job is forgotten before the writer goes on, so that its id is free again
//! (docs/decisions/042-submission-and-lease-in-one-step.md).

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use startline_dispatcher::{Assignment, Requirement};
use startline_store::{Error, JobOutline, JobRecord, TakenJob, Taker, Taking};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Arrival, spec};
use crate::auth::Origin;
use crate::{App, audit};

/// A lease that was decided with its submission.
struct Direct {
    app: Arc<App>,
    assignment: Assignment,
    /// To the poll; `None` when that went away in the same moment.
    poll: Option<oneshot::Sender<Arrival>>,
}

/// Where the lease of a submission lies, once both are durable.
#[derive(Clone, Default)]
pub(crate) struct Landing(Arc<Mutex<Option<(Direct, TakenJob)>>>);

impl Landing {
    /// Takes the lease, if there is one; without it the job is to be queued.
    pub(crate) fn take(&self) -> Option<Landed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(direct, taken)| Landed { direct, taken })
    }
}

/// A durable lease on its way to the poll.
pub(crate) struct Landed {
    direct: Direct,
    taken: TakenJob,
}

impl Landed {
    /// Hands the job to the poll; where that is gone, the job goes into the queue.
    pub(crate) fn deliver(self) {
        let Direct { app, assignment, poll } = self.direct;
        let (job, epoch) = (assignment.job, assignment.epoch);
        let current = app.dispatch.lock().dispatcher.job(job).and_then(|job| job.assignment);
        if current.is_none_or(|current| current.epoch != epoch) {
            // Its runner was removed meanwhile. The poll ends without a job.
            return;
        }
        let arrival = Arrival { assignment, taken: Some(Box::new(self.taken)) };
        let arrived = poll.is_some_and(|poll| poll.send(arrival).is_ok());
        if !arrived {
            app.give_back(job, epoch);
        }
    }
}

impl App {
    /// Lets a parked poll take the job of a submission in the step that makes it, and says where that lease will lie.
    /// `None` when no poll would end with a lease.
    pub(crate) fn taker(self: &Arc<Self>, requirement: Arc<Requirement>) -> Option<(Taker, Landing)> {
        if !self.dispatch.lock().dispatcher.awaits_leases() {
            return None;
        }
        let landing = Landing::default();
        let (app, landed, runtime) = (Arc::clone(self), landing.clone(), Handle::current());
        let taker = Taker::new(move |job| {
            // Tasks that follow are the runtime's, and a panic must not end the writer.
            let _entered = runtime.enter();
            let decided = std::panic::catch_unwind(AssertUnwindSafe(|| app.lease_at_once(job, &requirement)));
            let direct =
                decided.inspect_err(|_| tracing::error!(job.id = %job.id, "a lease was not decided")).ok()??;
            let Assignment { epoch, runner, .. } = direct.assignment;
            let now = app.clock.now();
            let note = audit::acquired(runner, &Origin::default(), now);
            let outcome = Box::new(move |taken: Result<TakenJob, Error>| {
                let _entered = runtime.enter();
                match taken {
                    Ok(taken) => {
                        *landed.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((direct, taken));
                    }
                    Err(error) => direct.revoke(&error),
                }
            });
            Some(Taking { epoch, runner, now, note, outcome })
        });
        Some((taker, landing))
    }

    fn lease_at_once(self: &Arc<Self>, job: &JobRecord, requirement: &Arc<Requirement>) -> Option<Direct> {
        let spec = spec(job.run_id, &JobOutline::from(job), requirement);
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        let (poll, assignment) = inner.dispatcher.enqueue_leased(now, &spec)?;
        let poll = inner.polls.remove(&poll);
        drop(inner);
        // Before anybody can ask that it stop.
        self.leases.begin(assignment.job, assignment.epoch, None);
        Some(Direct { app: Arc::clone(self), assignment, poll })
    }
}

impl Direct {
    /// Goes back to before the decision; the poll ends without a job and its runner asks again.
    fn revoke(self, error: &Error) {
        let Self { app, assignment: Assignment { job, epoch, runner, .. }, poll } = self;
        tracing::warn!(job.id = %job, runner.id = %runner, %error, "a lease that was decided with its submission was not written");
        app.leases.end(job);
        let now = app.clock.now();
        let mut inner = app.dispatch.lock();
        match inner.dispatcher.revoke(now, job, epoch) {
            Ok(effects) => app.apply(&mut inner, now, effects),
            Err(error) => tracing::debug!(%error, "a lease was over before it was revoked"),
        }
        drop(poll);
    }
}
