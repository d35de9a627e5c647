//! Random steps of the Actions protocol.

use proptest::prelude::*;
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_store::{ActionsRunner, BegunJob, NewArtifact, NewCache, NewRunner, NewScaleSet, ScaleSetChanges, Store};
use uuid::Uuid;

use super::{Words, labels, name_of, scope_of, words};
use crate::bench::{actions_runner, artifact, at, new_cache, scale_set};

#[derive(Clone, Debug)]
pub(super) enum Step {
    CreateRunner { scope: u8, group: u8, name: u8, client: u8, replace: bool, set: Option<i64>, now: i64 },
    Labels { runner: i64, gpu: bool },
    Version { runner: i64, version: u8 },
    CreateSet { scope: u8, group: u8, name: u8 },
    UpdateSet { id: i64, group: Option<u8>, name: Option<u8> },
    DeleteSet { id: i64 },
    NextMessage { id: i64, count: u32 },
    Tell { id: i64, begun: i64, over: i64 },
    CreateArtifact { run: i64, name: u8, life: i64, now: i64 },
    FinalizeArtifact { run: i64, name: u8, size: u64 },
    DeleteArtifact { run: i64, name: u8 },
    DeleteArtifactId { id: i64 },
    ReserveCache { place: Place, now: i64 },
    CommitCache { id: i64, size: u64, now: i64 },
    FindCache { lookup: Vec<(u8, bool)>, key: usize, restore: Vec<usize>, now: i64 },
    EvictCaches { keep: u64, limit: u32 },
    DeleteCache { id: i64 },
}

/// Git ref, trust and key of a cache entry.
type Place = (u8, bool, usize);

const KEYS: [&str; 6] = ["a", "a%", "a%b", "a_b", "ab", ""];

fn git_ref(number: u8) -> String {
    format!("refs/heads/{number}")
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
        2 => (set.clone(), 1..4_i64, 1..4_i64).prop_map(|(id, begun, over)| Tell { id, begun, over }),
        1 => (set, 1..4_u32).prop_map(|(id, count)| NextMessage { id, count }),
        4 => (1..3_i64, 0..3_u8, 0..200_000_i64, 0..100_000_i64)
            .prop_map(|(run, name, life, now)| CreateArtifact { run, name, life, now }),
        3 => (1..3_i64, 0..3_u8, 0..2_u64).prop_map(|(run, name, size)| FinalizeArtifact { run, name, size }),
        1 => (1..3_i64, 0..3_u8).prop_map(|(run, name)| DeleteArtifact { run, name }),
        1 => (1..5_i64).prop_map(|id| DeleteArtifactId { id }),
        4 => ((0..2_u8, prop::bool::weighted(0.8), 0..KEYS.len()), 0..7200_i64)
            .prop_map(|(place, now)| ReserveCache { place, now }),
        3 => (1..9_i64, 0..3_u64, 0..7200_i64).prop_map(|(id, size, now)| CommitCache { id, size, now }),
        3 => (
            prop::collection::vec((0..2_u8, prop::bool::weighted(0.8)), 1..3), 0..KEYS.len(),
            prop::collection::vec(0..KEYS.len(), 0..3), 0..7200_i64
        )
            .prop_map(|(lookup, key, restore, now)| FindCache { lookup, key, restore, now }),
        1 => (0..9_u64, 0..3_u32).prop_map(|(keep, limit)| EvictCaches { keep, limit }),
        1 => (1..6_i64).prop_map(|id| DeleteCache { id }),
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
        Step::CreateArtifact { run, name, life, now } => {
            let (created_at, expires_at) = (at(now), at(now + life));
            let new = NewArtifact { run: RunId(run), created_at, expires_at, ..artifact(&name_of(name)) };
            Box::pin(words(store.create_artifact(new)))
        }
        Step::FinalizeArtifact { run, name, size } => {
            let digest = (size > 0).then(|| "sha256:00".to_owned());
            Box::pin(words(store.finalize_artifact(RunId(run), name_of(name), size, digest)))
        }
        Step::DeleteArtifact { run, name } => Box::pin(words(store.delete_artifact(RunId(run), name_of(name)))),
        Step::DeleteArtifactId { id } => Box::pin(words(store.delete_artifact_by_id(id))),
        Step::ReserveCache { place: (scope, trusted, key), now } => {
            let new = NewCache { scope: git_ref(scope), trusted, created_at: at(now), ..new_cache(KEYS[key]) };
            Box::pin(words(store.reserve_cache(new)))
        }
        Step::CommitCache { id, size, now } => Box::pin(words(store.commit_cache(id, size, at(now)))),
        Step::FindCache { lookup, key, restore, now } => {
            let lookup = lookup.into_iter().map(|(scope, trusted)| (git_ref(scope), trusted)).collect();
            let restore = restore.into_iter().map(|key| KEYS[key].to_owned()).collect();
            let NewCache { repository, version, key, .. } = new_cache(KEYS[key]);
            Box::pin(words(store.find_cache(repository, lookup, version, key, restore, at(now))))
        }
        Step::EvictCaches { keep, limit } => Box::pin(words(store.evict_caches("acme/demo".to_owned(), keep, limit))),
        Step::DeleteCache { id } => Box::pin(words(store.delete_cache(id))),
        Step::Tell { id, begun, over } => {
            let began = |job: i64| BegunJob {
                set: id,
                job: JobId(job),
                runner: RunnerId(job + 1),
                runner_name: name_of(0),
                assigned_at: at(job),
                started_at: at(job + 1),
            };
            let over = (over != begun).then_some(JobId(over)).into_iter().collect();
            Box::pin(words(store.tell_scale_set(id, vec![began(begun)], over)))
        }
        Step::NextMessage { id, count } => Box::pin(words(store.next_scale_set_message(id, count))),
    }
}

/// Everything of it that can be read.
pub(super) async fn read(store: &dyn Store) -> Vec<String> {
    let mut seen = Vec::new();
    for client in 0..12_u128 {
        seen.push(words(store.runner_by_client(Uuid::from_u128(client))).await);
    }
    seen.push(words(store.begun_jobs()).await);
    for of in 0..3 {
        seen.push(words(store.scale_sets(scope_of(of))).await);
    }
    for id in 0..6 {
        seen.push(words(store.scale_set(id)).await);
        seen.push(words(store.scale_set_runners(id)).await);
        seen.push(words(store.artifact(id)).await);
        seen.push(words(store.artifacts_of_run(RunId(id))).await);
        seen.push(words(store.cache(id)).await);
    }
    for second in [0, 3600, 7200, 86_400, 200_000] {
        seen.push(words(store.expired_artifacts(at(second), 3)).await);
        seen.push(words(store.stale_caches(at(second), 3)).await);
    }
    for key in KEYS {
        seen.push(words(store.caches("acme/demo".to_owned(), key.to_owned(), 3)).await);
    }
    seen.push(words(store.artifact_usage("acme/demo".to_owned())).await);
    seen.push(words(store.cache_usage("acme/demo".to_owned())).await);
    let blobs = KEYS.into_iter().chain(["default", "gpu"]).map(|name| format!("blob of {name}"));
    seen.push(words(store.referenced_blobs(blobs.collect())).await);
    seen
}
