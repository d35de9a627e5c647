//! Looks through a tarball of somebody else before it is believed: one top-level directory, nothing that leaves it, no
//! more than is good for us.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::name::is_commit;

/// Most entries.
const ENTRIES: usize = 200_000;
/// Longest header of a whole archive that is read for its commit.
const HEADER: u64 = 64 * 1024;

/// Largest file that is read as text.
const TEXT: u64 = 1 << 20;

/// What is wrong with a tarball.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarballError {
    #[error("the archive is not a gzip tarball: {0}")]
    Format(io::Error),
    #[error("the archive has several top-level directories (`{0}` and `{1}`); an action has exactly one")]
    Tops(String, String),
    #[error("the archive has no top-level directory")]
    Empty,
    #[error("the archive's entry `{0}` leads out of it")]
    Leaves(String),
    #[error("the archive's entry `{0}` is neither a file nor a directory nor a link")]
    Kind(String),
    #[error("the archive has more than {ENTRIES} entries")]
    Entries,
    #[error("the archive holds more than {0} bytes")]
    Size(u64),
    #[error("the archive cannot be unpacked: {0}")]
    Unpack(io::Error),
}

/// What was unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The one directory.
    pub top: PathBuf,
    /// The commit that `git archive` wrote into it.
    pub commit: Option<String>,
}

/// Unpacks the gzip tarball `file` below the empty directory `into`; at most `most` bytes. Blocks.
pub(crate) fn unpack(file: &Path, into: &Path, most: u64) -> Result<Unpacked, TarballError> {
    let file = File::open(file).map_err(TarballError::Format)?;
    let mut archive = Archive::new(Bounded { from: MultiGzDecoder::new(file), left: most });
    archive.set_preserve_mtime(false);
    archive.set_preserve_permissions(false);
    archive.set_unpack_xattrs(false);
    let (mut top, mut commit) = (None::<String>, None);
    for (count, entry) in archive.entries().map_err(TarballError::Format)?.enumerate() {
        let mut entry = entry.map_err(|error| cut(error, most))?;
        if count >= ENTRIES {
            return Err(TarballError::Entries);
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            commit = commit.or_else(|| comment(&mut entry));
            continue;
        }
        let path = entry.path().map_err(TarballError::Format)?.into_owned();
        let shown = path.to_string_lossy().into_owned();
        let Some(parts) = inside(&path) else { return Err(TarballError::Leaves(shown)) };
        let [first, rest @ ..] = parts.as_slice() else { continue };
        // Files beside the directory do not hurt, and are not taken.
        if rest.is_empty() && !kind.is_dir() {
            continue;
        }
        match &top {
            Some(known) if known != first => return Err(TarballError::Tops(known.clone(), first.clone())),
            Some(_) => {}
            None => top = Some(first.clone()),
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory | EntryType::GNUSparse => {}
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name().map_err(TarballError::Format)?.unwrap_or_default().into_owned();
                let from: Vec<String> = if kind == EntryType::Link { Vec::new() } else { parts[..rest.len()].to_vec() };
                if !stays(from, &target, first) {
                    return Err(TarballError::Leaves(shown));
                }
            }
            _ => return Err(TarballError::Kind(shown)),
        }
        if !entry.unpack_in(into).map_err(|error| cut(error, most))? {
            return Err(TarballError::Leaves(shown));
        }
    }
    match top {
        Some(top) => Ok(Unpacked { top: into.join(top), commit }),
        None => Err(TarballError::Empty),
    }
}

/// The text of a file of an archive that was made here; none when there is no such file. Blocks.
pub(super) fn read(archive: &Path, path: &str) -> Result<Option<String>, TarballError> {
    let file = File::open(archive).map_err(TarballError::Format)?;
    let mut archive = Archive::new(MultiGzDecoder::new(file));
    for entry in archive.entries().map_err(TarballError::Format)? {
        let entry = entry.map_err(TarballError::Format)?;
        let name = entry.path().map_err(TarballError::Format)?.into_owned();
        // Below the one top-level directory.
        if !entry.header().entry_type().is_file() || name.components().skip(1).ne(Path::new(path).components()) {
            continue;
        }
        if entry.size() > TEXT {
            return Err(TarballError::Size(TEXT));
        }
        let mut text = String::new();
        entry.take(TEXT).read_to_string(&mut text).map_err(TarballError::Unpack)?;
        return Ok(Some(text));
    }
    Ok(None)
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

/// What reading on failed with.
fn cut(error: io::Error, most: u64) -> TarballError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => TarballError::Size(most),
        _ => TarballError::Unpack(error),
    }
}

