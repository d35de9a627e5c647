//! The dispatcher, with the world attached: decisions are made under one lock, handed to the store in the order in
//! which they were made, and delivered to the polls that wait for them.
//!
//! The lock is never held across an await. A store command is sent when the method is called, so calling it under the
//! lock is what keeps the order; its answer is awaited outside.

mod direct;
mod offers;
mod timer;

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use startline_dispatcher::{
    Assignment, Dispatcher, Effect, GiveBack, JobSpec, LeaseError, LostEnd, LostPolicy, PollId, Requirement,
};
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::Conclusion;
use startline_store::{Demand, JobOutline, JobRecord, TakenJob};
use tokio::sync::{Notify, oneshot};

use crate::App;
use crate::actions::ScaleSets;
use crate::events::Hub;
use crate::problem::ApiResult;

pub(crate) use direct::Landing;
pub(crate) use offers::Offers;
pub(crate) use timer::Deadlines;

/// The dispatcher and the polls that wait for it.
#[derive(Debug)]
pub(crate) struct Dispatch {
    inner: Mutex<Inner>,
    /// Something expires before the timer looks.
    timer: Notify,
    /// There is an offer without a record.
    offers: Notify,
    events: Arc<Hub>,
    scale_sets: Arc<ScaleSets>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Inner {
    pub dispatcher: Dispatcher,
    pub offers: Offers,
    polls: HashMap<PollId, oneshot::Sender<Arrival>>,
    next_poll: u64,
    /// When the timer looks next.
    armed: Option<Timestamp>,
    /// The service drains: polls that are parked end at once.
    closed: bool,
}

/// What a parked poll ends with.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub assignment: Assignment,
    /// The job, of a lease that is durable already.
    pub taken: Option<Box<TakenJob>>,
}

impl From<Assignment> for Arrival {
    fn from(assignment: Assignment) -> Self {
        Self { assignment, taken: None }
    }
}

impl Dispatch {
    pub(crate) fn new(dispatcher: Dispatcher, events: Arc<Hub>, scale_sets: Arc<ScaleSets>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                dispatcher,
                offers: Offers::default(),
                polls: HashMap::new(),
                next_poll: 1,
                armed: None,
                closed: false,
            }),
            timer: Notify::new(),
            offers: Notify::new(),
            events,
            scale_sets,
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { inner, dispatch: self }
    }
}

/// The dispatcher, locked. What has become of runners and jobs is told before the lock is let go.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    inner: MutexGuard<'a, Inner>,
    dispatch: &'a Dispatch,
}

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let changed = self.inner.dispatcher.take_changed_runners();
        if !changed.is_empty() {
            self.dispatch.events.runners(&self.inner.dispatcher, &changed);
        }
        let jobs = self.inner.dispatcher.take_changed_jobs();
        if !jobs.is_empty() || !changed.is_empty() {
            self.dispatch.scale_sets.changed(&self.inner.dispatcher, &jobs, &changed);
        }
        // Most calls move expiries into the future, or add later ones: the timer sleeps on.
        let next = self.inner.dispatcher.next_expiry();
        if next.is_some_and(|next| self.inner.armed.is_none_or(|armed| next < armed)) {
            self.inner.armed = next;
            self.dispatch.timer.notify_one();
        }
    }
}

impl Inner {
    /// A fresh number for a poll, with the place where its assignment will arrive.
    pub(crate) fn open_poll(&mut self) -> (PollId, oneshot::Receiver<Arrival>) {
        let id = PollId(self.next_poll);
        self.next_poll += 1;
        let (sender, receiver) = oneshot::channel();
        if !self.closed {
            self.polls.insert(id, sender);
        }
        (id, receiver)
    }

    /// Ends all polls, and those to come unless there is a job for them at once.
    fn close_polls(&mut self) {
        self.closed = true;
        self.polls = HashMap::new();
    }

    /// Forgets a poll; nothing will arrive from now on.
    pub(crate) fn close_poll(&mut self, id: PollId) {
        self.polls.remove(&id);
    }
}

/// The dispatcher's view of a job; `requirement` is that of its demand.
pub(crate) fn spec(run: RunId, job: &JobOutline, requirement: &Arc<Requirement>) -> JobSpec {
    JobSpec {
        id: job.id,
        run,
        timeout_minutes: job.timeout_minutes,
        requirement: Arc::clone(requirement),
        priority: job.priority,
        sequence: job.id.0,
        attempt: job.attempt,
        epoch: job.epoch,
        queued_at: job.queued_at,
        on_runner_lost: LostPolicy::Requeue,
        requeues_left: job.requeues_left,
    }
}

