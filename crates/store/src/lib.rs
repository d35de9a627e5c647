//! Durable state as domain transactions, over SQLite and memory, and logs as files.
//!
//! Each method of [`Store`] is one atomic step; nothing outside this room sees SQL or a transaction. A returned future
//! resolves only when the step is durable. The command itself is handed to the writer when the method is *called*, not
//! when the future is first polled, so that the order of calls is the order of effects, and a caller that goes away
//! does not undo a step. Fencing by epoch makes late or repeated steps harmless.
//!
//! A read sees every step whose answer came before the read was called. Times are kept to the microsecond. A step that
//! answers an error changed nothing; besides the errors that a method names, each may answer [`Error::Engine`] and
//! [`Error::Closed`], and one that is given a job answers [`Error::NoJob`] unless it can answer `None`.
//!
//! The room stores; it does not decide. Who gets which job is the dispatcher's, what follows a job the planner's.

mod actions;
pub mod blobs;
mod claims;
mod directory;
mod error;
pub mod logs;
pub mod memory;
mod note;
mod record;
pub mod sqlite;
mod taker;

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;
use startline_protocol::admin_api::{AuditVerification, GroupRequest};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::step::StepRecord;
use startline_protocol::value_scope::ValueScope;
use uuid::Uuid;

pub use actions::ActionsStore;
pub use claims::ClaimStore;
pub use error::Error;
pub use note::Note;
pub use record::{
    ActionsRunner, ApiTokenRecord, ArtifactRecord, AuditFilter, AuditRecord, BegunJob, CacheRecord, ClaimRecord,
    CompleteOutcome, Completion, CreatedArtifact, CreatedRun, DEFAULT_GROUP, Demand, Digest, DueRuns, GroupRecord,
    Hash, JobOutline, JobRecord, NewApiToken, NewArtifact, NewAudit, NewCache, NewClaim, NewJob, NewRegistrationToken,
    NewRun, NewRunner, NewRunnerToken, NewScaleSet, Page, PurgePlace, Purged, Registered, RegistrationTokenRecord,
    RunRecord, RunnerRecord, ScaleSetChanges, ScaleSetRecord, SealedSecret, SecretRecord, TakenJob, TokenBearer,
    Tokens, UnfinishedRun, VariableRecord, Wanted,
};
pub use taker::{Outcome, Taker, Taking};

/// The answer of a store: resolves when the step is durable.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'static>>;

/// How many things one step of clearing up takes at most, so that it does not hold the others up.
pub const COLLECTED: u32 = 1000;
/// How many runs one step of a purge takes at most: some milliseconds, because what dispatches jobs waits for it.
pub const PURGED_RUNS: usize = 64;
/// How many jobs it takes at most; a run with more is purged in several steps.
pub const PURGED_JOBS: usize = 128;
/// How many registrations it takes at most.
pub const PURGED_RUNNERS: u32 = 64;
/// How many lines of the audit log it takes at most.
pub const PURGED_LINES: usize = 512;
/// How many runs or registrations it looks at, at most.
const PURGE_LOOKS: u32 = 1024;

/// Durable state. What only the Actions protocol needs is in [`ActionsStore`], concurrency groups are in
/// [`ClaimStore`].
pub trait Store: ActionsStore + ClaimStore {
    // Tokens.

