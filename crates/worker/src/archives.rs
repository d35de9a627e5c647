//! Archives of actions: kept on the runner's disk by their digest, shared by its jobs, and unpacked with care.
//!
//! What a job left in the directory is not believed: an archive is unpacked elsewhere first, and put into its place only
//! when all of it has the digest that the service named.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use startline_client::LaunchClient;
use startline_protocol::actions::launch::ActionDownload;
use tar::EntryType;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

/// The largest archive that is taken.
const LARGEST: u64 = 1 << 30;
/// The most that an archive may hold.
const UNPACKED: u64 = 4 << 30;
/// The most entries of an archive.
const ENTRIES: usize = 200_000;
/// The most bytes that are kept.
const KEPT: u64 = 4 << 30;
/// An archive that was wanted this shortly is not removed: a job may be about to unpack it.
const SETTLED: Duration = Duration::from_secs(600);
/// What the names of unfinished downloads begin with.
const DRAFT: &str = ".draft-";

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("the archive cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error(
        "the archive has the digest sha256:{0}, not the one that the service named; it was removed from the runner's disk"
    )]
    Digest(String),
    #[error("the archive has several top-level directories, or none")]
    Tops,
    #[error("the archive's entry `{0}` leads out of it")]
    Leaves(String),
    #[error("the archive's entry `{0}` is neither a file nor a directory nor a link")]
    Kind(String),
    #[error("the archive has more than {ENTRIES} entries or {} GiB", UNPACKED >> 30)]
    Size,
}

/// A directory of archives.
#[derive(Clone, Debug)]
pub(crate) struct Archives {
    root: PathBuf,
}

impl Archives {
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the archive with this digest is, after it was downloaded if it was not there.
    pub(crate) async fn get_or_download(
        &self,
        digest: &str,
        launch: &LaunchClient,
        action: &ActionDownload,
    ) -> Result<PathBuf, String> {
        let plain = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain {
            return Err(format!("`{}` is not a SHA-256 digest", digest.escape_debug()));
        }
        let path = self.root.join(format!("{digest}.tar.gz"));
        if let Ok(file) = File::options().append(true).open(&path) {
            // A time that cannot be set lets it go earlier; nothing else.
            drop(file.set_modified(SystemTime::from(Timestamp::now())));
            return Ok(path);
        }
        let failed = |error: io::Error| format!("cannot keep it in `{}`: {error}", self.root.display());
        fs::create_dir_all(&self.root).map_err(failed)?;
        let draft = Draft(self.root.join(format!("{DRAFT}{}", Uuid::new_v4())));
        let mut file = tokio::fs::File::create(&draft.0).await.map_err(failed)?;
        let mut download = launch.download(action).await.map_err(|error| error.to_string())?;
        let mut size = 0;
        while let Some(piece) = download.piece().await.map_err(|error| error.to_string())? {
            size += piece.len() as u64;
            if size > LARGEST {
                return Err(format!("it is larger than {} GiB", LARGEST >> 30));
            }
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        fs::rename(&draft.0, &path).map_err(failed)?;
        self.shrink(Timestamp::now());
        Ok(path)
    }

    /// Removes what was not wanted for the longest, until the rest is within the limit, and downloads that were given up.
    fn shrink(&self, now: Timestamp) {
        let Some(settled) = SystemTime::from(now).checked_sub(SETTLED) else { return };
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        let mut known: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((about.modified().ok()?, about.len(), entry.path()))
            })
            .collect();
        known.sort();
        let mut total: u64 = known.iter().map(|(_, size, _)| size).sum();
        for (wanted, size, path) in known.into_iter().filter(|(wanted, ..)| *wanted < settled) {
            let draft = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(DRAFT.as_bytes()));
            if draft || total > KEPT {
                tracing::debug!(path = %path.display(), ?wanted, "removed an archive of an action");
                // Another worker may have been faster.
                drop(fs::remove_file(&path));
                total = total.saturating_sub(size);
            }
        }
    }
}

/// An unfinished download, which goes when nobody wants it any more.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone already when it was finished.
        drop(fs::remove_file(&self.0));
    }
}

