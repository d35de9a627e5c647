//! The data directory: everything that the service keeps, readable by its own user only.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Paths inside the data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Creates the directory with mode 0700 or checks the one that is there.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        let shown = root.display();
        match fs::metadata(root) {
            Ok(found) if !found.is_dir() => bail!("data directory {shown} is a file; give another --data-dir"),
            Ok(found) => {
                let mode = found.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    fs::set_permissions(root, fs::Permissions::from_mode(0o700))
                        .with_context(|| format!("data directory {shown} has mode {mode:04o} and cannot be closed to others; chown it to the service's user"))?;
                    tracing::warn!(path = %shown, "the data directory was readable by others (mode {mode:04o}); set to 0700");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(root).with_context(|| {
                    format!("cannot create data directory {shown}; give --data-dir a place that this user may write to")
                })?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read data directory {shown}")),
        }
        let probe = root.join(".writable");
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).with_context(|| {
            format!("data directory {shown} is not writable by this user; chown it, or give another --data-dir")
        })?;
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("startline.db")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn job_token_key(&self) -> PathBuf {
        self.root.join("job-token.key")
    }

    /// Where the service keeps an authority of its own.
    pub(crate) fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// The key of the Actions protocol's own bearers.
    pub(crate) fn bearer_key(&self) -> PathBuf {
        self.root.join("bearers.key")
    }

    /// The key of signed addresses.
    pub(crate) fn url_key(&self) -> PathBuf {
        self.root.join("urls.key")
    }

    /// Who the service is to an object store.
    #[cfg(feature = "s3")]
    pub(crate) fn blobs_owner(&self) -> PathBuf {
        self.root.join("blobs.owner")
    }

    /// The content of artifacts and caches.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The key of id tokens, whose public half is published.
    pub(crate) fn id_token_key(&self) -> PathBuf {
        self.root.join("id-token.key")
    }

    /// Archives of actions.
    pub(crate) fn actions(&self) -> PathBuf {
        self.root.join("actions")
    }

    pub(crate) fn secrets_key(&self) -> PathBuf {
        self.root.join("secrets.key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_created_closed_to_others_and_closed_again_when_open() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("a/b");
        let mode = || fs::metadata(&root).unwrap().permissions().mode() & 0o777;
        DataDir::open(&root).unwrap();
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        DataDir::open(&root).unwrap();
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()) && error.contains("--data-dir"), "{error}");
    }
}
