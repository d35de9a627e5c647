//! The steps of the Actions protocol, each handed to the writer or to a reader.

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;

use super::{Sqlite, artifacts, caches, runners, scale_sets};
use crate::Answer;
use crate::actions::ActionsStore;
use crate::record::{
    ArtifactRecord, BegunJob, CacheRecord, CreatedArtifact, NewArtifact, NewCache, NewScaleSet, RunnerRecord,
    ScaleSetChanges, ScaleSetRecord,
};

impl ActionsStore for Sqlite {
    fn create_artifact(&self, artifact: NewArtifact) -> Answer<CreatedArtifact> {
        self.write("add an artifact", move |db| artifacts::create(db, artifact))
    }

    fn finalize_artifact(
        &self,
        run: RunId,
        name: String,
        size: u64,
        digest: Option<String>,
    ) -> Answer<Option<ArtifactRecord>> {
        self.write("make an artifact final", move |db| artifacts::finalize(db, run, &name, size, digest))
    }

    fn artifacts_of_run(&self, run: RunId) -> Answer<Vec<ArtifactRecord>> {
        self.read("list the artifacts of a run", move |db| artifacts::of_run(db, run))
    }

    fn artifact_named(&self, run: RunId, name: String) -> Answer<Option<ArtifactRecord>> {
        self.read("look for an artifact", move |db| artifacts::named(db, run, &name))
    }

    fn artifact(&self, id: i64) -> Answer<Option<ArtifactRecord>> {
        self.read("read an artifact", move |db| artifacts::find(db, id))
    }

    fn delete_artifact(&self, run: RunId, name: String) -> Answer<Option<ArtifactRecord>> {
        self.write("delete an artifact", move |db| artifacts::delete(db, run, &name))
    }

    fn delete_artifact_by_id(&self, id: i64) -> Answer<Option<ArtifactRecord>> {
        self.write("delete an artifact", move |db| artifacts::delete_by_id(db, id))
    }

    fn expired_artifacts(&self, now: Timestamp, limit: u32) -> Answer<Vec<ArtifactRecord>> {
        self.read("look for expired artifacts", move |db| artifacts::expired(db, now, limit))
    }

    fn artifact_usage(&self, repository: String) -> Answer<u64> {
        self.read("measure artifacts", move |db| artifacts::usage(db, &repository))
    }

    fn reserve_cache(&self, cache: NewCache) -> Answer<Option<CacheRecord>> {
        self.write("reserve a cache entry", move |db| caches::reserve(db, cache))
    }

    fn cache_at(
        &self,
        repository: String,
        scope: String,
        trusted: bool,
        version: String,
        key: String,
    ) -> Answer<Option<CacheRecord>> {
        self.read("look for a cache entry", move |db| caches::at(db, (&repository, &scope, trusted, &version, &key)))
    }

    fn commit_cache(&self, id: i64, size: u64, now: Timestamp) -> Answer<Option<CacheRecord>> {
        self.write("commit a cache entry", move |db| caches::commit(db, id, size, now))
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
        self.write("look for a cache entry", move |db| {
            caches::find_for(db, &repository, &lookup, &version, &key, &restore_keys, now)
        })
    }

    fn cache(&self, id: i64) -> Answer<Option<CacheRecord>> {
        self.read("read a cache entry", move |db| caches::find(db, id))
    }

    fn caches(&self, repository: String, key_prefix: String, limit: u32) -> Answer<Vec<CacheRecord>> {
        self.read("list cache entries", move |db| caches::list(db, &repository, &key_prefix, limit))
    }

    fn cache_usage(&self, repository: String) -> Answer<u64> {
        self.read("measure cache entries", move |db| caches::usage(db, &repository))
    }

    fn evict_caches(&self, repository: String, keep_bytes: u64, limit: u32) -> Answer<Vec<CacheRecord>> {
        self.write("evict cache entries", move |db| caches::evict(db, &repository, keep_bytes, limit))
    }

    fn stale_caches(&self, unused_since: Timestamp, limit: u32) -> Answer<Vec<CacheRecord>> {
        self.read("look for stale cache entries", move |db| caches::stale(db, unused_since, limit))
    }

    fn delete_cache(&self, id: i64) -> Answer<Option<CacheRecord>> {
        self.write("delete a cache entry", move |db| caches::delete(db, id))
    }

    fn referenced_blobs(&self, blobs: Vec<String>) -> Answer<Vec<String>> {
        self.read("look for blobs in use", move |db| artifacts::referenced_blobs(db, blobs))
    }

    fn create_scale_set(&self, set: NewScaleSet) -> Answer<ScaleSetRecord> {
        self.write("add a scale set", move |db| scale_sets::create(db, set))
    }

    fn scale_set(&self, id: i64) -> Answer<Option<ScaleSetRecord>> {
        self.read("read a scale set", move |db| scale_sets::find(db, id))
    }

    fn scale_sets(&self, scope: Scope) -> Answer<Vec<ScaleSetRecord>> {
        self.read("list scale sets", move |db| scale_sets::of(db, &scope))
    }

    fn update_scale_set(&self, id: i64, changes: ScaleSetChanges) -> Answer<Option<ScaleSetRecord>> {
        self.write("change a scale set", move |db| scale_sets::update(db, id, changes))
    }

    fn delete_scale_set(&self, id: i64, now: Timestamp) -> Answer<Option<Vec<RunnerId>>> {
        self.write("delete a scale set", move |db| scale_sets::delete(db, id, now))
    }

    fn next_scale_set_message(&self, id: i64, count: u32) -> Answer<i64> {
        self.write("give a scale set message ids", move |db| scale_sets::next_message(db, id, count))
    }

    fn tell_scale_set(&self, id: i64, begun: Vec<BegunJob>, over: Vec<JobId>) -> Answer<()> {
        self.write("note what a scale set is told", move |db| scale_sets::tell(db, id, &begun, &over))
    }

    fn begun_jobs(&self) -> Answer<Vec<BegunJob>> {
        self.read("list the begun jobs of scale sets", scale_sets::begun)
    }

    fn scale_set_runners(&self, id: i64) -> Answer<Vec<RunnerRecord>> {
        self.read("list the runners of a scale set", move |db| runners::of_scale_set(db, id))
    }
}
