//! The directories of a job.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Deepest directory copied.
const MAX_DEPTH: usize = 128;

/// Where a job works; all absolute (actions/runner `Runner.Worker/PipelineDirectoryManager.cs`).
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    /// All others lie below it.
    pub(crate) work: PathBuf,
    /// `github.workspace`: `<work>/<name>/<name>`.
    pub(crate) workspace: PathBuf,
    /// `runner.workspace`: `<work>/<name>`.
    pub(crate) pipeline: PathBuf,
    /// `runner.temp`: `<work>/_temp`.
    pub(crate) temp: PathBuf,
    /// Where a step's files for its worker are.
    pub(crate) file_commands: PathBuf,
    /// `github.event_path`.
    pub(crate) event: PathBuf,
    /// Actions of other repositories: `<work>/_actions/<owner>/<name>/<ref>`.
    pub(crate) actions: PathBuf,
}

/// Why the directories cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`github.repository` is `{0}`; it must be `owner/name`")]
    Repository(String),
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("the copy of `{}` was interrupted", .0.display())]
    Interrupted(PathBuf),
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + use<'a> {
    move |cause| Error::Io { action, path: path.to_owned(), cause }
}

impl Directories {
    /// Those of a job that has no workspace yet.
    pub(crate) fn below(work: &Path) -> Self {
        let temp = work.join("_temp");
        Self {
            work: work.to_owned(),
            workspace: work.to_owned(),
            pipeline: work.to_owned(),
            file_commands: temp.join("_runner_file_commands"),
            event: temp.join("_github_workflow/event.json"),
            actions: work.join("_actions"),
            temp,
        }
    }

    /// Those of a job of the repository `name`.
    pub(crate) fn of(work: &Path, name: &str) -> Self {
        let pipeline = work.join(name);
        Self { workspace: pipeline.join(name), pipeline, ..Self::below(work) }
    }

    /// Where the event's file lies.
    pub(crate) fn workflow(&self) -> PathBuf {
        self.temp.join("_github_workflow")
    }

    /// `HOME` of what runs in containers.
    pub(crate) fn home(&self) -> PathBuf {
        self.temp.join("_github_home")
    }

    /// Makes what containers mount, for whatever user their processes have: the directory above is the runner's alone.
    pub(crate) fn open_to_containers(&self) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let home = self.home();
        std::fs::create_dir_all(&home).map_err(failed("create", &home))?;
        for (folder, mode) in
            [(&self.temp, 0o755), (&self.workflow(), 0o755), (&self.file_commands, 0o755), (&home, 0o777)]
        {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).map_err(failed("open", folder))?;
        }
        Ok(())
    }

    /// Makes the directories of a job of `repository` under `work`, with an empty `_temp` and no `_actions`.
    pub(crate) fn prepare(work: &Path, repository: &str) -> Result<Self, Error> {
        let name = repository
            .split_once('/')
            .filter(|(owner, name)| !owner.is_empty() && is_name(name))
            .map(|(_, name)| name)
            .ok_or_else(|| Error::Repository(repository.to_owned()))?;
        std::fs::create_dir_all(work).map_err(failed("create", work))?;
        let work = std::fs::canonicalize(work).map_err(failed("find", work))?;
        let directories = Self::of(&work, name);
        remove_what_is_ours(&directories.temp)?;
        // An earlier job may have changed what it was given.
        if let Err(error) = remove(&directories.actions) {
            // Files of another user cannot be removed, but they can be put where nobody looks for actions.
            let aside = directories.temp.join(format!("_actions_{}", uuid::Uuid::new_v4()));
            let moved =
                std::fs::create_dir_all(&directories.temp).and_then(|()| std::fs::rename(&directories.actions, aside));
            moved.map_err(|_| error)?;
        }
        std::fs::create_dir_all(&directories.workspace).map_err(failed("create", &directories.workspace))?;
        for folder in [&directories.temp, &directories.file_commands, &directories.workflow()] {
            // What steps leave there is nobody else's to read.
            std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).map_err(failed("create", folder))?;
        }
        Ok(directories)
    }

    /// Empties `_temp`: scripts in it hold what expressions came to, secrets too.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        remove_what_is_ours(&self.temp)
    }
}

