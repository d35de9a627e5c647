//! What may run next: a pure function of a workflow and of the state of its jobs.
//!
//! The planner is level-triggered: [`advance`] looks at the whole state and says what is to be done; it remembers
//! nothing. It never says the same twice once its decisions are applied, so a caller may call it after each change, and
//! again after a crash.

mod again;
mod call;
mod concurrency;
mod job;
mod run;
mod scope;
mod selection;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::expression::Value;
use crate::model::{CompiledStep, FileName, Permissions};
use crate::template::Template;

pub use again::again;
pub use call::secrets;
pub use concurrency::{Claim, ClaimState, Held, claim_of_run};
pub use run::{advance, awaited, conclusion, pending};
pub use selection::{Selection, SelectionError};

/// Minutes that a job may take unless it says otherwise.
pub const DEFAULT_TIMEOUT_MINUTES: u32 = 360;
/// Minutes that a cancelled job may still take unless it says otherwise.
pub const DEFAULT_CANCEL_TIMEOUT_MINUTES: u32 = 5;

/// What is the same for all jobs of a run.
#[derive(Clone, Debug, Default)]
pub struct RunContext {
    /// The `github` context.
    pub github: Value,
    /// The `inputs` context.
    pub inputs: Value,
    /// The `vars` context.
    pub vars: Value,
    /// True once somebody cancelled the run.
    pub cancelled: bool,
    /// Why it was cancelled, where that is not because somebody did.
    pub cancel_reason: Option<String>,
    /// The file that is run, where it was called by another one.
    pub file: Option<FileName>,
    /// How the claims of its calls on concurrency groups stand, by their places (see [`Decision::Claim`]).
    pub claims: BTreeMap<String, ClaimState>,
    /// The groups that are held for as long as it lasts: its own, and those of its callers.
    pub held: Vec<Held>,
    /// The most that its jobs' tokens may do, where a caller has said that.
    pub permissions: Option<Permissions>,
    /// The part of the workflow that is run.
    pub selection: Selection,
}

/// How a job or a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conclusion {
    /// All went well.
    Success,
    /// Something failed.
    Failure,
    /// It was stopped.
    Cancelled,
    /// It did not run.
    Skipped,
}

impl Conclusion {
    /// The word in `needs.<id>.result`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// Where a job of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Held back by `max-parallel`.
    Waiting,
    /// In the line of its concurrency group, queued, offered or running.
    Active,
    /// Active, and told to stop; it is not told again.
    Cancelling,
    /// Ended.
    Done(Conclusion),
}

/// A job of a run: one for each job of the workflow, or several with a matrix.
///
/// A job of a called workflow has the key `caller.job`, or `caller[2].job` where the calling job has a matrix; the calling
/// job itself has an instance only for what did not start.
///
/// A job that was skipped or failed before it could start has one instance with index 0 that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Id of the job in the workflow.
    pub key: String,
    /// Number in its matrix, from 0.
    pub index: u32,
    /// Where it stands.
    pub state: InstanceState,
    /// Whether its failure counts as success for the run and for jobs that need it.
    pub continue_on_error: bool,
    /// Outputs it reported.
    pub outputs: BTreeMap<String, String>,
    /// Order of completion in the run; of jobs of one matrix, the outputs of the last one win.
    pub finished: u64,
}

impl Instance {
    /// One that has neither outputs nor an order of completion yet, and whose failure counts.
    #[must_use]
    pub fn new(key: impl Into<String>, index: u32, state: InstanceState) -> Self {
        Self { key: key.into(), index, state, continue_on_error: false, outputs: BTreeMap::new(), finished: 0 }
    }
}

