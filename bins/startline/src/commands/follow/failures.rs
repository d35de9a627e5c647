//! What failed steps said last, once more at the end, where it is looked for.

use std::collections::VecDeque;

use startline_client::ApiClient;
use startline_protocol::ids::JobId;
use startline_protocol::runs_api::{JobView, LogEvent, RunDetail};
use startline_protocol::state::Conclusion;
use startline_protocol::step::StepRecord;

use crate::render::log::without_stamp;

/// How many lines of a step are repeated.
pub(super) const LINES: usize = 20;
/// How many steps are repeated; of a large matrix the first ones tell enough.
const STEPS: usize = 10;
/// How far before a step's end its last lines are looked for.
const REACH: u64 = 64 * 1024;
/// What the worker writes when a process fails (actions/runner `Runner.Worker/Handlers/ScriptHandler.cs`).
const EXIT: &str = "Process completed with exit code ";

/// A step that failed, and its last lines.
#[derive(Debug, serde::Serialize)]
pub(super) struct FailedStep {
    pub job_id: JobId,
    /// The job's name.
    pub job: String,
    pub number: u32,
    /// The step's name.
    pub step: String,
    /// Of its process, if it ended with one.
    pub exit_code: Option<i32>,
    /// Masked as the log is, without time stamps.
    pub lines: Vec<String>,
}

/// The failed steps of a run that `wanted` says are worth it, each with its last lines.
pub(super) async fn collect(
    client: &ApiClient,
    detail: &RunDetail,
    wanted: impl Fn(JobId, u32) -> bool,
) -> Vec<FailedStep> {
    let mut found = Vec::new();
    let failed = detail.jobs.iter().flat_map(|job| {
        let steps = job.steps.iter().filter(|step| step.conclusion == Some(Conclusion::Failure));
        steps.map(move |step| (job, step))
    });
    for (job, step) in failed.filter(|(job, step)| wanted(job.id, step.number)).take(STEPS) {
        let lines = last_lines(client, job, step).await;
        found.push(FailedStep {
            job_id: job.id,
            job: job.name.clone(),
            number: step.number,
            step: step.name.clone(),
            exit_code: exit_code(job, step, &lines),
            lines,
        });
    }
    found
}

fn exit_code(job: &JobView, step: &StepRecord, lines: &[String]) -> Option<i32> {
    let annotations = job.annotations.iter().filter(|annotation| annotation.step_number == Some(step.number));
    let said = annotations.map(|annotation| annotation.message.as_str()).chain(lines.iter().map(String::as_str));
    said.rev()
        .find_map(|text| text.trim_start_matches("##[error]").strip_prefix(EXIT))?
        .trim_end_matches('.')
        .parse()
        .ok()
}

async fn last_lines(client: &ApiClient, job: &JobView, step: &StepRecord) -> Vec<String> {
    let (Some(start), Some(end)) = (step.log_start, step.log_end) else { return Vec::new() };
    let from = start.max(end.saturating_sub(REACH));
    let mut log = client.follow_job_log(job.id, from, Some(job.attempt));
    let mut lines: VecDeque<String> = VecDeque::with_capacity(LINES);
    // A log that cannot be read was said to be so before.
    while let Ok(Some(event)) = log.next().await {
        let (mut at, text) = match event {
            LogEvent::Log { offset, text, .. } => (offset, text),
            LogEvent::End => break,
            _ => continue,
        };
        for line in text.split_inclusive('\n') {
            if at >= end {
                return lines.into();
            }
            // The first one may have lost its beginning.
            if at > from || from == start {
                if lines.len() == LINES {
                    lines.pop_front();
                }
                lines.push_back(without_stamp(line.trim_end_matches('\n')).to_owned());
            }
            at += line.len() as u64;
        }
    }
    lines.into()
}