/// The parts of a path that stays below where it begins.
fn inside(path: &Path) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts)
}

/// Whether a link at `from` to `target` stays below `top`.
fn stays(mut from: Vec<String>, target: &Path, top: &str) -> bool {
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => from.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => {
                if from.pop().is_none() {
                    return false;
                }
            }
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    from.first().is_some_and(|first| first == top)
}

/// The commit in the header of the whole archive: `<length> comment=<commit>`.
fn comment(entry: &mut Entry<'_, impl Read>) -> Option<String> {
    let mut text = String::new();
    entry.take(HEADER).read_to_string(&mut text).ok()?;
    let value = text.lines().find_map(|line| line.split_once(" comment=").map(|(_, value)| value.to_owned()))?;
    is_commit(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::Header;

    fn tarball(entries: &[(&str, EntryType, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(GzEncoder::new(file.reopen().unwrap(), Compression::fast()));
        for (path, kind, content) in entries {
            let mut header = Header::new_ustar();
            // By hand: the crate would refuse to write what it is to be tested with.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            let body: &[u8] = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
        file
    }

    fn refused(entries: &[(&str, EntryType, &str)]) -> String {
        let into = tempfile::tempdir().unwrap();
        unpack(tarball(entries).path(), into.path(), 1 << 20).unwrap_err().to_string()
    }

    #[test]
    fn an_archive_with_one_directory_is_taken_and_files_beside_it_are_not() {
        let into = tempfile::tempdir().unwrap();
        let file = tarball(&[
            ("README", EntryType::Regular, "beside"),
            ("x-1/", EntryType::Directory, ""),
            ("x-1/action.yml", EntryType::Regular, "runs:"),
            ("x-1/dist/link", EntryType::Symlink, "../action.yml"),
        ]);
        let unpacked = unpack(file.path(), into.path(), 1 << 20).unwrap();
        assert_eq!(std::fs::read_to_string(unpacked.top.join("dist/link")).unwrap(), "runs:");
        assert!(!into.path().join("README").exists());
    }

    #[test]
    fn entries_that_leave_the_archive_are_refused_by_name() {
        let file = EntryType::Regular;
        for path in ["../evil", "x/../../evil", "/etc/evil"] {
            let said = refused(&[("x/a", file, ""), (path, file, "evil")]);
            assert!(said.contains("leads out of it"), "{path}: {said}");
        }
        for (kind, target) in [
            (EntryType::Symlink, "/etc/passwd"),
            (EntryType::Symlink, "../../evil"),
            (EntryType::Symlink, "../y"),
            (EntryType::Link, "/etc/passwd"),
            (EntryType::Link, "../evil"),
        ] {
            let said = refused(&[("x/a", kind, target)]);
            assert!(said.contains("`x/a` leads out of it"), "{target}: {said}");
        }
        assert!(refused(&[("x/a", EntryType::Fifo, "")]).contains("neither a file"));
    }

    #[test]
    fn a_second_directory_an_empty_archive_and_too_much_are_refused() {
        let file = EntryType::Regular;
        assert!(refused(&[("x/a", file, ""), ("y/a", file, "")]).contains("`x` and `y`"));
        assert!(refused(&[("a", file, "")]).contains("no top-level directory"));
        let much = "a".repeat(2 << 20);
        assert!(refused(&[("x/a", file, &much)]).contains("more than 1048576 bytes"));
        let into = tempfile::tempdir().unwrap();
        let plain = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(plain.path(), "no archive").unwrap();
        let said = unpack(plain.path(), into.path(), 1 << 20).unwrap_err().to_string();
        assert!(said.contains("not a gzip tarball") || said.contains("cannot be unpacked"), "{said}");
    }
}
