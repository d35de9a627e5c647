//! What must be so before the first poll: a worker that exists, and directories that nobody else uses.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::Options;
use crate::error::Error;

/// The command of a worker, with its program checked to be there before a job is taken for it.
pub(super) fn worker_command(mut command: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let Some(program) = command.first_mut() else {
        let own = std::env::current_exe()
            .map_err(|error| Error::NoWorker { command: "worker".into(), cause: error.to_string() })?;
        return Ok(vec![own.into(), "worker".into()]);
    };
    // A bare name is looked for in PATH at every start.
    if Path::new(program).components().count() > 1 {
        let bad = |error: io::Error| Error::NoWorker { command: program.clone().into(), cause: error.to_string() };
        let path = fs::canonicalize(&*program).map_err(bad)?;
        let mode = fs::metadata(&path).map_err(bad)?.permissions().mode();
        if mode & 0o111 == 0 {
            return Err(bad(io::Error::other("it is not executable")));
        }
        *program = path.into();
    }
    Ok(command)
}

/// Takes the directory for this process alone, and clears what an earlier one left behind.
pub(super) fn prepare(options: &mut Options) -> Result<Flock<fs::File>, Error> {
    private_dir(&options.dir)?;
    // Workers run elsewhere and need whole paths.
    options.dir = fs::canonicalize(&options.dir).map_err(Error::file("find", &options.dir))?;
    options.archives = std::path::absolute(&options.archives).map_err(Error::file("find", &options.archives))?;
    for path in [&mut options.work_dir, &mut options.tool_cache] {
        *path = std::path::absolute(&*path).map_err(Error::file("find", path))?;
        fs::create_dir_all(&*path).map_err(Error::file("create", path))?;
    }
    let path = options.dir.join("runner.lock");
    let file = fs::File::create(&path).map_err(Error::file("create", &path))?;
    let lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Error::InUse { dir: options.dir.clone() })?;
    // Their workers have ended with their runner, and the service has given the jobs to others.
    let jobs = options.dir.join("jobs");
    match fs::remove_dir_all(&jobs) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %jobs.display(), "cannot clear the jobs of an earlier runner");
        }
        _ => {}
    }
    private_dir(&jobs)?;
    private_dir(&options.dir.join("_diag"))?;
    Ok(lock)
}

fn private_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::file("create", path))
}
