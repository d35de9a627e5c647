//! Which files of a work tree change.
//!
//! The kernel only says that something happened in a directory; what changed is found by comparing the tree with how it
//! was. So an event that is lost, doubled or about a file that git ignores does no harm.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::commands::tree::Tree;
use crate::render::style::{RESET, YELLOW};

/// An editor writes a file in several strokes, and a branch is changed file by file: so long it must be quiet.
const QUIET: Duration = Duration::from_millis(150);
/// And no longer than this is waited for quiet.
const LONGEST: Duration = Duration::from_secs(2);
/// How often the tree is looked at where the kernel does not say anything.
const LOOK: Duration = Duration::from_secs(2);
/// Deepest directory looked at.
const MAX_DEPTH: usize = 128;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
    mode: u32,
}

type Seen = BTreeMap<PathBuf, Stamp>;

/// Where files are looked for.
#[derive(Debug)]
struct Scope {
    root: PathBuf,
    in_git: bool,
    others: Vec<PathBuf>,
}

/// The changes of a tree since it was last looked at.
pub(super) struct Changes {
    scope: Arc<Scope>,
    inotify: Arc<Inotify>,
    /// Something happened; whether it was a directory that it happened to.
    events: mpsc::Receiver<bool>,
    watched: HashSet<PathBuf>,
    seen: Seen,
    /// Something happened that was not looked at.
    due: bool,
    /// Not every directory can be watched.
    polling: bool,
}

impl Changes {
    /// Watches the tree: what git tracks or would track, else everything; and the files `others`, wherever they are.
    pub(super) fn begin(tree: Tree, others: Vec<PathBuf>) -> io::Result<Self> {
        let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
        // What cannot be handed over waits in the kernel, which tells of an overflow, too.
        let (sender, events) = mpsc::channel(64);
        let source = Arc::clone(&inotify);
        // A thread of its own, because reads cannot be interrupted; it ends with the process.
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            while let Ok(events) = source.read_events() {
                let directory = events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_ISDIR));
                if sender.blocking_send(directory).is_err() {
                    return;
                }
            }
        })?;
        let scope = Arc::new(Scope { root: tree.root, in_git: tree.in_git, others });
        Ok(Self { scope, inotify, events, watched: HashSet::new(), seen: Seen::new(), due: true, polling: false })
    }

    /// Takes the tree as it is; only what happens from now on is a change.
    pub(super) async fn forget(&mut self) -> io::Result<()> {
        self.look().await.map(drop)
    }

    /// Waits for changes and says which files they are in. Cancel-safe: what was not told is told by the next call.
    pub(super) async fn next(&mut self) -> io::Result<Vec<PathBuf>> {
        loop {
            if !self.due {
                let until = self.polling.then(|| Instant::now() + LOOK);
                tokio::select! {
                    happened = self.happened() => happened?,
                    () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
                }
                self.due = true;
            }
            let longest = Instant::now() + LONGEST;
            while Instant::now() < longest
                && let Ok(happened) = timeout_at(longest.min(Instant::now() + QUIET), self.happened()).await
            {
                happened?;
            }
            let changed = self.look().await?;
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    /// Waits until something happens in a watched directory, and takes note of new directories.
    async fn happened(&mut self) -> io::Result<()> {
        let ended = || io::Error::other("the kernel tells nothing more of the tree");
        let mut new = self.events.recv().await.ok_or_else(ended)?;
        while let Ok(directory) = self.events.try_recv() {
            new |= directory;
        }
        self.due = true;
        if new {
            // Before anything happens in them. A directory of an earlier name may be another one, and nobody watches that.
            self.watched.clear();
            let scope = Arc::clone(&self.scope);
            let directories = blocking(move || Ok(scope.directories())).await?;
            self.watch(directories);
        }
        Ok(())
    }

    /// Looks at the whole tree and says what is not as it was.
    async fn look(&mut self) -> io::Result<Vec<PathBuf>> {
        let now = loop {
            let scope = Arc::clone(&self.scope);
            let (now, directories) = blocking(move || {
                let files = scope.files()?;
                Ok((files, scope.directories()))
            })
            .await?;
            // What happened in a directory before it was watched is only seen by another look.
            if !self.watch(directories) {
                break now;
            }
        };
        self.due = false;
        let before = std::mem::replace(&mut self.seen, now);
        let paths: BTreeSet<&PathBuf> = before.keys().chain(self.seen.keys()).collect();
        Ok(paths.into_iter().filter(|path| before.get(*path) != self.seen.get(*path)).cloned().collect())
    }

    /// Watches further directories; whether there were any.
    fn watch(&mut self, directories: BTreeSet<PathBuf>) -> bool {
        // Those that are gone are no longer watched, also if one of that name comes back.
        self.watched.retain(|path| directories.contains(path));
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        let mut more = false;
        for path in directories {
            if self.watched.contains(&path) {
                continue;
            }
            match self.inotify.add_watch(&path, mask) {
                Ok(_) => {
                    more = true;
                    self.watched.insert(path);
                }
                // It has gone meanwhile, which its parent says.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.polling, true) {
                        eprintln!(
                            "{YELLOW}warning{RESET}: cannot watch {} ({error}; see the limit fs.inotify.max_user_watches); \
                             looking at the tree every {} s instead",
                            path.display(),
                            LOOK.as_secs()
                        );
                    }
                }
            }
        }
        more
    }
}

