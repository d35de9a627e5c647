//! Jobs that call other workflows: each call is a run within the run.
//!
//! Nothing of a call is remembered but the jobs that it made, whose keys begin with the caller's. So what a call does now
//! follows from them: a calling job *has begun* when there are any; from then on its combinations stand in the status
//! as if they were jobs, and `needs`, `fail-fast` and `max-parallel` treat them as such.

use std::collections::BTreeMap;

use super::job::{self, Called};
use super::scope::JobScope;
use super::status::Status;
use super::{Conclusion, Decision, Instance, InstanceState, RunContext, run};
use crate::expression::{EvalError, Scope, Value};
use crate::model::{Call, CallSecrets, Job, Workflow};
use crate::template;

/// The jobs that calls made, by calling job and combination, as the called workflow sees them.
#[derive(Default)]
pub(super) struct Children {
    by_call: BTreeMap<(String, u32), Made>,
}

/// The jobs of one call.
struct Made {
    /// What their keys begin with in the run.
    prefix: String,
    jobs: Vec<Instance>,
}

impl Children {
    /// Parts the jobs of the workflow itself from those of the workflows that it calls.
    pub(super) fn part(instances: &[Instance]) -> (Vec<Instance>, Self) {
        let (mut own, mut children) = (Vec::new(), Self::default());
        for instance in instances {
            match split(&instance.key) {
                None => own.push(instance.clone()),
                Some((job, index, rest)) => {
                    let child = Instance { key: rest.to_owned(), ..instance.clone() };
                    let prefix = &instance.key[..instance.key.len() - rest.len() - 1];
                    let call = children.by_call.entry((job.to_ascii_lowercase(), index));
                    call.or_insert_with(|| Made { prefix: prefix.to_owned(), jobs: Vec::new() }).jobs.push(child);
                }
            }
        }
        (own, children)
    }

    pub(super) fn of(&self, job: &str, index: u32) -> &[Instance] {
        self.by_call.get(&(job.to_ascii_lowercase(), index)).map(|made| made.jobs.as_slice()).unwrap_or_default()
    }

    /// The calls of a job: what the keys of their jobs begin with, and the jobs.
    pub(super) fn calls(&self, job: &str) -> impl Iterator<Item = (&str, &[Instance])> {
        let job = job.to_ascii_lowercase();
        let calls = self.by_call.range((job.clone(), 0)..=(job, u32::MAX));
        calls.map(|(_, made)| (made.prefix.as_str(), made.jobs.as_slice()))
    }
}

/// `caller.rest` and `caller[2].rest`; none for a job of the workflow itself.
fn split(key: &str) -> Option<(&str, u32, &str)> {
    let (head, rest) = key.split_once('.')?;
    match head.strip_suffix(']').and_then(|head| head.split_once('[')) {
        Some((job, index)) => Some((job, index.parse().ok()?, rest)),
        None => Some((head, 0, rest)),
    }
}

/// A job whose calls have begun, and the calls.
pub(super) struct Begun<'w> {
    pub(super) job: &'w Job,
    pub(super) workflow: &'w Workflow,
    pub(super) calls: Vec<Called>,
}

/// True once a call of the job has made something, or waits for a concurrency group, or was given up.
fn has_begun(context: &RunContext, status: &Status<'_>, children: &Children, job: &Job) -> bool {
    let of_job = |place: &String| {
        let head = place.split_once('.').map_or(place.as_str(), |(head, _)| head);
        head.split_once('[').map_or(head, |(job, _)| job).eq_ignore_ascii_case(&job.id)
    };
    children.calls(&job.id).next().is_some()
        || context.claims.keys().any(of_job)
        || status.instances(&job.id).iter().any(|i| i.state == InstanceState::Done(Conclusion::Cancelled))
}

/// Adds the calls that have begun to the status, as if they were jobs.
pub(super) fn present<'w>(
    context: &RunContext,
    status: &mut Status<'w>,
    selected: &[&'w Job],
    children: &Children,
) -> Vec<Begun<'w>> {
    let begun = |job: &&Job| job.call.is_some() && has_begun(context, status, children, job);
    let mut open: Vec<&Job> = selected.iter().copied().filter(begun).collect();
    let mut begun = Vec::new();
    loop {
        let before = open.len();
        let mut still_open = Vec::with_capacity(before);
        for job in open {
            if !status.ready(job) {
                still_open.push(job);
                continue;
            }
            let Some(workflow) = job.call.as_ref().and_then(|call| call.workflow.as_deref()) else { continue };
            // It had a value once. Should it have none now, its jobs go on, and it has failed when they have ended.
            let Ok(calls) = job::calls(context, status, job) else {
                let mut jobs = children.calls(&job.id).flat_map(|(_, jobs)| jobs);
                let ended = jobs.all(|child| matches!(child.state, InstanceState::Done(_)));
                let state = if ended { InstanceState::Done(Conclusion::Failure) } else { InstanceState::Cancelling };
                status.add(vec![Instance::new(&*job.id, 0, state)]);
                continue;
            };
            let dropped: Vec<u32> = status.instances(&job.id).iter().map(|instance| instance.index).collect();
            let instances = calls.iter().map(|called| {
                let jobs = children.of(&job.id, called.index);
                if dropped.contains(&called.index) {
                    return Instance::new(&*job.id, called.index, InstanceState::Done(Conclusion::Cancelled));
                }
                if jobs.is_empty() {
                    let in_line = called.gates.iter().any(|(place, _)| context.claims.contains_key(place));
                    let state = if in_line { InstanceState::Active } else { InstanceState::Waiting };
                    return Instance::new(&*job.id, called.index, state);
                }
                match run::conclusion(workflow, &called.context, jobs) {
                    None => Instance::new(&*job.id, called.index, InstanceState::Active),
                    Some(conclusion) => Instance {
                        outputs: outputs(workflow, &called.context, jobs),
                        finished: jobs.iter().map(|job| job.finished).max().unwrap_or_default(),
                        ..Instance::new(&*job.id, called.index, InstanceState::Done(conclusion))
                    },
                }
            });
            let instances = instances.collect();
            status.replace(&job.id, instances);
            begun.push(Begun { job, workflow, calls });
        }
        open = still_open;
        if open.len() == before {
            return begun;
        }
    }
}

