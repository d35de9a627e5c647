//! Records for the tests of this room: plain ones, whose members a test sets that mean something to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::state::{JobStatus, RunStatus};
use startline_store::{JobRecord, NewRun, RunRecord};
use uuid::Uuid;

/// A run that is queued.
pub(crate) fn run(id: RunId) -> RunRecord {
    RunRecord {
        id,
        number: 1,
        run: NewRun {
            plan_id: Uuid::from_u128(9),
            name: String::new(),
            path: String::new(),
            repository: "acme/demo".to_owned(),
            event_name: String::new(),
            git_ref: String::new(),
            submission: String::new(),
            sealed_secrets: None,
            trusted: true,
            idempotency: None,
            created_at: Timestamp::UNIX_EPOCH,
        },
        status: RunStatus::Queued,
        conclusion: None,
        started_at: None,
        completed_at: None,
        cancel_requested: false,
        reason: None,
    }
}

/// A job of a run that is queued.
pub(crate) fn job(run: RunId, id: JobId) -> JobRecord {
    JobRecord {
        id,
        run_id: run,
        repository: "acme/demo".to_owned(),
        key: String::new(),
        index: 0,
        name: String::new(),
        status: JobStatus::Queued,
        conclusion: None,
        reason: None,
        labels: Vec::new(),
        group: None,
        claim: None,
        trusted: true,
        priority: 0,
        timeout_minutes: 1,
        cancel_timeout_minutes: 5,
        environment: None,
        continue_on_error: false,
        requeues_left: 0,
        attempt: 1,
        epoch: Epoch(1),
        runner_id: None,
        runner_name: None,
        cancel_reason: None,
        queued_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        completed_at: None,
        finished: 0,
        outputs: BTreeMap::new(),
        steps: Vec::new(),
        annotations: Vec::new(),
    }
}