    /// Adds an API token.
    fn create_api_token(&self, token: NewApiToken) -> Answer<ApiTokenRecord>;
    /// The API token with this hash, an expired or revoked one too.
    fn api_token(&self, hash: Hash) -> Answer<Option<ApiTokenRecord>>;
    /// Whether there ever was an API token: false on the first start.
    fn has_api_tokens(&self) -> Answer<bool>;
    /// Adds a registration token. [`Error::NoGroup`].
    fn create_registration_token(&self, token: NewRegistrationToken) -> Answer<RegistrationTokenRecord>;
    /// The registration token with this hash, one that cannot be used any more too.
    fn registration_token(&self, hash: Hash) -> Answer<Option<RegistrationTokenRecord>>;
    /// All API and registration tokens that were not purged, by id.
    fn tokens(&self) -> Answer<Tokens>;
    /// Revokes an API token; false when it was revoked before or is unknown.
    fn revoke_api_token(&self, id: i64, now: Timestamp) -> Answer<bool>;
    /// Revokes a registration token; false when it was revoked before or is unknown. Its runners stay.
    fn revoke_registration_token(&self, id: i64, now: Timestamp) -> Answer<bool>;
    /// Deletes API and registration tokens that were revoked or expired before `before`, and runner tokens that expired
    /// before it. At most [`COLLECTED`] of each kind at once; answers how many in all, so that 0 means done.
    fn purge_tokens(&self, before: Timestamp) -> Answer<u32>;

    // Runners and their groups.

    /// Registers a runner with the registration token of this hash and counts the use, in one step.
    /// [`Error::TokenUnknown`], [`Error::TokenRevoked`], [`Error::TokenExpired`], [`Error::TokenExhausted`],
    /// [`Error::LabelNotAllowed`] and [`Error::LabelProtected`] (which name all of them), [`Error::NoGroup`],
    /// [`Error::NameTaken`] unless `replace`, when another runner of the scope has the name. The token decides scope, group and, when set there, `ephemeral`. A label
    /// that the group protects needs a token that names it. Names and labels are compared without case. A refused
    /// registration is not a use.
    fn register_runner(&self, registration: Hash, runner: NewRunner, now: Timestamp) -> Answer<Registered>;
    /// Adds a runner token; tokens of the runner that live longer than `now` + 2 min are shortened to that.
    /// [`Error::RunnerGone`].
    fn renew_runner_token(&self, runner: RunnerId, token: Hash, expires_at: Timestamp, now: Timestamp) -> Answer<()>;
    /// The runner that a token speaks for: `None` when unknown or expired at `now`. A deleted runner's token answers
    /// [`Error::RunnerGone`], expired or not until it is purged, so that its bearer learns to register anew.
    fn runner_by_token(&self, token: Hash, now: Timestamp) -> Answer<Option<TokenBearer>>;
    /// The runner with this client id of the Actions protocol. A deleted one answers [`Error::RunnerGone`].
    fn runner_by_client(&self, client_id: Uuid) -> Answer<Option<RunnerRecord>>;
    /// Adds a runner without a registration token, on behalf of who may administer the scope: protected labels need not
    /// be named anywhere. [`Error::NoGroup`], [`Error::NoScaleSet`], [`Error::NameTaken`] unless `replace`.
    fn create_runner(&self, scope: Scope, group: String, runner: NewRunner, now: Timestamp) -> Answer<Registered>;
    /// Replaces a runner's labels. [`Error::RunnerGone`].
    fn set_runner_labels(&self, runner: RunnerId, labels: Vec<String>) -> Answer<RunnerRecord>;
    /// Replaces the version of a runner's program. [`Error::RunnerGone`].
    fn update_runner_version(&self, runner: RunnerId, version: String) -> Answer<()>;
    /// Replaces a runner's capabilities. [`Error::RunnerGone`].
    fn update_capabilities(&self, runner: RunnerId, capabilities: Capabilities) -> Answer<()>;
    /// Writes down when these runners were last seen, where that is later than what is known. Runners that are gone are
    /// passed over.
    fn touch_runners(&self, seen: Vec<(RunnerId, Timestamp)>) -> Answer<()>;
    /// Deletes a registration; false when it is gone already.
    fn delete_runner(&self, runner: RunnerId, now: Timestamp) -> Answer<bool>;
    /// One registration that is not deleted.
    fn runner(&self, runner: RunnerId) -> Answer<Option<RunnerRecord>>;
    /// All registrations that are not deleted, by id.
    fn runners(&self) -> Answer<Vec<RunnerRecord>>;
    /// Ephemeral runners that registered before `before` and hold no job, neither offered nor running, by id; at most
    /// [`COLLECTED`].
    fn expired_ephemeral_runners(&self, before: Timestamp) -> Answer<Vec<RunnerId>>;
    /// Other runners that were last seen (or, if never, registered) before `before` and hold no job, by id; at most
    /// [`COLLECTED`].
    fn stale_runners(&self, before: Timestamp) -> Answer<Vec<RunnerId>>;

