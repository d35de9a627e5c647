//! Blobs as files below a directory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::files::{self, Fresh, Place};
use super::{BlobAnswer, BlobError, BlobId, BlobStore, BlockName, Chunks};
use crate::Error;

/// How much is read or written at a time, and so what an upload or download takes of memory, give or take a chunk.
const PIECE: usize = 256 << 10;

/// The blobs below one directory. Clones share their state; one process at a time may write there.
#[derive(Clone, Debug)]
pub struct Directory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Blobs that were written to since they were made or since the start, until they are sealed or deleted.
    open: Mutex<HashMap<BlobId, Arc<OpenBlob>>>,
}

#[derive(Debug, Default)]
struct OpenBlob {
    /// Whoever changes the content or puts blocks in their place, and only then: never while bytes are waited for.
    changes: Mutex<()>,
    /// The bytes of its blocks, those on their way included, once they were counted.
    staged: Mutex<Option<u64>>,
}

impl OpenBlob {
    fn changes(&self) -> MutexGuard<'_, ()> {
        held(&self.changes)
    }

    /// Changes the number of staged bytes, unless the new one is beyond the limit.
    fn stage(&self, less: u64, more: u64, limit: u64) -> Result<(), BlobError> {
        let mut staged = held(&self.staged);
        let bytes = staged.unwrap_or(0).saturating_sub(less).saturating_add(more);
        if more > 0 && bytes > limit {
            return Err(BlobError::TooLarge { limit });
        }
        *staged = Some(bytes);
        Ok(())
    }
}

impl Shared {
    fn place(&self, id: BlobId) -> Place {
        Place::new(&self.root, id)
    }

    fn blob(&self, id: BlobId) -> Arc<OpenBlob> {
        Arc::clone(held(&self.open).entry(id).or_default())
    }

    fn forget(&self, id: BlobId) {
        if let Entry::Occupied(known) = held(&self.open).entry(id) {
            known.remove();
        }
    }

    /// Changes the content while nobody else does.
    fn change<T>(&self, id: BlobId, change: impl FnOnce(&Place) -> Result<T, BlobError>) -> Result<T, BlobError> {
        let blob = self.blob(id);
        let changes = blob.changes();
        let changed = change(&self.place(id));
        drop(changes);
        if matches!(changed, Err(BlobError::NoBlob(_) | BlobError::Sealed(_))) {
            self.forget(id);
        }
        changed
    }

