//! Groups and limits change while jobs wait and run.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;

use super::Dispatcher;
use crate::effect::Effect;
use crate::group::{GroupKey, GroupPolicy, GroupSnapshot};
use crate::runner::RunnerSpec;

impl Dispatcher {
    /// Makes a group, or replaces its policy; in force at once for queued jobs and parked polls. What its runners have in
    /// hand they keep. A new group takes in its organization's runners that name it, with their jobs.
    pub fn set_group(&mut self, now: Timestamp, policy: GroupPolicy) -> Vec<Effect> {
        let key = policy.key.clone();
        let before = self.index.policy(&key).cloned();
        let same = before.is_some_and(|before| before.matches_like(&policy));
        self.index.set_policy(&key, Some(policy));
        if !same {
            self.reprofile_group(&key);
        }
        let mut effects = Vec::new();
        self.settle(now, &mut effects);
        effects
    }

    /// Forgets a group. Runners that are still in it fall to the instance's group of that name, which is
    /// [open](GroupPolicy::open) if it was never set: the caller sees to it that there are none.
    pub fn remove_group(&mut self, now: Timestamp, key: &GroupKey) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.index.set_policy(key, None).is_some() {
            self.reprofile_group(key);
            self.settle(now, &mut effects);
        }
        effects
    }

    /// Changes the limit of every repository over all groups; in force at once, though nothing is taken from runners.
    pub fn set_max_running_jobs_per_repository(&mut self, now: Timestamp, most: Option<u32>) -> Vec<Effect> {
        self.config.max_running_jobs_per_repository = most;
        self.index.set_max_per_repository(most);
        let mut effects = Vec::new();
        self.settle(now, &mut effects);
        effects
    }

    /// One group, if it was set, or has runners or their jobs.
    #[must_use]
    pub fn group(&self, key: &GroupKey) -> Option<GroupSnapshot> {
        self.index.groups().find(|group| group.policy.key == *key)
    }

    /// Every group that was set, or has runners or their jobs. In no order that means anything.
    pub fn groups(&self) -> impl Iterator<Item = GroupSnapshot> + '_ {
        self.index.groups()
    }

    /// Gives everybody who is, or was until now, in a group the profile that follows from it. Looks at every runner.
    fn reprofile_group(&mut self, key: &GroupKey) {
        let names_it = |spec: &RunnerSpec| {
            // Its organization's group, or the instance's for want of one.
            let own = GroupKey::new(&spec.scope, &spec.group);
            own == *key || (own.name() == key.name() && *key.scope() == Scope::Instance)
        };
        let runners = self.runners.iter().filter(|(_, runner)| names_it(&runner.spec));
        for id in runners.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.reprofile(id);
            self.regroup(id);
        }
    }

    /// Lets the jobs in a registered runner's hands count for the group that it is in.
    pub(super) fn regroup(&mut self, id: RunnerId) {
        let Some(runner) = self.runners.get(&id) else { return };
        let group = self.index.group_of(runner.profile);
        for job in self.held.get(&id).into_iter().flatten() {
            let Some(job) = self.jobs.get_mut(job) else { continue };
            if let Some(held) = &mut job.held
                && held.group != Some(group)
            {
                self.index.regroup(job.lane, held.group.replace(group), group);
            }
        }
    }
}