    /// Makes a group or replaces its policy. Names are compared without case; the new spelling is kept.
    ///
    /// A runner or token that names a group means the innermost of that name among those of the scopes that its own lies
    /// in, at any moment: making a group may move runners into it.
    fn put_group(&self, scope: Scope, name: String, policy: GroupRequest) -> Answer<GroupRecord>;
    /// All groups, by scope and name.
    fn groups(&self) -> Answer<Vec<GroupRecord>>;
    /// The group of this name that belongs to this very scope.
    fn group(&self, scope: Scope, name: String) -> Answer<Option<GroupRecord>>;
    /// Deletes a group; false when there is none. [`Error::DefaultGroup`], [`Error::GroupInUse`] while registered
    /// runners are in it or registration tokens for it can be used at `now`.
    fn delete_group(&self, scope: Scope, name: String, now: Timestamp) -> Answer<bool>;

    // Secrets and variables. Names are kept in upper case and compared without case.

    /// Sets a secret. [`Error::TooMany`] when it would be the 101st of its scope.
    fn put_secret(&self, scope: ValueScope, name: String, sealed: Vec<u8>, now: Timestamp) -> Answer<SecretRecord>;
    /// Deletes a secret; false when there is none.
    fn delete_secret(&self, scope: ValueScope, name: String) -> Answer<bool>;
    /// The secrets of one scope without their values, by name.
    fn secrets(&self, scope: ValueScope) -> Answer<Vec<SecretRecord>>;
    /// The secrets of these scopes with their values, in the order of the scopes and then by name.
    fn sealed_secrets(&self, scopes: Vec<ValueScope>) -> Answer<Vec<SealedSecret>>;
    /// Sets a variable. [`Error::TooMany`] when it would be the 501st of its scope.
    fn put_variable(&self, scope: ValueScope, name: String, value: String, now: Timestamp) -> Answer<VariableRecord>;
    /// Deletes a variable; false when there is none.
    fn delete_variable(&self, scope: ValueScope, name: String) -> Answer<bool>;
    /// The variables of these scopes, in the order of the scopes and then by name.
    fn variables(&self, scopes: Vec<ValueScope>) -> Answer<Vec<VariableRecord>>;

    /// Deletes what is left of registrations that were deleted before `before`, with their tokens, which nobody knows from
    /// then on; at most [`PURGED_RUNNERS`]. Looks at those behind `after`, up to the first that was made later; answers where the next step begins.
    fn purge_runners(&self, before: Timestamp, after: RunnerId) -> Answer<Purged>;

    // The audit log. It grows at its end, and is purged from its beginning.

    /// Writes a line at the end of the audit log.
    fn append_audit(&self, entry: NewAudit) -> Answer<AuditRecord>;
    /// The lines behind `after` that the filter admits, oldest first.
    fn audit(&self, after: i64, limit: u32, filter: AuditFilter) -> Answer<Page<AuditRecord>>;
    /// Follows the chain from the first line to the last or to the first that does not fit. `records` counts those that
    /// do. The chain begins behind the last line that was purged, and must have a line that tells of that purge. Takes
    /// little memory, but time: a second for some hundred thousand lines.
    fn verify_audit(&self) -> Answer<AuditVerification>;
    /// Deletes the first lines, as far as they were written before `before`, at most [`PURGED_LINES`]; writes a line that
    /// tells which, in the same step. Answers whether there may be more.
    fn purge_audit(&self, before: Timestamp, now: Timestamp) -> Answer<Purged>;

    // Runs and jobs.

