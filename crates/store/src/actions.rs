//! The part of [`crate::Store`] that only the Actions protocol needs.

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;

use crate::Answer;
use crate::record::{
    ArtifactRecord, BegunJob, CacheRecord, CreatedArtifact, NewArtifact, NewCache, NewScaleSet, RunnerRecord,
    ScaleSetChanges, ScaleSetRecord,
};

/// Durable state of artifacts, caches and scale sets.
pub trait ActionsStore: Send + Sync + 'static {
    // Artifacts. Their content is in blobs, which are the caller's to make and to delete.

    /// Adds an artifact that is not final. One of the same name in the run gives way if it is not final either.
    /// [`crate::Error::ArtifactExists`].
    fn create_artifact(&self, artifact: NewArtifact) -> Answer<CreatedArtifact>;
    /// Makes an artifact final. A repeat with the same size and digest answers the same, another one
    /// [`crate::Error::ArtifactExists`]. `None` when there is no such artifact.
    fn finalize_artifact(
        &self,
        run: RunId,
        name: String,
        size: u64,
        digest: Option<String>,
    ) -> Answer<Option<ArtifactRecord>>;
    /// The final artifacts of a run, newest first; expired ones too, until they are deleted.
    fn artifacts_of_run(&self, run: RunId) -> Answer<Vec<ArtifactRecord>>;
    /// The artifact of this name, final or not.
    fn artifact_named(&self, run: RunId, name: String) -> Answer<Option<ArtifactRecord>>;
    /// One artifact, final or not.
    fn artifact(&self, id: i64) -> Answer<Option<ArtifactRecord>>;
    /// Deletes an artifact, final or not, and answers what it was. `None` when there is no such artifact.
    fn delete_artifact(&self, run: RunId, name: String) -> Answer<Option<ArtifactRecord>>;
    /// The same by id.
    fn delete_artifact_by_id(&self, id: i64) -> Answer<Option<ArtifactRecord>>;
    /// Artifacts whose time is over at `now`, and such as were not made final within a day, by id; at most `limit`.
    fn expired_artifacts(&self, now: Timestamp, limit: u32) -> Answer<Vec<ArtifactRecord>>;
    /// The bytes of all final artifacts of a repository.
    fn artifact_usage(&self, repository: String) -> Answer<u64>;

    // Caches. An entry has its place by repository, git ref, trust, version and key.

    /// Reserves a place. `None` when the entry there is final, or was reserved less than an hour ago. A reservation that
    /// is older is replaced, and nothing refers to its blob then.
    fn reserve_cache(&self, cache: NewCache) -> Answer<Option<CacheRecord>>;
    /// The entry at this place, final or not.
    fn cache_at(
        &self,
        repository: String,
        scope: String,
        trusted: bool,
        version: String,
        key: String,
    ) -> Answer<Option<CacheRecord>>;
    /// Makes a reserved entry final. A repeat with the same size answers the same; another one, and one for an entry
    /// that is not there any more, `None`.
    fn commit_cache(&self, id: i64, size: u64, now: Timestamp) -> Answer<Option<CacheRecord>>;
    /// The final entry of this version that fits, which counts as used now. Looks at each git ref and trust of `lookup`
    /// in order: for the entry of exactly this key, then, for each of the restore keys in order, for the newest whose
    /// key begins with it.
    fn find_cache(
        &self,
        repository: String,
        lookup: Vec<(String, bool)>,
        version: String,
        key: String,
        restore_keys: Vec<String>,
        now: Timestamp,
    ) -> Answer<Option<CacheRecord>>;
    /// One entry, final or not.
    fn cache(&self, id: i64) -> Answer<Option<CacheRecord>>;
    /// The final entries of a repository whose keys begin so, newest first; at most `limit`.
    fn caches(&self, repository: String, key_prefix: String, limit: u32) -> Answer<Vec<CacheRecord>>;
    /// The bytes of all final entries of a repository.
    fn cache_usage(&self, repository: String) -> Answer<u64>;
    /// Deletes final entries of a repository, those that were not used for longest first, until the others have no more
    /// than `keep_bytes`; at most `limit`. Answers what it deleted.
    fn evict_caches(&self, repository: String, keep_bytes: u64, limit: u32) -> Answer<Vec<CacheRecord>>;
    /// Entries, final or not, that were last used before `unused_since`, those that were not used for longest first; at
    /// most `limit`.
    fn stale_caches(&self, unused_since: Timestamp, limit: u32) -> Answer<Vec<CacheRecord>>;
    /// Deletes an entry, final or not, and answers what it was.
    fn delete_cache(&self, id: i64) -> Answer<Option<CacheRecord>>;

    /// Those of the blobs that an artifact or a cache entry refers to, in the given order.
    fn referenced_blobs(&self, blobs: Vec<String>) -> Answer<Vec<String>>;

    // Scale sets. Groups and names are compared without case.

    /// Adds a scale set. [`crate::Error::NoGroup`], [`crate::Error::ScaleSetExists`].
    fn create_scale_set(&self, set: NewScaleSet) -> Answer<ScaleSetRecord>;
    /// One scale set.
    fn scale_set(&self, id: i64) -> Answer<Option<ScaleSetRecord>>;
    /// The scale sets of this very scope, by id.
    fn scale_sets(&self, scope: Scope) -> Answer<Vec<ScaleSetRecord>>;
    /// Changes a scale set; its runners stay as they are. `None` when there is no such set.
    /// [`crate::Error::NoGroup`], [`crate::Error::ScaleSetExists`].
    fn update_scale_set(&self, id: i64, changes: ScaleSetChanges) -> Answer<Option<ScaleSetRecord>>;
    /// Deletes a scale set and the registrations of those of its runners that hold no job, neither offered nor running;
    /// answers which, by id. `None` when there is no such set.
    fn delete_scale_set(&self, id: i64, now: Timestamp) -> Answer<Option<Vec<RunnerId>>>;
    /// Gives `count` message ids that follow each other and answers the first. The ids of a set begin at 1 and are never
    /// given again. [`crate::Error::NoScaleSet`].
    fn next_scale_set_message(&self, id: i64, count: u32) -> Answer<i64>;
    /// Notes what a scale set's reader is told: jobs of this set that its runners have begun, and jobs that are over for
    /// it, none of which is among the first. Does nothing for a set that is not there.
    fn tell_scale_set(&self, id: i64, begun: Vec<BegunJob>, over: Vec<JobId>) -> Answer<()>;
    /// The begun jobs of all sets that are not over, by set and job.
    fn begun_jobs(&self) -> Answer<Vec<BegunJob>>;
    /// The registrations of a scale set that are not deleted, by id; those that are left of a deleted set too.
    fn scale_set_runners(&self, id: i64) -> Answer<Vec<RunnerRecord>>;
}
