//! Runner groups by number, which is how GitHub's clients name them.

use std::sync::Arc;

use startline_protocol::actions::configuration::RunnerGroup;
use startline_protocol::scope::Scope;
use startline_store::{DEFAULT_GROUP, GroupRecord};

use crate::App;
use crate::auth::Configurer;
use crate::problem::{ApiError, ApiResult};

/// The number of the group that always exists; the official clients know it by heart.
const DEFAULT_ID: i32 = 1;

/// A group's number: a hash of whose it is and its name, so that no table of numbers is needed.
pub(super) fn id(scope: &Scope, name: &str) -> i32 {
    let name = name.to_lowercase();
    if *scope == Scope::Instance && name == DEFAULT_GROUP {
        return DEFAULT_ID;
    }
    let digest = startline_crypto::sha256(format!("{scope} {name}").as_bytes());
    let number = i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) & i32::MAX;
    number.max(DEFAULT_ID + 1)
}

impl App {
    /// The groups that runners of `scope` may be in: of each name the innermost.
    pub(super) async fn groups_for(self: &Arc<Self>, scope: &Scope) -> ApiResult<Vec<GroupRecord>> {
        let ancestry = scope.ancestry();
        let mut found: Vec<GroupRecord> = Vec::new();
        for group in self.store.groups().await? {
            if !ancestry.contains(&group.scope) {
                continue;
            }
            match found.iter_mut().find(|known| known.name.eq_ignore_ascii_case(&group.name)) {
                Some(known) if known.scope < group.scope => *known = group,
                Some(_) => {}
                None => found.push(group),
            }
        }
        Ok(found)
    }

    /// The number of the group of this name, as runners of `scope` mean it.
    pub(super) async fn group_number(self: &Arc<Self>, scope: &Scope, name: &str) -> ApiResult<i32> {
        let groups = self.groups_for(scope).await?;
        let found = groups.iter().find(|group| group.name.eq_ignore_ascii_case(name));
        Ok(found.map_or(DEFAULT_ID, |group| id(&group.scope, &group.name)))
    }

    /// The name of the group with this number.
    pub(super) async fn group_name(self: &Arc<Self>, scope: &Scope, number: i32) -> ApiResult<String> {
        let groups = self.groups_for(scope).await?;
        let found = groups.into_iter().find(|group| id(&group.scope, &group.name) == number);
        found
            .map(|group| group.name)
            .ok_or_else(|| ApiError::not_found(format_args!("runner group {number} for {scope}")))
    }

    /// What a client may choose from. A registration token decides the group, so that its holder sees that one alone.
    pub(super) async fn groups_shown(
        self: &Arc<Self>,
        caller: &Configurer,
        scope: &Scope,
    ) -> ApiResult<Vec<RunnerGroup>> {
        let only = match caller {
            Configurer::Registrar(registrar) => Some(registrar.record.token.group.as_str()),
            _ => None,
        };
        let groups = self.groups_for(scope).await?;
        let shown = groups.into_iter().filter(|group| only.is_none_or(|only| group.name.eq_ignore_ascii_case(only)));
        Ok(shown
            .map(|group| {
                let id = id(&group.scope, &group.name);
                // The one that is taken when the user names none.
                let default = only.is_some() || id == DEFAULT_ID;
                RunnerGroup { id, name: group.name, default, is_hosted: false }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_group_is_number_one_and_no_other_is() {
        assert_eq!(id(&Scope::Instance, "Default"), 1);
        let acme = Scope::organization("acme").unwrap();
        assert!(id(&acme, "default") > 1);
        assert_eq!(id(&acme, "GPU"), id(&acme, "gpu"));
        assert_ne!(id(&acme, "gpu"), id(&Scope::Instance, "gpu"));
    }
}
