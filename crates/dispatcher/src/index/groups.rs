//! Groups with their counts and limits, and the pools of their runners.

use startline_protocol::scope::Scope;

use super::{GroupState, Index, Pool};
use crate::group::{GroupKey, GroupPolicy, GroupSnapshot, is_reached};
use crate::interner::{GroupId, PoolId, RepositoryId};

impl GroupState {
    /// It has as many jobs as it may.
    pub(super) fn is_full(&self) -> bool {
        is_reached(self.policy.as_ref().and_then(|policy| policy.max_running_jobs), self.held)
    }

    /// The repository has as many jobs in the group as it may.
    pub(super) fn rations(&self, repository: RepositoryId) -> bool {
        let most = self.policy.as_ref().and_then(|policy| policy.max_running_jobs_per_repository);
        is_reached(most, self.held_of(repository))
    }

    pub(super) fn held_of(&self, repository: RepositoryId) -> usize {
        self.by_repository.get(&repository).copied().unwrap_or(0)
    }
}

impl Index {
    /// Sets a group's policy, or forgets it, and returns the one before. Limits are in force at once; the caller gives the
    /// runners that this concerns their profiles anew.
    pub(crate) fn set_policy(&mut self, key: &GroupKey, policy: Option<GroupPolicy>) -> Option<GroupPolicy> {
        let (id, _) = self.groups.retain(key.clone());
        let old = std::mem::replace(&mut self.groups.get_mut(id).policy, policy);
        // A policy is a use of its group.
        if old.is_some() {
            self.groups.release(id);
        }
        if self.groups.get(id).policy.is_some() {
            self.groups.reuse(id);
        }
        for pool in self.groups.get(id).pools.clone() {
            for repository in self.pools.get(pool).repositories.clone() {
                self.refresh_repository(repository);
            }
            self.touched_pools.insert(pool);
        }
        self.release_group(id);
        old
    }

    /// The policy of a group, if it was set.
    pub(crate) fn policy(&self, key: &GroupKey) -> Option<&GroupPolicy> {
        self.groups.get(self.groups.find(key)?).policy.as_ref()
    }

    /// The group that a runner of `scope` is in, of those that were set.
    pub(crate) fn resolve(&self, scope: &Scope, name: &str) -> GroupKey {
        let own = GroupKey::new(scope, name);
        if self.policy(&own).is_some() { own } else { GroupKey::new(&Scope::Instance, name) }
    }

    /// Groups with a policy, a runner or a job.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupSnapshot> + '_ {
        self.groups.ids().map(|id| {
            let state = self.groups.get(id);
            let open = || GroupPolicy::open(self.groups.key(id).as_ref().clone());
            let jobs = state.by_repository.iter().map(|(&id, &held)| (self.repositories.key(id).to_string(), held));
            GroupSnapshot { policy: state.policy.clone().unwrap_or_else(open), jobs: jobs.collect() }
        })
    }

    /// Counts one more job of `repository` for the group, and keeps the group until [`Self::count_out`].
    pub(super) fn count_in(&mut self, id: GroupId, repository: RepositoryId) {
        self.groups.reuse(id);
        let group = self.groups.get_mut(id);
        group.held += 1;
        *group.by_repository.entry(repository).or_default() += 1;
    }

    pub(super) fn count_out(&mut self, id: GroupId, repository: RepositoryId) {
        let group = self.groups.get_mut(id);
        let was_full = group.is_full();
        group.held -= 1;
        if let Some(held) = group.by_repository.get_mut(&repository) {
            *held -= 1;
            if *held == 0 {
                group.by_repository.remove(&repository);
            }
        }
        if was_full && !group.is_full() {
            self.touched_pools.extend(&group.pools);
        }
        self.release_group(id);
    }

    fn release_group(&mut self, id: GroupId) {
        if self.groups.release(id) == 0 {
            self.groups.remove(id);
        }
    }

    /// The pool, held until [`Self::release_pool`]; takes over a use of its group.
    pub(super) fn retain_pool(&mut self, pool: Pool) -> PoolId {
        let group = pool.group;
        let (id, new) = self.pools.retain(pool);
        if !new {
            self.release_group(group);
            return id;
        }
        self.groups.get_mut(group).pools.insert(id);
        for scope in &self.pools.key(id).clone().serves {
            self.by_scope.entry(scope.clone()).or_default().insert(id);
            for repository in self.repositories_in(scope) {
                self.repositories.get_mut(repository).pools.insert(id);
                self.pools.get_mut(id).repositories.insert(repository);
            }
        }
        id
    }

    pub(super) fn release_pool(&mut self, id: PoolId) {
        if self.pools.release(id) > 0 {
            return;
        }
        let (pool, state) = self.pools.remove(id);
        debug_assert!(state.classes.is_empty());
        for scope in &pool.serves {
            if let Some(pools) = self.by_scope.get_mut(scope) {
                pools.remove(&id);
                if pools.is_empty() {
                    self.by_scope.remove(scope);
                }
            }
        }
        for repository in state.repositories {
            self.repositories.get_mut(repository).pools.remove(&id);
        }
        self.touched_pools.remove(&id);
        self.groups.get_mut(pool.group).pools.remove(&id);
        self.release_group(pool.group);
    }

    fn repositories_in(&self, scope: &Scope) -> Vec<RepositoryId> {
        match scope {
            Scope::Repository(name) => self.repositories.find(name).into_iter().collect(),
            wider => {
                let inside =
                    |id: &RepositoryId| wider.covers(&Scope::Repository(self.repositories.key(*id).to_string()));
                self.repositories.ids().filter(inside).collect()
            }
        }
    }
}
