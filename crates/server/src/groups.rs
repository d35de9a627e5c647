//! Runner groups on their way from the store to the dispatcher.

use std::sync::Arc;

use startline_dispatcher::{GroupKey, GroupPolicy, Repositories};
use startline_protocol::scope::Scope;
use startline_store::GroupRecord;

use crate::App;

impl App {
    /// Makes a group's policy hold, for queued jobs and parked polls too.
    pub(crate) fn group_changed(self: &Arc<Self>, group: &GroupRecord) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        let effects = inner.dispatcher.set_group(now, policy(group));
        self.apply(&mut inner, now, effects);
        drop(inner);
        self.actions.scale_sets.look_again();
    }

    /// Forgets a group's policy.
    pub(crate) fn group_deleted(self: &Arc<Self>, scope: &Scope, name: &str) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        let effects = inner.dispatcher.remove_group(now, &GroupKey::new(scope, name));
        self.apply(&mut inner, now, effects);
        drop(inner);
        self.actions.scale_sets.look_again();
    }
}

fn policy(group: &GroupRecord) -> GroupPolicy {
    let policy = &group.policy;
    GroupPolicy {
        key: GroupKey::new(&group.scope, &group.name),
        repositories: match &policy.repositories {
            None => Repositories::All,
            Some(names) => Repositories::Only(names.iter().map(|name| name.to_ascii_lowercase()).collect()),
        },
        accepts_untrusted: policy.accepts_untrusted,
        max_running_jobs: policy.max_running_jobs,
        max_running_jobs_per_repository: policy.max_running_jobs_per_repository,
    }
}
