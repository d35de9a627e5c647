//! Blobs whose sealed content lies in an S3-compatible object store.
//!
//! While a blob is open it is a directory below the local root, as [`Directory`] keeps it. Sealing seals it there, uploads
//! it and drops the local copy, so that a blob is in one of three states: open here, sealed here (until it is uploaded),
//! sealed there. The step from the second to the third may be repeated at any time, also by another process after a crash:
//! an object's content never changes.

mod http;
mod reading;
mod remote;
mod upload;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Shared as Joined;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::http::Failure;
use self::remote::Remote;
use self::upload::Upload;
use super::{BlobAnswer, BlobError, BlobId, BlobStore, BlockName, Chunks, Directory};
use crate::Error;

/// How long a start waits for the object store.
const START: Duration = Duration::from_secs(10);

/// What proves who asks.
#[derive(Clone)]
pub struct Credentials {
    /// The name of the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// What goes with a key that ends.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Gives the credentials of the moment, or says why there are none. It is asked for each request.
#[derive(Clone)]
pub struct Provider(pub Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

/// Why an object store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The local directory cannot be.
    #[error(transparent)]
    Local(#[from] Error),
    /// The bucket is not there or refuses, or the prefix is another service's.
    #[error("cannot use the bucket `{bucket}` at {endpoint}: {message}")]
    Bucket {
        /// The bucket.
        bucket: String,
        /// Where the object store is.
        endpoint: String,
        /// What is wrong, and the remedy where there is one.
        message: String,
    },
}

/// Where the object store is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its URL.
    pub endpoint: String,
    /// Whether the bucket is named in the path instead of the host.
    pub is_path_style: bool,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket, which must be there.
    pub bucket: String,
    /// What the names of objects begin with; nobody else may use it.
    pub prefix: String,
    /// Who asks.
    pub credentials: Provider,
    /// A file outside of the blobs' directory that says who this service is; made when it is not there.
    pub owner: PathBuf,
    /// Content that is larger goes in parts of at least this size; the protocol allows no less than 5 MiB.
    pub part_size: u64,
    /// How long the object store may do nothing before it is given up.
    pub patience: Duration,
    /// How often a request is tried again.
    pub retries: usize,
    /// The shortest time before that; it doubles.
    pub retry_delay: Duration,
}

impl Options {
    /// Options for a bucket, with usual sizes and times.
    #[must_use]
    pub fn new(endpoint: String, region: String, bucket: String, credentials: Provider, owner: PathBuf) -> Self {
        Self {
            endpoint,
            is_path_style: true,
            region,
            bucket,
            prefix: String::new(),
            credentials,
            owner,
            part_size: 16 << 20,
            patience: Duration::from_secs(30),
            retries: 4,
            retry_delay: Duration::from_millis(200),
        }
    }
}

/// Blobs that are written below a local directory and kept in an object store. Clones share their state; one process at
/// a time may write there.
#[derive(Clone)]
pub struct S3 {
    shared: Arc<Shared>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("local", &self.shared.local).finish_non_exhaustive()
    }
}

type Sealing = Joined<Pin<Box<dyn Future<Output = Result<u64, BlobError>> + Send>>>;

struct Shared {
    local: Directory,
    remote: Arc<Remote>,
    part_size: u64,
    /// Who this service is.
    owner: String,
    /// Set once the prefix is known to be this service's.
    owned: OnceCell<()>,
    /// Blobs that are being sealed. They are so to the end, whoever stops to wait for it.
    sealing: Mutex<HashMap<BlobId, Sealing>>,
    tasks: TaskTracker,
}

impl S3 {
    /// Uses the blobs below `directory`, which is made (mode 0700) if it is not there, and in the bucket. An object store
    /// that cannot be reached now is no error.
    ///
    /// # Errors
    /// [`OpenError`]; what may be gone at the next try is none.
    pub async fn open(directory: &Path, options: &Options) -> Result<Self, OpenError> {
        let unusable =
            |message| OpenError::Bucket { bucket: options.bucket.clone(), endpoint: options.endpoint.clone(), message };
        let local = Directory::open(directory)?;
        local.sweep()?;
        let owner = known_or_drawn(&options.owner).map_err(|error| {
            Error::Unusable(format!("the file {} cannot be used ({error})", options.owner.display()))
        })?;
        let remote = Remote::new(options).map_err(unusable)?;
        let shared = Shared {
            local,
            remote: Arc::new(remote),
            part_size: options.part_size,
            owner,
            owned: OnceCell::new(),
            sealing: Mutex::default(),
            tasks: TaskTracker::new(),
        };
        let silent = |_| Err(Failure::Passing(format!("it did not answer within {} s", START.as_secs())));
        match tokio::time::timeout(START, shared.own()).await.unwrap_or_else(silent) {
            Ok(()) => {}
            Err(Failure::Passing(why)) => {
                tracing::warn!(%why, "the object store cannot be used now; uploads cannot be completed until it can");
            }
            Err(failure) => return Err(unusable(failure.text())),
        }
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A step that changes an open blob. One that is not here may be sealed there.
    fn write<T: Send + 'static>(&self, id: BlobId, step: BlobAnswer<T>) -> BlobAnswer<T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match step.await {
                Err(BlobError::NoBlob(_)) => {
                    shared.size_there(id).await?;
                    Err(BlobError::Sealed(id))
                }
                ended => ended,
            }
        })
    }
}