    fn untouched_since(&self, before: Timestamp, after: Option<BlobId>, limit: u32) -> Result<Vec<BlobId>, BlobError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let first = after.map(|after| after.to_string()[..2].to_owned());
        let mut found = Vec::new();
        for shard in names(&self.root)?.into_iter().filter(|shard| first.as_ref().is_none_or(|first| shard >= first)) {
            let ids = names(&self.root.join(shard))?.into_iter().filter_map(|name| name.parse::<BlobId>().ok());
            for id in ids.filter(|id| after.is_none_or(|after| *id > after)) {
                let place = self.place(id);
                let touched = files::if_there(place.touched_at());
                let touched = touched.map_err(files::failed_to("measure", place.directory()))?;
                let touched = touched.and_then(|touched| Timestamp::try_from(touched).ok());
                if touched.is_some_and(|touched| touched < before) {
                    found.push(id);
                }
                if found.len() == most {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}

/// The names in a directory, in order.
fn names(directory: &Path) -> Result<Vec<String>, BlobError> {
    let read = || -> io::Result<Vec<String>> {
        let Some(entries) = files::if_there(std::fs::read_dir(directory))? else { return Ok(Vec::new()) };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    match read() {
        // What else lies there is none of ours.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(Vec::new()),
        names => names.map_err(files::failed_to("list", directory)),
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    task: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    let ended = tokio::task::spawn_blocking(task).await;
    ended.unwrap_or_else(|error| {
        Err(BlobError::Io { operation, path: PathBuf::new(), message: format!("its thread ended early: {error}") })
    })
}

/// Takes what comes, a piece at a time: `admit` hears how much it will be before it is kept, `write` gets it with its
/// place. Answers how much it was.
async fn receive(
    mut chunks: Chunks,
    mut admit: impl FnMut(u64) -> Result<(), BlobError>,
    write: impl Fn(u64, &[u8]) -> Result<(), BlobError> + Clone + Send + 'static,
) -> Result<u64, BlobError> {
    let (mut written, mut pending) = (0_u64, BytesMut::new());
    loop {
        let next = chunks.next().await.transpose().map_err(|error| BlobError::BrokenOff(error.to_string()))?;
        let is_end = next.is_none();
        // A large chunk is taken in parts, so that nothing is written beyond a limit.
        for part in next.unwrap_or_default().chunks(PIECE) {
            admit(written.saturating_add((pending.len() + part.len()) as u64))?;
            pending.extend_from_slice(part);
            if pending.len() >= PIECE {
                written += flush(pending.split().freeze(), written, write.clone()).await?;
            }
        }
        if is_end {
            return Ok(written + flush(pending.freeze(), written, write).await?);
        }
    }
}

async fn flush(
    bytes: Bytes,
    at: u64,
    write: impl FnOnce(u64, &[u8]) -> Result<(), BlobError> + Send + 'static,
) -> Result<u64, BlobError> {
    if bytes.is_empty() {
        return Ok(0);
    }
    blocking("write", move || write(at, &bytes).map(|()| bytes.len() as u64)).await
}

/// Takes what comes into a new file and syncs it.
async fn receive_fresh(
    fresh: Fresh,
    chunks: Chunks,
    admit: impl FnMut(u64) -> Result<(), BlobError>,
) -> Result<(Fresh, u64), BlobError> {
    let file = Arc::clone(&fresh.file);
    let path = fresh.path().to_owned();
    let write = move |at, bytes: &[u8]| file.write_all_at(bytes, at).map_err(files::failed_to("write to", &path));
    let size = receive(chunks, admit, write).await?;
    let fresh = blocking("sync", move || fresh.sync().map(|()| fresh)).await?;
    Ok((fresh, size))
}

fn admit_up_to(limit: u64, start: u64) -> impl FnMut(u64) -> Result<(), BlobError> {
    move |size| if start.saturating_add(size) > limit { Err(BlobError::TooLarge { limit }) } else { Ok(()) }
}

/// Bytes of a block on their way, counted; they no longer count if the block is not put.
struct Reservation {
    blob: Arc<OpenBlob>,
    bytes: u64,
}

impl Reservation {
    fn grow(&mut self, bytes: u64, limit: u64) -> Result<(), BlobError> {
        self.blob.stage(0, bytes.saturating_sub(self.bytes), limit)?;
        self.bytes = bytes;
        Ok(())
    }

    /// The block is in its place and stays counted; those bytes that it replaced do not.
    fn settle(mut self, replaced: u64) {
        self.bytes = replaced;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Less is always allowed.
        drop(self.blob.stage(self.bytes, 0, u64::MAX));
    }
}

impl Directory {
    /// Uses the blobs below `directory`, which is made (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it cannot be made or written to.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        crate::directory::prepare(directory)?;
        Ok(Self { shared: Arc::new(Shared { root: directory.to_owned(), open: Mutex::default() }) })
    }

    /// Removes what a crash has left of copies that were dropped.
    #[cfg(feature = "s3")]
    pub(super) fn sweep(&self) -> Result<(), Error> {
        let root = &self.shared.root;
        let sweep = || -> Result<(), BlobError> {
            for shard in names(root)? {
                let shard = root.join(shard);
                for name in names(&shard)?.into_iter().filter(|name| name.starts_with(files::GONE)) {
                    let gone = shard.join(name);
                    std::fs::remove_dir_all(&gone).map_err(files::failed_to("remove", &gone))?;
                }
            }
            Ok(())
        };
        sweep().map_err(|error| Error::Unusable(error.to_string()))
    }

    /// Deletes a blob that is kept elsewhere.
    #[cfg(feature = "s3")]
    pub(super) fn drop_copy(&self, id: BlobId) -> BlobAnswer<()> {
        self.run("drop", move |shared| {
            shared.change(id, Place::drop_copy)?;
            shared.forget(id);
            Ok(())
        })
    }

    /// Where an upload of the blob keeps its note.
    #[cfg(feature = "s3")]
    pub(super) fn note(&self, id: BlobId) -> PathBuf {
        self.shared.place(id).note()
    }

    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        task: impl FnOnce(&Shared) -> Result<T, BlobError> + Send + 'static,
    ) -> BlobAnswer<T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking(operation, move || task(&shared)))
    }
}

impl BlobStore for Directory {
    fn create(&self) -> BlobAnswer<BlobId> {
        self.run("create", |shared| {
            let id = BlobId::draw();
            shared.place(id).create().map(|()| id)
        })
    }

    fn append(&self, id: BlobId, offset: u64, bytes: Bytes, limit: u64) -> BlobAnswer<u64> {
        self.run("append", move |shared| shared.change(id, |place| place.append(offset, &bytes, limit)))
    }

