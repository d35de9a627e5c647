//! Directories that nobody but the service's user may enter.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::Error;

/// Makes `directory` (mode 0700, with its parents) unless it is there, and checks that files can be made in it.
pub(crate) fn prepare(directory: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Error::Unusable(format!(
            "the directory {} cannot be made ({error}); choose a place that this user may write to",
            directory.display()
        ))
    })?;
    let probe = directory.join(format!(".startline-probe-{}", uuid::Uuid::new_v4()));
    std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe)).map_err(|error| {
        Error::Unusable(format!(
            "the directory {} cannot be written to ({error}); make it writable for this user or choose another",
            directory.display()
        ))
    })
}
