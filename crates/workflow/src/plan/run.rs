//! The planner over all jobs of a run.

use super::job::{self, Outcome};
use super::status::Status;
use super::{Conclusion, Decision, Instance, InstanceState, RunContext};
use crate::model::{Job, Workflow};

/// What is to be done now.
///
/// Decisions come in the order in which they are to be applied. The result depends on the arguments alone, and once
/// all decisions are applied as [`Decision`] says, another call yields nothing.
#[must_use]
pub fn advance(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Vec<Decision> {
    let selected = context.selection.jobs(workflow);
    let mut status = Status::new(workflow, instances);
    let mut decisions = Vec::new();
    for job in &selected {
        stop(context, &mut status, job, &mut decisions);
    }
    // A job that is skipped or fails at once lets others be decided; each round decides at least one job.
    let mut open: Vec<&Job> = selected.into_iter().filter(|job| status.instances(&job.id).is_empty()).collect();
    loop {
        let before = open.len();
        let mut still_open = Vec::with_capacity(open.len());
        for job in open {
            if !status.ready(job) {
                still_open.push(job);
                continue;
            }
            decisions.push(match job::decide(context, &status, job) {
                Outcome::Run(jobs) => Decision::Expand { key: job.id.clone(), jobs },
                Outcome::Skip(reason) => {
                    status.conclude(&job.id, Conclusion::Skipped);
                    Decision::Skip { key: job.id.clone(), name: job::static_name(job), reason }
                }
                Outcome::Fail(message) => {
                    status.conclude(&job.id, Conclusion::Failure);
                    Decision::Fail { key: job.id.clone(), name: job::static_name(job), message }
                }
            });
        }
        open = still_open;
        if open.len() == before {
            return decisions;
        }
    }
}

/// Cancels and releases the instances of a job that has been expanded.
fn stop(context: &RunContext, status: &mut Status<'_>, job: &Job, decisions: &mut Vec<Decision>) {
    let instances: Vec<Instance> = status.instances(&job.id).to_vec();
    let is_done = |instance: &Instance| matches!(instance.state, InstanceState::Done(_));
    if instances.iter().all(is_done) {
        return;
    }
    let reason = if context.cancelled && !job::holds_when_cancelled(context, status, job) {
        Some("the run was cancelled".to_owned())
    } else {
        let failed = instances
            .iter()
            .filter(|instance| {
                instance.state == InstanceState::Done(Conclusion::Failure) && !instance.continue_on_error
            })
            .min_by_key(|instance| (instance.finished, instance.index));
        failed
            .filter(|_| job::limits(context, status, job).fail_fast)
            .map(|failed| format!("job {} of the matrix failed, and `fail-fast` is on", failed.index + 1))
    };
    if let Some(reason) = reason {
        for instance in &instances {
            let state = match instance.state {
                InstanceState::Waiting => InstanceState::Done(Conclusion::Cancelled),
                InstanceState::Active => InstanceState::Cancelling,
                InstanceState::Cancelling | InstanceState::Done(_) => continue,
            };
            status.set(&job.id, instance.index, state);
            decisions.push(Decision::Cancel { key: job.id.clone(), index: instance.index, reason: reason.clone() });
        }
        return;
    }
    let waiting: Vec<u32> = instances
        .iter()
        .filter(|instance| instance.state == InstanceState::Waiting)
        .map(|instance| instance.index)
        .collect();
    if waiting.is_empty() {
        return;
    }
    let running =
        instances.iter().filter(|i| matches!(i.state, InstanceState::Active | InstanceState::Cancelling)).count();
    let room = job::limits(context, status, job)
        .max_parallel
        .map_or(usize::MAX, |limit| (limit as usize).saturating_sub(running));
    for index in waiting.into_iter().take(room) {
        status.set(&job.id, index, InstanceState::Active);
        decisions.push(Decision::Release { key: job.id.clone(), index });
    }
}

/// Ids of the selected jobs that are not decided yet, in the order of the file.
#[must_use]
pub fn pending(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Vec<String> {
    let status = Status::new(workflow, instances);
    let selected = context.selection.jobs(workflow).into_iter();
    selected.filter(|job| status.instances(&job.id).is_empty()).map(|job| job.id.clone()).collect()
}

/// How the run ended, once all selected jobs have.
///
/// A run that was cancelled is cancelled, whatever its jobs did. Else a failure counts before a cancelled job; jobs
/// that were skipped, and failures that may be ignored, do no harm. A selection that selects nothing is a failure (see
/// [`super::Selection::check`]).
#[must_use]
pub fn conclusion(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Option<Conclusion> {
    let status = Status::new(workflow, instances);
    let selected = context.selection.jobs(workflow);
    let results: Vec<Conclusion> = selected.iter().map(|job| status.result(&job.id)).collect::<Option<_>>()?;
    Some(if context.cancelled {
        Conclusion::Cancelled
    } else if results.is_empty() || results.contains(&Conclusion::Failure) {
        Conclusion::Failure
    } else if results.contains(&Conclusion::Cancelled) {
        Conclusion::Cancelled
    } else if results.iter().all(|result| *result == Conclusion::Skipped) {
        Conclusion::Skipped
    } else {
        Conclusion::Success
    })
}
