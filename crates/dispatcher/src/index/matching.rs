//! Which fit which, and which is next.

use std::collections::BTreeSet;

use startline_protocol::ids::{JobId, RunnerId};

use super::{Head, Index, Lane, Waiter};
use crate::explain::Missing;
use crate::group::{Limit, is_reached};
use crate::interner::{ClassId, PoolId, ProfileId};

impl Index {
    /// What runners of `profile` lack for jobs of `lane`.
    pub(crate) fn lacks(&self, profile: ProfileId, lane: Lane) -> Vec<Missing> {
        let profile = self.profiles.key(profile);
        let mut missing = Vec::new();
        if !self.repositories.get(lane.repository).pools.contains(&profile.pool()) {
            missing.push(Missing::Repository(self.repositories.key(lane.repository).to_string()));
        }
        missing.extend(profile.lacks(self.classes.key(lane.class)));
        missing
    }

    /// The limits that keep runners of `profile` from jobs of `lane`.
    pub(crate) fn limits(&self, profile: ProfileId, lane: Lane) -> impl Iterator<Item = Limit> {
        let id = self.group_of(profile);
        let (group, key) = (self.groups.get(id), self.groups.key(id));
        let policy = group.policy.as_ref();
        let repository = || self.repositories.key(lane.repository).to_string();
        let reached =
            |most: Option<u32>, running| most.filter(|_| is_reached(most, running)).map(|most| (running, most));

        let of_group = reached(policy.and_then(|policy| policy.max_running_jobs), group.held)
            .map(|(running, most)| Limit::Group { group: key.as_ref().clone(), running, most });
        let most = policy.and_then(|policy| policy.max_running_jobs_per_repository);
        let in_group = reached(most, group.held_of(lane.repository)).map(|(running, most)| Limit::RepositoryInGroup {
            repository: repository(),
            group: key.as_ref().clone(),
            running,
            most,
        });
        let of_repository = reached(self.max_per_repository, self.repositories.get(lane.repository).held)
            .map(|(running, most)| Limit::Repository { repository: repository(), running, most });
        [of_group, in_group, of_repository].into_iter().flatten()
    }

    /// The best queued job that fits a waiting runner and is allowed to it, and among those runners the one idle for
    /// longest. The caller takes both out of the index before it asks again, until there is no more.
    pub(crate) fn next_match(&mut self) -> Option<(JobId, RunnerId)> {
        let mut best: Option<(Head, ClassId)> = None;
        for lane in std::mem::take(&mut self.touched_lanes) {
            let head = self.classes.get(lane.class).lanes.get(&lane.repository).and_then(|state| state.head);
            let Some(head) = head else { continue };
            if self.waiter_for(lane).is_some() {
                self.touched_lanes.insert(lane);
                best = better(best, (head, lane.class));
            }
        }
        for profile in std::mem::take(&mut self.touched_profiles) {
            let state = self.profiles.get(profile);
            if state.head.is_none() {
                continue;
            }
            if let Some(found) = self.job_for(self.profiles.key(profile).pool(), &state.classes) {
                self.touched_profiles.insert(profile);
                best = better(best, found);
            }
        }
        for pool in std::mem::take(&mut self.touched_pools) {
            if let Some(found) = self.job_for(pool, &self.pools.get(pool).classes) {
                self.touched_pools.insert(pool);
                best = better(best, found);
            }
        }
        let (head, class) = best?;
        let waiter = self.waiter_for(Lane { class, repository: head.repository })?;
        Some((head.job, waiter.runner))
    }

    /// The longest idle runner that fits jobs of `lane` and may have one.
    fn waiter_for(&self, lane: Lane) -> Option<Waiter> {
        let views = &self.classes.get(lane.class).views;
        let waiting = self.repositories.get(lane.repository).pools.iter().filter_map(|&pool| {
            let &(waiter, _) = views.get(&pool)?.waiting.first()?;
            let group = self.groups.get(self.pools.key(pool).group);
            (!group.is_full() && !group.rations(lane.repository)).then_some(waiter)
        });
        waiting.min()
    }

    /// The best job of `classes` that somebody of `pool` waits for and may have.
    fn job_for(&self, pool: PoolId, classes: &BTreeSet<ClassId>) -> Option<(Head, ClassId)> {
        if self.groups.get(self.pools.key(pool).group).is_full() {
            return None;
        }
        let (few, many) =
            if classes.len() < self.queued.len() { (classes, &self.queued) } else { (&self.queued, classes) };
        let found = few.iter().filter(|id| many.contains(id)).filter_map(|&id| {
            let view = self.classes.get(id).views.get(&pool)?;
            view.waiting.first()?;
            Some((*view.heads.first()?, id))
        });
        found.min()
    }

    /// Finds the profiles that satisfy a new class, through its rarest label.
    pub(super) fn match_class(&mut self, id: ClassId) {
        let key = self.classes.key(id).clone();
        let none = BTreeSet::new();
        let rarest =
            key.labels.iter().map(|label| self.by_label.get(label).unwrap_or(&none)).min_by_key(|set| set.len());
        let fits = |profile: &ProfileId| self.profiles.key(*profile).satisfies(&key);
        let profiles: Vec<ProfileId> = match rarest {
            Some(profiles) => profiles.iter().copied().filter(fits).collect(),
            None => self.profiles.ids().filter(fits).collect(),
        };
        for profile in profiles {
            self.join(id, profile);
        }
    }

    /// Finds the classes that a new profile satisfies.
    pub(super) fn match_profile(&mut self, id: ProfileId) {
        let key = self.profiles.key(id).clone();
        for label in key.labels() {
            self.by_label.entry(label.clone()).or_default().insert(id);
        }
        let fits = |class: &ClassId| key.satisfies(self.classes.key(*class));
        for class in self.classes.ids().filter(fits).collect::<Vec<_>>() {
            self.join(class, id);
        }
    }

    fn join(&mut self, class: ClassId, id: ProfileId) {
        let pool = self.profiles.key(id).pool();
        let profile = self.profiles.get_mut(id);
        profile.classes.insert(class);
        let state = self.classes.get_mut(class);
        state.profiles.insert(id);
        let view = state.views.entry(pool).or_default();
        view.profiles += 1;
        view.waiting.extend(profile.head.map(|head| (head, id)));
        if view.profiles == 1 {
            let group = self.groups.get(self.pools.key(pool).group);
            let served = self.pools.get_mut(pool);
            served.classes.insert(class);
            let heads = state.lanes.values().filter_map(|lane| lane.head);
            let heads = heads.filter(|head| served.repositories.contains(&head.repository));
            view.heads.extend(heads.filter(|head| !group.rations(head.repository)));
        }
    }
}

fn better(best: Option<(Head, ClassId)>, other: (Head, ClassId)) -> Option<(Head, ClassId)> {
    Some(best.map_or(other, |best| best.min(other)))
}
