//! Why a runner cannot start or go on.

use std::io;
use std::path::{Path, PathBuf};

use startline_protocol::ids::RunnerId;

/// Why a runner cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory holds no registration.
    #[error("no registration in {}; register first with `startline runner register`", dir.display())]
    NotRegistered {
        /// The runner's directory.
        dir: PathBuf,
    },
    /// The directory holds a registration already.
    #[error(
        "{} is already registered with {url} as runner {name:?}; remove it first with `startline runner remove`, \
         or register with --replace", dir.display()
    )]
    AlreadyRegistered {
        /// The runner's directory.
        dir: PathBuf,
        /// Where it is registered.
        url: String,
        /// Under which name.
        name: String,
    },
    /// Another process runs from the directory.
    #[error("another runner is running from {}; stop it, or give this one a directory of its own", dir.display())]
    InUse {
        /// The runner's directory.
        dir: PathBuf,
    },
    /// The registration file is not one.
    #[error("cannot read the registration {}: {cause}; remove the file and register anew", path.display())]
    BadRegistration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The service does not know the runner any more.
    #[error("runner {runner_id} is no longer registered with {url}; register it anew with `startline runner register`")]
    RegistrationGone {
        /// The registration that is gone.
        runner_id: RunnerId,
        /// Where it was.
        url: String,
    },
    /// The worker cannot be started.
    #[error("cannot start the worker {}: {cause}", command.display())]
    NoWorker {
        /// The program.
        command: PathBuf,
        /// Why not.
        cause: String,
    },
    /// A file or directory of the runner cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The service refused, or could not be reached.
    #[error(transparent)]
    Service(#[from] startline_client::Error),
}

impl Error {
    /// For `map_err`: says what was to be done with `path`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}
