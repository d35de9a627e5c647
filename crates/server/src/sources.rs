//! Where actions come from: a directory, mirrors, upstream, in this order; and their archives on disk.
//!
//! Whatever a source gives becomes a git tree first, and every archive that is handed out is made from one here: it has
//! exactly one top-level directory and nothing that leaves it. One search for a name at a time; it goes on when whoever
//! asked has left, so that the next one finds the archive.

mod archives;
mod download;
mod find;
mod git;
mod name;
mod repositories;
mod tarball;
mod template;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use jiff::{SignedDuration, Timestamp};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use startline_daemon::Clock;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use archives::Archives;
use find::{Content, Finder, MOST, Source, SourceError};
use git::At;

pub(crate) use archives::Form;
pub(crate) use git::Git;
pub(crate) use name::{GitRef, RepositoryName};
pub(crate) use repositories::{Question, Repositories};
pub use template::Mirrors;

/// How many searches run at once.
const PARALLEL: usize = 4;
/// How long the commit of a branch or tag of somebody else is believed.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(60);
/// Most commits that are remembered.
const MEMORY: usize = 10_000;
/// Where actions come from in the first place.
const UPSTREAM: &str = "https://github.com/{owner}/{repo}";

/// Settings of the sources.
pub(crate) struct Options {
    pub directory: Option<PathBuf>,
    pub mirrors: Mirrors,
    pub offline: bool,
    pub cache: PathBuf,
    pub cache_limit: u64,
    pub timeout: Duration,
}

/// An action that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub commit: String,
}

/// An action that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// What every source said.
    pub message: String,
    /// A source asks for patience.
    pub rate_limited: bool,
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    name: RepositoryName,
    git_ref: GitRef,
    form: Form,
}

type Answer = Result<Resolved, Unresolved>;
type Flight = Shared<BoxFuture<'static, Answer>>;

/// The digest of an archive.
struct Digest {
    /// The file that it is of, and its length: an archive that was made again is another file.
    of: (u64, u64),
    text: String,
}

/// All sources.
pub(crate) struct Sources {
    #[expect(dead_code, reason = "held for its end")]
    lock: Option<Flock<File>>,
    sources: Vec<Source>,
    offline: bool,
    git: Git,
    archives: Archives,
    scratch: PathBuf,
    timeout: Duration,
    clock: Clock,
    tasks: TaskTracker,
    places: Semaphore,
    flights: Mutex<HashMap<Wanted, Flight>>,
    memory: Mutex<HashMap<Wanted, (String, Timestamp)>>,
    digests: Mutex<HashMap<PathBuf, Digest>>,
}

impl Sources {
    pub(crate) fn new(options: Options, git: Git, clock: Clock, tasks: TaskTracker) -> Self {
        let mut sources: Vec<Source> = options.directory.into_iter().map(Source::Directory).collect();
        sources.extend(options.mirrors.0.into_iter().map(Source::Mirror));
        if !options.offline {
            sources.extend(UPSTREAM.parse().ok().map(Source::Upstream));
        }
        let scratch = options.cache.join(".scratch");
        let lock = share(&options.cache, || {
            drop(std::fs::remove_dir_all(&scratch));
            drop(std::fs::remove_dir_all(options.cache.join(".drafts")));
        });
        if let Err(error) = &lock {
            tracing::warn!(path = %options.cache.display(), %error, "the archives of actions cannot be locked");
        }
        Self {
            lock: lock.ok(),
            sources,
            offline: options.offline,
            git,
            archives: Archives::new(options.cache, options.cache_limit),
            scratch,
            timeout: options.timeout,
            clock,
            tasks,
            places: Semaphore::new(PARALLEL),
            flights: Mutex::default(),
            memory: Mutex::default(),
            digests: Mutex::default(),
        }
    }

    /// Finds an action and makes its archive.
    pub(crate) async fn resolve(self: &Arc<Self>, name: RepositoryName, git_ref: GitRef) -> Answer {
        let wanted = Wanted { name, git_ref, form: Form::Tar };
        match self.remembered(&wanted) {
            Some(commit) => Ok(Resolved { commit }),
            None => self.fly(wanted).await,
        }
    }

