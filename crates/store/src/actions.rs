//! The part of [`crate::Store`] that only the Actions protocol needs.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;

use crate::Answer;
use crate::record::{NewScaleSet, RunnerRecord, ScaleSetChanges, ScaleSetRecord};

/// Durable state of scale sets.
pub trait ActionsStore: Send + Sync + 'static {
    // Scale sets. Groups and names are compared without case.

    /// Adds a scale set. [`crate::Error::NoGroup`], [`crate::Error::ScaleSetExists`].
    fn create_scale_set(&self, set: NewScaleSet) -> Answer<ScaleSetRecord>;
    /// One scale set.
    fn scale_set(&self, id: i64) -> Answer<Option<ScaleSetRecord>>;
    /// The scale sets of this very scope, by id.
    fn scale_sets(&self, scope: startline_protocol::scope::Scope) -> Answer<Vec<ScaleSetRecord>>;
    /// Changes a scale set; its runners stay as they are. `None` when there is no such set.
    /// [`crate::Error::NoGroup`], [`crate::Error::ScaleSetExists`].
    fn update_scale_set(&self, id: i64, changes: ScaleSetChanges) -> Answer<Option<ScaleSetRecord>>;
    /// Deletes a scale set and the registrations of those of its runners that hold no job, neither offered nor running;
    /// answers which, by id. `None` when there is no such set.
    fn delete_scale_set(&self, id: i64, now: Timestamp) -> Answer<Option<Vec<RunnerId>>>;
    /// Gives `count` message ids that follow each other and answers the first. The ids of a set begin at 1 and are never
    /// given again. [`crate::Error::NoScaleSet`].
    fn next_scale_set_message(&self, id: i64, count: u32) -> Answer<i64>;
    /// The registrations of a scale set that are not deleted, by id; those that are left of a deleted set too.
    fn scale_set_runners(&self, id: i64) -> Answer<Vec<RunnerRecord>>;
}
