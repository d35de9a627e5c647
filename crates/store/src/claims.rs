//! The part of the contract that is about concurrency groups.

use startline_protocol::ids::RunId;
use startline_protocol::state::ClaimState;

use crate::{Answer, ClaimRecord, NewClaim};

/// The lines in front of concurrency groups. Who gets a group is not decided here.
pub trait ClaimStore: Send + Sync + 'static {
    /// Puts a claim at the end of its group's line, as `waiting`. A claim that the run has at this place already is answered
    /// as it stands, and nothing is changed. [`crate::Error::NoRun`] when there is no such run without a conclusion,
    /// [`crate::Error::NoJob`].
    fn add_claim(&self, claim: NewClaim) -> Answer<ClaimRecord>;
    /// Says how a claim stands. The reason for which one waits becomes that of its job, if the job waits, or of the run,
    /// if the claim is the run's own; a grant takes the run's reason away. `None` when the claim is gone.
    fn settle_claim(&self, id: i64, state: ClaimState, reason: Option<String>) -> Answer<Option<ClaimRecord>>;
    /// Takes a claim out of its line; false when it is gone already. Those of a run go with its conclusion.
    fn remove_claim(&self, id: i64) -> Answer<bool>;
    /// The claims on a group, first come first.
    fn claims_on(&self, group_key: String) -> Answer<Vec<ClaimRecord>>;
    /// The claims of a run, first come first.
    fn claims_of(&self, run: RunId) -> Answer<Vec<ClaimRecord>>;
    /// The groups that anybody has or wants.
    fn claimed_groups(&self) -> Answer<Vec<String>>;
}
