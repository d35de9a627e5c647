//! The planner over all jobs of a run.

use std::collections::BTreeMap;

use super::call::{self, Begun, Children};
use super::concurrency::{Gate, gate, overtaken};
use super::job::{self, Called, Outcome};
use super::status::Status;
use super::{ClaimState, Conclusion, Decision, Instance, InstanceState, RunContext};
use crate::model::{Job, Workflow};

/// Most jobs of a run.
const MAX_INSTANCES: usize = 10_000;

/// What is to be done now.
///
/// Decisions come in the order in which they are to be applied. The result depends on the arguments alone, and once
/// all decisions are applied as [`Decision`] says, another call yields nothing.
#[must_use]
pub fn advance(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Vec<Decision> {
    if workflow.jobs.iter().all(|job| job.call.is_none()) {
        return step(workflow, context, instances);
    }
    // What a call decides can end it, and so let others begin.
    let (mut instances, mut context) = (instances.to_vec(), context.clone());
    let mut decisions = Vec::new();
    loop {
        let next = step(workflow, &context, &instances);
        if next.is_empty() {
            return decisions;
        }
        for mut decision in next {
            limit(&mut decision, instances.len());
            apply(&mut instances, &mut context, &decision);
            decisions.push(decision);
        }
    }
}

/// How many jobs are under way, where there is nothing else to come: when one of them succeeds, nothing follows and the run has
/// no conclusion, unless it is the last. `None` where something may follow. To be asked when [`advance`] yields nothing.
///
/// That a job has a claim of its own is not seen here: whoever keeps such claims of the run looks at each end.
#[must_use]
pub fn awaited(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Option<usize> {
    // Claims change hands when jobs end.
    if !context.claims.is_empty() {
        return None;
    }
    let mut under_way = 0;
    let mut ended = instances.to_vec();
    for instance in &mut ended {
        match instance.state {
            InstanceState::Done(Conclusion::Success | Conclusion::Skipped) => {}
            InstanceState::Active => {
                instance.state = InstanceState::Done(Conclusion::Success);
                under_way += 1;
            }
            // A success may end a call in which another job failed, and so stop others of the call's matrix.
            InstanceState::Done(Conclusion::Failure | Conclusion::Cancelled) => return None,
            InstanceState::Waiting | InstanceState::Cancelling => return None,
        }
    }
    // What nobody needs any more when all have ended, nobody needs when some have.
    advance(workflow, context, &ended).is_empty().then_some(under_way)
}

/// Fails what would make a run too large: calls multiply.
fn limit(decision: &mut Decision, made: usize) {
    if let Decision::Expand { key, jobs } = decision
        && made + jobs.len() > MAX_INSTANCES
    {
        let message = format!("a run has at most {MAX_INSTANCES} jobs, with those of the workflows that it calls");
        let name = jobs.first().map(|job| job.name.clone()).unwrap_or_default();
        *decision = Decision::Fail { key: std::mem::take(key), name, message };
    }
}

/// Does to the state what a decision says.
fn apply(instances: &mut Vec<Instance>, context: &mut RunContext, decision: &Decision) {
    let ended = |key: &str, index, conclusion| Instance::new(key, index, InstanceState::Done(conclusion));
    match decision {
        Decision::Skip { key, .. } => instances.push(ended(key, 0, Conclusion::Skipped)),
        Decision::Fail { key, .. } => instances.push(ended(key, 0, Conclusion::Failure)),
        Decision::Drop { key, index, .. } => instances.push(ended(key, *index, Conclusion::Cancelled)),
        Decision::Expand { jobs, .. } => instances.extend(jobs.iter().map(|job| Instance {
            continue_on_error: job.continue_on_error,
            ..Instance::new(&*job.key, job.index, if job.held { InstanceState::Waiting } else { InstanceState::Active })
        })),
        Decision::Claim { place, .. } => {
            context.claims.insert(place.clone(), ClaimState::Waiting);
        }
        Decision::Leave { place } => {
            context.claims.remove(place);
        }
        Decision::Release { key, index } | Decision::Cancel { key, index, .. } => {
            let found = instances.iter_mut().find(|instance| instance.key == *key && instance.index == *index);
            let Some(instance) = found else { return };
            instance.state = match (decision, instance.state) {
                (Decision::Release { .. }, _) => InstanceState::Active,
                (_, InstanceState::Waiting) => InstanceState::Done(Conclusion::Cancelled),
                (_, InstanceState::Active) => InstanceState::Cancelling,
                (_, other) => other,
            };
        }
    }
}

/// A run as it stands, with the calls that have begun.
pub(super) struct Seen<'w> {
    pub(super) status: Status<'w>,
    pub(super) begun: Vec<Begun<'w>>,
    pub(super) children: Children,
}

pub(super) fn look<'w>(workflow: &'w Workflow, context: &RunContext, instances: &[Instance]) -> Seen<'w> {
    let (own, children) = Children::part(instances);
    let mut status = Status::new(workflow, &own);
    let begun = call::present(context, &mut status, &context.selection.jobs(workflow), &children);
    Seen { status, begun, children }
}