/// Something to be done. What it means for the state is part of each.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The job does not run. Add an instance 0 that is done with [`Conclusion::Skipped`].
    Skip {
        /// Job.
        key: String,
        /// Display name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The job starts. Add these instances, [`InstanceState::Waiting`] if held, else [`InstanceState::Active`]. One that
    /// has a claim enters its group when it becomes active, and is queued when the group is its own.
    Expand {
        /// Job.
        key: String,
        /// In order; never empty.
        jobs: Vec<JobInstance>,
    },
    /// The job cannot start. Add an instance 0 that is done with [`Conclusion::Failure`].
    Fail {
        /// Job.
        key: String,
        /// Display name.
        name: String,
        /// Why; shown to the user.
        message: String,
    },
    /// A combination of a job that calls a workflow is given up before it began. Add an instance that is done with
    /// [`Conclusion::Cancelled`].
    Drop {
        /// Job.
        key: String,
        /// Number in its matrix.
        index: u32,
        /// Display name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A call must have a concurrency group before it begins. Put [`ClaimState::Waiting`] into [`RunContext::claims`] under
    /// the place, and what becomes of it.
    Claim {
        /// The claim's place: the beginning of the keys of the call's jobs (`caller`, `caller[2]`) for the calling job's
        /// group, the same with a full stop for that of the workflow that is called.
        place: String,
        /// The group.
        claim: Claim,
    },
    /// A call that had a claim has ended. Take the claim out of [`RunContext::claims`].
    Leave {
        /// The claim's place.
        place: String,
    },
    /// A waiting instance becomes active.
    Release {
        /// Job.
        key: String,
        /// Instance.
        index: u32,
    },
    /// An instance must stop. A waiting one is done with [`Conclusion::Cancelled`] at once; an active one becomes
    /// [`InstanceState::Cancelling`] until it ends. (A caller that leaves it active is told again.)
    Cancel {
        /// Job.
        key: String,
        /// Instance.
        index: u32,
        /// Why.
        reason: String,
    },
}

/// Where a job runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunsOn {
    /// Runner group.
    pub group: Option<String>,
    /// Labels, all of which a runner must have; compared without case.
    pub labels: Vec<String>,
}

/// The environment that a job deploys to.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Its name; never empty.
    pub name: String,
    /// Where what was deployed can be seen, for the worker to evaluate.
    pub url: Option<Template>,
}

/// A job, ready to be made into a job message.
#[derive(Clone, Debug, PartialEq)]
pub struct JobInstance {
    /// Key of the job in the run: its id, behind those of the jobs that call its workflow.
    pub key: String,
    /// Id of the job in its workflow.
    pub id: String,
    /// The file that it is in, where that was called by another one.
    pub file: Option<FileName>,
    /// The `inputs` context.
    pub inputs: Value,
    /// Number in its matrix, from 0.
    pub index: u32,
    /// Size of its matrix; 1 without.
    pub total: u32,
    /// Display name.
    pub name: String,
    /// True if `max-parallel` holds it back.
    pub held: bool,
    /// The concurrency group that it must have before it is queued.
    pub claim: Option<Claim>,
    /// Where it runs.
    pub runs_on: RunsOn,
    /// Minutes it may take.
    pub timeout_minutes: u32,
    /// Minutes it may still take once it is cancelled.
    pub cancel_timeout_minutes: u32,
    /// Whether its failure counts as success.
    pub continue_on_error: bool,
    /// What it deploys to.
    pub environment: Option<Deployment>,
    /// What its token may do: its own `permissions`, or else those of the workflow, never more than a caller's.
    pub permissions: Option<Permissions>,
    /// The `matrix` context; null without a matrix.
    pub matrix: Value,
    /// The `strategy` context.
    pub strategy: Value,
    /// The `needs` context: direct needs only.
    pub needs: Value,
    /// `env` of the workflow, then of the job.
    pub env: Arc<[Template]>,
    /// `defaults` of workflow and job, merged per key: a mapping `run` of `shell` and `working-directory`.
    pub defaults: Option<Template>,
    /// `container`.
    pub container: Option<Template>,
    /// `services`.
    pub services: Option<Template>,
    /// `outputs`.
    pub outputs: Option<Template>,
    /// Steps, shared by all jobs of a matrix.
    pub steps: Arc<[CompiledStep]>,
}
