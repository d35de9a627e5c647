//! Large things, such as artifacts and caches, as named sequences of bytes that are never in memory as a whole.
//!
//! A blob is *open* until it is sealed. While it is, its content comes in one of four ways, as the protocols of the
//! uploads want it: in order ([`BlobStore::append`]), at any place ([`BlobStore::write_at`]), as blocks in any order that
//! a list puts together ([`BlobStore::put_block`], [`BlobStore::commit_blocks`]), or at once ([`BlobStore::put_whole`]).
//! Afterwards it is only read and deleted.

mod directory;
mod files;
mod id;
#[cfg(feature = "s3")]
pub mod s3;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;

pub use directory::Directory;
pub use id::{BlobId, BlockName};

/// The answer of a blob store. What a step did is kept even when the future is dropped, as far as it came.
pub type BlobAnswer<T> = Pin<Box<dyn Future<Output = Result<T, BlobError>> + Send + 'static>>;

/// Bytes on their way.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + 'static>>;

/// Why a blob was not written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// No such blob.
    #[error("there is no blob {0}")]
    NoBlob(BlobId),
    /// The blob is sealed.
    #[error("the blob {0} is sealed and cannot be changed")]
    Sealed(BlobId),
    /// The bytes before the offset are not there.
    #[error("the blob is missing the bytes from {wanted} on")]
    Gap {
        /// The offset to continue at: the blob's length.
        wanted: u64,
    },
    /// The blob would become larger than allowed.
    #[error("the blob would be larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A block that is listed was not put.
    #[error("there is no block `{0}`")]
    NoBlock(BlockName),
    /// The upload broke off.
    #[error("the upload broke off: {0}")]
    BrokenOff(String),
    /// The file system refused.
    #[error("failed to {operation} {}: {message}", path.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The object store refused, or could not be reached.
    #[error("failed to {operation} {object} in the object store: {message}; it may be tried again")]
    Remote {
        /// What was to be done.
        operation: &'static str,
        /// The object's name.
        object: String,
        /// What the object store said.
        message: String,
    },
}

/// Blobs. Besides the errors that a method names, each may answer [`BlobError::Io`] and [`BlobError::Remote`], and
/// one that is given a blob [`BlobError::NoBlob`]; one that writes answers [`BlobError::Sealed`] for a sealed blob, [`BlobError::TooLarge`] when
/// the blob's content would exceed `limit`, and [`BlobError::BrokenOff`] when the bytes that it is given end in an error.
pub trait BlobStore: Send + Sync + 'static {
    /// Makes an open, empty blob.
    fn create(&self) -> BlobAnswer<BlobId>;
    /// Adds `bytes` at `offset` and answers the blob's length. Bytes before the present length are ignored, so an append
    /// may be repeated. On the disk when the blob is sealed. [`BlobError::Gap`] when `offset` is behind the end.
    fn append(&self, id: BlobId, offset: u64, bytes: Bytes, limit: u64) -> BlobAnswer<u64>;
    /// Writes what comes at `offset`, which may be behind the end, and answers how much it was. Several may write
    /// different parts at once; what nobody writes is zeros. On the disk when it answers; after an error a part may have
    /// been written, and may be again.
    fn write_at(&self, id: BlobId, offset: u64, chunks: Chunks, limit: u64) -> BlobAnswer<u64>;
    /// Keeps what comes as the block of this name, instead of an earlier one, and answers its size. Several may be put at
    /// once. On the disk when it answers; after an error nothing has changed. All blocks that are kept count for the
    /// limit.
    fn put_block(&self, id: BlobId, block: BlockName, chunks: Chunks, limit: u64) -> BlobAnswer<u64>;
    /// Makes these blocks, in this order, the blob's content, instead of an earlier one, and answers its size. All kept
    /// blocks are dropped. In one step, and on the disk when it answers; a repeat answers the same.
    /// [`BlobError::NoBlock`].
    fn commit_blocks(&self, id: BlobId, blocks: Vec<BlockName>, limit: u64) -> BlobAnswer<u64>;
    /// Makes what comes the blob's content, instead of an earlier one, and answers its size. Kept blocks are dropped. In
    /// one step, and on the disk when it answers.
    fn put_whole(&self, id: BlobId, chunks: Chunks, limit: u64) -> BlobAnswer<u64>;
    /// Ends the writing and answers the size. Blocks that were not committed are dropped. On the disk when it answers, or
    /// where else the blob is kept; a repeat answers the same. After [`BlobError::Remote`] the writing has ended, nothing
    /// is lost, and a repeat goes on.
    fn seal(&self, id: BlobId) -> BlobAnswer<u64>;
    /// The size of the content, open or sealed, without blocks that were not committed.
    fn size(&self, id: BlobId) -> BlobAnswer<u64>;
    /// The bytes in this range, as far as there are any, a bounded piece at a time. A blob that is deleted meanwhile is
    /// read to its end; one whose content is replaced meanwhile, as it was.
    fn read(&self, id: BlobId, range: Range<u64>) -> BlobAnswer<Chunks>;
    /// Deletes a blob, open or sealed; false when there is none.
    fn delete(&self, id: BlobId) -> BlobAnswer<bool>;
    /// The bytes that all blobs take, with blocks that were not committed. Looks at every file.
    fn usage(&self) -> BlobAnswer<u64>;
    /// Blobs with an id behind `after` that were not written to since `before`, by id, at most `limit`: those among them
    /// that nothing refers to are left from uploads that were given up.
    fn untouched_since(&self, before: Timestamp, after: Option<BlobId>, limit: u32) -> BlobAnswer<Vec<BlobId>>;
}

#[cfg(test)]
mod tests;