    /// Adds a run with its first jobs. The run gets the next number of its repository and workflow path. A job that is
    /// listed twice under one (key, index) is added once. When a run with the same `idempotency` was created in the 24
    /// hours before, that one is answered instead, with its jobs, and nothing is added.
    fn create_run(&self, run: NewRun, jobs: Vec<NewJob>) -> Answer<CreatedRun> {
        self.create_run_noted(run, jobs, Note::none())
    }
    /// The same, with a line of the audit log in the same step.
    fn create_run_noted(&self, run: NewRun, jobs: Vec<NewJob>, note: Note<CreatedRun>) -> Answer<CreatedRun> {
        self.create_run_taken(run, jobs, note, Taker::none())
    }
    /// The same; and of a new run that has one job, which is queued, `taker` may acquire that in the same step. The answer is
    /// the job as it was before; what became of the acquisition is told to the taker.
    fn create_run_taken(
        &self,
        run: NewRun,
        jobs: Vec<NewJob>,
        note: Note<CreatedRun>,
        taker: Taker,
    ) -> Answer<CreatedRun>;
    /// Gives a run another display name. `None` when there is no such run.
    fn rename_run(&self, run: RunId, name: String) -> Answer<Option<RunRecord>>;
    /// Adds jobs to a run and returns those that were new; one that exists already under its (key, index) is left.
    /// [`Error::NoRun`].
    fn add_jobs(&self, run: RunId, jobs: Vec<NewJob>) -> Answer<Vec<JobRecord>>;
    /// `waiting` to `queued`, now and without its reason; `None` when it was not waiting.
    fn release_job(&self, job: JobId, now: Timestamp) -> Answer<Option<JobRecord>>;
    /// `queued` to `offered` under a higher epoch. [`Error::StaleEpoch`] when `epoch` is not higher than the job's or
    /// the job is not queued, [`Error::RunnerGone`].
    fn record_offer(&self, job: JobId, epoch: Epoch, runner: RunnerId) -> Answer<JobRecord>;
    /// To `running`: from `offered` to this runner under this epoch, or from `queued` under a higher one (an offer and its acquisition
    /// in one step). Sets `started_at`, the runner and the attempt, clears steps of an earlier attempt, and starts the
    /// run. An exact repeat answers the same. [`Error::StaleEpoch`] otherwise, [`Error::RunnerGone`].
    fn acquire(
        &self,
        job: JobId,
        epoch: Epoch,
        runner: RunnerId,
        attempt: u32,
        now: Timestamp,
    ) -> Answer<(RunRecord, JobRecord)> {
        let taken = self.acquire_noted(job, epoch, runner, attempt, now, Note::none());
        Box::pin(async move { taken.await.map(|taken| (taken.run, taken.job)) })
    }
    /// The same, with a line of the audit log in the same step; answers the job message too.
    fn acquire_noted(
        &self,
        job: JobId,
        epoch: Epoch,
        runner: RunnerId,
        attempt: u32,
        now: Timestamp,
        note: Note<TakenJob>,
    ) -> Answer<TakenJob>;
    /// Back to `queued` from `offered` or `running` under this epoch, with the attempt to come, the budget left
    /// and the reason. It keeps its place, and who had it and the steps until it is acquired again. An exact repeat
    /// answers the same. [`Error::StaleEpoch`] otherwise. When the attempt counted, that is when a running job is to
    /// have a higher one, the registration of its runner is deleted in the same step if that is ephemeral.
    fn requeue(
        &self,
        job: JobId,
        epoch: Epoch,
        attempt: u32,
        requeues_left: u32,
        reason: String,
        now: Timestamp,
    ) -> Answer<JobRecord>;
    /// Replaces the steps of a running job. [`Error::StaleEpoch`] when it is not running under this epoch.
    fn update_steps(&self, job: JobId, epoch: Epoch, steps: Vec<StepRecord>) -> Answer<JobRecord>;
    /// `running` to `completed` under this epoch. A repeat under the same epoch answers `AlreadyCompleted` and changes
    /// nothing, also when the service concluded the job under that epoch. [`Error::StaleEpoch`] otherwise. An ephemeral
    /// runner has had its job then: its registration is deleted in the same step. So does the run end, where
    /// [`Completion::ends_run`] says so.
    fn complete(&self, job: JobId, epoch: Epoch, completion: Completion, now: Timestamp) -> Answer<CompleteOutcome> {
        self.complete_noted(job, epoch, completion, now, Note::none())
    }
    /// The same, with a line of the audit log in the same step.
    fn complete_noted(
        &self,
        job: JobId,
        epoch: Epoch,
        completion: Completion,
        now: Timestamp,
        note: Note<CompleteOutcome>,
    ) -> Answer<CompleteOutcome>;
    /// To `completed` from any other state when the service itself concludes (cancelled before it ran, lost). `epoch`
    /// must be the job's current one; [`Error::StaleEpoch`] otherwise, also when it is completed already. When the job
    /// was running, the registration of its runner is deleted in the same step if that is ephemeral.
    fn conclude(
        &self,
        job: JobId,
        epoch: Epoch,
        conclusion: Conclusion,
        reason: String,
        now: Timestamp,
    ) -> Answer<JobRecord>;
    /// Marks a job so that its holder is told to stop; keeps the first reason. No change when it is completed; `None`
    /// when there is no such job.
    fn request_job_cancel(&self, job: JobId, reason: String) -> Answer<Option<JobRecord>>;
    /// Marks a run as to be cancelled; no change when it is completed. `None` when there is no such run.
    fn request_run_cancel(&self, run: RunId) -> Answer<Option<RunRecord>>;
    /// Gives a run its conclusion, with the reason if there is one to tell, and takes out its claims; false when it had
    /// one. [`Error::NoRun`].
    fn finish_run(&self, run: RunId, conclusion: Conclusion, reason: Option<String>, now: Timestamp) -> Answer<bool>;

