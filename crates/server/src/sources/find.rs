//! Finding an action at one source: which commit a ref is, and its content as a git repository.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::archives::Archives;
use super::git::{At, Git, GitError};
use super::name::{GitRef, RepositoryName, is_commit};
use super::tarball::{self, TarballError};
use super::template::Template;
use super::{Form, download};

/// Largest tarball that is taken, and largest archive that is made.
pub(super) const MOST: u64 = 1 << 30;
/// Largest content of a tarball.
const UNPACKED: u64 = 4 << 30;
/// Where a fetched commit is put.
const FOUND: &str = "refs/startline/found";

/// A place that actions come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// `owner/repo` as git repositories, `owner/repo@ref` or `owner/repo/ref` as directories or tarballs.
    Directory(PathBuf),
    /// Somebody else's.
    Mirror(Template),
    /// Where actions come from in the first place.
    Upstream(Template),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "directory {}", path.display()),
            Self::Mirror(template) => write!(f, "mirror {template}"),
            Self::Upstream(template) => write!(f, "upstream {template}"),
        }
    }
}

/// Why a source does not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{0}")]
    Failed(String),
    #[error("it takes no more requests now")]
    RateLimited,
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Tarball(#[from] TarballError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An action that was found.
pub(super) struct Found {
    /// By what its archive is known.
    pub commit: String,
    /// Absent where there is an archive already.
    pub content: Option<Content>,
}

/// A commit in a repository.
pub(super) struct Content {
    pub git_dir: PathBuf,
    pub revision: String,
    /// Goes with what lies in it.
    #[expect(dead_code, reason = "held for its end")]
    scratch: Option<TempDir>,
}

/// What finding needs.
pub(super) struct Finder<'a> {
    pub git: &'a Git,
    pub archives: &'a Archives,
    pub scratch: &'a Path,
    pub limit: Duration,
    pub name: &'a RepositoryName,
    pub git_ref: &'a GitRef,
    pub now: jiff::Timestamp,
}

