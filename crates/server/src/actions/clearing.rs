//! Clearing away what artifacts and caches leave behind.

use std::sync::{Arc, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_store::blobs::BlobError;

use super::storage::Holding;
use crate::App;

/// How much one round takes of each kind.
const PER_ROUND: u32 = 200;
/// A blob that nobody has written to for so long, and that nothing refers to, is left from an upload that was given up.
/// Longer than an upload's address lives.
const ABANDONED: SignedDuration = SignedDuration::from_hours(24);

/// Why a round ended early; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClearingError {
    #[error(transparent)]
    Store(#[from] startline_store::Error),
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

impl App {
    /// Deletes artifacts whose time is over, caches that nobody uses, and blobs that nothing refers to: a bounded number.
    pub(crate) async fn clear_storage(self: &Arc<Self>, now: Timestamp) -> Result<(), ClearingError> {
        let storage = &self.actions.storage;
        let (mut artifacts, mut caches, mut abandoned) = (0_u32, 0_u32, 0_u32);
        for due in self.store.expired_artifacts(now, PER_ROUND).await? {
            if let Some(gone) = self.store.delete_artifact_by_id(due.id).await? {
                self.drop_blob(Holding::Artifact, &gone.artifact.repository, &gone.artifact.blob).await;
                artifacts += 1;
            }
        }
        let before = |age: SignedDuration| now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        for due in self.store.stale_caches(before(storage.quotas.cache_retention), PER_ROUND).await? {
            if let Some(gone) = self.store.delete_cache(due.id).await? {
                self.drop_blob(Holding::Cache, &gone.cache.repository, &gone.cache.blob).await;
                caches += 1;
            }
        }
        let from = *storage.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let untouched = storage.blobs.untouched_since(before(ABANDONED), from, PER_ROUND).await?;
        // From the start again when the end was reached.
        let next = untouched.last().copied().filter(|_| untouched.len() == PER_ROUND as usize);
        let names = untouched.iter().map(ToString::to_string).collect();
        let referenced = self.store.referenced_blobs(names).await?;
        for blob in untouched {
            if !referenced.contains(&blob.to_string()) && storage.blobs.delete(blob).await? {
                abandoned += 1;
            }
        }
        *storage.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = next;
        if artifacts + caches + abandoned > 0 {
            tracing::info!(artifacts, caches, abandoned, "cleared artifacts, caches and abandoned uploads");
        }
        Ok(())
    }
}
