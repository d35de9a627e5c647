//! `startline run --watch`: again and again, whenever files of the work tree change.
//!
//! A change while jobs run cancels them, and the run begins anew when they have ended. With `--in-place` nobody can tell the
//! jobs' own changes from a person's; there, what changes while they run counts for nothing.

mod changes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, println};
use anyhow::Context as _;
use serde_json::json;
use startline_daemon::Signals;

use self::changes::Changes;
use super::{Ended, once, prepare};
use crate::cli::RunArgs;
use crate::commands::given;
use crate::commands::tree::Tree;
use crate::exit::{self, Usage};
use crate::render::style::{BOLD, DIM, RESET, harmless};

/// How many changed files are named.
const NAMED: usize = 3;

/// Runs until Ctrl-C.
pub(super) async fn execute(args: &RunArgs, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    if args.in_place && !args.allow_dirty {
        let why = "--watch with --in-place runs jobs in files that are being edited, where they could overwrite what is \
                   not committed; leave --in-place out to run in copies, or add --allow-dirty";
        return Err(Usage(why.to_owned()).into());
    }
    let tree = Tree::ask(&args.submission.file)?.told();
    let root = tree.root.clone();
    let mut changes = Changes::begin(tree, others(args, &root)).context("cannot watch the work tree")?;
    loop {
        // What changes from here on is seen by the next run or cancels this one.
        changes.forget().await?;
        let overtaken = async {
            if args.in_place {
                std::future::pending::<()>().await;
            }
            match changes.next().await {
                Ok(paths) => said(args, &root, &paths),
                Err(error) => {
                    tracing::warn!(%error, "cannot watch the work tree");
                    std::future::pending().await
                }
            }
        };
        match attempt(args, signals, overtaken).await {
            Some(Ended { interrupted: true, .. }) => return Ok(ExitCode::from(exit::INTERRUPTED)),
            Some(Ended { overtaken: true, .. }) => continue,
            _ => {}
        }
        if args.in_place {
            changes.forget().await?;
        }
        eprintln!("{DIM}waiting for changes in {}; Ctrl-C ends{RESET}", root.display());
        tokio::select! {
            paths = changes.next() => {
                let said = said(args, &root, &paths.context("cannot watch the work tree")?);
                eprintln!("{BOLD}{said}{RESET}");
            }
            _ = signals.recv() => return Ok(ExitCode::from(exit::INTERRUPTED)),
        }
    }
}

/// One run; none when it could not begin, which was said.
async fn attempt(args: &RunArgs, signals: &mut Signals, overtaken: impl Future<Output = String>) -> Option<Ended> {
    let ended = match prepare(args) {
        Ok(Some(prepared)) => Box::pin(once(args, prepared, signals, overtaken)).await,
        Ok(None) => return None,
        Err(error) => Err(error),
    };
    ended.map_err(|error| exit::report(&error)).ok()
}

/// Files that matter wherever they are and whether git ignores them or not.
fn others(args: &RunArgs, root: &Path) -> Vec<PathBuf> {
    let named = &args.submission;
    let lists = [&named.env_files, &named.secret_files, &named.var_files, &named.input_files];
    let mut all: Vec<PathBuf> = lists.into_iter().flatten().cloned().collect();
    all.extend(given::USUAL.iter().map(|name| root.join(name)));
    all.extend(named.event_file.clone());
    all.push(named.file.clone());
    all.into_iter().filter_map(|path| std::path::absolute(path).ok()).collect()
}

/// Which files changed, for people; for programs it is written out.
fn said(args: &RunArgs, root: &Path, paths: &[PathBuf]) -> String {
    let names: Vec<String> =
        paths.iter().map(|path| path.strip_prefix(root).unwrap_or(path).display().to_string()).collect();
    if args.json {
        println!("{}", json!({"event": "changed", "paths": names}));
    }
    let mut list = names.iter().take(NAMED).map(|name| harmless(name)).collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        list = format!("{list} and {more} more");
    }
    format!("changed: {list}")
}
