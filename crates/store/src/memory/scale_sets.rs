//! Scale sets.

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunnerId};

use super::State;
use crate::error::Error;
use crate::record::{BegunJob, NewScaleSet, ScaleSetChanges, ScaleSetRecord, kept, name_key};

impl State {
    pub(super) fn create_scale_set(&mut self, mut set: NewScaleSet) -> Result<ScaleSetRecord, Error> {
        self.check_scale_set(None, &set)?;
        set.created_at = kept(set.created_at);
        self.last_scale_set += 1;
        let record = ScaleSetRecord { id: self.last_scale_set, last_message_id: 0, set };
        self.scale_sets.insert(record.id, record.clone());
        Ok(record)
    }

    pub(super) fn update_scale_set(
        &mut self,
        id: i64,
        changes: ScaleSetChanges,
    ) -> Result<Option<ScaleSetRecord>, Error> {
        let Some(mut record) = self.scale_sets.get(&id).cloned() else { return Ok(None) };
        changes.apply(&mut record.set);
        self.check_scale_set(Some(id), &record.set)?;
        self.scale_sets.insert(id, record.clone());
        Ok(Some(record))
    }

    pub(super) fn delete_scale_set(&mut self, id: i64, now: Timestamp) -> Option<Vec<RunnerId>> {
        self.scale_sets.remove(&id)?;
        self.begun_jobs.retain(|(set, _), _| *set != id);
        let idle = self.idle(|runner| runner.is_of(id)).collect::<Vec<_>>();
        for runner in &idle {
            self.delete_runner(*runner, now);
        }
        Some(idle)
    }

    pub(super) fn next_scale_set_message(&mut self, id: i64, count: u32) -> Result<i64, Error> {
        let record = self.scale_sets.get_mut(&id).ok_or(Error::NoScaleSet(id))?;
        let first = record.last_message_id + 1;
        record.last_message_id += i64::from(count);
        Ok(first)
    }

    pub(super) fn tell_scale_set(&mut self, id: i64, begun: Vec<BegunJob>, over: &[JobId]) {
        if !self.scale_sets.contains_key(&id) {
            return;
        }
        for job in over {
            self.begun_jobs.remove(&(id, *job));
        }
        for mut job in begun {
            (job.assigned_at, job.started_at) = (kept(job.assigned_at), kept(job.started_at));
            self.begun_jobs.insert((id, job.job), job);
        }
    }

    fn check_scale_set(&self, id: Option<i64>, set: &NewScaleSet) -> Result<(), Error> {
        self.resolve_group(&set.scope, &set.group)?;
        let key = |set: &NewScaleSet| (set.scope.clone(), name_key(&set.group), name_key(&set.name));
        let mut others = self.scale_sets.values().filter(|record| Some(record.id) != id);
        if others.any(|other| key(&other.set) == key(set)) {
            return Err(Error::ScaleSetExists { group: set.group.clone(), name: set.name.clone() });
        }
        Ok(())
    }
}
