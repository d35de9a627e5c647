//! Runners: their profiles, and who of them waits.

use super::{Index, Pool, Waiter};
use crate::group::Repositories;
use crate::interner::{GroupId, ProfileId};
use crate::profile::Profile;
use crate::runner::RunnerSpec;

impl Index {
    /// The profile of `runner` under its group's policy, held until [`Self::release_profile`].
    pub(crate) fn retain_profile(&mut self, runner: &RunnerSpec) -> ProfileId {
        let key = self.resolve(&runner.scope, &runner.group);
        let policy = self.policy(&key);
        let accepts_untrusted = policy.is_some_and(|policy| policy.accepts_untrusted);
        let serves = policy.map_or(&Repositories::All, |policy| &policy.repositories).within(&runner.scope);
        let (group, _) = self.groups.retain(key);
        let pool = self.retain_pool(Pool { group, serves });
        let (id, new) = self.profiles.retain(Profile::of(runner, pool, accepts_untrusted));
        if new {
            self.match_profile(id);
        } else {
            // The profile holds its pool once, however many runners share it.
            self.release_pool(pool);
        }
        id
    }

    pub(crate) fn release_profile(&mut self, id: ProfileId) {
        if self.profiles.release(id) > 0 {
            return;
        }
        let (profile, state) = self.profiles.remove(id);
        let pool = profile.pool();
        debug_assert!(state.waiters.is_empty());
        for class in state.classes {
            let state = self.classes.get_mut(class);
            state.profiles.remove(&id);
            if let Some(view) = state.views.get_mut(&pool) {
                view.profiles -= 1;
                if view.profiles == 0 {
                    state.views.remove(&pool);
                    self.pools.get_mut(pool).classes.remove(&class);
                }
            }
        }
        for label in profile.labels() {
            if let Some(profiles) = self.by_label.get_mut(label) {
                profiles.remove(&id);
                if profiles.is_empty() {
                    self.by_label.remove(label);
                }
            }
        }
        self.touched_profiles.remove(&id);
        self.release_pool(pool);
    }

    /// The group of runners of `profile`.
    pub(crate) fn group_of(&self, profile: ProfileId) -> GroupId {
        self.pools.key(self.profiles.key(profile).pool()).group
    }

    pub(crate) fn wait(&mut self, profile: ProfileId, waiter: Waiter) {
        self.profiles.get_mut(profile).waiters.insert(waiter);
        self.refresh_profile(profile);
        self.touched_profiles.insert(profile);
    }

    pub(crate) fn stop_waiting(&mut self, profile: ProfileId, waiter: Waiter) {
        self.profiles.get_mut(profile).waiters.remove(&waiter);
        self.refresh_profile(profile);
    }

    /// Brings the profile's entry in its classes' views up to date.
    fn refresh_profile(&mut self, id: ProfileId) {
        let pool = self.profiles.key(id).pool();
        let profile = self.profiles.get_mut(id);
        let head = profile.waiters.first().copied();
        if profile.head == head {
            return;
        }
        let old = std::mem::replace(&mut profile.head, head);
        for &class in &profile.classes {
            if let Some(view) = self.classes.get_mut(class).views.get_mut(&pool) {
                if let Some(old) = old {
                    view.waiting.remove(&(old, id));
                }
                view.waiting.extend(head.map(|head| (head, id)));
            }
        }
    }
}