/// Makes the one directory in the archive `from` the directory `place`. It is unpacked below `scratch` first, which must
/// be on the same file system. An archive that has another digest is removed. Blocks.
pub(crate) fn unpack(from: &Path, digest: &str, scratch: &Path, place: &Path) -> Result<(), ArchiveError> {
    let into = scratch.join(format!("action-{}", Uuid::new_v4()));
    fs::create_dir_all(&into)?;
    let unpacked = unpack_into(from, digest, &into).and_then(|top| {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::rename(into.join(top), place)?)
    });
    if matches!(unpacked, Err(ArchiveError::Digest(_))) {
        drop(fs::remove_file(from));
    }
    // What is left goes with `_temp` at the latest.
    drop(fs::remove_dir_all(&into));
    unpacked
}

/// Unpacks all and answers the name of the top-level directory.
fn unpack_into(from: &Path, digest: &str, into: &Path) -> Result<PathBuf, ArchiveError> {
    let mut hashed = Hashed { from: File::open(from)?, context: Context::new(&SHA256) };
    let bounded = Bounded { from: MultiGzDecoder::new(&mut hashed), left: UNPACKED };
    let unpacked = entries(bounded, into);
    // What is wrong with content that nobody vouches for is of no interest.
    io::copy(&mut hashed, &mut io::sink())?;
    let is: String = hashed.context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if !is.eq_ignore_ascii_case(digest) { Err(ArchiveError::Digest(is)) } else { unpacked }
}

fn entries(from: impl Read, into: &Path) -> Result<PathBuf, ArchiveError> {
    let mut archive = tar::Archive::new(from);
    archive.set_preserve_mtime(false);
    archive.set_preserve_permissions(false);
    archive.set_unpack_xattrs(false);
    let (mut top, mut links) = (None::<PathBuf>, Vec::new());
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if count >= ENTRIES {
            return Err(ArchiveError::Size);
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let path = entry.path()?.into_owned();
        let shown = path.to_string_lossy().into_owned();
        let depth = depth(&path).ok_or_else(|| ArchiveError::Leaves(shown.clone()))?;
        let first = path
            .components()
            .find(|part| matches!(part, Component::Normal(_)))
            .map(|part| PathBuf::from(part.as_os_str()));
        if top.is_some() && first.is_some() && first != top {
            return Err(ArchiveError::Tops);
        }
        top = top.or(first);
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => {}
            EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default();
                if !stays(depth, &target) {
                    return Err(ArchiveError::Leaves(shown));
                }
                links.push(path);
            }
            _ => return Err(ArchiveError::Kind(shown)),
        }
        // Writes through no link that leaves the directory either.
        match entry.unpack_in(into) {
            Ok(true) => {}
            Ok(false) => return Err(ArchiveError::Leaves(shown)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(ArchiveError::Size),
            Err(error) => return Err(error.into()),
        }
    }
    let top = top.filter(|top| into.join(top).is_dir()).ok_or(ArchiveError::Tops)?;
    let inside = fs::canonicalize(into.join(&top))?;
    // Links that are harmless alone may lead out together.
    for link in links {
        if fs::canonicalize(into.join(&link)).is_ok_and(|target| !target.starts_with(&inside)) {
            return Err(ArchiveError::Leaves(link.to_string_lossy().into_owned()));
        }
    }
    Ok(top)
}

/// How many names a path has, if it stays below where it begins.
fn depth(path: &Path) -> Option<usize> {
    path.components().try_fold(0, |depth, part| match part {
        Component::CurDir => Some(depth),
        Component::Normal(_) => Some(depth + 1),
        _ => None,
    })
}

/// Whether a link that is the `depth`th name of its path stays below the first one.
fn stays(depth: usize, target: &Path) -> bool {
    let mut at = depth.saturating_sub(1);
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => at += 1,
            // One name is the top-level directory, which a link may name and not leave.
            Component::ParentDir if at > 1 => at -= 1,
            _ => return false,
        }
    }
    at > 0
}

/// A reader that hashes what passes.
struct Hashed {
    from: File,
    context: Context,
}

impl Read for Hashed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.context.update(&into[..count]);
        Ok(count)
    }
}

/// A reader that fails where more comes than is good for us.
struct Bounded<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
