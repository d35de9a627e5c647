//! The files of one blob. All of it blocks.
//!
//! A blob is a directory. `open` is its content while it is open, `sealed` afterwards; `blocks/` has the blocks that are
//! not committed, `list` the names of those that were last; names that begin with `new-` are being written. `upload` is the
//! note of the way to an object store, from which `gone-` before a blob's own name says that the way is done.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use uuid::Uuid;

use super::{BlobError, BlobId, BlockName};

/// What the name of a blob's directory begins with that is kept elsewhere.
#[cfg(feature = "s3")]
pub(super) const GONE: &str = "gone-";

/// Where a blob lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    id: BlobId,
    directory: PathBuf,
}

impl Place {
    pub(super) fn new(root: &Path, id: BlobId) -> Self {
        let name = id.to_string();
        // 256 directories, so that none of them becomes long.
        let directory = root.join(&name[..2]).join(&name);
        Self { id, directory }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn open(&self) -> PathBuf {
        self.directory.join("open")
    }

    fn sealed(&self) -> PathBuf {
        self.directory.join("sealed")
    }

    fn list(&self) -> PathBuf {
        self.directory.join("list")
    }

    fn blocks(&self) -> PathBuf {
        self.directory.join("blocks")
    }

    fn block(&self, block: &BlockName) -> PathBuf {
        self.blocks().join(block.file_name())
    }

    pub(super) fn create(&self) -> Result<(), BlobError> {
        let create = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let shard = self.directory.parent().unwrap_or(&self.directory);
            sync_directory(shard)?;
            sync_directory(shard.parent().unwrap_or(shard))
        };
        create().map_err(failed_to("create", &self.directory))
    }

    /// Refuses a blob that is not there or is sealed.
    pub(super) fn check_open(&self) -> Result<(), BlobError> {
        if is_there(&self.sealed())? {
            return Err(BlobError::Sealed(self.id));
        }
        self.check_there()
    }

    fn check_there(&self) -> Result<(), BlobError> {
        if is_there(&self.directory)? { Ok(()) } else { Err(BlobError::NoBlob(self.id)) }
    }