impl Finder<'_> {
    /// What the source has; none where it has nothing of that name.
    pub(super) async fn find(&self, source: &Source) -> Result<Option<Found>, SourceError> {
        match source {
            Source::Directory(root) => self.in_directory(root).await,
            Source::Mirror(template) | Source::Upstream(template) => {
                let url = template.fill(self.name, self.git_ref);
                if template.is_of_tarballs() { self.by_tarball(&url).await } else { self.by_git(&url).await }
            }
        }
    }

    fn scratch(&self) -> io::Result<TempDir> {
        std::fs::create_dir_all(self.scratch)?;
        tempfile::Builder::new().prefix("action-").tempdir_in(self.scratch)
    }

    fn known(&self, commit: &str) -> bool {
        self.archives.get(self.name, commit, Form::Tar, self.now).is_some()
    }

    /// In a repository that lies here.
    fn found(&self, commit: String, git_dir: PathBuf, scratch: Option<TempDir>) -> Found {
        let content = (!self.known(&commit)).then(|| Content { git_dir, revision: commit.clone(), scratch });
        Found { commit, content }
    }

    async fn in_directory(&self, root: &Path) -> Result<Option<Found>, SourceError> {
        let (owner, repo, git_ref) = (self.name.owner(), self.name.repo(), self.git_ref.as_str());
        let plain = root.join(owner).join(repo);
        let repository = repository(root, self.name);
        if let Some(git_dir) = &repository
            && let Some(commit) = self.commit(git_dir).await?
        {
            return Ok(Some(self.found(commit, git_dir.clone(), None)));
        }
        let mut places = vec![root.join(owner).join(format!("{repo}@{git_ref}"))];
        if repository.is_none() {
            places.push(plain.join(git_ref));
        }
        for place in places {
            if place.is_dir() {
                return self.import(&place, None, self.scratch()?).await.map(Some);
            }
            for suffix in [".tar.gz", ".tgz"] {
                let mut file = place.clone().into_os_string();
                file.push(suffix);
                let file = PathBuf::from(file);
                if file.is_file() {
                    return self.unpacked(&file, false).await.map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The commit that the ref is in a repository: tags go before branches, and what looks like a commit is one.
    async fn commit(&self, git_dir: &Path) -> Result<Option<String>, SourceError> {
        let git_ref = self.git_ref.as_str();
        let revisions = match self.git_ref.commit() {
            Some(commit) => vec![format!("{commit}^{{commit}}")],
            None => vec![format!("refs/tags/{git_ref}^{{commit}}"), format!("refs/heads/{git_ref}^{{commit}}")],
        };
        for revision in revisions {
            let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", &revision].map(OsStr::new);
            match self.git.text(At::bare(git_dir), &arguments, self.limit).await {
                Ok(commit) if is_commit(&commit) => return Ok(Some(commit)),
                // Quiet: a revision that is not there says nothing.
                Err(GitError::Failed { said, .. }) if said.is_empty() => {}
                Ok(odd) => return Err(SourceError::Failed(format!("git takes `{git_ref}` for `{odd}`"))),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    async fn by_git(&self, url: &str) -> Result<Option<Found>, SourceError> {
        let scratch = self.scratch()?;
        let at = At::bare(scratch.path());
        let wanted = match self.git_ref.commit() {
            Some(commit) => commit.to_owned(),
            None => {
                let Some((full, commit)) = self.advertised(at, url).await? else { return Ok(None) };
                if self.known(&commit) {
                    return Ok(Some(Found { commit, content: None }));
                }
                full
            }
        };
        tracing::info!(action = %self.name, r#ref = self.git_ref.as_str(), url, "fetching an action");
        self.git.text(at, &["init", "--quiet", "--bare"].map(OsStr::new), self.limit).await?;
        let pair = format!("+{wanted}:{FOUND}");
        let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url, &pair];
        match self.git.text(at, &fetch.map(OsStr::new), self.limit).await {
            Ok(_) => {}
            Err(error) => return absent(error),
        }
        let peeled = format!("{FOUND}^{{commit}}");
        let commit = self.git.text(at, &["rev-parse", "--verify", &peeled].map(OsStr::new), self.limit).await?;
        if !is_commit(&commit) || self.git_ref.commit().is_some_and(|asked| asked != commit) {
            return Err(SourceError::Failed(format!("it gives `{commit}` for `{}`", self.git_ref.as_str())));
        }
        let git_dir = scratch.path().to_owned();
        Ok(Some(self.found(commit, git_dir, Some(scratch))))
    }

    /// The full name of the ref at the other side, and its commit.
    async fn advertised(&self, at: At<'_>, url: &str) -> Result<Option<(String, String)>, SourceError> {
        let git_ref = self.git_ref.as_str();
        let (tag, branch) = (format!("refs/tags/{git_ref}"), format!("refs/heads/{git_ref}"));
        let peeled = format!("{tag}^{{}}");
        let arguments = ["ls-remote", "--quiet", "--", url, &tag, &peeled, &branch].map(OsStr::new);
        let listing = match self.git.text(at, &arguments, self.limit).await {
            Ok(listing) => listing,
            Err(error) => return absent(error),
        };
        // Patterns match the ends of names, so that there may be others among them.
        let find = |name: &str| {
            let line = listing.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix('\t'));
            line.filter(|commit| is_commit(commit)).map(str::to_owned)
        };
        let tagged = find(&peeled).or_else(|| find(&tag)).map(|commit| (tag.clone(), commit));
        Ok(tagged.or_else(|| find(&branch).map(|commit| (branch.clone(), commit))))
    }

    async fn by_tarball(&self, url: &str) -> Result<Option<Found>, SourceError> {
        if let Some(path) = url.strip_prefix("file://") {
            let path = PathBuf::from(path);
            return if path.is_file() { self.unpacked(&path, true).await.map(Some) } else { Ok(None) };
        }
        tracing::info!(action = %self.name, r#ref = self.git_ref.as_str(), url, "fetching an action");
        let file = self.archives.draft()?;
        let mut to = tokio::fs::File::from_std(file.reopen()?);
        let got = tokio::time::timeout(self.limit, download::download(url, &mut to, MOST)).await;
        let slow = || SourceError::Failed(format!("{url} took longer than {} s", self.limit.as_secs()));
        if !got.map_err(|_| slow())?? {
            return Ok(None);
        }
        self.unpacked(file.path(), true).await.map(Some)
    }

    /// The content of a tarball. One of a mirror must say of itself that it is the commit that was asked for.
    async fn unpacked(&self, file: &Path, foreign: bool) -> Result<Found, SourceError> {
        let scratch = self.scratch()?;
        let into = scratch.path().join("content");
        std::fs::create_dir(&into)?;
        let file = file.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || tarball::unpack(&file, &into, UNPACKED))
            .await
            .map_err(|error| SourceError::Failed(error.to_string()))??;
        if let (true, Some(asked)) = (foreign, self.git_ref.commit())
            && unpacked.commit.as_deref() != Some(asked)
        {
            let says = unpacked.commit.unwrap_or_else(|| "no commit".to_owned());
            return Err(SourceError::Failed(format!("the archive is of {says}, not of {asked}")));
        }
        self.import(&unpacked.top, self.git_ref.commit(), scratch).await
    }

    /// A directory as a commit, whose id follows from its content alone.
    async fn import(&self, tree: &Path, known_as: Option<&str>, scratch: TempDir) -> Result<Found, SourceError> {
        let git_dir = scratch.path().join("repository");
        std::fs::create_dir(&git_dir)?;
        let at = At { git_dir: &git_dir, work_tree: Some(tree) };
        self.git.text(At::bare(&git_dir), &["init", "--quiet", "--bare"].map(OsStr::new), self.limit).await?;
        self.git.text(at, &["add", "--all", "--force", "--", "."].map(OsStr::new), self.limit).await?;
        let id = self.git.text(at, &["write-tree"].map(OsStr::new), self.limit).await?;
        let title = self.name.to_string();
        let arguments = ["commit-tree", "-m", &title, &id].map(OsStr::new);
        let revision = self.git.text(At::bare(&git_dir), &arguments, self.limit).await?;
        let commit = known_as.unwrap_or(&revision).to_owned();
        Ok(Found { commit, content: Some(Content { git_dir, revision, scratch: Some(scratch) }) })
    }

    /// The content of an archive that was made here, so that it can be had in another form.
    pub(super) async fn reopen(&self, archive: &Path) -> Result<Found, SourceError> {
        self.unpacked(archive, false).await
    }
}

/// Tells a repository or commit that is not there from a side that fails.
fn absent<T>(error: GitError) -> Result<Option<T>, SourceError> {
    let GitError::Failed { said, .. } = &error else { return Err(error.into()) };
    let lower = said.to_ascii_lowercase();
    // What forges answer of what one may not see is a wish for a password, which nobody answers here.
    let nothing = [
        "not found",
        "could not read username",
        "does not appear to be a git repository",
        "does not exist",
        "couldn't find remote ref",
        "not our ref",
        "authentication failed",
    ];
    if lower.contains("returned error: 429") {
        Err(SourceError::RateLimited)
    } else if nothing.iter().any(|words| lower.contains(words)) {
        Ok(None)
    } else {
        Err(error.into())
    }
}

/// The git directory of `owner/name` below `root`, bare or not.
pub(crate) fn repository(root: &Path, name: &RepositoryName) -> Option<PathBuf> {
    let owner = root.join(name.owner());
    let bare = owner.join(format!("{}.git", name.repo()));
    let plain = owner.join(name.repo());
    let candidates = [plain.join(".git"), plain, bare];
    candidates.into_iter().find(|path| path.join("HEAD").is_file() && path.join("objects").is_dir())
}
