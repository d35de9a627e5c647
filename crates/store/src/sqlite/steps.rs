//! The steps of the contract, each handed to the writer or to a reader.

use jiff::Timestamp;
use rusqlite::Connection;
use startline_protocol::admin_api::{AuditVerification, GroupRequest};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::step::StepRecord;
use startline_protocol::value_scope::ValueScope;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::failure::engine;
use super::writer::Undo;
use super::{Sqlite, audit, collect, groups, held, jobs, outline, purge, runners, runs, tokens, values};
use crate::record::{
    ApiTokenRecord, AuditFilter, AuditRecord, CompleteOutcome, Completion, CreatedRun, DueRuns, GroupRecord, Hash,
    JobRecord, NewApiToken, NewAudit, NewJob, NewRegistrationToken, NewRun, NewRunner, Page, PurgePlace, Purged,
    Registered, RegistrationTokenRecord, RunRecord, RunnerRecord, SealedSecret, SecretRecord, TakenJob, TokenBearer,
    Tokens, UnfinishedRun, VariableRecord,
};
use crate::{Answer, Error, Note, Store, Taker};

impl Store for Sqlite {
    fn create_api_token(&self, token: NewApiToken) -> Answer<ApiTokenRecord> {
        self.write("add an API token", move |db| tokens::create_api_token(db, token))
    }

    fn api_token(&self, hash: Hash) -> Answer<Option<ApiTokenRecord>> {
        self.read("read an API token", move |db| tokens::api_token(db, hash))
    }

    fn has_api_tokens(&self) -> Answer<bool> {
        self.read("look for API tokens", tokens::has_api_tokens)
    }

    fn create_registration_token(&self, token: NewRegistrationToken) -> Answer<RegistrationTokenRecord> {
        self.write("add a registration token", move |db| tokens::create_registration_token(db, token))
    }

    fn registration_token(&self, hash: Hash) -> Answer<Option<RegistrationTokenRecord>> {
        self.read("read a registration token", move |db| tokens::registration_token(db, hash))
    }

    fn tokens(&self) -> Answer<Tokens> {
        self.read("list tokens", tokens::all)
    }

    fn revoke_api_token(&self, id: i64, now: Timestamp) -> Answer<bool> {
        self.write("revoke an API token", move |db| tokens::revoke_api_token(db, id, now))
    }

    fn revoke_registration_token(&self, id: i64, now: Timestamp) -> Answer<bool> {
        self.write("revoke a registration token", move |db| tokens::revoke_registration_token(db, id, now))
    }

    fn purge_tokens(&self, before: Timestamp) -> Answer<u32> {
        self.write("purge tokens", move |db| collect::purge_tokens(db, before))
    }

    fn register_runner(&self, registration: Hash, runner: NewRunner, now: Timestamp) -> Answer<Registered> {
        self.write("register a runner", move |db| runners::register(db, registration, runner, now))
    }

    fn renew_runner_token(&self, runner: RunnerId, token: Hash, expires_at: Timestamp, now: Timestamp) -> Answer<()> {
        self.write("renew a runner token", move |db| runners::renew_token(db, runner, token, expires_at, now))
    }

    fn runner_by_token(&self, token: Hash, now: Timestamp) -> Answer<Option<TokenBearer>> {
        self.read("read a runner token", move |db| runners::by_token(db, token, now))
    }

    fn runner_by_client(&self, client_id: Uuid) -> Answer<Option<RunnerRecord>> {
        self.read("read a runner's client", move |db| runners::by_client(db, client_id))
    }

    fn create_runner(&self, scope: Scope, group: String, runner: NewRunner, now: Timestamp) -> Answer<Registered> {
        self.write("add a runner", move |db| runners::create(db, scope, group, runner, now))
    }

    fn set_runner_labels(&self, runner: RunnerId, labels: Vec<String>) -> Answer<RunnerRecord> {
        self.write("set a runner's labels", move |db| runners::set_labels(db, runner, &labels))
    }

    fn update_runner_version(&self, runner: RunnerId, version: String) -> Answer<()> {
        self.write("update a runner's version", move |db| runners::update_version(db, runner, &version))
    }

    fn update_capabilities(&self, runner: RunnerId, capabilities: Capabilities) -> Answer<()> {
        self.write("update capabilities", move |db| runners::update_capabilities(db, runner, capabilities))
    }

    fn touch_runners(&self, seen: Vec<(RunnerId, Timestamp)>) -> Answer<()> {
        self.write("note when runners were seen", move |db| runners::touch(db, &seen))
    }

    fn delete_runner(&self, runner: RunnerId, now: Timestamp) -> Answer<bool> {
        self.write("delete a runner", move |db| runners::delete(db, runner, now))
    }

    fn runner(&self, runner: RunnerId) -> Answer<Option<RunnerRecord>> {
        self.read("read a runner", move |db| runners::find(db, runner))
    }

