//! The steps of the Actions protocol, each handed to the writer or to a reader.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;

use super::{Sqlite, runners, scale_sets};
use crate::Answer;
use crate::actions::ActionsStore;
use crate::record::{NewScaleSet, RunnerRecord, ScaleSetChanges, ScaleSetRecord};

impl ActionsStore for Sqlite {
    fn create_scale_set(&self, set: NewScaleSet) -> Answer<ScaleSetRecord> {
        self.write("add a scale set", move |db| scale_sets::create(db, set))
    }

    fn scale_set(&self, id: i64) -> Answer<Option<ScaleSetRecord>> {
        self.read("read a scale set", move |db| scale_sets::find(db, id))
    }

    fn scale_sets(&self, scope: Scope) -> Answer<Vec<ScaleSetRecord>> {
        self.read("list scale sets", move |db| scale_sets::of(db, &scope))
    }

    fn update_scale_set(&self, id: i64, changes: ScaleSetChanges) -> Answer<Option<ScaleSetRecord>> {
        self.write("change a scale set", move |db| scale_sets::update(db, id, changes))
    }

    fn delete_scale_set(&self, id: i64, now: Timestamp) -> Answer<Option<Vec<RunnerId>>> {
        self.write("delete a scale set", move |db| scale_sets::delete(db, id, now))
    }

    fn next_scale_set_message(&self, id: i64, count: u32) -> Answer<i64> {
        self.write("give a scale set message ids", move |db| scale_sets::next_message(db, id, count))
    }

    fn scale_set_runners(&self, id: i64) -> Answer<Vec<RunnerRecord>> {
        self.read("list the runners of a scale set", move |db| runners::of_scale_set(db, id))
    }
}
