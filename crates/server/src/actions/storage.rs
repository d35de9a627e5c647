//! What artifacts and caches share: their blobs, the addresses that open them, and how much a repository may keep.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use startline_crypto::UrlAccess;
use startline_protocol::problem::kind;
use startline_store::blobs::{BlobError, BlobId, BlobStore};

use crate::App;
use crate::problem::{ApiError, ApiResult};

/// How long an upload may take. Its client gives up after some minutes without progress.
const UPLOAD_LIFE: SignedDuration = SignedDuration::from_hours(6);
/// How long a download may take to begin.
const DOWNLOAD_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas {
    /// Bytes of artifacts in one repository.
    pub artifacts: u64,
    /// Bytes of caches in one repository.
    pub caches: u64,
    /// The longest that an artifact is kept.
    pub artifact_retention: SignedDuration,
    /// How long a cache entry is kept that nobody uses.
    pub cache_retention: SignedDuration,
}

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holding {
    Artifact,
    Cache,
}

impl Holding {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Artifact => "artifacts",
            Self::Cache => "caches",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Artifact, Self::Cache].into_iter().find(|known| known.word() == word)
    }
}

/// Blobs and who may reach them.
pub(crate) struct Storage {
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) quotas: Quotas,
    pub(super) uploads: Uploads,
    /// How far the last look for abandoned blobs came.
    pub(super) looked_at: Mutex<Option<BlobId>>,
}

impl Storage {
    pub(crate) fn new(blobs: Arc<dyn BlobStore>, quotas: Quotas) -> Self {
        Self { blobs, quotas, uploads: Uploads::default(), looked_at: Mutex::default() }
    }
}

/// The path of a blob below the service's URL; it is what an address is signed for. The row's id alone would name
/// another thing once the row is gone.
pub(super) fn path(holding: Holding, id: i64, blob: &str) -> String {
    format!("/_blob/{}/{id}/{blob}", holding.word())
}

impl App {
    pub(super) fn upload_url(&self, holding: Holding, id: i64, blob: &str) -> String {
        self.blob_url(UrlAccess::Write, holding, id, blob, UPLOAD_LIFE)
    }

    pub(super) fn download_url(&self, holding: Holding, id: i64, blob: &str) -> String {
        self.blob_url(UrlAccess::Read, holding, id, blob, DOWNLOAD_LIFE)
    }

    fn blob_url(&self, access: UrlAccess, holding: Holding, id: i64, blob: &str, life: SignedDuration) -> String {
        let path = path(holding, id, blob);
        let until = self.clock.now().saturating_add(life).unwrap_or(Timestamp::MAX);
        format!("{}{path}?{}", self.actions.urls.root(), self.actions.addresses.sign(access, &path, until))
    }

    /// Deletes a blob that nothing refers to any more. What fails here is found again by housekeeping.
    pub(super) async fn drop_blob(&self, holding: Holding, repository: &str, blob: &str) {
        let Ok(id) = blob.parse::<BlobId>() else { return };
        self.actions.storage.uploads.end(holding, repository, id);
        if let Err(error) = self.actions.storage.blobs.delete(id).await {
            tracing::warn!(%error, "a blob is deleted later");
        }
    }
}

/// A blob's name as the store of records keeps it.
pub(super) fn blob_id(text: &str) -> ApiResult<BlobId> {
    text.parse().map_err(|_| {
        tracing::error!(blob = text, "a record names no blob");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, "the record names no blob")
    })
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        let text = error.to_string();
        match error {
            BlobError::NoBlob(_) => Self::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, text),
            BlobError::Sealed(_) => Self::new(StatusCode::CONFLICT, kind::INVALID, text),
            BlobError::Gap { .. } | BlobError::NoBlock(_) | BlobError::BrokenOff(_) => {
                Self::new(StatusCode::BAD_REQUEST, kind::INVALID, text)
            }
            BlobError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, text),
            BlobError::Io { .. } | BlobError::Remote { .. } => {
                tracing::error!(error = %text, "a blob cannot be reached");
                Self::unavailable("the service cannot reach its blobs now")
            }
        }
    }
}

/// The bytes of uploads that are not final yet, which no record counts. In memory: after a restart it begins with what
/// comes then, and what came before counts again when it is made final.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: Mutex<HashMap<(Holding, String), HashMap<BlobId, u64>>>,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Holding, String), HashMap<BlobId, u64>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `bytes` more, unless a repository's open uploads would have more than `most`. They are taken back when the
    /// guard is dropped before [`Admitted::keep`].
    pub(super) fn admit(
        &self,
        holding: Holding,
        repository: &str,
        blob: BlobId,
        bytes: u64,
        most: u64,
    ) -> Option<Admitted<'_>> {
        let mut open = self.lock();
        let own = open.entry((holding, repository.to_owned())).or_default();
        let all = own.values().fold(bytes, |sum, bytes| sum.saturating_add(*bytes));
        if all > most {
            return None;
        }
        let count = own.entry(blob).or_default();
        *count = count.saturating_add(bytes);
        Some(Admitted { uploads: self, holding, repository: repository.to_owned(), blob, bytes })
    }

    /// Sets what an upload has.
    pub(super) fn set(&self, holding: Holding, repository: &str, blob: BlobId, bytes: u64) {
        self.lock().entry((holding, repository.to_owned())).or_default().insert(blob, bytes);
    }

    /// Forgets an upload: it is counted by its record now, or gone.
    pub(super) fn end(&self, holding: Holding, repository: &str, blob: BlobId) {
        let mut open = self.lock();
        let key = (holding, repository.to_owned());
        if let Some(own) = open.get_mut(&key) {
            own.remove(&blob);
            if own.is_empty() {
                open.remove(&key);
            }
        }
    }
}

/// Bytes on their way.
pub(super) struct Admitted<'a> {
    uploads: &'a Uploads,
    holding: Holding,
    repository: String,
    blob: BlobId,
    bytes: u64,
}

impl Admitted<'_> {
    /// They have arrived.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut open = self.uploads.lock();
        let own = open.get_mut(&(self.holding, std::mem::take(&mut self.repository)));
        if let Some(count) = own.and_then(|own| own.get_mut(&self.blob)) {
            *count = count.saturating_sub(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_uploads_of_a_repository_share_its_room_and_broken_ones_give_theirs_back() {
        let uploads = Uploads::default();
        let [one, two]: [BlobId; 2] = ["1", "2"].map(|digit| format!("{}{digit}", "0".repeat(31)).parse().unwrap());
        let admit = |repository, blob, bytes| uploads.admit(Holding::Artifact, repository, blob, bytes, 100);
        admit("acme/a", one, 60).unwrap().keep();
        assert!(admit("acme/a", two, 41).is_none(), "61 to 101 would be too much");
        admit("acme/b", two, 100).unwrap().keep();
        drop(admit("acme/a", two, 40).expect("there is room"));
        admit("acme/a", two, 40).expect("the one before broke off").keep();
        uploads.set(Holding::Artifact, "acme/a", one, 10);
        admit("acme/a", two, 50).expect("blocks that were not committed are gone").keep();
        uploads.end(Holding::Artifact, "acme/a", two);
        assert!(admit("acme/a", one, 90).is_some());
    }
}
