//! Runs, driven: after each change the planner is asked what follows, and its decisions are made durable and queued.
//!
//! Level-triggered. A pass reads the run's state, applies what the planner decides, and repeats until there is nothing
//! new; a crash between any two steps is made good by the same pass at the next start. Passes of one run never
//! overlap; those of different runs do, so that their commits share an fsync.

mod active;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use startline_dispatcher::{CancelOutcome, Requirement};
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::runs_api::JobEnvironment;
use startline_protocol::state::{Conclusion, JobStatus};
use startline_store::{Answer, ClaimRecord, JobRecord, NewJob, RunRecord};
use startline_workflow::plan::{self, Decision, Instance, InstanceState, RunContext, RunsOn};

use crate::App;
use crate::concurrency::{self, Admission};
use crate::message::{self, RunPart};

pub(crate) use active::{Compiled, Runs};

/// How a run stands after a pass.
enum Standing {
    /// It has its conclusion.
    Ended,
    Open {
        /// How many jobs are to end before anything follows, if all succeed; `None` when that is not known.
        awaited: Option<usize>,
    },
}

impl App {
    /// Looks at a run again, soon.
    pub(crate) fn touch_run(self: &Arc<Self>, run: RunId) {
        if self.runs.change(run) {
            let app = Arc::clone(self);
            self.tasks.spawn(async move { app.drive(run).await });
        }
    }

    /// Looks at the run of a job that has ended, unless nothing follows of that.
    pub(crate) fn touch_run_of(self: &Arc<Self>, ended: &JobRecord) {
        if ended.conclusion != Some(Conclusion::Success) || self.runs.succeeded(ended.run_id) {
            self.touch_run(ended.run_id);
        }
    }

    /// Whether the run is one of a job without a workflow: it has that job only.
    pub(crate) fn is_single(&self, run: RunId) -> bool {
        self.runs.get(run).is_some_and(|compiled| compiled.submission.single)
    }

    /// Tells of a run that has ended in the step of its only job, and lets go of it.
    pub(crate) fn run_ended(self: &Arc<Self>, job: &JobRecord) {
        let run = job.run_id;
        match job.conclusion {
            Some(conclusion) if !self.runs.is_busy(run) => {
                self.tell_of_end(run, conclusion, None, std::slice::from_ref(job));
                self.forget_run(run);
            }
            // Somebody looks at it in this moment, and once more.
            _ => self.touch_run(run),
        }
    }

    /// Gives a run its conclusion, and tells of it.
    async fn finish(
        &self,
        run: RunId,
        conclusion: Conclusion,
        reason: Option<String>,
        jobs: &[JobRecord],
    ) -> Result<(), startline_store::Error> {
        self.store.finish_run(run, conclusion, reason.clone(), self.clock.now()).await?;
        self.tell_of_end(run, conclusion, reason, jobs);
        Ok(())
    }

    fn tell_of_end(&self, run: RunId, conclusion: Conclusion, reason: Option<String>, jobs: &[JobRecord]) {
        self.events.finish(run, conclusion, reason, jobs);
        tracing::info!(run.id = %run, %conclusion, "run completed");
    }

    /// Lets go of a run that has its conclusion.
    fn forget_run(&self, run: RunId) {
        self.runs.end(run);
        self.changes.finish(run);
    }

    async fn drive(self: Arc<Self>, run: RunId) {
        while let Some(compiled) = self.runs.begin_pass(run) {
            match self.pass(run, &compiled).await {
                Ok(Standing::Ended) => return self.forget_run(run),
                Ok(Standing::Open { awaited }) => self.runs.end_pass(run, awaited),
                Err(error) if error.is_transient() && !self.drain.is_cancelled() => {
                    tracing::error!(run.id = %run, %error, "a run cannot go on now; trying again");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    self.runs.change(run);
                }
                Err(error) => {
                    tracing::error!(run.id = %run, %error, "a run cannot go on");
                    return self.runs.give_up(run);
                }
            }
        }
    }

