//! Containers that outlive the worker that made them.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::engine::Engine;

/// Says that jobs in this work directory have asked an engine for something that may still be there.
fn marker(work: &Path) -> PathBuf {
    work.join("_temp/.containers")
}

/// Notes that there will be containers, before there are any.
pub(crate) fn note(work: &Path) -> io::Result<()> {
    std::fs::write(marker(work), "")
}

/// Notes that there are none any more.
pub(crate) fn forget(work: &Path) {
    // It may be gone with its directory.
    let _ = std::fs::remove_file(marker(work));
}

/// Removes the containers and networks that a worker has left which worked in `work_dir` and was killed; without one that
/// had any nothing is done. `container_cli` names the engine's program, as for a worker. Failures are logged: the next job
/// with containers in this directory removes them too.
pub async fn remove_leftovers(work_dir: &Path, container_cli: Option<&Path>) {
    if !marker(work_dir).exists() {
        return;
    }
    // What is labelled is what the worker made, which knew the directory by this name.
    let Ok(work) = std::fs::canonicalize(work_dir) else { return };
    let own = |name: &OsString| name.as_encoded_bytes().starts_with(b"STARTLINE_");
    let inherited: Vec<_> = std::env::vars_os().filter(|(name, _)| !own(name)).collect();
    let swept = match Engine::connect(container_cli, &inherited, &work).await {
        Ok(engine) => engine.sweep().await,
        Err(error) => Err(error.to_string()),
    };
    match swept {
        Ok(0) => forget(&work),
        Ok(removed) => {
            tracing::info!(removed, work_dir = %work.display(), "removed containers that a worker left behind");
            forget(&work);
        }
        Err(error) => tracing::warn!(error, work_dir = %work.display(), "cannot remove what a worker left behind"),
    }
}
