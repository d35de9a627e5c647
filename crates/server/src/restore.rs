//! Takes up at a start what an earlier process left unfinished.
//!
//! Queued jobs are queued again at their old place, running ones keep their lease for a whole lease's time from now, so
//! that a runner that worked on through the outage finds its job still its own.

use std::sync::Arc;

use startline_dispatcher::{JobSpec, Requirement};
use startline_protocol::ids::RunId;
use startline_protocol::state::{Conclusion, JobStatus};
use startline_store::{Demand, JobOutline, RunRecord, UnfinishedRun};
use uuid::Uuid;

use crate::routes::polls::job_guid;
use crate::runs::Compiled;
use crate::submission::{self, Submission};
use crate::{App, concurrency, dispatch, views};

/// Runs that are read in one go.
const RUNS_AT_ONCE: u32 = 64;

impl App {
    /// Reads the unfinished state into memory. Call before anything else happens.
    pub(crate) async fn restore(self: &Arc<Self>) -> Result<(), startline_store::Error> {
        let now = self.clock.now();
        // Before the runners, so that none is matched under another policy than its group's.
        for group in self.store.groups().await? {
            self.group_changed(&group);
        }
        for runner in self.store.runners().await? {
            self.actions.scale_sets.welcome(&runner);
            let mut inner = self.dispatch.lock();
            let effects = inner.dispatcher.add_runner(now, views::spec(&runner, self.actions.lease));
            self.apply(&mut inner, now, effects);
        }
        let (mut runs, mut jobs, mut due) = (0, 0, Vec::new());
        let mut page = self.store.unfinished(RunId(0), RUNS_AT_ONCE).await?;
        while let Some(last) = page.last() {
            // It is read while this one is taken up.
            let next = self.store.unfinished(last.run.id, RUNS_AT_ONCE);
            for unfinished in page {
                runs += 1;
                jobs += unfinished.jobs.iter().filter(|job| job.status != JobStatus::Completed).count();
                due.extend(self.restore_run(unfinished).await?);
            }
            page = next.await?;
        }
        self.restore_scale_sets().await?;
        for group in self.store.claimed_groups().await? {
            self.touch_line(&group);
        }
        for run in due {
            self.touch_run(run);
        }
        if runs > 0 {
            tracing::info!(runs, jobs, "took up unfinished runs");
        }
        Ok(())
    }

    /// Takes up a run, and says which one if it may be that something follows from its state.
    async fn restore_run(
        self: &Arc<Self>,
        UnfinishedRun { run, jobs }: UnfinishedRun,
    ) -> Result<Option<RunId>, startline_store::Error> {
        let compiled = match compile(self, &run) {
            Ok(compiled) => compiled,
            Err(reason) => {
                tracing::error!(run.id = %run.id, reason, "a stored run cannot go on with this version");
                let reason = format!("it cannot go on after an upgrade of the service: {reason}");
                self.store.finish_run(run.id, Conclusion::Failure, Some(reason), self.clock.now()).await?;
                return Ok(None);
            }
        };
        let is_due = is_due(&run, &jobs, &compiled);
        self.changes.begin(run.id);
        self.events.recall(&run, &jobs);
        self.runs.begin(run.id, Arc::new(compiled));
        let mut queued = Vec::with_capacity(jobs.len());
        let mut last: Option<(&Arc<Demand>, Arc<Requirement>)> = None;
        for job in &jobs {
            let requirement = match &last {
                Some((demand, requirement)) if Arc::ptr_eq(demand, &job.demand) => Arc::clone(requirement),
                _ => dispatch::requirement(&run.run.repository, &job.demand),
            };
            last = Some((&job.demand, Arc::clone(&requirement)));
            let spec = dispatch::spec(run.id, job, &requirement);
            if job.status == JobStatus::Queued && job.cancel_reason.is_none() {
                queued.push(spec);
            } else {
                self.restore_job(job, spec, run.run.plan_id).await?;
            }
        }
        self.enqueue_specs(queued);
        Ok(is_due.then_some(run.id))
    }

    async fn restore_job(
        self: &Arc<Self>,
        job: &JobOutline,
        spec: JobSpec,
        plan_id: Uuid,
    ) -> Result<(), startline_store::Error> {
        let now = self.clock.now();
        match (job.status, job.runner_id) {
            (JobStatus::Running, Some(runner)) => {
                self.leases.begin(job.id, job.epoch, job.cancel_reason.clone());
                self.actions.stops.acquired(
                    job.id,
                    job.epoch,
                    job_guid(plan_id, job.id, job.epoch),
                    job.cancel_timeout_minutes,
                );
                self.set_deadline(job.id, job.started_at, job.timeout_minutes);
                let mut inner = self.dispatch.lock();
                if let Err(error) = inner.dispatcher.restore_lease(now, runner, spec) {
                    tracing::error!(%error, "a running job cannot be restored");
                }
                if job.cancel_reason.is_some() {
                    let (_, effects) = inner.dispatcher.request_cancel(now, job.id);
                    self.apply(&mut inner, now, effects);
                }
            }
            (JobStatus::Queued | JobStatus::Offered | JobStatus::Waiting, _) if job.cancel_reason.is_some() => {
                let reason = job.cancel_reason.clone().unwrap_or_default();
                let job = self.store.conclude(job.id, job.epoch, Conclusion::Cancelled, reason.clone(), now).await?;
                self.audit_job("job.cancel", &job, &[("reason", &reason)]);
            }
            (JobStatus::Offered, _) => {
                let reason = "the service was restarted before the offer was taken".to_owned();
                let job =
                    self.store.requeue(job.id, job.epoch, job.attempt, job.requeues_left, reason.clone(), now).await?;
                self.audit_job("job.requeue", &job, &[("reason", &reason)]);
                self.enqueue(&[job]);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether something may follow from a run's state that was not carried out yet. A run whose jobs wait for runners, or
/// run, goes on when one of them ends.
fn is_due(run: &RunRecord, jobs: &[JobOutline], compiled: &Compiled) -> bool {
    let goes_on = |job: &JobOutline| {
        matches!(job.status, JobStatus::Queued | JobStatus::Offered | JobStatus::Running) && job.cancel_reason.is_none()
    };
    run.cancel_requested || jobs.is_empty() || !jobs.iter().all(goes_on) || concurrency::is_wanted(&compiled.workflow)
}

fn compile(app: &App, run: &RunRecord) -> Result<Compiled, String> {
    let submission: Submission = serde_json::from_str(&run.run.submission).map_err(|error| error.to_string())?;
    let compiled = app.workflows.compiled(&submission, submission::compile);
    let workflow = compiled.map_err(|_| "the workflow no longer compiles".to_owned())?;
    Ok(Compiled { workflow, submission })
}
