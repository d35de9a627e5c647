//! The memory engine: the rules of the store written down plainly. It is gone with its process; tests compare the
//! other engines to it.

mod actions;
mod artifacts;
mod audit;
mod caches;
mod claims;
mod collect;
mod groups;
mod jobs;
mod purge;
mod runners;
mod scale_sets;
mod tokens;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use startline_protocol::admin_api::{AuditVerification, GroupRequest};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::step::StepRecord;
use startline_protocol::value_scope::ValueScope;
use uuid::Uuid;

use crate::record::{
    ApiTokenRecord, ArtifactRecord, AuditBegin, AuditFilter, AuditRecord, BegunJob, CacheRecord, ClaimRecord,
    CompleteOutcome, Completion, CreatedRun, DEFAULT_GROUP, Digest, DueRuns, GroupRecord, Hash, JobOutline, JobRecord,
    NewApiToken, NewAudit, NewJob, NewRegistrationToken, NewRun, NewRunner, Page, PurgePlace, Purged, Registered,
    RegistrationTokenRecord, RunRecord, RunnerRecord, ScaleSetRecord, SealedSecret, SecretRecord, TakenJob,
    TokenBearer, Tokens, UnfinishedRun, VariableRecord, kept,
};
use crate::{Answer, Error, Note, Store, Taker, Taking};

/// A store that lives as long as its process.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    digest: Digest,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    api_tokens: Vec<(Hash, ApiTokenRecord)>,
    /// The last id given, which may be a token's that was purged.
    last_api_token: i64,
    registration_tokens: Vec<RegistrationTokenRecord>,
    last_registration_token: i64,
    runners: BTreeMap<RunnerId, Registration>,
    last_runner: i64,
    runner_tokens: HashMap<Hash, RunnerToken>,
    runs: BTreeMap<RunId, RunRecord>,
    last_run: i64,
    /// Of workflows, by repository and path, whose runs were purged.
    last_numbers: BTreeMap<(String, String), i64>,
    jobs: BTreeMap<JobId, JobRecord>,
    last_job: i64,
    messages: BTreeMap<JobId, String>,
    finished: i64,
    claims: BTreeMap<i64, ClaimRecord>,
    last_claim: i64,
    /// By scope and key.
    groups: BTreeMap<(Scope, String), Group>,
    secrets: BTreeMap<(ValueScope, String), (Vec<u8>, SecretRecord)>,
    variables: BTreeMap<(ValueScope, String), VariableRecord>,
    audit: Vec<AuditRecord>,
    /// The last line that was purged.
    audit_begin: Option<AuditBegin>,
    scale_sets: BTreeMap<i64, ScaleSetRecord>,
    last_scale_set: i64,
    /// By set and job.
    begun_jobs: BTreeMap<(i64, JobId), BegunJob>,
    artifacts: BTreeMap<i64, ArtifactRecord>,
    last_artifact: i64,
    caches: BTreeMap<i64, CacheRecord>,
    last_cache: i64,
}

#[derive(Debug, Default)]
struct Group {
    name: String,
    policy: GroupRequest,
}

#[derive(Debug)]
struct Registration {
    record: RunnerRecord,
    deleted_at: Option<Timestamp>,
}

#[derive(Debug)]
struct RunnerToken {
    runner: RunnerId,
    expires_at: Timestamp,
}

impl Memory {
    /// An empty store; `digest` chains its audit log.
    #[must_use]
    pub fn new(digest: Digest) -> Self {
        let mut state = State::default();
        state.put_group(Scope::Instance, DEFAULT_GROUP.to_owned(), GroupRequest::default());
        Self { state: Mutex::new(state), digest }
    }