/// Whether `name` is one plain component of a path.
fn is_name(name: &str) -> bool {
    let ours = name.starts_with("_temp") || name == "_actions" || name == "_tool";
    !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".." && !ours
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => std::fs::remove_dir_all(path).map_err(failed("remove", path)),
        Ok(_) => std::fs::remove_file(path).map_err(failed("remove", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// The same, but what belongs to another user stays: a container may have left it
/// (actions/runner `TempDirectoryManager.cs`).
fn remove_what_is_ours(path: &Path) -> Result<(), Error> {
    match remove(path) {
        Err(Error::Io { cause, .. }) if cause.kind() == io::ErrorKind::PermissionDenied => {
            let entries = std::fs::read_dir(path).map_err(failed("read", path))?.flatten();
            for entry in entries {
                // All of it that can be removed.
                let _ = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove_what_is_ours(&entry.path())
                } else {
                    remove(&entry.path())
                };
            }
            Ok(())
        }
        result => result,
    }
}

/// Makes `to` a copy of `from` and says how many files were copied. Of a git work tree those files are taken that git
/// tracks or would track; otherwise everything. Nothing is taken from below `except`; links stay links. `copied` counts.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    except: &[PathBuf],
    interrupt: &AtomicBool,
    copied: &AtomicUsize,
) -> Result<usize, Error> {
    let from = std::fs::canonicalize(from).map_err(failed("find", from))?;
    let mut except: Vec<PathBuf> = except.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    if except.iter().any(|path| from.starts_with(path)) {
        let inside = io::Error::new(io::ErrorKind::InvalidInput, "it lies inside the work directory");
        return Err(failed("copy", &from)(inside));
    }
    remove(to)?;
    std::fs::create_dir_all(to).map_err(failed("create", to))?;
    // A copy within the tree does not hold itself.
    except.extend(std::fs::canonicalize(to).ok().filter(|to| to.starts_with(&from)));
    let mut copy = Copy { from: &from, to, except: &except, interrupt, copied, files: 0 };
    match git_files(&from) {
        Some(files) => files.iter().try_for_each(|file| copy.entry(file, 0))?,
        None => copy.children(Path::new(""), 0)?,
    }
    Ok(copy.files)
}

/// The files that git knows below `folder`, or none when that is no work tree or there is no git.
fn git_files(folder: &Path) -> Option<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new("git")
        // The directory's owner need not be the runner's user.
        .args(["-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Some(names.map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name))).collect())
}

struct Copy<'a> {
    from: &'a Path,
    to: &'a Path,
    except: &'a [PathBuf],
    interrupt: &'a AtomicBool,
    copied: &'a AtomicUsize,
    files: usize,
}

impl Copy<'_> {
    fn children(&mut self, folder: &Path, depth: usize) -> Result<(), Error> {
        let source = self.from.join(folder);
        for entry in std::fs::read_dir(&source).map_err(failed("read", &source))? {
            let entry = entry.map_err(failed("read", &source))?;
            self.entry(&folder.join(entry.file_name()), depth + 1)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &Path, depth: usize) -> Result<(), Error> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Error::Interrupted(self.from.to_owned()));
        }
        let (source, target) = (self.from.join(name), self.to.join(name));
        if depth > MAX_DEPTH || self.except.iter().any(|except| source.starts_with(except)) {
            return Ok(());
        }
        let data = match std::fs::symlink_metadata(&source) {
            Ok(data) => data,
            // Git knows it still, but it was deleted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("look at", &source)(error)),
        };
        if data.is_dir() {
            std::fs::create_dir_all(&target).map_err(failed("create", &target))?;
            return self.children(name, depth);
        }
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        if data.is_symlink() {
            let link = std::fs::read_link(&source).map_err(failed("read", &source))?;
            std::os::unix::fs::symlink(link, &target).map_err(failed("create", &target))?;
        } else if data.is_file() {
            std::fs::copy(&source, &target).map_err(failed("copy", &source))?;
        } else {
            return Ok(());
        }
        self.files += 1;
        self.copied.store(self.files, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
    }

    fn listing(root: &Path) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    walk(root, &entry.path(), found);
                } else {
                    found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut found = Vec::new();
        walk(root, root, &mut found);
        found.sort();
        found
    }

    #[test]
    fn names_that_would_leave_the_work_directory_are_refused() {
        let work = tempfile::tempdir().unwrap();
        for repository in ["", "demo", "acme/", "/demo", "acme/..", "acme/.", "acme/a/b", "acme/_temp", "acme/_actions"]
        {
            let error = Directories::prepare(work.path(), repository).unwrap_err();
            assert!(error.to_string().contains("must be `owner/name`"), "{repository}: {error}");
        }
    }

    #[test]
    fn the_temporary_directory_is_emptied_and_the_workspace_kept() {
        let work = tempfile::tempdir().unwrap();
        write(work.path(), &["_temp/old", "demo/demo/kept"]);
        let directories = Directories::prepare(work.path(), "acme/demo").unwrap();
        assert_eq!(listing(work.path()), ["demo/demo/kept"]);
        assert!(directories.file_commands.is_dir() && directories.workspace.ends_with("demo/demo"));
    }

    #[test]
    fn a_plain_directory_is_copied_without_the_work_directory() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["a", "sub/b", ".hidden", "_work/x/y"]);
        std::os::unix::fs::symlink("sub/b", root.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.path().join("broken")).unwrap();
        let work = root.path().join("_work");
        let target = work.join("demo/demo");
        write(&target, &["stale"]);
        let copied = copy(root.path(), &target, &[work], &AtomicBool::new(false), &AtomicUsize::new(0)).unwrap();
        assert_eq!(listing(&target), [".hidden", "a", "broken", "link", "sub/b"]);
        assert_eq!(copied, 5);
        assert_eq!(std::fs::read_link(target.join("link")).unwrap(), Path::new("sub/b"));
    }

    #[test]
    fn of_a_git_work_tree_ignored_files_are_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let status = Command::new("git").args(arguments).current_dir(root.path()).status().unwrap();
            assert!(status.success());
        };
        git(&["init", "-q"]);
        write(root.path(), &["tracked", "deleted", "untracked", "target/ignored", "sub/é x"]);
        std::fs::write(root.path().join(".gitignore"), "target/\n").unwrap();
        git(&["add", "tracked", "deleted"]);
        std::fs::remove_file(root.path().join("deleted")).unwrap();
        let target = tempfile::tempdir().unwrap();
        copy(root.path(), target.path(), &[], &AtomicBool::new(false), &AtomicUsize::new(0)).unwrap();
        assert_eq!(listing(target.path()), [".gitignore", "sub/é x", "tracked", "untracked"]);
    }

    #[test]
    fn a_copy_can_be_interrupted_and_a_missing_source_is_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["a"]);
        let target = tempfile::tempdir().unwrap();
        let error = copy(root.path(), target.path(), &[], &AtomicBool::new(true), &AtomicUsize::new(0)).unwrap_err();
        assert!(matches!(error, Error::Interrupted(_)));
        let error =
            copy(&root.path().join("absent"), target.path(), &[], &AtomicBool::new(false), &AtomicUsize::new(0))
                .unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
