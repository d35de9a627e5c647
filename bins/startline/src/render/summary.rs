//! What a run came to.

use std::fmt::Write;

use startline_protocol::runs_api::{JobView, RunDetail};
use startline_protocol::state::Conclusion;
use startline_protocol::step::AnnotationLevel;

use super::log::elapsed;
use super::style::{self, BOLD, DIM, RED, RESET, YELLOW};

/// The summary of a completed run: jobs, failed steps, annotations.
pub(crate) fn text(detail: &RunDetail) -> String {
    let mut out = String::new();
    let run = &detail.run;
    let conclusion = run.conclusion.unwrap_or(Conclusion::Cancelled);
    let (sign, colour) = style::conclusion(conclusion);
    let took = elapsed(Some(run.created_at), run.completed_at).unwrap_or_default();
    let _ = writeln!(
        out,
        "\n{BOLD}Summary{RESET}  {}\n{colour}{sign} run {} {conclusion}{RESET} {DIM}in {took}{RESET}",
        style::harmless(&run.name),
        run.id
    );
    if let Some(reason) = &run.reason {
        let _ = writeln!(out, "  {DIM}{}{RESET}", style::harmless(reason));
    }
    let width = detail.jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or_default();
    for job in &detail.jobs {
        self::job(&mut out, job, width);
    }
    out
}

fn job(out: &mut String, job: &JobView, width: usize) {
    let conclusion = job.conclusion.unwrap_or(Conclusion::Cancelled);
    let (sign, colour) = style::conclusion(conclusion);
    let took = elapsed(job.started_at, job.completed_at).unwrap_or_default();
    let allowed = if job.continue_on_error && conclusion == Conclusion::Failure { " (continue-on-error)" } else { "" };
    let name = style::harmless(&job.name);
    let _ = writeln!(out, "  {colour}{sign} {name:width$}{RESET}  {conclusion}{allowed}  {DIM}{took}{RESET}");
    if let Some(reason) = job.reason.as_deref().filter(|_| conclusion != Conclusion::Success) {
        let _ = writeln!(out, "      {DIM}{}{RESET}", style::harmless(reason));
    }
    for step in job.steps.iter().filter(|step| step.conclusion == Some(Conclusion::Failure)) {
        let _ = writeln!(out, "      {RED}✗ step {} “{}” failed{RESET}", step.number, style::harmless(&step.name));
    }
    for annotation in &job.annotations {
        let (colour, word) = match annotation.level {
            AnnotationLevel::Failure => (RED, "error"),
            AnnotationLevel::Warning => (YELLOW, "warning"),
            AnnotationLevel::Notice => (DIM, "notice"),
        };
        let place = match (&annotation.path, annotation.start_line) {
            (Some(path), Some(line)) => format!("{path}:{line}: "),
            (Some(path), None) => format!("{path}: "),
            _ => String::new(),
        };
        let text = style::harmless(&format!("{place}{}", annotation.message.lines().next().unwrap_or_default()));
        let _ = writeln!(out, "      {colour}{word}{RESET}: {text}");
    }
}