    fn step<T: Send + 'static>(&self, step: impl FnOnce(&mut State) -> Result<T, Error>) -> Answer<T> {
        Box::pin(std::future::ready(self.now(step)))
    }

    fn now<T>(&self, step: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(Error::Closed) } else { step(&mut state) }
    }

    /// A step that writes its line of the audit log itself.
    fn step_noted<T: Send + 'static>(
        &self,
        note: Note<T>,
        step: impl FnOnce(&mut State) -> Result<T, Error>,
    ) -> Answer<T> {
        Box::pin(std::future::ready(self.now_noted(note, step)))
    }

    fn now_noted<T>(&self, note: Note<T>, step: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        self.now(|state| {
            let done = step(state)?;
            if let Some(line) = note.line(&done) {
                state.append_audit(line, self.digest);
            }
            Ok(done)
        })
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
        self.step(|state| Ok(state.last_api_token > 0))
    }

    fn create_registration_token(&self, token: NewRegistrationToken) -> Answer<RegistrationTokenRecord> {
        self.step(|state| state.create_registration_token(token))
    }

    fn registration_token(&self, hash: Hash) -> Answer<Option<RegistrationTokenRecord>> {
        self.step(|state| Ok(state.registration_tokens.iter().find(|known| known.token.hash == hash).cloned()))
    }

    fn tokens(&self) -> Answer<Tokens> {
        self.step(|state| {
            let api = state.api_tokens.iter().map(|(_, token)| token.clone()).collect();
            Ok(Tokens { api, registration: state.registration_tokens.clone() })
        })
    }

    fn revoke_api_token(&self, id: i64, now: Timestamp) -> Answer<bool> {
        self.step(|state| Ok(state.revoke_api_token(id, now)))
    }

    fn revoke_registration_token(&self, id: i64, now: Timestamp) -> Answer<bool> {
        self.step(|state| Ok(state.revoke_registration_token(id, now)))
    }

    fn purge_tokens(&self, before: Timestamp) -> Answer<u32> {
        self.step(|state| Ok(state.purge_tokens(before)))
    }

    fn register_runner(&self, registration: Hash, runner: NewRunner, now: Timestamp) -> Answer<Registered> {
        self.step(|state| state.register_runner(registration, runner, now))
    }

    fn renew_runner_token(&self, runner: RunnerId, token: Hash, expires_at: Timestamp, now: Timestamp) -> Answer<()> {
        self.step(|state| state.renew_runner_token(runner, token, expires_at, now))
    }

    fn runner_by_token(&self, token: Hash, now: Timestamp) -> Answer<Option<TokenBearer>> {
        self.step(|state| state.runner_by_token(token, now))
    }

    fn runner_by_client(&self, client_id: Uuid) -> Answer<Option<RunnerRecord>> {
        self.step(|state| state.runner_by_client(client_id))
    }

    fn create_runner(&self, scope: Scope, group: String, runner: NewRunner, now: Timestamp) -> Answer<Registered> {
        self.step(|state| state.create_runner(scope, group, runner, now))
    }

    fn set_runner_labels(&self, runner: RunnerId, labels: Vec<String>) -> Answer<RunnerRecord> {
        self.step(|state| {
            let record = state.live_runner(runner)?;
            record.labels = labels;
            Ok(record.clone())
        })
    }

    fn update_runner_version(&self, runner: RunnerId, version: String) -> Answer<()> {
        self.step(|state| {
            state.live_runner(runner)?.version = version;
            Ok(())
        })
    }

    fn update_capabilities(&self, runner: RunnerId, capabilities: Capabilities) -> Answer<()> {
        self.step(|state| {
            state.live_runner(runner)?.capabilities = capabilities;
            Ok(())
        })
    }

    fn touch_runners(&self, seen: Vec<(RunnerId, Timestamp)>) -> Answer<()> {
        self.step(|state| {
            for (runner, at) in seen {
                if let Ok(runner) = state.live_runner(runner) {
                    runner.last_seen_at = runner.last_seen_at.max(Some(kept(at)));
                }
            }
            Ok(())
        })
    }

    fn delete_runner(&self, runner: RunnerId, now: Timestamp) -> Answer<bool> {
        self.step(|state| Ok(state.delete_runner(runner, now)))
    }

    fn runner(&self, runner: RunnerId) -> Answer<Option<RunnerRecord>> {
        self.step(|state| Ok(state.live_runner(runner).ok().cloned()))
    }

    fn runners(&self) -> Answer<Vec<RunnerRecord>> {
        self.step(|state| {
            Ok(state.runners.values().filter(|r| r.deleted_at.is_none()).map(|r| r.record.clone()).collect())
        })
    }

    fn expired_ephemeral_runners(&self, before: Timestamp) -> Answer<Vec<RunnerId>> {
        self.step(|state| Ok(state.idle_runners(|runner| runner.ephemeral && runner.created_at < kept(before))))
    }

    fn stale_runners(&self, before: Timestamp) -> Answer<Vec<RunnerId>> {
        self.step(|state| {
            let seen = |runner: &RunnerRecord| runner.last_seen_at.unwrap_or(runner.created_at);
            Ok(state.idle_runners(|runner| !runner.ephemeral && seen(runner) < kept(before)))
        })
    }

    fn purge_runners(&self, before: Timestamp, after: RunnerId) -> Answer<Purged> {
        self.step(|state| Ok(state.purge_runners(before, after)))
    }

    fn put_group(&self, scope: Scope, name: String, policy: GroupRequest) -> Answer<GroupRecord> {
        self.step(|state| Ok(state.put_group(scope, name, policy)))
    }

    fn groups(&self) -> Answer<Vec<GroupRecord>> {
        self.step(|state| Ok(state.groups()))
    }

    fn group(&self, scope: Scope, name: String) -> Answer<Option<GroupRecord>> {
        self.step(|state| Ok(state.group(&scope, &name)))
    }

    fn delete_group(&self, scope: Scope, name: String, now: Timestamp) -> Answer<bool> {
        self.step(|state| state.delete_group(scope, name, now))
    }

    fn put_secret(&self, scope: ValueScope, name: String, sealed: Vec<u8>, now: Timestamp) -> Answer<SecretRecord> {
        self.step(|state| state.put_secret(scope, &name, sealed, now))
    }

    fn delete_secret(&self, scope: ValueScope, name: String) -> Answer<bool> {
        self.step(|state| Ok(state.delete_secret(scope, &name)))
    }

    fn secrets(&self, scope: ValueScope) -> Answer<Vec<SecretRecord>> {
        self.step(|state| Ok(state.secrets(&scope)))
    }

    fn sealed_secrets(&self, scopes: Vec<ValueScope>) -> Answer<Vec<SealedSecret>> {
        self.step(|state| Ok(state.sealed_secrets(&scopes)))
    }

    fn put_variable(&self, scope: ValueScope, name: String, value: String, now: Timestamp) -> Answer<VariableRecord> {
        self.step(|state| state.put_variable(scope, &name, value, now))
    }

    fn delete_variable(&self, scope: ValueScope, name: String) -> Answer<bool> {
        self.step(|state| Ok(state.delete_variable(scope, &name)))
    }

    fn variables(&self, scopes: Vec<ValueScope>) -> Answer<Vec<VariableRecord>> {
        self.step(|state| Ok(state.variables(&scopes)))
    }

    fn append_audit(&self, entry: NewAudit) -> Answer<AuditRecord> {
        self.step(|state| Ok(state.append_audit(entry, self.digest)))
    }

    fn audit(&self, after: i64, limit: u32, filter: AuditFilter) -> Answer<Page<AuditRecord>> {
        self.step(|state| {
            let behind = state.audit.iter().filter(|line| line.sequence > after);
            Ok(page(behind.filter(|line| filter.admits(&line.entry)), limit))
        })
    }

    fn verify_audit(&self) -> Answer<AuditVerification> {
        self.step(|state| Ok(state.verify_audit(self.digest)))
    }

    fn purge_audit(&self, before: Timestamp, now: Timestamp) -> Answer<Purged> {
        self.step(|state| Ok(state.purge_audit(before, now, self.digest)))
    }

    fn create_run_taken(
        &self,
        run: NewRun,
        jobs: Vec<NewJob>,
        note: Note<CreatedRun>,
        taker: Taker,
    ) -> Answer<CreatedRun> {
        let is_asked = taker.is_for(&jobs);
        let created = self.now_noted(note, |state| state.create_run(run, jobs));
        // Two steps here: the taker may have a lock under which others call.
        if let Ok(CreatedRun { jobs, is_repeat: false, .. }) = &created
            && let Some(job) = jobs.first().filter(|_| is_asked)
            && let Some(Taking { epoch, runner, now, note, outcome }) = taker.decide(job)
        {
            outcome(self.now_noted(note, |state| state.take(job.id, epoch, runner, job.attempt, now)));
        }
        Box::pin(std::future::ready(created))
    }

    fn rename_run(&self, run: RunId, name: String) -> Answer<Option<RunRecord>> {
        self.step(|state| Ok(state.rename_run(run, name)))
    }

    fn add_jobs(&self, run: RunId, jobs: Vec<NewJob>) -> Answer<Vec<JobRecord>> {
        self.step(|state| state.add_jobs(run, jobs))
    }

    fn release_job(&self, job: JobId, now: Timestamp) -> Answer<Option<JobRecord>> {
        self.step(|state| Ok(state.release_job(job, now)))
    }

    fn record_offer(&self, job: JobId, epoch: Epoch, runner: RunnerId) -> Answer<JobRecord> {
        self.step(|state| state.record_offer(job, epoch, runner))
    }

    fn acquire_noted(
        &self,
        job: JobId,
        epoch: Epoch,
        runner: RunnerId,
        attempt: u32,
        now: Timestamp,
        note: Note<TakenJob>,
    ) -> Answer<TakenJob> {
        self.step_noted(note, |state| state.take(job, epoch, runner, attempt, now))
    }

    fn requeue(
        &self,
        job: JobId,
        epoch: Epoch,
        attempt: u32,
        requeues_left: u32,
        reason: String,
        now: Timestamp,
    ) -> Answer<JobRecord> {
        self.step(|state| state.requeue(job, epoch, attempt, requeues_left, reason, now))
    }

    fn update_steps(&self, job: JobId, epoch: Epoch, steps: Vec<StepRecord>) -> Answer<JobRecord> {
        self.step(|state| state.update_steps(job, epoch, steps))
    }

    fn complete_noted(
        &self,
        job: JobId,
        epoch: Epoch,
        completion: Completion,
        now: Timestamp,
        note: Note<CompleteOutcome>,
    ) -> Answer<CompleteOutcome> {
        self.step_noted(note, |state| state.complete(job, epoch, completion, now))
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

    fn finish_run(&self, run: RunId, conclusion: Conclusion, reason: Option<String>, now: Timestamp) -> Answer<bool> {
        self.step(|state| state.finish_run(run, conclusion, reason, now))
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

    fn unfinished(&self, after: RunId, limit: u32) -> Answer<Vec<UnfinishedRun>> {
        self.step(|state| {
            let open = state.runs.values().filter(|run| run.conclusion.is_none() && run.id > after);
            let outline = |run: &RunRecord| {
                let jobs = state.jobs_of_run(run.id).iter().map(JobOutline::from).collect();
                UnfinishedRun { run: run.clone(), jobs }
            };
            Ok(open.take(usize::try_from(limit).unwrap_or(usize::MAX)).map(outline).collect())
        })
    }

    fn due_runs(&self, before: Timestamp, from: Option<PurgePlace>) -> Answer<DueRuns> {
        self.step(|state| Ok(state.due_runs(before, from)))
    }

    fn purge_runs(&self, before: Timestamp, due: DueRuns) -> Answer<Purged> {
        self.step(|state| Ok(state.purge_runs(before, &due)))
    }

    fn probe(&self) -> Answer<()> {
        self.step(|_| Ok(()))
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