/// What is to be done in a call, in the words of the caller.
pub(super) fn advance(workflow: &Workflow, called: &Called, context: &RunContext, jobs: &[Instance]) -> Vec<Decision> {
    run::advance(workflow, context, jobs).into_iter().map(|decision| lift(called, decision)).collect()
}

fn lift(called: &Called, decision: Decision) -> Decision {
    let lifted = |key: String| format!("{}.{key}", called.prefix);
    let named = |name: String| format!("{} / {name}", called.name);
    match decision {
        Decision::Skip { key, name, reason } => Decision::Skip { key: lifted(key), name: named(name), reason },
        Decision::Fail { key, name, message } => Decision::Fail { key: lifted(key), name: named(name), message },
        Decision::Drop { key, index, name, reason } => {
            Decision::Drop { key: lifted(key), index, name: named(name), reason }
        }
        Decision::Claim { place, claim } => Decision::Claim { place: lifted(place), claim },
        Decision::Leave { place } => Decision::Leave { place: lifted(place) },
        Decision::Release { key, index } => Decision::Release { key: lifted(key), index },
        Decision::Cancel { key, index, reason } => Decision::Cancel { key: lifted(key), index, reason },
        Decision::Expand { key, mut jobs } => {
            for job in &mut jobs {
                job.key = lifted(std::mem::take(&mut job.key));
                job.name = named(std::mem::take(&mut job.name));
            }
            Decision::Expand { key: lifted(key), jobs }
        }
    }
}

/// The outputs of a workflow that was called and has ended. One that has no value is empty.
fn outputs(workflow: &Workflow, context: &RunContext, jobs: &[Instance]) -> BTreeMap<String, String> {
    let declared = workflow.on.get("workflow_call").map(|trigger| trigger.outputs.as_slice()).unwrap_or_default();
    if declared.is_empty() {
        return BTreeMap::new();
    }
    let seen = run::look(workflow, context, jobs);
    let scope = OutputScope { context, jobs: seen.status.all() };
    let text = |value: &template::Template| {
        let value = template::evaluate(value, &scope).ok()?;
        Some(value.to_text().into_owned())
    };
    declared.iter().map(|(name, value)| (name.clone(), text(value).unwrap_or_default())).collect()
}

/// What the outputs of a called workflow are made of.
struct OutputScope<'a> {
    context: &'a RunContext,
    jobs: Value,
}

impl Scope for OutputScope<'_> {
    fn context(&self, name: &str) -> Option<Value> {
        Some(match name {
            "github" => self.context.github.clone(),
            "inputs" => self.context.inputs.clone(),
            "vars" => self.context.vars.clone(),
            "jobs" => self.jobs.clone(),
            _ => return None,
        })
    }

    fn call(&self, _name: &str, _arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        None
    }
}

/// The secrets that a job may read, of all secrets of its run: those that each call on the way to it hands over.
///
/// # Errors
/// What a caller hands over has no value.
pub fn secrets(
    workflow: &Workflow,
    context: &RunContext,
    instances: &[Instance],
    key: &str,
    all: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let Some((id, index, rest)) = split(key) else { return Ok(all) };
    let gone = || format!("the job `{id}` that calls it is not in the workflow");
    let job = workflow.job(id).ok_or_else(gone)?;
    let call = job.call.as_ref().ok_or_else(gone)?;
    let called_workflow = call.workflow.as_deref().ok_or_else(gone)?;
    let seen = run::look(workflow, context, instances);
    let calls = job::calls(context, &seen.status, job)?;
    let called = calls.into_iter().find(|called| called.index == index).ok_or_else(gone)?;
    let handed = hand_over(context, &seen.status, job, call, &called, all)?;
    secrets(called_workflow, &called.context, seen.children.of(id, index), rest, handed)
}

fn hand_over(
    context: &RunContext,
    status: &Status<'_>,
    job: &Job,
    call: &Call,
    called: &Called,
    all: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mapping = match &call.secrets {
        CallSecrets::None => return Ok(BTreeMap::new()),
        CallSecrets::Inherit => return Ok(all),
        CallSecrets::Mapping(mapping) => mapping,
    };
    let mut scope = JobScope::new(context, status, job);
    scope.matrix = called.matrix.clone();
    scope.strategy = called.strategy.clone();
    let secrets = Value::object(all.iter().map(|(name, value)| (name.clone(), Value::string(value.as_str()))));
    let scope = WithSecrets { scope, secrets };
    let value = template::evaluate(mapping, &scope)
        .map_err(|error| format!("`secrets` of the job `{}`: {}", job.id, error.message))?;
    let Value::Object(entries) = value else { return Ok(BTreeMap::new()) };
    Ok(entries.iter().map(|(name, value)| (name.to_owned(), value.to_text().into_owned())).collect())
}

struct WithSecrets<'a> {
    scope: JobScope<'a>,
    secrets: Value,
}

impl Scope for WithSecrets<'_> {
    fn context(&self, name: &str) -> Option<Value> {
        if name == "secrets" { Some(self.secrets.clone()) } else { self.scope.context(name) }
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        self.scope.call(name, arguments)
    }
}
