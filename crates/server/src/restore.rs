//! Takes up at a start what an earlier process left unfinished.
//!
//! Queued jobs are queued again at their old place, running ones keep their lease for a whole lease's time from now, so
//! that a runner that worked on through the outage finds its job still its own.

use std::sync::Arc;

use startline_protocol::state::{Conclusion, JobStatus};
use startline_store::{JobRecord, RunRecord};
use uuid::Uuid;

use crate::routes::polls::job_guid;
use crate::runs::Compiled;
use crate::submission::{self, Submission};
use crate::{App, dispatch, views};

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
        let unfinished = self.store.unfinished().await?;
        let (runs, mut jobs) = (unfinished.len(), 0);
        let mut begun = Vec::new();
        for (run, run_jobs) in unfinished {
            match compile(&run) {
                Ok(compiled) => {
                    self.changes.begin(run.id);
                    self.events.begin(&run, &run_jobs);
                    self.runs.begin(run.id, Arc::new(compiled));
                    for job in run_jobs.iter().filter(|job| job.status != JobStatus::Completed) {
                        self.restore_job(job, run.run.plan_id).await?;
                        jobs += 1;
                    }
                    begun.push(run.id);
                }
                Err(reason) => {
                    tracing::error!(run.id = %run.id, reason, "a stored run cannot go on with this version");
                    let reason = format!("it cannot go on after an upgrade of the service: {reason}");
                    self.store.finish_run(run.id, Conclusion::Failure, Some(reason), now).await?;
                }
            }
        }
        self.restore_scale_sets().await?;
        for group in self.store.claimed_groups().await? {
            self.touch_line(&group);
        }
        for run in begun {
            self.touch_run(run);
        }
        if runs > 0 {
            tracing::info!(runs, jobs, "took up unfinished runs");
        }
        Ok(())
    }

    async fn restore_job(self: &Arc<Self>, job: &JobRecord, plan_id: Uuid) -> Result<(), startline_store::Error> {
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
                self.set_deadline(job);
                let mut inner = self.dispatch.lock();
                if let Err(error) = inner.dispatcher.restore_lease(now, runner, dispatch::spec(job)) {
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
            (JobStatus::Queued, _) => self.enqueue(std::slice::from_ref(job)),
            _ => {}
        }
        Ok(())
    }
}

fn compile(run: &RunRecord) -> Result<Compiled, String> {
    let submission: Submission = serde_json::from_str(&run.run.submission).map_err(|error| error.to_string())?;
    let workflow = submission::compile(&submission.workflow, &submission.path, &submission.files)
        .map_err(|_| "the workflow no longer compiles".to_owned())?;
    Ok(Compiled { workflow, submission })
}