fn step(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Vec<Decision> {
    let selected = context.selection.jobs(workflow);
    let Seen { mut status, begun, children } = look(workflow, context, instances);
    let mut decisions = Vec::new();
    for job in &selected {
        match begun.iter().find(|begun| begun.job.id == job.id) {
            Some(begun) => call_on(context, &mut status, begun, &children, &mut decisions),
            None => stop(context, &mut status, job, &mut decisions),
        }
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
            match job::decide(context, &status, job) {
                Outcome::Run(jobs) => decisions.push(Decision::Expand { key: job.id.clone(), jobs }),
                Outcome::Call(calls) => begin(context, &mut status, job, &calls, &mut decisions),
                Outcome::Skip(reason) => {
                    status.conclude(&job.id, Conclusion::Skipped);
                    decisions.push(Decision::Skip { key: job.id.clone(), name: job::static_name(job), reason });
                }
                Outcome::Fail(message) => {
                    status.conclude(&job.id, Conclusion::Failure);
                    decisions.push(Decision::Fail { key: job.id.clone(), name: job::static_name(job), message });
                }
            }
        }
        open = still_open;
        if open.len() == before {
            return decisions;
        }
    }
}

/// Begins the calls of a job, as many as may run at once.
fn begin(context: &RunContext, status: &mut Status<'_>, job: &Job, calls: &[Called], decisions: &mut Vec<Decision>) {
    let Some(workflow) = job.call.as_ref().and_then(|call| call.workflow.as_deref()) else { return };
    for called in calls {
        let state = if called.held { InstanceState::Waiting } else { InstanceState::Active };
        status.add(vec![Instance::new(&*job.id, called.index, state)]);
        if !called.held {
            within(context, job, workflow, called, (&[], None), decisions);
        }
    }
}

/// Goes on with one call: begins it once it has its groups, and then does what is to be done in it.
fn within(
    context: &RunContext,
    job: &Job,
    workflow: &Workflow,
    called: &Called,
    (jobs, reason): (&[Instance], Option<String>),
    decisions: &mut Vec<Decision>,
) {
    if jobs.is_empty() {
        let refused = match (reason, gate(context, called)) {
            (Some(reason), _) | (None, Gate::Refused(reason)) => Some(reason),
            (None, Gate::Claim(place, claim)) => {
                decisions.push(Decision::Claim { place, claim });
                return;
            }
            (None, Gate::Shut) => return,
            (None, Gate::Open) => None,
        };
        if let Some(reason) = refused {
            let (key, name) = (job.id.clone(), called.name.clone());
            decisions.push(Decision::Drop { key, index: called.index, name, reason });
            return;
        }
        decisions.extend(call::advance(workflow, called, &called.context, &[]));
        return;
    }
    let reason = reason.or_else(|| overtaken(context, called));
    let mut seen = called.context.clone();
    seen.cancelled = reason.is_some();
    seen.cancel_reason = reason;
    decisions.extend(call::advance(workflow, called, &seen, jobs));
}

/// Goes on with the calls of a job: those that may begin do, those that must stop are seen as cancelled from within.
fn call_on(
    context: &RunContext,
    status: &mut Status<'_>,
    begun: &Begun<'_>,
    children: &Children,
    decisions: &mut Vec<Decision>,
) {
    let Begun { job, workflow, calls } = begun;
    let mut orders = Vec::new();
    stop(context, status, job, &mut orders);
    let mut reasons: BTreeMap<u32, String> = BTreeMap::new();
    for order in orders {
        if let Decision::Cancel { index, reason, .. } = order {
            reasons.insert(index, reason);
        }
    }
    for called in calls {
        let jobs = children.of(&job.id, called.index);
        let state = status.instances(&job.id).iter().find(|i| i.index == called.index).map(|i| i.state);
        match (state, reasons.remove(&called.index)) {
            (Some(InstanceState::Done(_)), Some(reason)) => {
                let (key, name) = (job.id.clone(), called.name.clone());
                decisions.push(Decision::Drop { key, index: called.index, name, reason });
            }
            (Some(InstanceState::Done(_)), None) => {
                let had = called.gates.iter().filter(|(place, _)| context.claims.contains_key(place));
                decisions.extend(had.map(|(place, _)| Decision::Leave { place: place.clone() }));
            }
            (Some(InstanceState::Active | InstanceState::Cancelling), reason) => {
                within(context, job, workflow, called, (jobs, reason), decisions);
            }
            _ => {}
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
        Some(context.cancel_reason.clone().unwrap_or_else(|| "the run was cancelled".to_owned()))
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

/// Keys of the selected jobs that are not decided yet, in the order of the file.
#[must_use]
pub fn pending(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Vec<String> {
    let Seen { status, begun, children } = look(workflow, context, instances);
    let mut keys = Vec::new();
    for job in context.selection.jobs(workflow) {
        let Some(Begun { workflow, calls, .. }) = begun.iter().find(|begun| begun.job.id == job.id) else {
            if status.instances(&job.id).is_empty() {
                keys.push(job.id.clone());
            }
            continue;
        };
        for called in calls {
            let state = status.instances(&job.id).iter().find(|i| i.index == called.index).map(|i| i.state);
            match state {
                Some(InstanceState::Waiting) => keys.push(called.prefix.clone()),
                Some(InstanceState::Active | InstanceState::Cancelling) => {
                    let jobs = children.of(&job.id, called.index);
                    if jobs.is_empty() {
                        keys.push(called.prefix.clone());
                        continue;
                    }
                    let within = pending(workflow, &called.context, jobs);
                    keys.extend(within.into_iter().map(|key| format!("{}.{key}", called.prefix)));
                }
                _ => {}
            }
        }
    }
    keys
}

/// How the run ended, once all selected jobs have.
///
/// A run that was cancelled is cancelled, whatever its jobs did. Else a failure counts before a cancelled job; jobs
/// that were skipped, and failures that may be ignored, do no harm. A selection that selects nothing is a failure (see
/// [`super::Selection::check`]).
#[must_use]
pub fn conclusion(workflow: &Workflow, context: &RunContext, instances: &[Instance]) -> Option<Conclusion> {
    let Seen { status, .. } = look(workflow, context, instances);
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
