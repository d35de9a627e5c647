//! Runner groups.

use jiff::Timestamp;
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::scope::Scope;

use super::{Group, State};
use crate::error::Error;
use crate::record::{GroupRecord, is_default_group, name_key};

impl State {
    pub(super) fn put_group(&mut self, scope: Scope, name: String, policy: GroupRequest) -> GroupRecord {
        let key = (scope, name_key(&name));
        self.groups.insert(key.clone(), Group { name, policy });
        self.group_record(&key, &self.groups[&key])
    }

    pub(super) fn groups(&self) -> Vec<GroupRecord> {
        self.groups.iter().map(|(key, group)| self.group_record(key, group)).collect()
    }

    pub(super) fn group(&self, scope: &Scope, name: &str) -> Option<GroupRecord> {
        let key = (scope.clone(), name_key(name));
        self.groups.get(&key).map(|group| self.group_record(&key, group))
    }

    pub(super) fn delete_group(&mut self, scope: Scope, name: String, now: Timestamp) -> Result<bool, Error> {
        if is_default_group(&scope, &name) {
            return Err(Error::DefaultGroup);
        }
        let Some(group) = self.group(&scope, &name) else { return Ok(false) };
        let key = (scope, name_key(&name));
        let usable = self.registration_tokens.iter().filter(|token| token.check(now).is_ok());
        let tokens = count(usable.filter(|token| self.is_in(&token.token.scope, &token.token.group, &key)));
        if group.runners > 0 || tokens > 0 {
            return Err(Error::GroupInUse { scope: key.0, name: group.name, runners: group.runners, tokens });
        }
        Ok(self.groups.remove(&key).is_some())
    }

    /// The policy of the group that something in `scope` means by `name`.
    pub(super) fn resolve_group(&self, scope: &Scope, name: &str) -> Result<&GroupRequest, Error> {
        let group = self.key_of_group(scope, name).and_then(|key| self.groups.get(&key));
        let none = || Error::NoGroup { scope: scope.clone(), name: name.to_owned() };
        group.map(|group| &group.policy).ok_or_else(none)
    }

    fn key_of_group(&self, scope: &Scope, name: &str) -> Option<(Scope, String)> {
        let mut keys = scope.ancestry().into_iter().rev().map(|scope| (scope, name_key(name)));
        keys.find(|key| self.groups.contains_key(key))
    }

    fn is_in(&self, scope: &Scope, name: &str, key: &(Scope, String)) -> bool {
        self.key_of_group(scope, name).as_ref() == Some(key)
    }

    fn group_record(&self, key: &(Scope, String), group: &Group) -> GroupRecord {
        let live = self.runners.values().filter(|known| known.deleted_at.is_none()).map(|known| &known.record);
        let runners = count(live.filter(|runner| self.is_in(&runner.scope, &runner.group, key)));
        GroupRecord { scope: key.0.clone(), name: group.name.clone(), policy: group.policy.clone(), runners }
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