/// What a job of this repository asks for, as the dispatcher takes it.
pub(crate) fn requirement(repository: &str, demand: &Demand) -> Arc<Requirement> {
    Arc::new(Requirement {
        labels: demand.labels.clone(),
        group: demand.group.clone(),
        repository: repository.to_owned(),
        trusted: demand.trusted,
    })
}

impl App {
    /// Puts durable jobs into the queue.
    pub(crate) fn enqueue<'a>(self: &Arc<Self>, jobs: impl IntoIterator<Item = &'a JobRecord>) {
        let of = |job: &JobRecord| {
            let outline = JobOutline::from(job);
            spec(job.run_id, &outline, &requirement(&job.repository, &outline.demand))
        };
        self.enqueue_specs(jobs.into_iter().map(of));
    }

    /// The same for what the dispatcher knows of jobs.
    pub(crate) fn enqueue_specs(self: &Arc<Self>, specs: impl IntoIterator<Item = JobSpec>) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        let (effects, refused) = inner.dispatcher.enqueue_all(now, specs);
        for error in refused {
            // Labels were checked when the job was made, so this is a job that is queued already.
            tracing::warn!(%error, "a job was not queued");
        }
        self.apply(&mut inner, now, effects);
    }

    /// Carries out what the dispatcher decided, in order, while the lock is held.
    pub(crate) fn apply(self: &Arc<Self>, inner: &mut Inner, now: Timestamp, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Assigned { poll, assignment } => {
                    let undelivered = match inner.polls.remove(&poll) {
                        Some(sender) => sender.send(assignment.into()).err().map(|arrival| arrival.assignment),
                        None => Some(assignment),
                    };
                    if let Some(assignment) = undelivered {
                        // The poll went away in the same moment; nothing was persisted for it yet.
                        let effects =
                            inner.dispatcher.give_back(now, assignment.job, assignment.epoch, GiveBack::Undelivered);
                        self.apply(inner, now, effects.unwrap_or_default());
                    }
                }
                Effect::PollClosed { poll, .. } => inner.close_poll(poll),
                Effect::Requeued { job, old_epoch, attempt, requeues_left, reason } => {
                    self.metrics.requeued(&reason);
                    self.leases.end(job);
                    self.actions.stops.ended(job);
                    self.forget_deadline(job);
                    tracing::info!(job.id = %job, attempt, %reason, "job returned to the queue");
                    self.record_offer_of(inner, job, old_epoch);
                    let answer = self.store.requeue(job, old_epoch, attempt, requeues_left, reason.to_string(), now);
                    let app = Arc::clone(self);
                    self.tasks.spawn(async move {
                        match answer.await {
                            Ok(job) => {
                                app.events.job(&job);
                                app.audit_job("job.requeue", &job, &[("reason", &reason), ("attempt", &attempt)]);
                                app.forget_deleted_runner(&job).await;
                                app.changes.bump(job.run_id);
                            }
                            // An assignment that was never persisted has nothing to be taken back.
                            Err(error) => tracing::debug!(%error, "a return to the queue was not written"),
                        }
                    });
                }
                Effect::Lost { job, epoch, reason, .. } => {
                    self.metrics.lapsed();
                    tracing::warn!(job.id = %job, %reason, "a job was lost with its runner");
                    let (conclusion, text) = match (reason.end, self.leases.cancel_reason(job)) {
                        (LostEnd::Cancelled, Some(asked)) => (Conclusion::Cancelled, asked),
                        (LostEnd::Cancelled, None) => (Conclusion::Cancelled, reason.to_string()),
                        _ => (Conclusion::Failure, reason.to_string()),
                    };
                    self.leases.end(job);
                    self.forget_deadline(job);
                    let answer = self.store.conclude(job, epoch, conclusion, text, now);
                    self.spawn_concluded(answer);
                }
                Effect::RunnerOffline { runner, .. } => {
                    tracing::info!(runner.id = %runner, "runner went offline");
                    self.audit_runner("runner.offline", runner, inner);
                }
                Effect::RunnerOnline { runner, .. } => {
                    tracing::info!(runner.id = %runner, "runner is online again");
                    self.audit_runner("runner.online", runner, inner);
                }
                Effect::Braked { what, .. } => {
                    self.metrics.braked(what);
                    tracing::error!(
                        ?effect,
                        "most leases or runners ran out at once; they were extended, as the fault is likely ours"
                    );
                }
            }
        }
    }

    /// Waits for the service's own conclusion of a job and goes on with its run.
    pub(crate) fn spawn_concluded(self: &Arc<Self>, answer: startline_store::Answer<JobRecord>) {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            match answer.await {
                Ok(job) => {
                    let reason = job.reason.clone().unwrap_or_default();
                    app.audit_job("job.lost", &job, &[("reason", &reason)]);
                    app.forget_deleted_runner(&job).await;
                    app.job_ended(&job, false);
                }
                Err(error) => tracing::warn!(%error, "a conclusion was not written"),
            }
        });
    }

    /// Takes the runner that had a job out of dispatch when its registration went with the job: it was ephemeral.
    async fn forget_deleted_runner(self: &Arc<Self>, job: &JobRecord) {
        if let Some(runner) = job.runner_id
            && matches!(self.store.runner(runner).await, Ok(None))
        {
            self.forget_spent_runner(runner);
        }
    }

    /// Takes an ephemeral runner out of dispatch that has had its job.
    pub(crate) fn forget_spent_runner(self: &Arc<Self>, runner: RunnerId) {
        self.audit_runner("runner.delete", runner, &self.dispatch.lock());
        self.forget_runner(runner);
    }

    /// Writes down what became of a job by the service's own doing.
    pub(crate) fn audit_job(self: &Arc<Self>, action: &'static str, job: &JobRecord, details: &[(&str, &dyn Display)]) {
        let scope = Scope::repository(&job.repository).unwrap_or_default();
        self.audit_own(action, format_args!("job:{}", job.id), scope, details);
    }

    /// Writes down what became of a runner by the service's own doing; nothing of one that is not there any more.
    fn audit_runner(self: &Arc<Self>, action: &'static str, runner: RunnerId, inner: &Inner) {
        if let Some(found) = inner.dispatcher.runner(runner) {
            self.audit_own(action, format_args!("runner:{runner} ({})", found.name), found.scope, &[]);
        }
    }

    /// What follows the end of a job, whoever ended it; also that of its run, where that ended in the same step.
    pub(crate) fn job_ended(self: &Arc<Self>, job: &JobRecord, run_ended: bool) {
        let ran = match (job.started_at, job.completed_at) {
            (Some(from), Some(to)) => Duration::try_from(to.duration_since(from)).ok(),
            _ => None,
        };
        self.forget_deadline(job.id);
        self.actions.stops.ended(job.id);
        self.trace_ended(job);
        self.actions.scale_sets.ended(job.id, job.conclusion);
        self.events.job(job);
        if let Some(conclusion) = job.conclusion {
            self.metrics.completed(conclusion, ran);
        }
        self.changes.bump(job.run_id);
        if run_ended {
            self.run_ended(job);
        } else {
            self.touch_run_of(job);
        }
    }

    /// Returns an assignment that did not reach its runner: the job goes back to its old place.
    pub(crate) fn give_back(self: &Arc<Self>, job: JobId, epoch: Epoch) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        match inner.dispatcher.give_back(now, job, epoch, GiveBack::Undelivered) {
            Ok(effects) => self.apply(&mut inner, now, effects),
            Err(LeaseError::Delivered { .. }) => {}
            Err(error) => tracing::debug!(%error, "an assignment was over before it was given back"),
        }
    }

    /// Concludes a job that the service cannot hand to any runner.
    pub(crate) fn fail_job(self: &Arc<Self>, assignment: &Assignment, reason: &str) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        let freed = inner.dispatcher.complete(now, assignment.job, assignment.epoch);
        let answer = self.store.conclude(assignment.job, assignment.epoch, Conclusion::Failure, reason.to_owned(), now);
        self.apply(&mut inner, now, freed.map(|freed| freed.effects).unwrap_or_default());
        drop(inner);
        self.leases.end(assignment.job);
        self.spawn_concluded(answer);
    }
}

