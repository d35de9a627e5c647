//! The work tree that a workflow file belongs to: where it is, and what git says of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A work tree, or a directory that is none.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The root of the git work tree that holds the file; without git the current directory if the file is below it, else
    /// the file's own directory.
    pub root: PathBuf,
    /// Whether git knows it.
    pub in_git: bool,
    /// The branch that is checked out, as a full ref.
    pub git_ref: Option<String>,
    /// The commit that is checked out.
    pub sha: Option<String>,
    /// `user.name`.
    pub actor: Option<String>,
}

/// A tree that git was asked about; the answers come while other things are done.
pub(crate) struct Asked {
    absolute: PathBuf,
    place: Option<Child>,
    actor: Option<Child>,
}

impl Tree {
    /// Asks for the tree of `file`.
    pub(crate) fn ask(file: &Path) -> anyhow::Result<Asked> {
        let absolute =
            std::fs::canonicalize(file).with_context(|| format!("cannot find the workflow file {}", file.display()))?;
        let parent = parent(&absolute);
        let place = ask(&parent, &["rev-parse", "--show-toplevel", "HEAD", "--symbolic-full-name", "HEAD"]);
        let actor = ask(&parent, &["config", "user.name"]);
        Ok(Asked { absolute, place, actor })
    }
}

impl Asked {
    /// Waits for what git says.
    pub(crate) fn told(self) -> Tree {
        let Self { absolute, place, actor } = self;
        // Without a commit git fails behind the first line, which is good all the same.
        let place = place.and_then(|child| child.wait_with_output().ok()).unwrap_or_else(nothing);
        let text = String::from_utf8(place.stdout).unwrap_or_default();
        let mut lines = text.lines();
        let root = lines.next().filter(|line| line.starts_with('/')).map(PathBuf::from);
        let actor = actor.and_then(answer);
        let Some(root) = root else {
            let parent = parent(&absolute);
            let here = std::env::current_dir().and_then(std::fs::canonicalize).ok();
            let root = here.filter(|here| absolute.starts_with(here) && here.parent().is_some()).unwrap_or(parent);
            return Tree { root, in_git: false, git_ref: None, sha: None, actor };
        };
        let (sha, git_ref) = if place.status.success() {
            (lines.next().map(str::to_owned), lines.next().filter(|name| name.starts_with("refs/")).map(str::to_owned))
        } else {
            (None, git(&root, &["symbolic-ref", "-q", "HEAD"]))
        };
        Tree { root, in_git: true, git_ref, sha, actor }
    }
}

fn parent(file: &Path) -> PathBuf {
    file.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

fn ask(directory: &Path, args: &[&str]) -> Option<Child> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().ok()
}

fn answer(child: Child) -> Option<String> {
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// What git says, if there is a git and it says anything.
pub(crate) fn git(directory: &Path, args: &[&str]) -> Option<String> {
    ask(directory, args).and_then(answer)
}

/// What a git that is not there says.
fn nothing() -> std::process::Output {
    use std::os::unix::process::ExitStatusExt;
    std::process::Output { status: std::process::ExitStatus::from_raw(1 << 8), stdout: Vec::new(), stderr: Vec::new() }
}
