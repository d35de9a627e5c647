//! Random steps of the Actions protocol.

use proptest::prelude::*;
use startline_protocol::ids::RunnerId;
use startline_store::{ActionsRunner, NewRunner, NewScaleSet, ScaleSetChanges, Store};
use uuid::Uuid;

use super::{Words, labels, name_of, scope_of, words};
use crate::bench::{actions_runner, at, scale_set};

#[derive(Clone, Debug)]
pub(super) enum Step {
    CreateRunner { scope: u8, group: u8, name: u8, client: u8, replace: bool, set: Option<i64>, now: i64 },
    Labels { runner: i64, gpu: bool },
    Version { runner: i64, version: u8 },
    CreateSet { scope: u8, group: u8, name: u8 },
    UpdateSet { id: i64, group: Option<u8>, name: Option<u8> },
    DeleteSet { id: i64 },
    NextMessage { id: i64, count: u32 },
}

pub(super) fn a_step() -> impl Strategy<Value = Step> {
    use Step::*;
    let (a_scope, name, runner, set) = (0..2_u8, 0..3_u8, 1..6_i64, 1..4_i64);
    prop_oneof![
        4 => (
            a_scope.clone(), name.clone(), 0..4_u8, 0..8_u8, any::<bool>(), prop::option::of(set.clone()), 0..200_i64
        )
            .prop_map(|(scope, group, name, client, replace, set, now)| CreateRunner {
                scope, group, name, client, replace, set, now
            }),
        1 => (runner.clone(), any::<bool>()).prop_map(|(runner, gpu)| Labels { runner, gpu }),
        1 => (runner, any::<u8>()).prop_map(|(runner, version)| Version { runner, version }),
        2 => (a_scope, name.clone(), name.clone()).prop_map(|(scope, group, name)| CreateSet { scope, group, name }),
        1 => (set.clone(), prop::option::of(name.clone()), prop::option::of(name))
            .prop_map(|(id, group, name)| UpdateSet { id, group, name }),
        1 => set.clone().prop_map(|id| DeleteSet { id }),
        1 => (set, 1..4_u32).prop_map(|(id, count)| NextMessage { id, count }),
    ]
}

/// Something to work on.
pub(super) fn prelude() -> [Step; 2] {
    [0, 1].map(|name| Step::CreateSet { scope: 0, group: 0, name })
}

pub(super) fn call(store: &dyn Store, step: Step) -> Words {
    match step {
        Step::CreateRunner { scope, group, name, client, replace, set, now } => {
            let new = actions_runner(["one", "ONE", "two", "three"][usize::from(name)], u128::from(client));
            let actions = new.actions.clone().map(|actions| ActionsRunner { scale_set: set, ..actions });
            let new = NewRunner { actions, replace, ephemeral: set.is_some(), ..new };
            Box::pin(words(store.create_runner(scope_of(scope), name_of(group), new, at(now))))
        }
        Step::Labels { runner, gpu } => Box::pin(words(store.set_runner_labels(RunnerId(runner), labels(gpu)))),
        Step::Version { runner, version } => {
            Box::pin(words(store.update_runner_version(RunnerId(runner), version.to_string())))
        }
        Step::CreateSet { scope, group, name } => {
            let new = NewScaleSet { scope: scope_of(scope), group: name_of(group), ..scale_set(&name_of(name)) };
            Box::pin(words(store.create_scale_set(new)))
        }
        Step::UpdateSet { id, group, name } => {
            let (group, name) = (group.map(name_of), name.map(name_of));
            let changes = ScaleSetChanges { group, name, ..ScaleSetChanges::default() };
            Box::pin(words(store.update_scale_set(id, changes)))
        }
        Step::DeleteSet { id } => Box::pin(words(store.delete_scale_set(id, at(0)))),
        Step::NextMessage { id, count } => Box::pin(words(store.next_scale_set_message(id, count))),
    }
}

/// Everything of it that can be read.
pub(super) async fn read(store: &dyn Store) -> Vec<String> {
    let mut seen = Vec::new();
    for client in 0..12_u128 {
        seen.push(words(store.runner_by_client(Uuid::from_u128(client))).await);
    }
    for of in 0..3 {
        seen.push(words(store.scale_sets(scope_of(of))).await);
    }
    for id in 0..6 {
        seen.push(words(store.scale_set(id)).await);
        seen.push(words(store.scale_set_runners(id)).await);
    }
    seen
}