    /// One run.
    fn run(&self, run: RunId) -> Answer<Option<RunRecord>>;
    /// Runs, newest first, with ids below `before`.
    fn runs(&self, before: Option<RunId>, limit: u32) -> Answer<Page<RunRecord>>;
    /// The jobs of a run, in order of creation.
    fn jobs_of_run(&self, run: RunId) -> Answer<Vec<JobRecord>>;
    /// One job.
    fn job(&self, job: JobId) -> Answer<Option<JobRecord>>;
    /// Jobs, newest first, with ids below `before`, in this state if one is given.
    fn jobs(&self, status: Option<JobStatus>, before: Option<JobId>, limit: u32) -> Answer<Page<JobRecord>>;
    /// The job message of a job as JSON text, without secrets.
    fn job_message(&self, job: JobId) -> Answer<Option<String>>;
    /// Runs without a conclusion and with ids above `after`, by id, with outlines of all their jobs: what a start must
    /// take up again. At most `limit` runs, and fewer when they have many jobs; none when there are no more.
    fn unfinished(&self, after: RunId, limit: u32) -> Answer<Vec<UnfinishedRun>>;

    /// Some of the runs that completed before `before`, with those of their jobs that have ended, from `from` on: what one
    /// [`Store::purge_runs`] takes. Looks at runs in the order of ids, up to the first that was submitted later.
    fn due_runs(&self, before: Timestamp, from: Option<PurgePlace>) -> Answer<DueRuns>;
    /// Deletes those of these jobs and runs that are due, with all that is kept of them. A run goes once it has no jobs.
    /// The latest job and the latest run of a workflow go last of all, so that no number is given twice.
    fn purge_runs(&self, before: Timestamp, due: DueRuns) -> Answer<Purged>;

    /// Writes and commits something that means nothing: answers when steps become durable.
    fn probe(&self) -> Answer<()>;

    /// Writes what is pending and ends the writer; later calls answer [`Error::Closed`].
    fn close(&self) -> Answer<()>;
}
