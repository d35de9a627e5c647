//! One log file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::LogError;

/// The end of a log, open for writing.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    length: u64,
}

impl Tail {
    /// Opens the file and makes it and its directory if they are not there.
    pub(super) fn open(path: &Path) -> Result<Self, LogError> {
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let again = |error: io::Error| {
            let shard = path.parent().filter(|_| error.kind() == ErrorKind::NotFound).ok_or(error)?;
            DirBuilder::new().recursive(true).mode(0o700).create(shard)?;
            open()
        };
        // Twice: the directory may be removed in between, if it was just emptied.
        let file = open().or_else(again).or_else(again);
        let tail = file.and_then(|file| Ok(Self { length: file.metadata()?.len(), file }));
        tail.map_err(failed_to("open", path))
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Writes those of `bytes` at `offset` that are new and answers the new length.
    pub(super) fn append(&mut self, path: &Path, offset: u64, bytes: &[u8], limit: u64) -> Result<u64, LogError> {
        let Some(known) = self.length.checked_sub(offset) else { return Err(LogError::Gap { wanted: self.length }) };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let Some(news) = bytes.get(known..).filter(|news| !news.is_empty()) else { return Ok(self.length) };
        let length = self.length.saturating_add(news.len() as u64);
        if length > limit {
            return Err(LogError::TooLarge { limit });
        }
        self.file.write_all(news).map_err(failed_to("append to", path))?;
        self.length = length;
        Ok(length)
    }
}

pub(super) fn length(path: &Path) -> Result<u64, LogError> {
    let length = std::fs::metadata(path).map(|metadata| metadata.len());
    if_there(length).map(Option::unwrap_or_default).map_err(failed_to("measure", path))
}

pub(super) fn read(path: &Path, offset: u64, max: usize) -> Result<Vec<u8>, LogError> {
    let bytes = || {
        let Some(file) = if_there(File::open(path))? else { return Ok(Vec::new()) };
        // The room is for what is there, not for what was asked.
        let left = usize::try_from(file.metadata()?.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(max)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    };
    bytes().map_err(failed_to("read", path))
}

/// Syncs the file and, because it may be new, its directory.
pub(super) fn sync(path: &Path) -> Result<(), LogError> {
    let sync = || {
        let Some(file) = if_there(File::open(path))? else { return Ok(()) };
        file.sync_data()?;
        let shard = path.parent().map_or_else(|| File::open("/"), File::open)?;
        shard.sync_all()
    };
    sync().map_err(failed_to("sync", path))
}

pub(super) fn remove(path: &Path) -> Result<bool, LogError> {
    if_there(std::fs::remove_file(path)).map(|removed| removed.is_some()).map_err(failed_to("remove", path))
}

/// Removes the directory of a log if no other is in it.
pub(super) fn remove_shard(path: &Path) {
    if let Some(shard) = path.parent() {
        // Mostly there are others.
        drop(std::fs::remove_dir(shard));
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed_to(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |error| LogError::Io { operation, path: path.to_owned(), message: error.to_string() }
}