impl Scope {
    /// The files as they are.
    fn files(&self) -> io::Result<Seen> {
        let mut files = if self.in_git { self.git_files()? } else { self.walk().1 };
        files.extend(self.others.iter().cloned());
        let stamped = files.into_iter().filter_map(|path| {
            let data = std::fs::symlink_metadata(&path).ok()?;
            let stamp = Stamp {
                modified: (data.mtime(), data.mtime_nsec()),
                length: data.len(),
                inode: data.ino(),
                mode: data.mode(),
            };
            Some((path, stamp))
        });
        Ok(stamped.collect())
    }

    /// The directories in which they are or may come to be.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let (mut directories, _) = self.walk();
        directories.extend(self.others.iter().filter_map(|path| path.parent().map(Path::to_path_buf)));
        directories
    }

    fn git_files(&self) -> io::Result<Vec<PathBuf>> {
        let output = Command::new("git")
            .args(["-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"])
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        Ok(names(&output.stdout).map(|name| self.root.join(name)).collect())
    }

    /// All directories and files below the root, without what git ignores as a whole.
    fn walk(&self) -> (BTreeSet<PathBuf>, Vec<PathBuf>) {
        let (mut directories, mut files) = (BTreeSet::from([self.root.clone()]), Vec::new());
        let temporary = std::env::temp_dir();
        let mut level = vec![self.root.clone()];
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for entry in level.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten() {
                let path = entry.path();
                let Ok(kind) = entry.file_type() else { continue };
                let own = path.parent() == Some(&temporary) && entry.file_name().as_bytes().starts_with(b"startline-");
                if !kind.is_dir() {
                    files.push(path);
                } else if entry.file_name() != ".git" && !own {
                    next.push(path);
                }
            }
            let ignored = self.ignored(&next);
            next.retain(|path| !ignored.contains(path));
            if next.is_empty() {
                break;
            }
            directories.extend(next.iter().cloned());
            level = next;
        }
        (directories, files)
    }

    /// Those of the paths that git ignores.
    fn ignored(&self, paths: &[PathBuf]) -> HashSet<PathBuf> {
        if !self.in_git || paths.is_empty() {
            return HashSet::new();
        }
        let ask = || {
            let mut child = Command::new("git")
                .args(["-c", "safe.directory=*", "check-ignore", "-z", "--stdin"])
                .current_dir(&self.root)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            let mut pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let given: Vec<u8> = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
            let writer = std::thread::spawn(move || io::Write::write_all(&mut pipe, &given));
            let output = child.wait_with_output()?;
            // A git that ended early has said what it had to say.
            drop(writer.join());
            io::Result::Ok(names(&output.stdout).collect())
        };
        ask().unwrap_or_default()
    }
}

fn names(text: &[u8]) -> impl Iterator<Item = PathBuf> {
    let names = text.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name)))
}

async fn blocking<T: Send + 'static>(task: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(task).await.map_err(io::Error::other)?
}
