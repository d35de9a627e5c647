//! Records of the store as the API shows them.

use jiff::SignedDuration;
use startline_dispatcher::{Patience, RunnerSnapshot, RunnerSpec};
use startline_protocol::runs_api::{JobView, RunView, RunnerView};
use startline_protocol::state::RunnerStatus;
use startline_store::{JobRecord, RunRecord, RunnerRecord};

use crate::actions;

pub(crate) fn run(record: RunRecord) -> RunView {
    RunView {
        id: record.id,
        name: record.run.name,
        path: record.run.path,
        repository: record.run.repository,
        event_name: record.run.event_name,
        git_ref: record.run.git_ref,
        status: record.status,
        conclusion: record.conclusion,
        created_at: record.run.created_at,
        started_at: record.started_at,
        completed_at: record.completed_at,
        cancel_requested: record.cancel_requested,
        reason: record.reason,
    }
}

pub(crate) fn job(record: JobRecord) -> JobView {
    JobView {
        id: record.id,
        run_id: record.run_id,
        key: record.key,
        name: record.name,
        status: record.status,
        conclusion: record.conclusion,
        attempt: record.attempt,
        labels: record.labels,
        concurrency_group: record.claim.map(|claim| claim.group),
        environment: record.environment,
        runner_id: record.runner_id,
        runner_name: record.runner_name,
        reason: record.reason,
        continue_on_error: record.continue_on_error,
        queued_at: record.queued_at,
        started_at: record.started_at,
        completed_at: record.completed_at,
        outputs: record.outputs,
        steps: record.steps,
        annotations: record.annotations,
    }
}

/// A registration, with what the dispatcher knows of the runner now.
pub(crate) fn runner(record: RunnerRecord, live: Option<RunnerSnapshot>) -> RunnerView {
    let (status, current_jobs, last_seen_at) = match live {
        Some(live) => (live.status, live.current_jobs, Some(live.last_seen_at)),
        None => (RunnerStatus::Offline, Vec::new(), None),
    };
    RunnerView {
        id: record.id,
        name: record.name,
        status,
        scope: record.scope,
        labels: record.labels,
        runner_group: record.group,
        ephemeral: record.ephemeral,
        capabilities: record.capabilities,
        current_jobs,
        last_seen_at,
        created_at: record.created_at,
        version: record.version,
    }
}

/// A registration as the dispatcher sees it.
pub(crate) fn spec(record: &RunnerRecord, actions_lease: SignedDuration) -> RunnerSpec {
    RunnerSpec {
        id: record.id,
        name: record.name.clone(),
        labels: record.labels.clone(),
        scope: record.scope.clone(),
        group: record.group.clone(),
        capabilities: record.capabilities.clone(),
        ephemeral: record.ephemeral,
        draining: false,
        patience: match record.actions {
            Some(_) => actions::patience(actions_lease),
            None => Patience::default(),
        },
    }
}