/// Who this service is, from the file.
fn known_or_drawn(path: &Path) -> std::io::Result<String> {
    if let Some(known) = super::files::if_there(std::fs::read_to_string(path))? {
        let known = known.trim();
        if !known.is_empty() {
            return Ok(known.to_owned());
        }
    }
    let drawn = Uuid::new_v4().simple().to_string();
    std::fs::write(path, format!("{drawn}\n"))?;
    std::fs::File::open(path)?.sync_all()?;
    Ok(drawn)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn failed(&self, operation: &'static str, id: BlobId) -> impl FnOnce(Failure) -> BlobError {
        let object = self.remote.key(id);
        move |failure| match failure {
            Failure::Absent => BlobError::NoBlob(id),
            failure => BlobError::Remote { operation, object, message: failure.text() },
        }
    }

    /// Makes sure that the prefix is this service's: another one would delete what it does not know.
    async fn own(&self) -> Result<(), Failure> {
        let check = || async {
            let key = self.remote.owner_key();
            match self.remote.text(&key).await {
                Ok(owner) if owner.trim() == self.owner => Ok(()),
                Ok(_) => Err(Failure::Lasting(format!(
                    "the object `{key}` says that the prefix is another service's; give a prefix of its own, or delete \
                     that object if the other service is gone for good"
                ))),
                Err(Failure::Absent) => {
                    // Not every store says of an object that its bucket is not there; and lists are needed later.
                    self.remote.list(None, None).await?;
                    self.remote.put_text(&key, &self.owner).await
                }
                Err(failure) => Err(failure),
            }
        };
        self.owned.get_or_try_init(check).await.copied()
    }

    async fn size_there(&self, id: BlobId) -> Result<u64, BlobError> {
        self.remote.size(&self.remote.key(id)).await.map_err(self.failed("measure", id))
    }

    fn upload(&self, id: BlobId, size: u64) -> Upload<'_> {
        Upload { remote: &self.remote, local: &self.local, id, size, part_size: self.part_size }
    }

    async fn seal(&self, id: BlobId) -> Result<u64, BlobError> {
        let size = match self.local.seal(id).await {
            Err(BlobError::NoBlob(_)) => return self.size_there(id).await,
            sealed => sealed?,
        };
        let stored = match self.own().await {
            Ok(()) => self.upload(id, size).run().await,
            Err(failure) => Err(failure),
        };
        stored.map_err(|failure| match failure {
            // The upload, not the blob.
            Failure::Absent => self.failed("upload", id)(Failure::Passing("the upload is gone".to_owned())),
            failure => self.failed("upload", id)(failure),
        })?;
        self.local.drop_copy(id).await?;
        Ok(size)
    }

    fn is_sealing(&self, id: BlobId) -> Option<Sealing> {
        held(&self.sealing).get(&id).cloned()
    }

    async fn delete(&self, id: BlobId) -> Result<bool, BlobError> {
        if let Some(sealing) = self.is_sealing(id) {
            // How it ends makes no difference.
            drop(sealing.await);
        }
        // Before the local copy, which a crash in between would leave to be found.
        let is_there = match self.size_there(id).await {
            Ok(_) => {
                self.own().await.map_err(self.failed("delete", id))?;
                self.remote.delete(&self.remote.key(id)).await.map_err(self.failed("delete", id))?;
                true
            }
            Err(BlobError::NoBlob(_)) => false,
            Err(error) => return Err(error),
        };
        self.upload(id, 0).give_up().await.map_err(self.failed("give up", id))?;
        Ok(self.local.delete(id).await? || is_there)
    }

    fn listed(&self) -> impl FnOnce(Failure) -> BlobError {
        let object = self.remote.owner_key();
        move |failure| BlobError::Remote { operation: "list the objects beside", object, message: failure.text() }
    }

    async fn untouched_since(
        &self,
        before: Timestamp,
        after: Option<BlobId>,
        limit: u32,
    ) -> Result<Vec<BlobId>, BlobError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        // What is deleted after such a look must be this service's.
        self.own().await.map_err(self.listed())?;
        let mut found: BTreeSet<BlobId> = self.local.untouched_since(before, after, limit).await?.into_iter().collect();
        let (mut there, mut from) = (0, None);
        loop {
            let (page, next) = self.remote.list(after, from).await.map_err(self.listed())?;
            let old = page.iter().filter(|object| object.changed_at.is_some_and(|changed_at| changed_at < before));
            for object in old {
                there += 1;
                found.insert(object.id);
            }
            from = next;
            if from.is_none() || there >= most {
                break;
            }
        }
        Ok(found.into_iter().filter(|id| self.is_sealing(*id).is_none()).take(most).collect())
    }
}

