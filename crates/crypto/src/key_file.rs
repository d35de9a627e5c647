//! Files that keys live in: text lines `<purpose> v1 <base64url>`, readable by their owner alone.
//!
//! The purpose stands in the file so that a key of one kind is never used for another. A file that does not exist is
//! created with one new key, whole or not at all; of two processes that create it at once both end with the same key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::random::{random_base62, random_bytes};

/// Largest file read; a thousand keys fit.
const MAX_SIZE: u64 = 64 * 1024;

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Somebody else could read the key.
    #[error(
        "key file {} can be read by others (mode {mode:04o}); run `chmod 600 {}`, and replace the key if it may have \
         been read",
        path.display(),
        path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not the text that is expected.
    #[error(
        "key file {} line {line} is not `{purpose} v1 <{key}>`; restore it from a backup, or move it away to have a new \
         key made",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The first line that is wrong, from 1.
        line: usize,
        /// The purpose that was expected.
        purpose: &'static str,
        /// What stands for the key.
        key: &'static str,
    },
    /// The operating system refused.
    #[error("key file {}: {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A kind of key that files hold.
pub(crate) struct Kind<T> {
    /// The first word of each line.
    pub(crate) purpose: &'static str,
    /// How the last word is described to a person.
    pub(crate) key: &'static str,
    /// The key of these bytes, if they are one.
    pub(crate) read: fn(Vec<u8>) -> Option<T>,
    /// The bytes of a new key.
    pub(crate) make: fn() -> Vec<u8>,
}

/// The keys of the file at `path`, 32 random bytes each, in the file's order and at least one; makes the file with one
/// new key if there is none.
pub(crate) fn load_or_create(path: &Path, purpose: &'static str) -> Result<Vec<[u8; 32]>, KeyFileError> {
    let kind = Kind {
        purpose,
        key: "43 characters of base64url",
        read: |bytes| bytes.try_into().ok(),
        make: || random_bytes::<32>().to_vec(),
    };
    load_or_create_kind(path, &kind)
}

/// The same for keys of another `kind`.
pub(crate) fn load_or_create_kind<T>(path: &Path, kind: &Kind<T>) -> Result<Vec<T>, KeyFileError> {
    match File::open(path) {
        Ok(file) => Ok(read(file, path, kind)?.1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = line(kind.purpose, &(kind.make)());
            write(path, &text, Existing::Kept).map_err(|(action, source)| io_error(path, action, source))?;
            // Read it back: another process may have been first, and its key is the one that counts.
            let file = File::open(path).map_err(|source| io_error(path, "open after creation", source))?;
            Ok(read(file, path, kind)?.1)
        }
        Err(source) => Err(io_error(path, "open", source)),
    }
}

/// Puts a new key in front of those in the file at `path`, of which the first `keep` stay; the file is replaced whole
/// or not at all. Comments in it are dropped. The caller sees to it that nobody else does the same at once.
pub(crate) fn rotate<T>(path: &Path, kind: &Kind<T>, keep: usize) -> Result<(), KeyFileError> {
    let file = File::open(path).map_err(|source| io_error(path, "open", source))?;
    let (lines, _) = read(file, path, kind)?;
    let mut text = line(kind.purpose, &(kind.make)());
    for line in lines.iter().take(keep) {
        text.push_str(line);
        text.push('\n');
    }
    write(path, &text, Existing::Replaced).map_err(|(action, source)| io_error(path, action, source))
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), action, source }
}

/// The lines that hold keys, and the keys.
fn read<T>(file: File, path: &Path, kind: &Kind<T>) -> Result<(Vec<String>, Vec<T>), KeyFileError> {
    // Of the open file, not of the path: what is checked is what is read.
    let metadata = file.metadata().map_err(|source| io_error(path, "read metadata", source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_SIZE).read_to_string(&mut text).map_err(|source| io_error(path, "read", source))?;
    let malformed =
        |line| KeyFileError::Malformed { path: path.to_owned(), line, purpose: kind.purpose, key: kind.key };
    let (mut lines, mut keys) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        keys.push(parse_line(line, kind).ok_or_else(|| malformed(index + 1))?);
        lines.push(line.to_owned());
    }
    if keys.is_empty() { Err(malformed(1)) } else { Ok((lines, keys)) }
}

fn parse_line<T>(line: &str, kind: &Kind<T>) -> Option<T> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != kind.purpose || words.next()? != "v1" {
        return None;
    }
    let key = (kind.read)(URL_SAFE_NO_PAD.decode(words.next()?).ok()?)?;
    words.next().is_none().then_some(key)
}

/// One line of a key file.
pub(crate) fn line(purpose: &str, key: &[u8]) -> String {
    format!("{purpose} v1 {}\n", URL_SAFE_NO_PAD.encode(key))
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Kept,
    Replaced,
}

/// Puts a file with this text at `path`.
fn write(path: &Path, text: &str, existing: Existing) -> Result<(), (&'static str, io::Error)> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().ok_or_else(|| ("create", io::ErrorKind::InvalidFilename.into()))?;
    let temporary = directory.join(format!(".{}.{}", name.to_string_lossy(), random_base62(12)));
    let result = write_through(&temporary, path, text, existing).and_then(|()| {
        // Otherwise a crash could lose the name of a key that has already signed or sealed something.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(|source| ("sync directory", source))
    });
    // The temporary name is gone if it was renamed; otherwise it is a second name of the same file, or a failure.
    let _ = fs::remove_file(&temporary);
    result
}

fn write_through(
    temporary: &Path,
    path: &Path,
    text: &str,
    existing: Existing,
) -> Result<(), (&'static str, io::Error)> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(|source| ("create", source))?;
    file.write_all(text.as_bytes()).map_err(|source| ("write", source))?;
    file.sync_all().map_err(|source| ("sync", source))?;
    if existing == Existing::Replaced {
        return fs::rename(temporary, path).map_err(|source| ("replace", source));
    }
    match fs::hard_link(temporary, path) {
        Ok(()) => Ok(()),
        // Another process was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // File systems without hard links (network shares, some volumes of containers). Two processes that start for
        // the first time in the same millisecond could end with different keys there; nothing else can be had.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            fs::rename(temporary, path).map_err(|source| ("create", source))
        }
        Err(source) => Err(("create", source)),
    }
}

#[cfg(test)]
mod tests;