    fn write_at(&self, id: BlobId, offset: u64, chunks: Chunks, limit: u64) -> BlobAnswer<u64> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let place = shared.place(id);
            let write = move |at: u64, bytes: &[u8]| {
                shared.change(id, |place| {
                    let written = place.content()?.write_all_at(bytes, offset.saturating_add(at));
                    written.map_err(files::failed_to("write to", place.directory()))
                })
            };
            let size = receive(chunks, admit_up_to(limit, offset), write).await?;
            blocking("sync", move || {
                let content = place.content()?;
                content.sync_data().map_err(files::failed_to("sync", place.directory()))
            })
            .await?;
            Ok(size)
        })
    }

    fn put_block(&self, id: BlobId, block: BlockName, chunks: Chunks, limit: u64) -> BlobAnswer<u64> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let (begun, place) = (Arc::clone(&shared), shared.place(id));
            let (fresh, blob) = blocking("put a block", move || {
                let fresh = place.fresh()?;
                let blob = begun.blob(id);
                let mut staged = held(&blob.staged);
                if staged.is_none() {
                    *staged = Some(place.staged()?);
                }
                drop(staged);
                Ok((fresh, blob))
            })
            .await?;
            let mut reservation = Reservation { blob, bytes: 0 };
            let (fresh, size) = receive_fresh(fresh, chunks, |size| reservation.grow(size, limit)).await?;
            blocking("put a block", move || {
                let replaced = shared.change(id, |place| place.place_block(&block, fresh))?;
                reservation.settle(replaced);
                Ok(size)
            })
            .await
        })
    }

    fn commit_blocks(&self, id: BlobId, blocks: Vec<BlockName>, limit: u64) -> BlobAnswer<u64> {
        self.run("commit blocks", move |shared| {
            let size = shared.change(id, |place| place.commit(&blocks, limit))?;
            *held(&shared.blob(id).staged) = None;
            Ok(size)
        })
    }

    fn put_whole(&self, id: BlobId, chunks: Chunks, limit: u64) -> BlobAnswer<u64> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let place = shared.place(id);
            let fresh = blocking("replace", move || place.fresh()).await?;
            let (fresh, size) = receive_fresh(fresh, chunks, admit_up_to(limit, 0)).await?;
            blocking("replace", move || {
                shared.change(id, |place| place.place_content(fresh))?;
                *held(&shared.blob(id).staged) = None;
                Ok(size)
            })
            .await
        })
    }

    fn seal(&self, id: BlobId) -> BlobAnswer<u64> {
        self.run("seal", move |shared| {
            let size = shared.change(id, Place::seal)?;
            shared.forget(id);
            Ok(size)
        })
    }

    fn size(&self, id: BlobId) -> BlobAnswer<u64> {
        self.run("measure", move |shared| shared.place(id).size())
    }

    fn read(&self, id: BlobId, range: Range<u64>) -> BlobAnswer<Chunks> {
        let opened = self.run("read", move |shared| shared.place(id).reader());
        Box::pin(async move {
            let Some((file, size)) = opened.await? else { return Ok(stream::empty().boxed()) };
            let left = range.start..range.end.min(size);
            Ok(stream::try_unfold((Arc::new(file), left), next_piece).boxed())
        })
    }

    fn delete(&self, id: BlobId) -> BlobAnswer<bool> {
        self.run("delete", move |shared| {
            let deleted = shared.change(id, Place::delete)?;
            shared.forget(id);
            Ok(deleted)
        })
    }

    fn usage(&self) -> BlobAnswer<u64> {
        self.run("measure", |shared| {
            files::bytes_below(&shared.root).map_err(files::failed_to("measure", &shared.root))
        })
    }

    fn untouched_since(&self, before: Timestamp, after: Option<BlobId>, limit: u32) -> BlobAnswer<Vec<BlobId>> {
        self.run("list", move |shared| shared.untouched_since(before, after, limit))
    }
}

type Left = (Arc<File>, Range<u64>);

async fn next_piece((file, left): Left) -> io::Result<Option<(Bytes, Left)>> {
    if left.is_empty() {
        return Ok(None);
    }
    let length = usize::try_from(left.end - left.start).unwrap_or(PIECE).min(PIECE);
    let (source, start) = (Arc::clone(&file), left.start);
    let read = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; length];
        source.read_exact_at(&mut piece, start).map(|()| Bytes::from(piece))
    });
    let piece = read.await.map_err(io::Error::other)??;
    Ok(Some((piece, (file, start + length as u64..left.end))))
}