    /// Applies decisions until there are none.
    async fn pass(self: &Arc<Self>, run_id: RunId, compiled: &Compiled) -> Result<Standing, startline_store::Error> {
        loop {
            let Some(run) = self.store.run(run_id).await? else { return Ok(Standing::Ended) };
            let jobs = self.store.jobs_of_run(run_id).await?;
            if let Some(conclusion) = run.conclusion {
                self.events.finish(run_id, conclusion, run.reason.clone(), &jobs);
                return Ok(Standing::Ended);
            }
            let mut context = self.context_of(compiled, &run).await?;
            let claims = self.claims_of(compiled, run_id).await?;
            match self.admit_run(&run, compiled, &mut context, &claims).await? {
                Admission::Enter => {}
                Admission::Wait => {
                    self.events.run_waits(&run);
                    return Ok(Standing::Open { awaited: None });
                }
                Admission::Refuse(conclusion, reason) => {
                    self.refuse_run(&run, &jobs, conclusion, reason).await?;
                    claims.iter().for_each(|claim| self.touch_line(&claim.claim.group_key));
                    return Ok(Standing::Ended);
                }
            }
            self.events.run_waits(&run);
            if self.settle_jobs(&jobs, &claims).await? {
                self.changes.bump(run_id);
                continue;
            }
            context.claims = concurrency::states(&claims);
            let instances = instances(&jobs, &claims);
            let decisions = plan::advance(&compiled.workflow, &context, &instances);
            if decisions.is_empty() {
                let Some(conclusion) = plan::conclusion(&compiled.workflow, &context, &instances) else {
                    let awaited = claims.is_empty().then(|| plan::awaited(&compiled.workflow, &context, &instances));
                    return Ok(Standing::Open { awaited: awaited.flatten() });
                };
                let conclusion = conclude(conclusion);
                let reason = context.cancel_reason.filter(|_| conclusion == Conclusion::Cancelled);
                self.finish(run_id, conclusion, reason, &jobs).await?;
                claims.iter().for_each(|claim| self.touch_line(&claim.claim.group_key));
                return Ok(Standing::Ended);
            }
            self.decide(&run, (&jobs, &claims), &context, compiled, decisions).await?;
            self.changes.bump(run_id);
        }
    }

    async fn decide(
        self: &Arc<Self>,
        run: &RunRecord,
        (jobs, claims): (&[JobRecord], &[ClaimRecord]),
        context: &RunContext,
        compiled: &Compiled,
        decisions: Vec<Decision>,
    ) -> Result<(), startline_store::Error> {
        let now = self.clock.now();
        let find = |key: &str, index: u32| jobs.iter().find(|job| job.key == key && job.index == index);
        let part = RunPart {
            plan_id: run.run.plan_id,
            path: &run.run.path,
            github: &context.github,
            variables: &context.vars,
            env: &compiled.submission.env,
        };
        let (mut new, mut wanted, mut held) = (Vec::new(), Vec::new(), HashSet::new());
        for decision in decisions {
            match decision {
                Decision::Skip { key, name, reason } => {
                    new.push(self.ended(run, key, name, Conclusion::Skipped, reason));
                }
                Decision::Fail { key, name, message } => {
                    new.push(self.ended(run, key, name, Conclusion::Failure, message));
                }
                Decision::Drop { key, index, name, reason } => {
                    let dropped = self.ended(run, key, name, Conclusion::Cancelled, reason);
                    new.push(NewJob { index, ..dropped });
                }
                Decision::Expand { jobs, .. } => {
                    let from = new.len();
                    for job in jobs {
                        if let Err(error) = requirement(&job.runs_on, &run.run.repository).check() {
                            let reason = format!("`runs-on` cannot be understood: {error}");
                            new.push(NewJob {
                                index: job.index,
                                ..self.ended(run, job.key, job.name, Conclusion::Failure, reason)
                            });
                            continue;
                        }
                        let message = message::stored(&message::compile(&part, &job));
                        let reason = match &job.claim {
                            _ if job.held => Some("held back by max-parallel".to_owned()),
                            Some(claim) => Some(concurrency::waits_for(&claim.group)),
                            None => None,
                        };
                        if job.held {
                            held.insert((job.key.clone(), job.index));
                        }
                        new.push(NewJob {
                            key: job.key,
                            index: job.index,
                            name: job.name,
                            status: if reason.is_some() { JobStatus::Waiting } else { JobStatus::Queued },
                            conclusion: None,
                            reason,
                            labels: job.runs_on.labels,
                            group: job.runs_on.group,
                            claim: job.claim.as_ref().map(concurrency::wanted),
                            trusted: run.run.trusted,
                            priority: 0,
                            timeout_minutes: job.timeout_minutes,
                            cancel_timeout_minutes: job.cancel_timeout_minutes,
                            environment: job
                                .environment
                                .map(|environment| JobEnvironment { name: environment.name, url: None }),
                            continue_on_error: job.continue_on_error,
                            requeues_left: self.config.requeues,
                            message,
                            outputs: BTreeMap::new(),
                            queued_at: now,
                        });
                    }
                    limit_messages(&mut new[from..]);
                }
                Decision::Release { key, index } => {
                    let Some(job) = find(&key, index) else { continue };
                    let alone = jobs.iter().filter(|other| other.key == key).count() == 1;
                    if let Some(claim) = concurrency::claim_of_job(job, alone) {
                        wanted.push(claim);
                    } else if let Some(job) = self.store.release_job(job.id, now).await? {
                        self.events.job(&job);
                        self.enqueue(&[job]);
                    }
                }
                Decision::Claim { place, claim } => wanted.push(concurrency::new_claim(run, place, &claim)),
                Decision::Leave { place } => {
                    if let Some(claim) = claims.iter().find(|claim| claim.claim.place == place) {
                        self.leave(claim).await?;
                    }
                }
                Decision::Cancel { key, index, reason } => {
                    if let Some(job) = find(&key, index) {
                        self.cancel_job(job, &reason).await?;
                    }
                }
            }
        }
        if !new.is_empty() {
            let added = self.store.add_jobs(run.id, new).await?;
            self.events.jobs(&added);
            for job in added.iter().filter(|job| job.status == JobStatus::Waiting) {
                let alone = added.iter().filter(|other| other.key == job.key).count() == 1;
                if !held.contains(&(job.key.clone(), job.index)) {
                    wanted.extend(concurrency::claim_of_job(job, alone));
                }
            }
            let queued: Vec<JobRecord> = added.into_iter().filter(|job| job.status == JobStatus::Queued).collect();
            self.enqueue(&queued);
        }
        if !wanted.is_empty() {
            self.claim(wanted).await?;
        }
        Ok(())
    }

