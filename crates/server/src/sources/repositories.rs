//! Git repositories that the service was told about, for reading alone: `git upload-pack` and nothing else is ever run
//! on them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use tokio_util::task::TaskTracker;

use super::find::repository;
use super::git::{self, At, Git, GitError};
use super::name::RepositoryName;

/// How many are read at once; more wait.
const PARALLEL: usize = 32;

/// The repositories below a directory.
pub(crate) struct Repositories {
    root: Option<PathBuf>,
    git: Git,
    tasks: TaskTracker,
    places: Arc<Semaphore>,
}

/// What upload-pack is asked.
pub(crate) enum Question {
    /// What there is.
    Refs,
    /// The body of a request.
    Pack(Bytes),
}

impl Repositories {
    pub(crate) fn new(root: Option<PathBuf>, git: Git, tasks: TaskTracker) -> Self {
        Self { root, git, tasks, places: Arc::new(Semaphore::new(PARALLEL)) }
    }

    /// Where a repository is, if there is one of that name.
    pub(crate) fn find(&self, name: &RepositoryName) -> Option<PathBuf> {
        repository(self.root.as_deref()?, name)
    }

    /// What `git upload-pack` answers, as it comes. `protocol` is what the client says of the version that it speaks.
    pub(crate) async fn upload_pack(
        &self,
        git_dir: PathBuf,
        protocol: Option<&str>,
        question: Question,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + 'static, GitError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let more: Vec<(&str, &str)> = protocol.map(|protocol| ("GIT_PROTOCOL", protocol)).into_iter().collect();
        let mut arguments = vec![OsStr::new("upload-pack"), OsStr::new("--strict"), OsStr::new("--stateless-rpc")];
        if matches!(question, Question::Refs) {
            arguments.push(OsStr::new("--http-backend-info-refs"));
        }
        arguments.push(git_dir.as_os_str());
        let mut running = self.git.start(At::bare(&git_dir), &arguments, &more)?;
        let stdin = running.child.stdin.take();
        if let (Some(mut stdin), Question::Pack(body)) = (stdin, question) {
            // Beside reading its answer, or both could wait for each other. One that stops reading has failed, and says so.
            self.tasks.spawn(async move { drop(stdin.write_all(&body).await) });
        }
        if let Some(stderr) = running.child.stderr.take() {
            self.tasks.spawn(async move {
                let said = git::first(stderr, 8 * 1024).await;
                if !said.is_empty() {
                    tracing::debug!(repository = %git_dir.display(), said, "git upload-pack");
                }
            });
        }
        let stdout = running.child.stdout.take();
        let held = (running, place);
        let pieces = futures_util::stream::iter(stdout.map(ReaderStream::new)).flatten();
        Ok(pieces.map(move |piece| {
            // Git ends, and its place is free, when the answer has been read or nobody wants it any more.
            let _ = &held;
            piece
        }))
    }
}
