//! Archives of actions on disk, by the commit that they hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::name::{RepositoryName, is_commit};

/// An archive that was asked for this shortly is not removed: a runner may be on its way to it.
const SETTLED: Duration = Duration::from_secs(600);

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    Tar,
    Zip,
}

impl Form {
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Tar => "tar.gz",
            Self::Zip => "zip",
        }
    }
}

/// The directory `owner/repository/<commit>.<form>`, bounded in size.
#[derive(Debug)]
pub(crate) struct Archives {
    root: PathBuf,
    limit: u64,
}

impl Archives {
    pub(crate) fn new(root: PathBuf, limit: u64) -> Self {
        Self { root, limit }
    }

    /// Where the archive is or would be.
    pub(crate) fn path(&self, name: &RepositoryName, commit: &str, form: Form) -> Option<PathBuf> {
        let directory = self.root.join(name.owner()).join(name.repo());
        is_commit(commit).then(|| directory.join(format!("{commit}.{}", form.suffix())))
    }

    /// The archive, if it is there; that it was wanted is written down.
    pub(crate) fn get(&self, name: &RepositoryName, commit: &str, form: Form, now: Timestamp) -> Option<PathBuf> {
        let path = self.path(name, commit, form)?;
        let file = fs::File::options().append(true).open(&path).ok()?;
        // A time that cannot be set lets it go earlier; nothing else.
        drop(file.set_modified(SystemTime::from(now)));
        Some(path)
    }

    /// A file for an archive in the making, on the same file system.
    pub(crate) fn draft(&self) -> io::Result<tempfile::NamedTempFile> {
        let drafts = self.root.join(".drafts");
        fs::create_dir_all(&drafts)?;
        tempfile::Builder::new().tempfile_in(drafts)
    }

    /// Makes a draft the archive.
    pub(crate) fn put(&self, draft: tempfile::NamedTempFile, path: &Path, now: Timestamp) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        draft.as_file().set_modified(SystemTime::from(now))?;
        draft.persist(path).map_err(|error| error.error)?;
        self.shrink(now)
    }

    /// Removes what has not been asked for the longest, until the rest is within the limit.
    fn shrink(&self, now: Timestamp) -> io::Result<()> {
        let mut known = Vec::new();
        for owner in directories(&self.root)? {
            for repository in directories(&owner)? {
                for entry in fs::read_dir(repository)?.filter_map(Result::ok) {
                    let Ok(about) = entry.metadata() else { continue };
                    known.push((about.modified()?, about.len(), entry.path()));
                }
            }
        }
        let mut total: u64 = known.iter().map(|(_, size, _)| size).sum();
        known.sort();
        let settled = SystemTime::from(now).checked_sub(SETTLED);
        for (wanted, size, path) in known {
            if total <= self.limit || settled.is_none_or(|settled| wanted > settled) {
                break;
            }
            fs::remove_file(&path)?;
            tracing::info!(path = %path.display(), size, "removed an archive that was not wanted for long");
            total -= size;
        }
        Ok(())
    }
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path)?.filter_map(Result::ok);
    let plain = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    Ok(entries.filter(plain).map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_archive_that_was_wanted_least_recently_goes_first_and_none_that_was_wanted_just_now() {
        let root = tempfile::tempdir().unwrap();
        let archives = Archives::new(root.path().join("a"), 25);
        let name = RepositoryName::parse("acme/tools").unwrap();
        let at = |minutes: i64| Timestamp::from_second(minutes * 60).unwrap();
        let put = |letter: &str, now| {
            let mut draft = archives.draft().unwrap();
            draft.write_all(b"0123456789").unwrap();
            archives.put(draft, &archives.path(&name, &letter.repeat(40), Form::Tar).unwrap(), now).unwrap();
        };
        let there = |letter: &str| archives.path(&name, &letter.repeat(40), Form::Tar).unwrap().exists();
        put("a", at(100));
        put("b", at(101));
        assert!(archives.get(&name, &"a".repeat(40), Form::Tar, at(150)).is_some());
        put("c", at(155));
        assert!(there("a") && !there("b") && there("c"));
        put("d", at(156));
        assert!(there("a") && there("c") && there("d"), "all were wanted shortly ago, whatever the limit");
        assert!(archives.path(&name, "../../x", Form::Tar).is_none());
    }
}