    fn runners(&self) -> Answer<Vec<RunnerRecord>> {
        self.read("list runners", runners::all)
    }

    fn expired_ephemeral_runners(&self, before: Timestamp) -> Answer<Vec<RunnerId>> {
        self.read("look for expired ephemeral runners", move |db| collect::expired_ephemeral_runners(db, before))
    }

    fn stale_runners(&self, before: Timestamp) -> Answer<Vec<RunnerId>> {
        self.read("look for stale runners", move |db| collect::stale_runners(db, before))
    }

    fn purge_runners(&self, before: Timestamp, after: RunnerId) -> Answer<Purged> {
        self.write("purge runners", move |db| purge::purge_runners(db, before, after))
    }

    fn put_group(&self, scope: Scope, name: String, policy: GroupRequest) -> Answer<GroupRecord> {
        self.write("set a runner group", move |db| groups::put(db, scope, name, policy))
    }

    fn groups(&self) -> Answer<Vec<GroupRecord>> {
        self.read("list runner groups", groups::all)
    }

    fn group(&self, scope: Scope, name: String) -> Answer<Option<GroupRecord>> {
        self.read("read a runner group", move |db| groups::find(db, &scope, &name))
    }

    fn delete_group(&self, scope: Scope, name: String, now: Timestamp) -> Answer<bool> {
        self.write("delete a runner group", move |db| groups::delete(db, scope, &name, now))
    }

    fn put_secret(&self, scope: ValueScope, name: String, sealed: Vec<u8>, now: Timestamp) -> Answer<SecretRecord> {
        self.write("set a secret", move |db| values::put_secret(db, scope, &name, &sealed, now))
    }

    fn delete_secret(&self, scope: ValueScope, name: String) -> Answer<bool> {
        self.write("delete a secret", move |db| values::delete_secret(db, scope, &name))
    }

    fn secrets(&self, scope: ValueScope) -> Answer<Vec<SecretRecord>> {
        self.read("list secrets", move |db| values::secrets(db, scope))
    }

    fn sealed_secrets(&self, scopes: Vec<ValueScope>) -> Answer<Vec<SealedSecret>> {
        self.read("read secrets", move |db| values::sealed_secrets(db, scopes))
    }

    fn put_variable(&self, scope: ValueScope, name: String, value: String, now: Timestamp) -> Answer<VariableRecord> {
        self.write("set a variable", move |db| values::put_variable(db, scope, &name, value, now))
    }

    fn delete_variable(&self, scope: ValueScope, name: String) -> Answer<bool> {
        self.write("delete a variable", move |db| values::delete_variable(db, scope, &name))
    }

    fn variables(&self, scopes: Vec<ValueScope>) -> Answer<Vec<VariableRecord>> {
        self.read("list variables", move |db| values::variables(db, scopes))
    }

    fn append_audit(&self, entry: NewAudit) -> Answer<AuditRecord> {
        let digest = self.digest;
        self.write("write into the audit log", move |db| audit::append(db, entry, digest))
    }

    fn audit(&self, after: i64, limit: u32, filter: AuditFilter) -> Answer<Page<AuditRecord>> {
        self.read("read the audit log", move |db| audit::page(db, after, limit, &filter))
    }

    fn verify_audit(&self) -> Answer<AuditVerification> {
        let digest = self.digest;
        self.read("verify the audit log", move |db| audit::verify(db, digest))
    }

    fn purge_audit(&self, before: Timestamp, now: Timestamp) -> Answer<Purged> {
        let digest = self.digest;
        self.write("purge the audit log", move |db| audit::purge(db, before, now, digest))
    }

    fn create_run_taken(
        &self,
        run: NewRun,
        jobs: Vec<NewJob>,
        note: Note<CreatedRun>,
        taker: Taker,
    ) -> Answer<CreatedRun> {
        let digest = self.digest;
        let step = move |db: &Connection| {
            let (created, acquired) = runs::create(db, run, jobs, taker)?;
            let created = audit::noted(db, created, note, digest)?;
            let Some(runs::Acquired { untold, note, taken }) = acquired else { return Ok((created, None)) };
            let taken = match taken {
                Ok(taken) => Ok(audit::noted(db, taken, note, digest)?),
                Err(error) => Err(error),
            };
            Ok((created, Some((untold, taken))))
        };
        self.write_then("add a run", Undo::Batch, step, |(created, taken)| {
            if let Some((untold, taken)) = taken {
                untold.tell(taken);
            }
            created
        })
    }

    fn rename_run(&self, run: RunId, name: String) -> Answer<Option<RunRecord>> {
        self.write("rename a run", move |db| runs::rename(db, run, &name))
    }