    /// The claims of a run on concurrency groups; none are read where it can have none.
    async fn claims_of(&self, compiled: &Compiled, run: RunId) -> Result<Vec<ClaimRecord>, startline_store::Error> {
        if concurrency::is_wanted(&compiled.workflow) { self.store.claims_of(run).await } else { Ok(Vec::new()) }
    }

    fn ended(&self, run: &RunRecord, key: String, name: String, conclusion: Conclusion, reason: String) -> NewJob {
        NewJob {
            key,
            index: 0,
            name,
            status: JobStatus::Completed,
            conclusion: Some(conclusion),
            reason: Some(reason),
            labels: Vec::new(),
            group: None,
            claim: None,
            trusted: run.run.trusted,
            priority: 0,
            timeout_minutes: 0,
            cancel_timeout_minutes: 0,
            environment: None,
            continue_on_error: false,
            requeues_left: 0,
            message: String::new(),
            outputs: BTreeMap::new(),
            queued_at: self.clock.now(),
        }
    }

    /// Stops a job: one that waits is concluded at once, one that runs is told to stop.
    pub(crate) async fn cancel_job(
        self: &Arc<Self>,
        job: &JobRecord,
        reason: &str,
    ) -> Result<(), startline_store::Error> {
        if job.status == JobStatus::Completed {
            return Ok(());
        }
        self.store.request_job_cancel(job.id, reason.to_owned()).await?;
        let now = self.clock.now();
        let answer = {
            let mut inner = self.dispatch.lock();
            // Read first: an offer that is withdrawn takes its epoch with it.
            let epoch = inner.dispatcher.job(job.id).map_or(job.epoch, |found| found.epoch);
            let (outcome, effects) = inner.dispatcher.request_cancel(now, job.id);
            let answer = match outcome {
                CancelOutcome::Running { .. } => {
                    self.leases.cancel(job.id, reason);
                    None
                }
                // Not in the dispatcher: held back, or just ended.
                _ => Some(self.store.conclude(job.id, epoch, Conclusion::Cancelled, reason.to_owned(), now)),
            };
            self.apply(&mut inner, now, effects);
            answer
        };
        let Some(answer) = answer else { return Ok(()) };
        if let Some(job) = self.concluded_unheld(answer, job.id, Conclusion::Cancelled, reason).await? {
            self.audit_job("job.cancel", &job, &[("reason", &reason)]);
            self.job_ended(&job, false);
        }
        Ok(())
    }

    /// Waits for the conclusion of a job that no runner has; none when it was acquired or completed in the same moment. The
    /// dispatcher may be ahead of the store by an offer that was never written, and then it is concluded as the store has it.
    async fn concluded_unheld(
        &self,
        mut answer: Answer<JobRecord>,
        id: JobId,
        conclusion: Conclusion,
        reason: &str,
    ) -> Result<Option<JobRecord>, startline_store::Error> {
        loop {
            match answer.await {
                Ok(job) => return Ok(Some(job)),
                Err(startline_store::Error::StaleEpoch { .. }) => {}
                Err(error) => return Err(error),
            }
            let Some(found) = self.store.job(id).await? else { return Ok(None) };
            if matches!(found.status, JobStatus::Running | JobStatus::Completed) {
                return Ok(None);
            }
            answer = self.store.conclude(id, found.epoch, conclusion, reason.to_owned(), self.clock.now());
        }
    }