/// An assignment on its way to a runner; returned to the queue when it is dropped before it is settled.
pub(crate) struct Delivery {
    app: Arc<App>,
    job: JobId,
    epoch: Epoch,
    runner: RunnerId,
    armed: bool,
}

impl Delivery {
    pub(crate) fn new(app: &Arc<App>, assignment: &Assignment) -> Self {
        Self {
            app: Arc::clone(app),
            job: assignment.job,
            epoch: assignment.epoch,
            runner: assignment.runner,
            armed: true,
        }
    }

    /// Ends the guard's watch when the answer is complete: from here on the offer's or lease's own expiry guards the
    /// job. An error gives the job back, unless the store knows that the job is over: then the dispatcher forgets it too.
    pub(crate) fn settle<T>(mut self, written: ApiResult<T>) -> ApiResult<T> {
        match &written {
            Ok(_) => self.armed = false,
            Err(error) if error.is_stale() => {
                let now = self.app.clock.now();
                let mut inner = self.app.dispatch.lock();
                let (_, effects) = inner.dispatcher.request_cancel(now, self.job);
                self.app.apply(&mut inner, now, effects);
            }
            Err(_) => {}
        }
        written
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.armed {
            tracing::info!(job.id = %self.job, runner.id = %self.runner, "an assignment did not arrive; its job goes back");
            self.app.give_back(self.job, self.epoch);
        }
    }
}
