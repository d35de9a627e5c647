//! What is purged when it is old.

use std::time::Duration;

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunId};

use super::Hash;

/// Behind this job of this run, in the order of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurgePlace {
    /// The run.
    pub run: RunId,
    /// The job.
    pub job: JobId,
}

impl PurgePlace {
    /// Behind a run and all of its jobs.
    #[must_use]
    pub const fn behind(run: RunId) -> Self {
        Self { run, job: JobId(i64::MAX) }
    }
}

/// A part of the runs that ended long ago, as large as one step of a purge may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueRuns {
    /// Jobs that have ended, with the number of their attempts.
    pub jobs: Vec<(JobId, u32)>,
    /// The runs that have no jobs behind these.
    pub runs: Vec<RunId>,
    /// Where the next part begins; `None` behind the last one.
    pub next: Option<PurgePlace>,
}

/// What one step of a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many runs, registrations or lines of the audit log are gone.
    pub count: u32,
    /// How many jobs, where runs were purged.
    pub jobs: u32,
    /// The id behind which the next step begins, where it is not yet done.
    pub next: Option<i64>,
    /// For how long the step kept others from being written.
    pub took: Duration,
}

/// The last line of the audit log that was purged; the log begins behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuditBegin {
    /// Its place.
    pub sequence: i64,
    /// When it was written.
    pub at: Timestamp,
    /// Its hash, which the first line that is left continues.
    pub hash: Hash,
}
