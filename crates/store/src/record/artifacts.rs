//! Artifacts and caches.

use jiff::{SignedDuration, Timestamp};
use startline_protocol::ids::{JobId, RunId};

use super::kept;

/// An artifact to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewArtifact {
    /// The run that it belongs to.
    pub run: RunId,
    /// The job that makes it.
    pub job: JobId,
    /// `owner/name` of the run.
    pub repository: String,
    /// Unique within the run.
    pub name: String,
    /// What its blob is.
    pub mime_type: Option<String>,
    /// The blob that holds it.
    pub blob: String,
    /// Creation.
    pub created_at: Timestamp,
    /// When it may be deleted.
    pub expires_at: Timestamp,
}

/// An artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRecord {
    /// Its id.
    pub id: i64,
    /// As added.
    pub artifact: NewArtifact,
    /// Its size in bytes; 0 until it is final.
    pub size: u64,
    /// What its client says is its digest.
    pub digest: Option<String>,
    /// Its upload is complete.
    pub is_final: bool,
}

/// What [`crate::ActionsStore::create_artifact`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedArtifact {
    /// The new artifact.
    pub artifact: ArtifactRecord,
    /// The unfinished one whose name it took over; its blob is nobody's now.
    pub replaced: Option<ArtifactRecord>,
}

/// A cache entry to reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCache {
    /// `owner/name`.
    pub repository: String,
    /// The git ref that it belongs to.
    pub scope: String,
    /// It was made by trusted code.
    pub trusted: bool,
    /// What it is found by.
    pub key: String,
    /// What must be equal for it to fit.
    pub version: String,
    /// The blob that holds it.
    pub blob: String,
    /// Reservation.
    pub created_at: Timestamp,
}

/// A cache entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// Its id.
    pub id: i64,
    /// As added.
    pub cache: NewCache,
    /// Its size in bytes; 0 until it is final.
    pub size: u64,
    /// Its upload is complete.
    pub is_final: bool,
    /// Reserved, committed or found.
    pub last_used_at: Timestamp,
}

impl NewArtifact {
    /// The record of this artifact, not final yet.
    pub(crate) fn into_record(self, id: i64) -> ArtifactRecord {
        let (created_at, expires_at) = (kept(self.created_at), kept(self.expires_at));
        let artifact = Self { created_at, expires_at, ..self };
        ArtifactRecord { id, artifact, size: 0, digest: None, is_final: false }
    }
}

impl NewCache {
    /// The record of this cache entry, not final yet.
    pub(crate) fn into_record(self, id: i64) -> CacheRecord {
        let created_at = kept(self.created_at);
        let cache = Self { created_at, ..self };
        CacheRecord { id, cache, size: 0, is_final: false, last_used_at: created_at }
    }
}

/// Unfinished artifacts that were added before this were given up: their signed URLs have ended long ago.
pub(crate) fn oldest_unfinished_artifact(now: Timestamp) -> Timestamp {
    kept(now.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN))
}

/// Unfinished cache entries that were reserved before this, or then, may be reserved by somebody else.
pub(crate) fn newest_lapsed_reservation(now: Timestamp) -> Timestamp {
    kept(now.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN))
}

/// A size as the store keeps it: far above what fits on a disk there are none.
pub(crate) const fn kept_size(size: u64) -> u64 {
    // Half of what a column holds, so that sums of some fit too.
    if size > MAX_SIZE { MAX_SIZE } else { size }
}

const MAX_SIZE: u64 = 1 << 50;
