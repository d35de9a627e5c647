//! Somebody who takes the job of a new run in the step that makes it, so that both are one commit.

use std::fmt;

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, RunnerId};
use startline_protocol::state::JobStatus;

use crate::{Error, JobRecord, NewJob, Note, TakenJob};

/// Says who takes a job, if anybody, while the step that makes it is executed. Asked on the writer's thread, so it must be
/// quick; it may call the store, whose answers it cannot wait for.
pub struct Taker(Option<Decision>);

type Decision = Box<dyn FnOnce(&JobRecord) -> Option<Taking> + Send>;

/// An acquisition, as [`crate::Store::acquire_noted`] would have it for the first attempt.
pub struct Taking {
    /// The job's first.
    pub epoch: Epoch,
    /// Who.
    pub runner: RunnerId,
    /// When.
    pub now: Timestamp,
    /// The line of the audit log.
    pub note: Note<TakenJob>,
    /// Told what became of it before the step is answered and before any step behind its commit is executed: the job once it
    /// is durable that it is taken; else why it is not, in which case it may not be there at all, as the answer of the step
    /// says.
    pub outcome: Outcome,
}

/// Takes what became of an acquisition.
pub type Outcome = Box<dyn FnOnce(Result<TakenJob, Error>) + Send>;

impl Taker {
    /// Asks `decide`.
    #[must_use]
    pub fn new(decide: impl FnOnce(&JobRecord) -> Option<Taking> + Send + 'static) -> Self {
        Self(Some(Box::new(decide)))
    }

    /// Nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether somebody is to be asked, if these are the jobs of a new run.
    pub(crate) fn is_for(&self, jobs: &[NewJob]) -> bool {
        self.0.is_some() && matches!(jobs, [job] if job.status == JobStatus::Queued)
    }

    /// Who takes this job.
    pub(crate) fn decide(self, job: &JobRecord) -> Option<Taking> {
        self.0.and_then(|decide| decide(job))
    }
}

/// An acquisition of which nothing was told yet. Dropped, it tells that the step was undone.
pub(crate) struct Untold(Option<Outcome>);

impl Untold {
    pub(crate) const fn new(outcome: Outcome) -> Self {
        Self(Some(outcome))
    }

    pub(crate) fn tell(mut self, taken: Result<TakenJob, Error>) {
        if let Some(outcome) = self.0.take() {
            outcome(taken);
        }
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            outcome(Err(Error::Engine { operation: "acquire a new job", message: "its step was undone".to_owned() }));
        }
    }
}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Taker({})", if self.0.is_some() { "somebody" } else { "nobody" })
    }
}

impl fmt::Debug for Taking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taking").field("epoch", &self.epoch).field("runner", &self.runner).finish_non_exhaustive()
    }
}