    /// Fails a job that is still queued; one that a runner has by now is left alone.
    pub(crate) async fn give_up(self: &Arc<Self>, id: JobId, reason: &str) -> Result<(), startline_store::Error> {
        let now = self.clock.now();
        let answer = {
            let mut inner = self.dispatch.lock();
            let Some(found) = inner.dispatcher.job(id).filter(|job| job.status == JobStatus::Queued) else {
                return Ok(());
            };
            let (_, effects) = inner.dispatcher.request_cancel(now, id);
            let answer = self.store.conclude(id, found.epoch, Conclusion::Failure, reason.to_owned(), now);
            self.apply(&mut inner, now, effects);
            answer
        };
        if let Some(job) = self.concluded_unheld(answer, id, Conclusion::Failure, reason).await? {
            tracing::info!(job.id = %id, reason, "a job waited for too long");
            self.audit_job("job.expire", &job, &[("reason", &reason)]);
            self.job_ended(&job, false);
        }
        Ok(())
    }

    /// Cancels a run. The planner sees a cancelled run from now on and stops every job whose condition no longer holds;
    /// one with `if: always()` runs on, as on GitHub.
    pub(crate) async fn cancel_run(self: &Arc<Self>, run: RunId) -> Result<Option<RunRecord>, startline_store::Error> {
        let asked = self.store.request_run_cancel(run);
        let asked = self.to_its_end(asked, move |app, record| {
            if record.as_ref().is_some_and(|record| record.conclusion.is_none()) {
                app.changes.bump(run);
                app.touch_run(run);
            }
        });
        asked.await
    }

    /// Jobs that the planner will still create, by their keys. What a call will make may depend on variables.
    pub(crate) async fn pending(
        &self,
        run: &RunRecord,
        jobs: &[JobRecord],
    ) -> Result<Vec<String>, startline_store::Error> {
        let Some(compiled) = self.runs.get(run.id) else { return Ok(Vec::new()) };
        let mut context = self.context_of(&compiled, run).await?;
        let claims = self.claims_of(&compiled, run.id).await?;
        context.claims = concurrency::states(&claims);
        let instances = instances(jobs, &claims);
        Ok(plan::pending(&compiled.workflow, &context, &instances))
    }
}

/// Most bytes that the messages of one matrix may have together: each combination carries all the steps.
const MATRIX_BYTES: usize = 32 * 1024 * 1024;

/// Fails the jobs of a matrix whose messages would fill the database.
fn limit_messages(jobs: &mut [NewJob]) {
    let bytes: usize = jobs.iter().map(|job| job.message.len()).sum();
    if bytes <= MATRIX_BYTES {
        return;
    }
    let reason = format!(
        "the {} jobs of this matrix have {} MiB of steps together, more than {} MiB; move long scripts into files",
        jobs.len(),
        bytes >> 20,
        MATRIX_BYTES >> 20
    );
    for job in jobs {
        job.message.clear();
        job.status = JobStatus::Completed;
        job.conclusion = Some(Conclusion::Failure);
        job.reason = Some(reason.clone());
    }
}

fn requirement(runs_on: &RunsOn, repository: &str) -> Requirement {
    Requirement {
        labels: runs_on.labels.clone(),
        group: runs_on.group.clone(),
        repository: repository.to_owned(),
        trusted: true,
    }
}

/// The jobs of a run as the planner sees them. One that is in the line of its concurrency group is under way.
fn instances(jobs: &[JobRecord], claims: &[ClaimRecord]) -> Vec<Instance> {
    let in_line = |job: &JobRecord| claims.iter().any(|claim| claim.claim.job == Some(job.id));
    let seen = |job| match instance(job) {
        found if found.state == InstanceState::Waiting && in_line(job) => {
            Instance { state: InstanceState::Active, ..found }
        }
        found => found,
    };
    jobs.iter().map(seen).collect()
}

pub(crate) fn instance(job: &JobRecord) -> Instance {
    Instance {
        key: job.key.clone(),
        index: job.index,
        state: match (job.status, job.conclusion) {
            (JobStatus::Waiting, _) if job.cancel_reason.is_none() => InstanceState::Waiting,
            (JobStatus::Completed, Some(conclusion)) => InstanceState::Done(match conclusion {
                Conclusion::Success => plan::Conclusion::Success,
                Conclusion::Failure => plan::Conclusion::Failure,
                Conclusion::Cancelled => plan::Conclusion::Cancelled,
                Conclusion::Skipped => plan::Conclusion::Skipped,
            }),
            _ if job.cancel_reason.is_some() => InstanceState::Cancelling,
            _ => InstanceState::Active,
        },
        continue_on_error: job.continue_on_error,
        outputs: job.outputs.clone(),
        finished: u64::try_from(job.finished).unwrap_or_default(),
    }
}

const fn conclude(conclusion: plan::Conclusion) -> Conclusion {
    match conclusion {
        plan::Conclusion::Success => Conclusion::Success,
        plan::Conclusion::Failure => Conclusion::Failure,
        plan::Conclusion::Cancelled => Conclusion::Cancelled,
        plan::Conclusion::Skipped => Conclusion::Skipped,
    }
}
