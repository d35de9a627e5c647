//! Concurrency groups: what is claimed, and what a call does until its claims are granted.
//!
//! Who gets a group when is decided elsewhere, over all runs; the planner only knows how the claims of its run stand.

use super::RunContext;
use super::job::Called;
use super::scope::RunScope;
use crate::expression::{Scope, Value};
use crate::model::concurrency::{self, Queue};
use crate::model::{Concurrency, Workflow};
use crate::template::{self, article};

/// A group that a run, a call or a job must have before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Name of the group, as it is written; case makes no difference.
    pub group: String,
    /// Whether who has the group is to be cancelled.
    pub cancel_in_progress: bool,
    /// How many may wait.
    pub queue: Queue,
}

/// How a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Somebody else has the group.
    Waiting,
    /// It has the group.
    Granted,
    /// It waited, and another one waits in its place; why.
    Displaced(String),
    /// It has the group, and must end because another one wants it; why.
    Overtaken(String),
}

/// A group that somebody has who cannot end before what is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    group: String,
    by: String,
}

impl Held {
    /// A claim that was granted, and to whom, in words.
    #[must_use]
    pub fn new(claim: &Claim, by: impl Into<String>) -> Self {
        Self { group: claim.group.to_lowercase(), by: by.into() }
    }
}

/// The group that a workflow must have before anything of it begins.
///
/// # Errors
/// It has no value, or none that can be a group's name; the text is for people.
pub fn claim_of_run(workflow: &Workflow, context: &RunContext) -> Result<Option<Claim>, String> {
    workflow.concurrency.as_ref().map(|found| claim(found, &RunScope(context), &context.held)).transpose()
}

pub(super) fn claim(concurrency: &Concurrency, scope: &dyn Scope, held: &[Held]) -> Result<Claim, String> {
    let explain = |error: template::Error| format!("`concurrency`: {}", error.message);
    let group = match template::evaluate(&concurrency.group, scope).map_err(explain)? {
        value @ (Value::Object(_) | Value::Array(_)) => {
            return Err(format!("the group of `concurrency` must be text, not {}", article(&value)));
        }
        value => value.to_text().into_owned(),
    };
    concurrency::check(&group).map_err(|problem| format!("the group of `concurrency` {problem}"))?;
    let cancel_in_progress = match &concurrency.cancel_in_progress {
        None => false,
        Some(cancel) => match template::evaluate(cancel, scope).map_err(explain)? {
            Value::Bool(value) => value,
            other => return Err(format!("`cancel-in-progress` must be a boolean, not {}", article(&other))),
        },
    };
    if cancel_in_progress && concurrency.queue == Queue::Max {
        return Err("`queue: max` and a `cancel-in-progress` that is true exclude each other".to_owned());
    }
    let claim = Claim { group, cancel_in_progress, queue: concurrency.queue };
    let key = claim.group.to_lowercase();
    match held.iter().find(|held| held.group == key) {
        Some(held) => Err(format!(
            "it would wait for ever: {} has the concurrency group `{}` until this has ended; name another group",
            held.by, claim.group
        )),
        None => Ok(claim),
    }
}

/// Whether a call may begin.
pub(super) enum Gate {
    /// It has all its groups.
    Open,
    /// It waits for one.
    Shut,
    /// It has to wait for this one, and does not yet.
    Claim(String, Claim),
    /// It must not begin any more; why.
    Refused(String),
}

pub(super) fn gate(context: &RunContext, called: &Called) -> Gate {
    for (place, claim) in &called.gates {
        match context.claims.get(place) {
            Some(ClaimState::Granted) => {}
            None => return Gate::Claim(place.clone(), claim.clone()),
            Some(ClaimState::Waiting) => return Gate::Shut,
            Some(ClaimState::Displaced(reason) | ClaimState::Overtaken(reason)) => {
                return Gate::Refused(reason.clone());
            }
        }
    }
    Gate::Open
}

/// Why a call that has begun must end, if another one wants one of its groups.
pub(super) fn overtaken(context: &RunContext, called: &Called) -> Option<String> {
    called.gates.iter().find_map(|(place, _)| match context.claims.get(place) {
        Some(ClaimState::Overtaken(reason)) => Some(reason.clone()),
        _ => None,
    })
}
