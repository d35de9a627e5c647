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

mod directory;
mod error;
pub mod logs;
pub mod memory;
mod record;
pub mod sqlite;

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::step::StepRecord;

pub use error::Error;
pub use record::{
    ApiTokenRecord, CompleteOutcome, Completion, Hash, JobRecord, NewApiToken, NewJob, NewRegistrationToken, NewRun,
    NewRunner, Page, Registered, RegistrationTokenRecord, RunRecord, RunnerRecord,
};

/// The answer of a store: resolves when the step is durable.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'static>>;

/// Durable state.
pub trait Store: Send + Sync + 'static {
    // Tokens and runners.

    /// Adds an API token.
    fn create_api_token(&self, token: NewApiToken) -> Answer<ApiTokenRecord>;
    /// The API token with this hash, an expired one too.
    fn api_token(&self, hash: Hash) -> Answer<Option<ApiTokenRecord>>;
    /// Whether any API token exists: false on the first start.
    fn has_api_tokens(&self) -> Answer<bool>;
    /// Adds a registration token.
    fn create_registration_token(&self, token: NewRegistrationToken) -> Answer<RegistrationTokenRecord>;
    /// Registers a runner with the registration token of this hash and counts the use, in one step.
    /// [`Error::TokenUnknown`], [`Error::TokenExpired`], [`Error::TokenExhausted`], [`Error::LabelNotAllowed`] (names
    /// all of them), [`Error::NameTaken`] unless `replace`. The token decides group and, when set there, `ephemeral`. Names and labels
    /// are compared without case. A refused registration is not a use.
    fn register_runner(&self, registration: Hash, runner: NewRunner, now: Timestamp) -> Answer<Registered>;
    /// Adds a runner token; tokens of the runner that live longer than `now` + 2 min are shortened to that.
    /// [`Error::RunnerGone`].
    fn renew_runner_token(&self, runner: RunnerId, token: Hash, expires_at: Timestamp, now: Timestamp) -> Answer<()>;
    /// The runner that a token speaks for: `None` when unknown or expired at `now`. A deleted runner's token answers
    /// [`Error::RunnerGone`], expired or not, so that its bearer learns to register anew.
    fn runner_by_token(&self, token: Hash, now: Timestamp) -> Answer<Option<RunnerRecord>>;
    /// Replaces a runner's capabilities. [`Error::RunnerGone`].
    fn update_capabilities(&self, runner: RunnerId, capabilities: Capabilities) -> Answer<()>;
    /// Deletes a registration; false when it is gone already.
    fn delete_runner(&self, runner: RunnerId, now: Timestamp) -> Answer<bool>;
    /// One registration that is not deleted.
    fn runner(&self, runner: RunnerId) -> Answer<Option<RunnerRecord>>;
    /// All registrations that are not deleted, by id.
    fn runners(&self) -> Answer<Vec<RunnerRecord>>;

    // Runs and jobs.

    /// Adds a run with its first jobs. The run gets the next number of its repository and workflow path. A job that is
    /// listed twice under one (key, index) is added once.
    fn create_run(&self, run: NewRun, jobs: Vec<NewJob>) -> Answer<(RunRecord, Vec<JobRecord>)>;
    /// Adds jobs to a run and returns those that were new; one that exists already under its (key, index) is left.
    /// [`Error::NoRun`].
    fn add_jobs(&self, run: RunId, jobs: Vec<NewJob>) -> Answer<Vec<JobRecord>>;
    /// `waiting` to `queued`, now and without its reason; `None` when it was not waiting.
    fn release_job(&self, job: JobId, now: Timestamp) -> Answer<Option<JobRecord>>;
    /// `queued` to `offered` under a higher epoch. [`Error::StaleEpoch`] when `epoch` is not higher than the job's or
    /// the job is not queued, [`Error::RunnerGone`].
    fn record_offer(&self, job: JobId, epoch: Epoch, runner: RunnerId) -> Answer<()>;
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
    ) -> Answer<(RunRecord, JobRecord)>;
    /// Back to `queued` from `offered` or `running` under this epoch, with the attempt to come, the budget left
    /// and the reason. It keeps its place, and who had it and the steps until it is acquired again. An exact repeat
    /// answers the same. [`Error::StaleEpoch`] otherwise.
    fn requeue(&self, job: JobId, epoch: Epoch, attempt: u32, requeues_left: u32, reason: String) -> Answer<JobRecord>;
    /// Replaces the steps of a running job. [`Error::StaleEpoch`] when it is not running under this epoch.
    fn update_steps(&self, job: JobId, epoch: Epoch, steps: Vec<StepRecord>) -> Answer<JobRecord>;
    /// `running` to `completed` under this epoch. A repeat under the same epoch answers `AlreadyCompleted` and changes
    /// nothing, also when the service concluded the job under that epoch. [`Error::StaleEpoch`] otherwise.
    fn complete(&self, job: JobId, epoch: Epoch, completion: Completion, now: Timestamp) -> Answer<CompleteOutcome>;
    /// To `completed` from any other state when the service itself concludes (cancelled before it ran, lost). `epoch`
    /// must be the job's current one; [`Error::StaleEpoch`] otherwise, also when it is completed already.
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
    /// Gives a run its conclusion; false when it had one. [`Error::NoRun`].
    fn finish_run(&self, run: RunId, conclusion: Conclusion, now: Timestamp) -> Answer<bool>;

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
    /// Runs without a conclusion, with all their jobs: what a start must take up again.
    fn unfinished(&self) -> Answer<Vec<(RunRecord, Vec<JobRecord>)>>;

    /// Writes what is pending and ends the writer; later calls answer [`Error::Closed`].
    fn close(&self) -> Answer<()>;
}