    fn add_jobs(&self, run: RunId, jobs: Vec<NewJob>) -> Answer<Vec<JobRecord>> {
        self.write("add jobs", move |db| {
            let repository = runs::require(db, run)?.run.repository;
            jobs::add(db, run, &repository, jobs)
        })
    }

    fn release_job(&self, job: JobId, now: Timestamp) -> Answer<Option<JobRecord>> {
        self.write("release a job", move |db| jobs::release(db, job, now))
    }

    fn record_offer(&self, job: JobId, epoch: Epoch, runner: RunnerId) -> Answer<JobRecord> {
        self.write_as("record an offer", Undo::Batch, move |db| jobs::record_offer(db, job, epoch, runner))
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
        self.write_noted("acquire a job", note, move |db| {
            let job = jobs::acquire(db, job, epoch, runner, attempt, now)?;
            let message = jobs::message(db, job.id)?.unwrap_or_default();
            Ok(TakenJob { run: runs::require(db, job.run_id)?, job, message })
        })
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
        self.write("re-queue a job", move |db| jobs::requeue(db, job, epoch, attempt, requeues_left, reason, now))
    }

    fn update_steps(&self, job: JobId, epoch: Epoch, steps: Vec<StepRecord>) -> Answer<JobRecord> {
        self.write("update steps", move |db| jobs::update_steps(db, job, epoch, steps))
    }

    fn complete_noted(
        &self,
        job: JobId,
        epoch: Epoch,
        completion: Completion,
        now: Timestamp,
        note: Note<CompleteOutcome>,
    ) -> Answer<CompleteOutcome> {
        self.write_noted("complete a job", note, move |db| jobs::complete(db, job, epoch, completion, now))
    }

    fn conclude(
        &self,
        job: JobId,
        epoch: Epoch,
        conclusion: Conclusion,
        reason: String,
        now: Timestamp,
    ) -> Answer<JobRecord> {
        self.write("conclude a job", move |db| jobs::conclude(db, job, epoch, conclusion, reason, now))
    }

    fn request_job_cancel(&self, job: JobId, reason: String) -> Answer<Option<JobRecord>> {
        self.write("cancel a job", move |db| jobs::request_cancel(db, job, reason))
    }

    fn request_run_cancel(&self, run: RunId) -> Answer<Option<RunRecord>> {
        self.write("cancel a run", move |db| runs::request_cancel(db, run))
    }

    fn finish_run(&self, run: RunId, conclusion: Conclusion, reason: Option<String>, now: Timestamp) -> Answer<bool> {
        self.write("finish a run", move |db| runs::finish(db, run, conclusion, reason.as_deref(), now))
    }

    fn run(&self, run: RunId) -> Answer<Option<RunRecord>> {
        self.read("read a run", move |db| runs::find(db, run))
    }

    fn runs(&self, before: Option<RunId>, limit: u32) -> Answer<Page<RunRecord>> {
        self.read("list runs", move |db| runs::page(db, before, limit))
    }

    fn jobs_of_run(&self, run: RunId) -> Answer<Vec<JobRecord>> {
        self.read("list the jobs of a run", move |db| jobs::of_run(db, run))
    }

    fn job(&self, job: JobId) -> Answer<Option<JobRecord>> {
        self.read("read a job", move |db| jobs::find(db, job))
    }

    fn jobs(&self, status: Option<JobStatus>, before: Option<JobId>, limit: u32) -> Answer<Page<JobRecord>> {
        self.read("list jobs", move |db| jobs::page(db, status, before, limit))
    }

    fn job_message(&self, job: JobId) -> Answer<Option<String>> {
        self.read("read a job message", move |db| jobs::message(db, job))
    }

    fn unfinished(&self, after: RunId, limit: u32) -> Answer<Vec<UnfinishedRun>> {
        self.read("list unfinished runs", move |db| outline::unfinished(db, after, limit))
    }

    fn due_runs(&self, before: Timestamp, from: Option<PurgePlace>) -> Answer<DueRuns> {
        self.read("look for runs to purge", move |db| purge::due_runs(db, before, from))
    }

    fn purge_runs(&self, before: Timestamp, due: DueRuns) -> Answer<Purged> {
        self.write("purge runs", move |db| purge::purge_runs(db, before, &due))
    }

    fn probe(&self) -> Answer<()> {
        self.write("write a probe", |db| {
            // In the file's first page, where nothing else uses it.
            let last: i32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok(db.pragma_update(None, "user_version", (last + 1) % 1000)?)
        })
    }

    fn close(&self) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        let mut queues = held(&self.queues);
        if queues.is_none() {
            return Box::pin(std::future::ready(Err(Error::Closed)));
        }
        // The writer looks here when its queue has no senders left and it has drained it.
        *held(&self.closing) = Some(sender);
        self.closed.store(true, std::sync::atomic::Ordering::Relaxed);
        *queues = None;
        Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(engine("close", &"its thread ended early"))) })
    }
}