    /// The archive of a commit that was resolved before.
    pub(crate) async fn archive(
        self: &Arc<Self>,
        name: RepositoryName,
        commit: &GitRef,
        form: Form,
    ) -> Option<PathBuf> {
        let id = commit.commit()?;
        if let Some(path) = self.archives.get(&name, id, form, self.clock.now()) {
            return Some(path);
        }
        let wanted = Wanted { name: name.clone(), git_ref: commit.clone(), form };
        if let Err(error) = self.fly(wanted).await {
            tracing::warn!(action = %name, commit = id, error = error.message, "an archive cannot be made again");
        }
        self.archives.get(&name, id, form, self.clock.now())
    }

    /// The SHA-256 of the tar archive of a commit in hexadecimal, where it is there.
    pub(crate) async fn digest(&self, name: &RepositoryName, commit: &str) -> Option<String> {
        let path = self.archives.get(name, commit, Form::Tar, self.clock.now())?;
        let file = File::open(&path).ok()?;
        let of = file.metadata().ok().map(|about| (about.ino(), about.len()))?;
        let digests = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = digests().get(&path).filter(|known| known.of == of) {
            return Some(known.text.clone());
        }
        let digest = self.tasks.spawn_blocking(move || startline_crypto::sha256_of(file)).await.ok()?.ok()?;
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut known = digests();
        if known.len() >= MEMORY {
            known.clear();
        }
        known.insert(path, Digest { of, text: text.clone() });
        Some(text)
    }

    /// The text of one file of a repository.
    ///
    /// # Errors
    /// What every source said, or what is wrong with the file.
    pub(crate) async fn file(
        self: &Arc<Self>,
        name: RepositoryName,
        git_ref: GitRef,
        path: &str,
    ) -> Result<String, String> {
        let resolved = self.resolve(name.clone(), git_ref).await.map_err(|error| error.message)?;
        let gone = || format!("the archive of {name}@{} is gone", resolved.commit);
        let commit = GitRef::parse(&resolved.commit).ok_or_else(gone)?;
        let archive = self.archive(name.clone(), &commit, Form::Tar).await.ok_or_else(gone)?;
        let wanted = path.to_owned();
        let read = tokio::task::spawn_blocking(move || tarball::read(&archive, &wanted)).await;
        let text = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        text.ok_or_else(|| format!("{name}@{} has no file `{path}`", resolved.commit))
    }

    fn remembered(&self, wanted: &Wanted) -> Option<String> {
        let now = self.clock.now();
        let commit = match wanted.git_ref.commit() {
            Some(commit) => commit.to_owned(),
            None => {
                let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                let (commit, at) = memory.get(wanted)?;
                (now.duration_since(*at) < REMEMBERED).then(|| commit.clone())?
            }
        };
        self.archives.get(&wanted.name, &commit, wanted.form, now).map(|_| commit)
    }

