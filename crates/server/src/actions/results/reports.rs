//! What reports change in the list of steps. Decisions only.

use std::collections::HashMap;

use http::StatusCode;
use startline_protocol::actions::results::{Step, StepsUpdate, step_conclusion, step_status};
use startline_protocol::problem::kind;
use startline_protocol::state::{Conclusion, StepStatus};
use startline_protocol::step::StepRecord;
use uuid::Uuid;

use super::SUMMARY_LIMIT;
use crate::actions::steps::blank;
use crate::problem::{ApiError, ApiResult};

/// More steps than any job has.
const MOST_STEPS: usize = 2000;
/// Longest display name that is kept, in characters.
const NAME_LIMIT: usize = 1024;
/// All summaries of a job together: every change of a step writes them anew.
const SUMMARIES_LIMIT: usize = 4 << 20;

/// What is remembered of a job between its reports. A restart loses it, at no harm: workers send in order, and a step
/// that has ended stays so.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The `change_order` that was last applied to each step.
    orders: HashMap<Uuid, i64>,
    /// Steps that took the summaries of children of composite actions, by child.
    children: HashMap<Uuid, u32>,
}

impl Progress {
    /// Applies what is news in an update.
    pub(super) fn update(&mut self, steps: &mut Vec<StepRecord>, update: &StepsUpdate) -> ApiResult<()> {
        for sent in &update.steps {
            let order = self.orders.get(&sent.external_id).copied().unwrap_or(i64::MIN);
            if update.change_order < order {
                continue;
            }
            let step = find_or_add(steps, sent.external_id)?;
            apply(step, sent);
            self.orders.insert(sent.external_id, update.change_order);
        }
        steps.sort_by_key(|step| step.number);
        Ok(())
    }

    /// Keeps a summary, or a further piece of one. Steps are those that the records or the job message name; any other
    /// id is a child of a composite action, whose summary goes to the step that runs, in the order of arrival.
    pub(super) fn summarize(
        &mut self,
        steps: &mut Vec<StepRecord>,
        id: Uuid,
        text: &str,
        further: bool,
        in_message: bool,
    ) -> ApiResult<()> {
        let of_step = in_message || steps.iter().any(|step| step.id == Some(id));
        let others: usize = steps.iter().filter_map(|step| step.summary.as_ref()).map(String::len).sum();
        let (step, replaces) = if of_step {
            (find_or_add(steps, id)?, !further)
        } else {
            let number = self.children.get(&id).copied().or_else(|| running(steps)).unwrap_or(1);
            self.children.insert(id, number);
            let at = match steps.iter().position(|step| step.number == number) {
                Some(at) => at,
                None => {
                    steps.push(blank(number));
                    steps.len() - 1
                }
            };
            (&mut steps[at], false)
        };
        let before = step.summary.as_deref().unwrap_or_default();
        let mut after = if replaces { String::new() } else { before.to_owned() };
        // A repeat after a lost answer.
        if !replaces && !text.is_empty() && after.ends_with(text) {
            return Ok(());
        }
        if !of_step && !further && !after.is_empty() && !after.ends_with('\n') {
            after.push('\n');
        }
        after.push_str(text);
        if of_step && after.len() > SUMMARY_LIMIT || others - before.len() + after.len() > SUMMARIES_LIMIT {
            let title = "the summary is larger than what is kept of a step or a job";
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, title));
        }
        step.summary = Some(after).filter(|text| !text.is_empty());
        Ok(())
    }
}

/// Makes room for a block of a step's log at the log's end: notes that the step's lines reach to `length + added`.
pub(super) fn extend_log(steps: &mut Vec<StepRecord>, id: Uuid, length: u64, added: u64) -> ApiResult<()> {
    for step in steps.iter_mut() {
        // A block that was noted and never came, because of a crash in between.
        step.log_end = step.log_end.map(|end| end.min(length));
    }
    let step = find_or_add(steps, id)?;
    step.log_start = Some(step.log_start.map_or(length, |start| start.min(length)));
    step.log_end = Some(length + added);
    if step.status == StepStatus::Pending {
        // A reader of the log must know whose line it reads.
        step.status = StepStatus::Running;
    }
    Ok(())
}

/// The step with this GUID. One that nobody has told of yet comes after all others, until its number is known.
fn find_or_add(steps: &mut Vec<StepRecord>, id: Uuid) -> ApiResult<&mut StepRecord> {
    let at = match steps.iter().position(|step| step.id == Some(id)) {
        Some(at) => at,
        None if steps.len() >= MOST_STEPS => {
            return Err(ApiError::invalid(format!("the job has more than {MOST_STEPS} steps")));
        }
        None => {
            let number = steps.iter().map(|step| step.number).max().unwrap_or_default().saturating_add(1);
            steps.push(StepRecord { id: Some(id), ..blank(number) });
            steps.len() - 1
        }
    };
    Ok(&mut steps[at])
}

/// The step that runs, or else the last one that began.
fn running(steps: &[StepRecord]) -> Option<u32> {
    let begun = || steps.iter().filter(|step| step.status != StepStatus::Pending);
    let running = begun().filter(|step| step.status == StepStatus::Running).map(|step| step.number).max();
    running.or_else(|| begun().map(|step| step.number).max())
}

fn apply(step: &mut StepRecord, sent: &Step) {
    if let Some(number) = sent.number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0) {
        step.number = number;
    }
    if let Some(name) = sent.name.as_ref().filter(|name| !name.is_empty()) {
        step.name = name.chars().take(NAME_LIMIT).collect();
    }
    step.started_at = sent.started_at.or(step.started_at);
    step.completed_at = sent.completed_at.or(step.completed_at);
    let status = match sent.status {
        Some(step_status::IN_PROGRESS) => StepStatus::Running,
        Some(step_status::PENDING) => StepStatus::Pending,
        Some(step_status::COMPLETED) => StepStatus::Completed,
        _ => step.status,
    };
    if rank(status) >= rank(step.status) {
        step.status = status;
    }
    if step.status == StepStatus::Completed {
        step.conclusion = sent.conclusion.and_then(conclusion).or(step.conclusion);
        step.outcome = step.conclusion;
    }
}

const fn rank(status: StepStatus) -> u8 {
    match status {
        StepStatus::Pending => 0,
        StepStatus::Running => 1,
        StepStatus::Completed => 2,
    }
}

const fn conclusion(number: i64) -> Option<Conclusion> {
    match number {
        step_conclusion::SUCCESS => Some(Conclusion::Success),
        step_conclusion::FAILURE => Some(Conclusion::Failure),
        step_conclusion::CANCELLED => Some(Conclusion::Cancelled),
        step_conclusion::SKIPPED => Some(Conclusion::Skipped),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
