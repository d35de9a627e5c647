//! The steps of the Actions protocol.

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;

use super::Memory;
use crate::Answer;
use crate::actions::ActionsStore;
use crate::record::{
    ArtifactRecord, BegunJob, CacheRecord, CreatedArtifact, NewArtifact, NewCache, NewScaleSet, RunnerRecord,
    ScaleSetChanges, ScaleSetRecord,
};

impl ActionsStore for Memory {
    fn create_artifact(&self, artifact: NewArtifact) -> Answer<CreatedArtifact> {
        self.step(|state| state.create_artifact(artifact))
    }

    fn finalize_artifact(
        &self,
        run: RunId,
        name: String,
        size: u64,
        digest: Option<String>,
    ) -> Answer<Option<ArtifactRecord>> {
        self.step(|state| state.finalize_artifact(run, &name, size, digest))
    }

    fn artifacts_of_run(&self, run: RunId) -> Answer<Vec<ArtifactRecord>> {
        self.step(|state| Ok(state.artifacts_of_run(run)))
    }

    fn artifact_named(&self, run: RunId, name: String) -> Answer<Option<ArtifactRecord>> {
        self.step(move |state| Ok(state.artifact_named(run, &name)))
    }

    fn artifact(&self, id: i64) -> Answer<Option<ArtifactRecord>> {
        self.step(|state| Ok(state.artifacts.get(&id).cloned()))
    }

    fn delete_artifact(&self, run: RunId, name: String) -> Answer<Option<ArtifactRecord>> {
        self.step(|state| Ok(state.delete_artifact(run, &name)))
    }

    fn delete_artifact_by_id(&self, id: i64) -> Answer<Option<ArtifactRecord>> {
        self.step(|state| Ok(state.artifacts.remove(&id)))
    }

    fn expired_artifacts(&self, now: Timestamp, limit: u32) -> Answer<Vec<ArtifactRecord>> {
        self.step(|state| Ok(state.expired_artifacts(now, limit)))
    }

    fn artifact_usage(&self, repository: String) -> Answer<u64> {
        self.step(|state| Ok(state.artifact_usage(&repository)))
    }

    fn reserve_cache(&self, cache: NewCache) -> Answer<Option<CacheRecord>> {
        self.step(|state| Ok(state.reserve_cache(cache)))
    }

    fn cache_at(
        &self,
        repository: String,
        scope: String,
        trusted: bool,
        version: String,
        key: String,
    ) -> Answer<Option<CacheRecord>> {
        self.step(move |state| Ok(state.cache_at((&repository, &scope, trusted, &version, &key)).cloned()))
    }

    fn commit_cache(&self, id: i64, size: u64, now: Timestamp) -> Answer<Option<CacheRecord>> {
        self.step(|state| Ok(state.commit_cache(id, size, now)))
    }

    fn find_cache(
        &self,
        repository: String,
        lookup: Vec<(String, bool)>,
        version: String,
        key: String,
        restore_keys: Vec<String>,
        now: Timestamp,
    ) -> Answer<Option<CacheRecord>> {
        self.step(|state| Ok(state.find_cache(&repository, &lookup, &version, &key, &restore_keys, now)))
    }

    fn cache(&self, id: i64) -> Answer<Option<CacheRecord>> {
        self.step(|state| Ok(state.caches.get(&id).cloned()))
    }

    fn caches(&self, repository: String, key_prefix: String, limit: u32) -> Answer<Vec<CacheRecord>> {
        self.step(|state| Ok(state.caches(&repository, &key_prefix, limit)))
    }

    fn cache_usage(&self, repository: String) -> Answer<u64> {
        self.step(|state| Ok(state.cache_usage(&repository)))
    }

    fn evict_caches(&self, repository: String, keep_bytes: u64, limit: u32) -> Answer<Vec<CacheRecord>> {
        self.step(|state| Ok(state.evict_caches(&repository, keep_bytes, limit)))
    }

    fn stale_caches(&self, unused_since: Timestamp, limit: u32) -> Answer<Vec<CacheRecord>> {
        self.step(|state| Ok(state.stale_caches(unused_since, limit)))
    }

    fn delete_cache(&self, id: i64) -> Answer<Option<CacheRecord>> {
        self.step(|state| Ok(state.caches.remove(&id)))
    }

    fn referenced_blobs(&self, blobs: Vec<String>) -> Answer<Vec<String>> {
        self.step(|state| Ok(state.referenced_blobs(blobs)))
    }

    fn create_scale_set(&self, set: NewScaleSet) -> Answer<ScaleSetRecord> {
        self.step(|state| state.create_scale_set(set))
    }

    fn scale_set(&self, id: i64) -> Answer<Option<ScaleSetRecord>> {
        self.step(|state| Ok(state.scale_sets.get(&id).cloned()))
    }

    fn scale_sets(&self, scope: Scope) -> Answer<Vec<ScaleSetRecord>> {
        self.step(|state| Ok(state.scale_sets.values().filter(|record| record.set.scope == scope).cloned().collect()))
    }

    fn update_scale_set(&self, id: i64, changes: ScaleSetChanges) -> Answer<Option<ScaleSetRecord>> {
        self.step(|state| state.update_scale_set(id, changes))
    }

    fn delete_scale_set(&self, id: i64, now: Timestamp) -> Answer<Option<Vec<RunnerId>>> {
        self.step(|state| Ok(state.delete_scale_set(id, now)))
    }

    fn next_scale_set_message(&self, id: i64, count: u32) -> Answer<i64> {
        self.step(|state| state.next_scale_set_message(id, count))
    }

    fn tell_scale_set(&self, id: i64, begun: Vec<BegunJob>, over: Vec<JobId>) -> Answer<()> {
        self.step(|state| {
            state.tell_scale_set(id, begun, &over);
            Ok(())
        })
    }

    fn begun_jobs(&self) -> Answer<Vec<BegunJob>> {
        self.step(|state| Ok(state.begun_jobs.values().cloned().collect()))
    }

    fn scale_set_runners(&self, id: i64) -> Answer<Vec<RunnerRecord>> {
        self.step(|state| {
            let live = state.runners.values().filter(|known| known.deleted_at.is_none()).map(|known| &known.record);
            Ok(live.filter(|runner| runner.is_of(id)).cloned().collect())
        })
    }
}