    fn remember(&self, wanted: &Wanted, commit: &str) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= MEMORY {
            memory.clear();
        }
        memory.insert(wanted.clone(), (commit.to_owned(), self.clock.now()));
    }

    /// Joins the search that is under way, or begins one.
    fn fly(self: &Arc<Self>, wanted: Wanted) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&wanted) {
            return flight.clone();
        }
        let (tell, told) = oneshot::channel();
        let flight =
            async move { told.await.unwrap_or_else(|_| Err(failed("the search was given up"))) }.boxed().shared();
        flights.insert(wanted.clone(), flight.clone());
        drop(flights);
        let landing = Landing { sources: Arc::clone(self), wanted };
        self.tasks.spawn(async move {
            let answer = landing.sources.search(&landing.wanted).await;
            // Whoever comes now searches anew, or finds the archive.
            drop(landing);
            drop(tell.send(answer));
        });
        flight
    }

    async fn search(&self, wanted: &Wanted) -> Answer {
        let Ok(_place) = self.places.acquire().await else { return Err(failed("the service is shutting down")) };
        let Wanted { name, git_ref, form } = wanted;
        let finder = Finder {
            git: &self.git,
            archives: &self.archives,
            scratch: &self.scratch,
            limit: self.timeout,
            name,
            git_ref,
            now: self.clock.now(),
        };
        if *form == Form::Zip
            && let Some(commit) = git_ref.commit()
            && let Some(archive) = self.archives.get(name, commit, Form::Tar, self.clock.now())
        {
            let made = async {
                let Some(content) = finder.reopen(&archive).await?.content else { return Ok(()) };
                self.pack(wanted, commit, &content).await
            };
            return match made.await {
                Ok(()) => Ok(Resolved { commit: commit.to_owned() }),
                Err(error) => Err(failed(&format!("{name}@{commit}: {error}"))),
            };
        }
        let (mut said, mut rate_limited) = (Vec::new(), false);
        for source in &self.sources {
            let found = async {
                let Some(found) = finder.find(source).await? else { return Ok(None) };
                if let Some(content) = &found.content {
                    self.pack(wanted, &found.commit, content).await?;
                }
                Ok::<_, SourceError>(Some(found.commit))
            };
            match found.await {
                Ok(Some(commit)) => {
                    if !matches!(source, Source::Directory(_)) {
                        self.remember(wanted, &commit);
                    }
                    tracing::debug!(action = %name, r#ref = git_ref.as_str(), commit, source = %source, "resolved an action");
                    return Ok(Resolved { commit });
                }
                Ok(None) => said.push(format!("{source} has none")),
                Err(error) => {
                    tracing::warn!(action = %name, r#ref = git_ref.as_str(), source = %source, %error, "a source failed");
                    rate_limited |= matches!(error, SourceError::RateLimited);
                    said.push(format!("{source}: {error}"));
                }
            }
        }
        let action = format!("{name}@{}", git_ref.as_str());
        let mut message = format!("there is no action {action} to be had");
        if git_ref.is_short_commit() {
            message.push_str("; a commit must be written with all of its 40 digits");
        }
        if !said.is_empty() {
            message = format!("{message}: {}", said.join("; "));
        }
        if self.offline {
            message.push_str(
                "; upstream is not asked (--actions-offline): put it below --actions-dir or name a mirror with --actions-mirror",
            );
        }
        Err(Unresolved { message, rate_limited })
    }

    /// Makes the archive of a found action.
    async fn pack(&self, wanted: &Wanted, commit: &str, content: &Content) -> Result<(), SourceError> {
        let Wanted { name, form, .. } = wanted;
        let Some(path) = self.archives.path(name, commit, *form) else {
            return Err(SourceError::Failed(format!("`{commit}` is not a commit")));
        };
        let draft = self.archives.draft()?;
        let mut file = tokio::fs::File::from_std(draft.reopen()?);
        let (format, prefix) = (format!("--format={}", form.suffix()), format!("--prefix={}-{commit}/", name.repo()));
        let arguments = ["archive", &format, &prefix, &content.revision].map(OsStr::new);
        let at = At::bare(&content.git_dir);
        let size = self.git.copy(at, &arguments, &mut file, MOST, self.timeout).await?;
        self.archives.put(draft, &path, self.clock.now())?;
        tracing::info!(action = %name, commit, size, form = form.suffix(), "made the archive of an action");
        Ok(())
    }
}

/// Uses a directory of archives together with other services. Whoever is alone there first removes what a crash has left.
fn share(cache: &Path, tidy: impl FnOnce()) -> io::Result<Flock<File>> {
    std::fs::create_dir_all(cache)?;
    let file = File::create(cache.join(".lock"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(alone) => {
            tidy();
            alone.relock(FlockArg::LockShared)?;
            Ok(alone)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            // Waits for somebody's tidying at most.
            Flock::lock(file, FlockArg::LockShared).map_err(|(_, error)| error.into())
        }
        Err((_, error)) => Err(error.into()),
    }
}

/// Ends a search for all who wait, also when it panics.
struct Landing {
    sources: Arc<Sources>,
    wanted: Wanted,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.sources.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.wanted);
    }
}

fn failed(message: &str) -> Unresolved {
    Unresolved { message: message.to_owned(), rate_limited: false }
}
