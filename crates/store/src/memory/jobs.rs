//! Runs and jobs.

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};
use startline_protocol::step::StepRecord;

use super::{State, next_id};
use crate::error::Error;
use crate::record::{
    CompleteOutcome, Completion, CreatedRun, JobRecord, NewJob, NewRun, RunRecord, TakenJob, kept, oldest_repeatable,
};

impl State {
    pub(super) fn create_run(&mut self, mut run: NewRun, jobs: Vec<NewJob>) -> Result<CreatedRun, Error> {
        run.created_at = kept(run.created_at);
        let oldest = oldest_repeatable(run.created_at);
        let earlier = self.runs.values().rev().find(|known| {
            run.idempotency.is_some() && known.run.idempotency == run.idempotency && known.run.created_at > oldest
        });
        if let Some(earlier) = earlier {
            return Ok(CreatedRun { run: earlier.clone(), jobs: self.jobs_of_run(earlier.id), is_repeat: true });
        }
        jobs.iter().try_for_each(NewJob::check)?;
        let siblings =
            self.runs.values().filter(|known| known.run.repository == run.repository && known.run.path == run.path);
        let purged = self.last_numbers.get(&(run.repository.clone(), run.path.clone())).copied();
        let record = RunRecord {
            id: RunId(self.last_run + 1),
            number: next_id(siblings.map(|known| known.number).max().or(purged)),
            run,
            status: RunStatus::Queued,
            conclusion: None,
            started_at: None,
            completed_at: None,
            cancel_requested: false,
            reason: None,
        };
        self.last_run += 1;
        self.runs.insert(record.id, record.clone());
        let jobs = self.add_jobs(record.id, jobs)?;
        Ok(CreatedRun { run: record, jobs, is_repeat: false })
    }

    pub(super) fn rename_run(&mut self, run: RunId, name: String) -> Option<RunRecord> {
        let run = self.runs.get_mut(&run)?;
        run.run.name = name;
        Some(run.clone())
    }

    pub(super) fn add_jobs(&mut self, run: RunId, jobs: Vec<NewJob>) -> Result<Vec<JobRecord>, Error> {
        let repository = self.runs.get(&run).ok_or(Error::NoRun(run))?.run.repository.clone();
        jobs.iter().try_for_each(NewJob::check)?;
        let mut added = Vec::new();
        for job in jobs {
            if self.jobs.values().any(|known| known.run_id == run && known.key == job.key && known.index == job.index) {
                continue;
            }
            self.last_job += 1;
            let id = JobId(self.last_job);
            let finished = if job.conclusion.is_some() { self.next_finished() } else { 0 };
            let (record, message) = job.into_record(id, run, repository.clone(), finished);
            self.messages.insert(id, message);
            self.jobs.insert(id, record.clone());
            added.push(record);
        }
        Ok(added)
    }

    pub(super) fn release_job(&mut self, job: JobId, now: Timestamp) -> Option<JobRecord> {
        let job = self.jobs.get_mut(&job).filter(|job| job.status == JobStatus::Waiting)?;
        job.status = JobStatus::Queued;
        job.queued_at = kept(now);
        job.reason = None;
        Some(job.clone())
    }

    pub(super) fn record_offer(&mut self, job: JobId, epoch: Epoch, runner: RunnerId) -> Result<JobRecord, Error> {
        let current = self.job_mut(job)?;
        if current.status != JobStatus::Queued || epoch <= current.epoch {
            return Err(stale(current, epoch));
        }
        let name = self.live_runner(runner)?.name.clone();
        let current = self.job_mut(job)?;
        current.status = JobStatus::Offered;
        current.epoch = epoch;
        current.runner_id = Some(runner);
        current.runner_name = Some(name);
        Ok(current.clone())
    }

    /// Acquires a job and answers its message too.
    pub(super) fn take(
        &mut self,
        job: JobId,
        epoch: Epoch,
        runner: RunnerId,
        attempt: u32,
        now: Timestamp,
    ) -> Result<TakenJob, Error> {
        let (run, job) = self.acquire(job, epoch, runner, attempt, now)?;
        let message = self.messages.get(&job.id).cloned().unwrap_or_default();
        Ok(TakenJob { run, job, message })
    }

    fn acquire(
        &mut self,
        job: JobId,
        epoch: Epoch,
        runner: RunnerId,
        attempt: u32,
        now: Timestamp,
    ) -> Result<(RunRecord, JobRecord), Error> {
        let current = self.job_mut(job)?;
        let holds = current.epoch == epoch && current.runner_id == Some(runner);
        match current.status {
            JobStatus::Running if holds && current.attempt == attempt => {
                let answer = current.clone();
                return Ok((self.run_of(&answer)?, answer));
            }
            JobStatus::Offered if holds => {}
            JobStatus::Queued if epoch > current.epoch => {}
            _ => return Err(stale(current, epoch)),
        }
        let name = self.live_runner(runner)?.name.clone();
        let current = self.job_mut(job)?;
        current.status = JobStatus::Running;
        current.epoch = epoch;
        current.runner_id = Some(runner);
        current.runner_name = Some(name);
        current.attempt = attempt;
        current.started_at = Some(kept(now));
        current.steps = Vec::new();
        let answer = current.clone();
        if let Some(run) = self.runs.get_mut(&answer.run_id).filter(|run| run.status == RunStatus::Queued) {
            run.status = RunStatus::Running;
            run.started_at = Some(kept(now));
        }
        Ok((self.run_of(&answer)?, answer))
    }