impl BlobStore for S3 {
    fn create(&self) -> BlobAnswer<BlobId> {
        self.shared.local.create()
    }

    fn append(&self, id: BlobId, offset: u64, bytes: Bytes, limit: u64) -> BlobAnswer<u64> {
        self.write(id, self.shared.local.append(id, offset, bytes, limit))
    }

    fn write_at(&self, id: BlobId, offset: u64, chunks: Chunks, limit: u64) -> BlobAnswer<u64> {
        self.write(id, self.shared.local.write_at(id, offset, chunks, limit))
    }

    fn put_block(&self, id: BlobId, block: BlockName, chunks: Chunks, limit: u64) -> BlobAnswer<u64> {
        self.write(id, self.shared.local.put_block(id, block, chunks, limit))
    }

    fn commit_blocks(&self, id: BlobId, blocks: Vec<BlockName>, limit: u64) -> BlobAnswer<u64> {
        self.write(id, self.shared.local.commit_blocks(id, blocks, limit))
    }

    fn put_whole(&self, id: BlobId, chunks: Chunks, limit: u64) -> BlobAnswer<u64> {
        self.write(id, self.shared.local.put_whole(id, chunks, limit))
    }

    fn seal(&self, id: BlobId) -> BlobAnswer<u64> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let sealing = held(&shared.sealing)
                .entry(id)
                .or_insert_with(|| {
                    let (task, path) = (Arc::clone(&shared), shared.local.note(id));
                    let task = shared.tasks.spawn(async move {
                        let sealed = task.seal(id).await;
                        held(&task.sealing).remove(&id);
                        sealed
                    });
                    let ended = task.map(|ended| {
                        ended.unwrap_or_else(|error| {
                            let message = format!("its task ended early: {error}");
                            Err(BlobError::Io { operation: "seal", path, message })
                        })
                    });
                    ended.boxed().shared()
                })
                .clone();
            sealing.await
        })
    }

    fn size(&self, id: BlobId) -> BlobAnswer<u64> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match shared.local.size(id).await {
                Err(BlobError::NoBlob(_)) => shared.size_there(id).await,
                size => size,
            }
        })
    }

    fn read(&self, id: BlobId, range: Range<u64>) -> BlobAnswer<Chunks> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match shared.local.read(id, range.clone()).await {
                Err(BlobError::NoBlob(_)) if range.is_empty() => {
                    shared.size_there(id).await?;
                    Ok(stream::empty().boxed())
                }
                Err(BlobError::NoBlob(_)) => {
                    let read = reading::read(Arc::clone(&shared.remote), shared.remote.key(id), range).await;
                    read.map_err(shared.failed("read", id))
                }
                read => read,
            }
        })
    }

    fn delete(&self, id: BlobId) -> BlobAnswer<bool> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.delete(id).await })
    }

    fn usage(&self) -> BlobAnswer<u64> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let (mut bytes, mut from) = (shared.local.usage().await?, None);
            loop {
                let (page, next) = shared.remote.list(None, from).await.map_err(shared.listed())?;
                bytes = page.iter().fold(bytes, |bytes: u64, object| bytes.saturating_add(object.size));
                from = next;
                if from.is_none() {
                    return Ok(bytes);
                }
            }
        })
    }

    fn untouched_since(&self, before: Timestamp, after: Option<BlobId>, limit: u32) -> BlobAnswer<Vec<BlobId>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.untouched_since(before, after, limit).await })
    }
}