    /// The open content, made if there is none yet.
    pub(super) fn content(&self) -> Result<File, BlobError> {
        self.check_open()?;
        let open = self.open();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&open);
        file.map_err(failed_to("open", &open))
    }

    /// A file to write to until it is put in its place.
    pub(super) fn fresh(&self) -> Result<Fresh, BlobError> {
        self.check_open()?;
        let path = self.directory.join(format!("new-{}", Uuid::new_v4().simple()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed_to("create", &path))?;
        Ok(Fresh { file: std::sync::Arc::new(file), path, is_placed: false })
    }

    /// The bytes of all blocks that are not committed.
    pub(super) fn staged(&self) -> Result<u64, BlobError> {
        bytes_below(&self.blocks()).map_err(failed_to("measure", &self.blocks()))
    }

    pub(super) fn append(&self, offset: u64, bytes: &[u8], limit: u64) -> Result<u64, BlobError> {
        let file = self.content()?;
        let open = self.open();
        let length = file.metadata().map_err(failed_to("measure", &open))?.len();
        let Some(known) = length.checked_sub(offset) else { return Err(BlobError::Gap { wanted: length }) };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let Some(news) = bytes.get(known..).filter(|news| !news.is_empty()) else { return Ok(length) };
        let end = length.saturating_add(news.len() as u64);
        if end > limit {
            return Err(BlobError::TooLarge { limit });
        }
        file.write_all_at(news, length).map_err(failed_to("write to", &open))?;
        Ok(end)
    }

    /// Puts a block into its place and answers the size of the one that it replaces.
    pub(super) fn place_block(&self, block: &BlockName, fresh: Fresh) -> Result<u64, BlobError> {
        self.check_open()?;
        let (blocks, path) = (self.blocks(), self.block(block));
        let place = || {
            if !blocks.exists() {
                DirBuilder::new().recursive(true).mode(0o700).create(&blocks)?;
                sync_directory(&self.directory)?;
            }
            let replaced = if_there(std::fs::metadata(&path))?.map_or(0, |known| known.len());
            fresh.place(&path)?;
            sync_directory(&blocks)?;
            Ok(replaced)
        };
        place().map_err(failed_to("put", &path))
    }

    pub(super) fn commit(&self, blocks: &[BlockName], limit: u64) -> Result<u64, BlobError> {
        self.check_open()?;
        let list = blocks.iter().map(BlockName::file_name).collect::<Vec<_>>().join("\n");
        let mut size = 0_u64;
        for block in blocks {
            let path = self.block(block);
            match if_there(std::fs::metadata(&path)).map_err(failed_to("measure", &path))? {
                Some(known) => size = size.saturating_add(known.len()),
                // The blocks of a list go when it is done.
                None if self.was_committed(&list)? => return self.size(),
                None => return Err(BlobError::NoBlock(block.clone())),
            }
        }
        if size > limit {
            return Err(BlobError::TooLarge { limit });
        }
        let (content, listed) = (self.fresh()?, self.fresh()?);
        let commit = || {
            let mut file = &*content.file;
            for block in blocks {
                io::copy(&mut File::open(self.block(block))?, &mut file)?;
            }
            file.sync_all()?;
            (&*listed.file).write_all(list.as_bytes())?;
            listed.file.sync_all()?;
            // A crash between the two leaves the blocks, so that a repeat does it all again.
            content.place(&self.open())?;
            listed.place(&self.list())?;
            sync_directory(&self.directory)?;
            if_there(std::fs::remove_dir_all(self.blocks()))?;
            Ok(size)
        };
        commit().map_err(failed_to("commit", &self.open()))
    }

    fn was_committed(&self, list: &str) -> Result<bool, BlobError> {
        let known = if_there(std::fs::read_to_string(self.list())).map_err(failed_to("read", &self.list()))?;
        Ok(known.is_some_and(|known| known == list))
    }

    /// Puts the whole content into its place.
    pub(super) fn place_content(&self, fresh: Fresh) -> Result<(), BlobError> {
        self.check_open()?;
        let place = || {
            if_there(std::fs::remove_file(self.list()))?;
            fresh.place(&self.open())?;
            sync_directory(&self.directory)?;
            if_there(std::fs::remove_dir_all(self.blocks()))
        };
        place().map(drop).map_err(failed_to("replace", &self.open()))
    }

    pub(super) fn seal(&self) -> Result<u64, BlobError> {
        self.check_there()?;
        let sealed = self.sealed();
        if !is_there(&sealed)? {
            let content = self.content()?;
            let seal = || {
                content.sync_all()?;
                std::fs::rename(self.open(), &sealed)?;
                sync_directory(&self.directory)
            };
            seal().map_err(failed_to("seal", &sealed))?;
        }
        let clear = || {
            for entry in std::fs::read_dir(&self.directory)? {
                let path = entry?.path();
                match path.file_name().and_then(|name| name.to_str()) {
                    // Whoever uploads the content goes on with its note.
                    Some("sealed" | "upload") => {}
                    Some("blocks") => drop(if_there(std::fs::remove_dir_all(&path))?),
                    _ => drop(if_there(std::fs::remove_file(&path))?),
                }
            }
            Ok(())
        };
        clear().map_err(failed_to("clear", &self.directory))?;
        self.size()
    }

    /// The content to read and its size.
    pub(super) fn reader(&self) -> Result<Option<(File, u64)>, BlobError> {
        // Sealing between the two looks would hide it.
        for path in [self.sealed(), self.open(), self.sealed()] {
            let opened = || {
                let Some(file) = if_there(File::open(&path))? else { return Ok(None) };
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
            };
            if let Some(found) = opened().map_err(failed_to("open", &path))? {
                return Ok(Some(found));
            }
        }
        self.check_there()?;
        Ok(None)
    }

    pub(super) fn size(&self) -> Result<u64, BlobError> {
        Ok(self.reader()?.map_or(0, |(_, size)| size))
    }

    pub(super) fn delete(&self) -> Result<bool, BlobError> {
        let deleted = if_there(std::fs::remove_dir_all(&self.directory));
        deleted.map(|deleted| deleted.is_some()).map_err(failed_to("delete", &self.directory))
    }

    /// Where an upload keeps its note.
    #[cfg(feature = "s3")]
    pub(super) fn note(&self) -> PathBuf {
        self.directory.join("upload")
    }

    /// Deletes a blob that is kept elsewhere: in one step, because what is left of it would hide the other.
    #[cfg(feature = "s3")]
    pub(super) fn drop_copy(&self) -> Result<(), BlobError> {
        let gone = self.directory.with_file_name(format!("{GONE}{}", self.id));
        let drop_copy = || {
            if if_there(std::fs::rename(&self.directory, &gone))?.is_some() {
                std::fs::remove_dir_all(&gone)?;
            }
            Ok(())
        };
        drop_copy().map_err(failed_to("drop", &self.directory))
    }

    /// The last time that something was written.
    pub(super) fn touched_at(&self) -> io::Result<SystemTime> {
        let mut touched = std::fs::metadata(&self.directory)?.modified()?;
        for entry in std::fs::read_dir(&self.directory)? {
            if let Some(known) = if_there(entry?.metadata())? {
                touched = touched.max(known.modified()?);
            }
        }
        Ok(touched)
    }
}

/// A file that is removed unless it is put in its place.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) file: std::sync::Arc<File>,
    path: PathBuf,
    is_placed: bool,
}

impl Fresh {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sync(&self) -> Result<(), BlobError> {
        self.file.sync_all().map_err(failed_to("sync", &self.path))
    }

    fn place(mut self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.is_placed {
            // What is left goes with the blob.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// The bytes of all files below.
pub(super) fn bytes_below(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let Some(entries) = if_there(std::fs::read_dir(&directory))? else { continue };
        for entry in entries {
            let entry = entry?;
            match if_there(entry.metadata())? {
                Some(known) if known.is_dir() => left.push(entry.path()),
                Some(known) => bytes = bytes.saturating_add(known.len()),
                None => {}
            }
        }
    }
    Ok(bytes)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn is_there(path: &Path) -> Result<bool, BlobError> {
    path.try_exists().map_err(failed_to("look for", path))
}

pub(super) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn failed_to(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    move |error| BlobError::Io { operation, path: path.to_owned(), message: error.to_string() }
}
