//! The memory engine: the rules of the store written down plainly. It is gone with its process; tests compare the
//! other engines to it.

mod jobs;
mod runners;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::step::StepRecord;

use crate::record::{
    ApiTokenRecord, CompleteOutcome, Completion, Hash, JobRecord, NewApiToken, NewJob, NewRegistrationToken, NewRun,
    NewRunner, Page, Registered, RegistrationTokenRecord, RunRecord, RunnerRecord,
};
use crate::{Answer, Error, Store};

/// A store that lives as long as its process.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    api_tokens: Vec<(Hash, ApiTokenRecord)>,
    registration_tokens: Vec<RegistrationTokenRecord>,
    runners: BTreeMap<RunnerId, Registration>,
    runner_tokens: HashMap<Hash, RunnerToken>,
    runs: BTreeMap<RunId, RunRecord>,
    jobs: BTreeMap<JobId, JobRecord>,
    messages: BTreeMap<JobId, String>,
    finished: i64,
}

#[derive(Debug)]
struct Registration {
    record: RunnerRecord,
    deleted: bool,
}

#[derive(Debug)]
struct RunnerToken {
    runner: RunnerId,
    expires_at: Timestamp,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn step<T: Send + 'static>(&self, step: impl FnOnce(&mut State) -> Result<T, Error>) -> Answer<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = if state.closed { Err(Error::Closed) } else { step(&mut state) };
        Box::pin(std::future::ready(answer))
    }
}

/// The id behind `last`.
fn next_id(last: Option<i64>) -> i64 {
    last.unwrap_or(0) + 1
}

fn duplicate(operation: &'static str) -> Error {
    Error::Engine { operation, message: "a token with this hash exists already".to_owned() }
}

impl Store for Memory {
    fn create_api_token(&self, token: NewApiToken) -> Answer<ApiTokenRecord> {
        self.step(|state| state.create_api_token(token))
    }

    fn api_token(&self, hash: Hash) -> Answer<Option<ApiTokenRecord>> {
        self.step(|state| Ok(state.api_tokens.iter().find(|(known, _)| *known == hash).map(|(_, token)| token.clone())))
    }

    fn has_api_tokens(&self) -> Answer<bool> {
        self.step(|state| Ok(!state.api_tokens.is_empty()))
    }

    fn create_registration_token(&self, token: NewRegistrationToken) -> Answer<RegistrationTokenRecord> {
        self.step(|state| state.create_registration_token(token))
    }

    fn register_runner(&self, registration: Hash, runner: NewRunner, now: Timestamp) -> Answer<Registered> {
        self.step(|state| state.register_runner(registration, runner, now))
    }

    fn renew_runner_token(&self, runner: RunnerId, token: Hash, expires_at: Timestamp, now: Timestamp) -> Answer<()> {
        self.step(|state| state.renew_runner_token(runner, token, expires_at, now))
    }

    fn runner_by_token(&self, token: Hash, now: Timestamp) -> Answer<Option<RunnerRecord>> {
        self.step(|state| state.runner_by_token(token, now))
    }

    fn update_capabilities(&self, runner: RunnerId, capabilities: Capabilities) -> Answer<()> {
        self.step(|state| {
            state.live_runner(runner)?.capabilities = capabilities;
            Ok(())
        })
    }

    fn delete_runner(&self, runner: RunnerId, _now: Timestamp) -> Answer<bool> {
        self.step(|state| Ok(state.delete_runner(runner)))
    }

    fn runner(&self, runner: RunnerId) -> Answer<Option<RunnerRecord>> {
        self.step(|state| Ok(state.live_runner(runner).ok().cloned()))
    }

    fn runners(&self) -> Answer<Vec<RunnerRecord>> {
        self.step(|state| Ok(state.runners.values().filter(|r| !r.deleted).map(|r| r.record.clone()).collect()))
    }

    fn create_run(&self, run: NewRun, jobs: Vec<NewJob>) -> Answer<(RunRecord, Vec<JobRecord>)> {
        self.step(|state| state.create_run(run, jobs))
    }

    fn add_jobs(&self, run: RunId, jobs: Vec<NewJob>) -> Answer<Vec<JobRecord>> {
        self.step(|state| state.add_jobs(run, jobs))
    }