    pub(super) fn requeue(
        &mut self,
        job: JobId,
        epoch: Epoch,
        attempt: u32,
        requeues_left: u32,
        reason: String,
        now: Timestamp,
    ) -> Result<JobRecord, Error> {
        let current = self.job_mut(job)?;
        let is_held = matches!(current.status, JobStatus::Offered | JobStatus::Running);
        let is_repeat = current.status == JobStatus::Queued
            && current.attempt == attempt
            && current.requeues_left == requeues_left
            && current.reason.as_ref() == Some(&reason);
        if current.epoch != epoch || !(is_held || is_repeat) {
            return Err(stale(current, epoch));
        }
        let has_counted = current.status == JobStatus::Running && attempt > current.attempt;
        current.status = JobStatus::Queued;
        current.attempt = attempt;
        current.requeues_left = requeues_left;
        current.reason = Some(reason);
        current.started_at = None;
        let answer = current.clone();
        if has_counted {
            self.delete_if_ephemeral(answer.runner_id, now);
        }
        Ok(answer)
    }

    pub(super) fn update_steps(
        &mut self,
        job: JobId,
        epoch: Epoch,
        steps: Vec<StepRecord>,
    ) -> Result<JobRecord, Error> {
        let current = self.job_mut(job)?;
        if current.status != JobStatus::Running || current.epoch != epoch {
            return Err(stale(current, epoch));
        }
        current.steps = steps;
        Ok(current.clone())
    }

    pub(super) fn complete(
        &mut self,
        job: JobId,
        epoch: Epoch,
        completion: Completion,
        now: Timestamp,
    ) -> Result<CompleteOutcome, Error> {
        let current = self.job_mut(job)?;
        if current.epoch == epoch && current.status == JobStatus::Completed {
            return Ok(CompleteOutcome::AlreadyCompleted(current.clone()));
        }
        if current.epoch != epoch || current.status != JobStatus::Running {
            return Err(stale(current, epoch));
        }
        let (run, of_run) = (current.run_id, completion.conclusion_of_run(current));
        current.outputs = completion.outputs;
        if let Some(environment) = &mut current.environment {
            environment.url = completion.environment_url;
        }
        current.steps = completion.steps;
        current.annotations = completion.annotations;
        let job = self.end(job, completion.conclusion, None, now)?;
        let run_ended = match of_run {
            Some(conclusion) => self.finish_run(run, conclusion, None, now)?,
            None => false,
        };
        Ok(CompleteOutcome::Completed { job, run_ended })
    }

    pub(super) fn conclude(
        &mut self,
        job: JobId,
        epoch: Epoch,
        conclusion: Conclusion,
        reason: String,
        now: Timestamp,
    ) -> Result<JobRecord, Error> {
        let current = self.job_mut(job)?;
        if current.epoch != epoch || current.status == JobStatus::Completed {
            return Err(stale(current, epoch));
        }
        self.end(job, conclusion, Some(reason), now)
    }

    pub(super) fn request_job_cancel(&mut self, job: JobId, reason: String) -> Option<JobRecord> {
        let job = self.jobs.get_mut(&job)?;
        if job.status != JobStatus::Completed {
            job.cancel_reason.get_or_insert(reason);
        }
        Some(job.clone())
    }

    pub(super) fn request_run_cancel(&mut self, run: RunId) -> Option<RunRecord> {
        let run = self.runs.get_mut(&run)?;
        run.cancel_requested |= run.conclusion.is_none();
        Some(run.clone())
    }

    pub(super) fn finish_run(
        &mut self,
        run: RunId,
        conclusion: Conclusion,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let run = self.runs.get_mut(&run).ok_or(Error::NoRun(run))?;
        if run.conclusion.is_some() {
            return Ok(false);
        }
        run.status = RunStatus::Completed;
        run.conclusion = Some(conclusion);
        run.completed_at = Some(kept(now));
        run.reason = reason;
        let run = run.id;
        self.claims.retain(|_, claim| claim.claim.run != run);
        Ok(true)
    }

    pub(super) fn jobs_of_run(&self, run: RunId) -> Vec<JobRecord> {
        self.jobs.values().filter(|job| job.run_id == run).cloned().collect()
    }

    fn job_mut(&mut self, job: JobId) -> Result<&mut JobRecord, Error> {
        self.jobs.get_mut(&job).ok_or(Error::NoJob(job))
    }

    fn run_of(&self, job: &JobRecord) -> Result<RunRecord, Error> {
        self.runs.get(&job.run_id).cloned().ok_or(Error::NoRun(job.run_id))
    }

    fn next_finished(&mut self) -> i64 {
        self.finished += 1;
        self.finished
    }

    fn end(
        &mut self,
        job: JobId,
        conclusion: Conclusion,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<JobRecord, Error> {
        let finished = self.next_finished();
        let current = self.job_mut(job)?;
        let holder = current.runner_id.filter(|_| current.status == JobStatus::Running);
        current.status = JobStatus::Completed;
        current.conclusion = Some(conclusion);
        current.reason = reason;
        current.completed_at = Some(kept(now));
        current.finished = finished;
        let answer = current.clone();
        self.delete_if_ephemeral(holder, now);
        Ok(answer)
    }
}

fn stale(job: &JobRecord, quoted: Epoch) -> Error {
    Error::StaleEpoch { job: job.id, quoted, current: job.epoch }
}
