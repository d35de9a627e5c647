//! Artifacts.

use jiff::Timestamp;
use startline_protocol::ids::RunId;

use super::State;
use crate::error::Error;
use crate::record::{ArtifactRecord, CreatedArtifact, NewArtifact, kept, kept_size, oldest_unfinished_artifact};

impl State {
    pub(super) fn create_artifact(&mut self, artifact: NewArtifact) -> Result<CreatedArtifact, Error> {
        let known = self.artifact_named(artifact.run, &artifact.name);
        if known.as_ref().is_some_and(|known| known.is_final) {
            return Err(Error::ArtifactExists(artifact.name));
        }
        let replaced = known.and_then(|known| self.artifacts.remove(&known.id));
        self.last_artifact += 1;
        let artifact = artifact.into_record(self.last_artifact);
        self.artifacts.insert(artifact.id, artifact.clone());
        Ok(CreatedArtifact { artifact, replaced })
    }

    pub(super) fn finalize_artifact(
        &mut self,
        run: RunId,
        name: &str,
        size: u64,
        digest: Option<String>,
    ) -> Result<Option<ArtifactRecord>, Error> {
        let Some(known) = self.artifact_named(run, name) else { return Ok(None) };
        let record = ArtifactRecord { size: kept_size(size), digest, is_final: true, ..known.clone() };
        if known.is_final && known != record {
            return Err(Error::ArtifactExists(name.to_owned()));
        }
        self.artifacts.insert(record.id, record.clone());
        Ok(Some(record))
    }

    pub(super) fn artifacts_of_run(&self, run: RunId) -> Vec<ArtifactRecord> {
        let newest_first = self.artifacts.values().rev();
        newest_first.filter(|known| known.is_final && known.artifact.run == run).cloned().collect()
    }

    pub(super) fn delete_artifact(&mut self, run: RunId, name: &str) -> Option<ArtifactRecord> {
        let known = self.artifact_named(run, name)?;
        self.artifacts.remove(&known.id)
    }

    pub(super) fn expired_artifacts(&self, now: Timestamp, limit: u32) -> Vec<ArtifactRecord> {
        let is_due = |known: &&ArtifactRecord| {
            let is_given_up = !known.is_final && known.artifact.created_at < oldest_unfinished_artifact(now);
            known.artifact.expires_at <= kept(now) || is_given_up
        };
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        self.artifacts.values().filter(is_due).take(most).cloned().collect()
    }

    pub(super) fn artifact_usage(&self, repository: &str) -> u64 {
        let own = self.artifacts.values().filter(|known| known.artifact.repository == repository);
        own.map(|known| known.size).sum()
    }

    pub(super) fn artifact_named(&self, run: RunId, name: &str) -> Option<ArtifactRecord> {
        let mut known = self.artifacts.values();
        known.find(|known| known.artifact.run == run && known.artifact.name == name).cloned()
    }

    pub(super) fn referenced_blobs(&self, mut blobs: Vec<String>) -> Vec<String> {
        blobs.retain(|blob| {
            self.artifacts.values().any(|known| known.artifact.blob == *blob)
                || self.caches.values().any(|known| known.cache.blob == *blob)
        });
        blobs
    }
}