    fn release_job(&self, job: JobId, now: Timestamp) -> Answer<Option<JobRecord>> {
        self.step(|state| Ok(state.release_job(job, now)))
    }

    fn record_offer(&self, job: JobId, epoch: Epoch, runner: RunnerId) -> Answer<()> {
        self.step(|state| state.record_offer(job, epoch, runner))
    }

    fn acquire(
        &self,
        job: JobId,
        epoch: Epoch,
        runner: RunnerId,
        attempt: u32,
        now: Timestamp,
    ) -> Answer<(RunRecord, JobRecord)> {
        self.step(|state| state.acquire(job, epoch, runner, attempt, now))
    }

    fn requeue(&self, job: JobId, epoch: Epoch, attempt: u32, requeues_left: u32, reason: String) -> Answer<JobRecord> {
        self.step(|state| state.requeue(job, epoch, attempt, requeues_left, reason))
    }

    fn update_steps(&self, job: JobId, epoch: Epoch, steps: Vec<StepRecord>) -> Answer<JobRecord> {
        self.step(|state| state.update_steps(job, epoch, steps))
    }

    fn complete(&self, job: JobId, epoch: Epoch, completion: Completion, now: Timestamp) -> Answer<CompleteOutcome> {
        self.step(|state| state.complete(job, epoch, completion, now))
    }

    fn conclude(
        &self,
        job: JobId,
        epoch: Epoch,
        conclusion: Conclusion,
        reason: String,
        now: Timestamp,
    ) -> Answer<JobRecord> {
        self.step(|state| state.conclude(job, epoch, conclusion, reason, now))
    }

    fn request_job_cancel(&self, job: JobId, reason: String) -> Answer<Option<JobRecord>> {
        self.step(|state| Ok(state.request_job_cancel(job, reason)))
    }

    fn request_run_cancel(&self, run: RunId) -> Answer<Option<RunRecord>> {
        self.step(|state| Ok(state.request_run_cancel(run)))
    }

    fn finish_run(&self, run: RunId, conclusion: Conclusion, now: Timestamp) -> Answer<bool> {
        self.step(|state| state.finish_run(run, conclusion, now))
    }

    fn run(&self, run: RunId) -> Answer<Option<RunRecord>> {
        self.step(|state| Ok(state.runs.get(&run).cloned()))
    }

    fn runs(&self, before: Option<RunId>, limit: u32) -> Answer<Page<RunRecord>> {
        self.step(|state| {
            let newest_first = state.runs.values().rev();
            Ok(page(newest_first.filter(|run| before.is_none_or(|before| run.id < before)), limit))
        })
    }

    fn jobs_of_run(&self, run: RunId) -> Answer<Vec<JobRecord>> {
        self.step(|state| Ok(state.jobs_of_run(run)))
    }

    fn job(&self, job: JobId) -> Answer<Option<JobRecord>> {
        self.step(|state| Ok(state.jobs.get(&job).cloned()))
    }

    fn jobs(&self, status: Option<JobStatus>, before: Option<JobId>, limit: u32) -> Answer<Page<JobRecord>> {
        self.step(|state| {
            let newest_first = state.jobs.values().rev();
            let fitting = newest_first.filter(|job| {
                before.is_none_or(|before| job.id < before) && status.is_none_or(|status| job.status == status)
            });
            Ok(page(fitting, limit))
        })
    }

    fn job_message(&self, job: JobId) -> Answer<Option<String>> {
        self.step(|state| Ok(state.messages.get(&job).cloned()))
    }

    fn unfinished(&self) -> Answer<Vec<(RunRecord, Vec<JobRecord>)>> {
        self.step(|state| {
            let open = state.runs.values().filter(|run| run.conclusion.is_none());
            Ok(open.map(|run| (run.clone(), state.jobs_of_run(run.id))).collect())
        })
    }

    fn close(&self) -> Answer<()> {
        self.step(|state| {
            state.closed = true;
            Ok(())
        })
    }
}

fn page<'a, T: Clone + 'a>(mut items: impl Iterator<Item = &'a T>, limit: u32) -> Page<T> {
    let head = items.by_ref().take(usize::try_from(limit).unwrap_or(usize::MAX)).cloned().collect();
    Page { items: head, more: items.next().is_some() }
}
