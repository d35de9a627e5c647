//! The steps of the Actions protocol.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;

use super::Memory;
use crate::Answer;
use crate::actions::ActionsStore;
use crate::record::{NewScaleSet, RunnerRecord, ScaleSetChanges, ScaleSetRecord};

impl ActionsStore for Memory {
    fn create_scale_set(&self, set: NewScaleSet) -> Answer<ScaleSetRecord> {
        self.step(|state| state.create_scale_set(set))
    }

    fn scale_set(&self, id: i64) -> Answer<Option<ScaleSetRecord>> {
        self.step(|state| Ok(state.scale_sets.get(&id).cloned()))
    }

    fn scale_sets(&self, scope: Scope) -> Answer<Vec<ScaleSetRecord>> {
        self.step(|state| Ok(state.scale_sets.values().filter(|record| record.set.scope == scope).cloned().collect()))
    }

    fn update_scale_set(&self, id: i64, changes: ScaleSetChanges) -> Answer<Option<ScaleSetRecord>> {
        self.step(|state| state.update_scale_set(id, changes))
    }

    fn delete_scale_set(&self, id: i64, _now: Timestamp) -> Answer<Option<Vec<RunnerId>>> {
        self.step(|state| Ok(state.delete_scale_set(id)))
    }

    fn next_scale_set_message(&self, id: i64, count: u32) -> Answer<i64> {
        self.step(|state| state.next_scale_set_message(id, count))
    }

    fn scale_set_runners(&self, id: i64) -> Answer<Vec<RunnerRecord>> {
        self.step(|state| {
            let live = state.runners.values().filter(|known| !known.deleted).map(|known| &known.record);
            Ok(live.filter(|runner| runner.is_of(id)).cloned().collect())
        })
    }
}
