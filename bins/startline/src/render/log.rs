//! The live log of one job, grouped by step.
//!
//! Takes the events of a followed log and gives lines for a terminal. A step's heading comes from its record, not from
//! the log's text, so that a job cannot forge one.

use std::time::Duration;

use jiff::Timestamp;
use startline_protocol::runs_api::{JobView, LogEvent};
use startline_protocol::state::{Conclusion, JobStatus, StepStatus};
use startline_protocol::step::StepRecord;

use super::live::Live;
use super::style::{self, BLUE, BOLD, CYAN, DIM, RED, RESET, YELLOW};

/// Turns the events of one job into lines.
#[derive(Debug, Default)]
pub(crate) struct JobLog {
    /// Stands before every line when several jobs are shown together.
    prefix: String,
    job: Option<JobView>,
    attempt: u32,
    /// Steps whose heading was printed, and those whose end was.
    begun: usize,
    ended: usize,
    /// Depth of `##[group]`.
    group: usize,
    said: Option<(JobStatus, u32)>,
    /// Where the text that was printed ends.
    at: u64,
    /// Text (its offset, its attempt) that came before anybody had told the name of a step that wrote it, as it happens
    /// with official runners.
    held: Vec<(u64, u32, String)>,
    live: Live,
    /// Steps, by number, whose end was printed and was a failure, and the number of lines of that event before it was.
    failed: Vec<(u32, usize)>,
}

impl JobLog {
    /// A log whose lines begin with `prefix`.
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// The failed steps whose end was among the lines of the last event, by number, each with its place among them.
    pub(crate) fn take_failed(&mut self) -> Vec<(u32, usize)> {
        std::mem::take(&mut self.failed)
    }

    /// The job and its step that runs, as text; none when none does.
    pub(crate) fn running(&self) -> Option<String> {
        let job = self.job.as_ref().filter(|job| job.status == JobStatus::Running)?;
        let step = self.steps().iter().find(|step| step.status == StepStatus::Running)?;
        Some(format!("{}: {}", style::harmless(&job.name), style::harmless(&step.name)))
    }

    /// The lines that `event` adds.
    pub(crate) fn lines(&mut self, event: LogEvent) -> Vec<String> {
        let mut out = Vec::new();
        match event {
            LogEvent::Job { job } => {
                if job.attempt != self.attempt {
                    self.release(&mut out);
                }
                self.job(*job, &mut out);
                if !self.waits_for_a_name() {
                    self.release(&mut out);
                }
            }
            LogEvent::Log { offset, attempt, text } => {
                self.held.push((offset, attempt, text));
                if !self.waits_for_a_name() {
                    self.release(&mut out);
                }
            }
            LogEvent::Console { attempt, step_id: Some(step), first_line: Some(first), lines } => {
                if attempt == self.attempt {
                    self.live.hear(step, first, lines);
                }
            }
            LogEvent::Console { .. } => {}
            LogEvent::End => {
                self.release(&mut out);
                self.finish_steps(u64::MAX, &mut out);
            }
        }
        self.live_lines(&mut out);
        if !self.prefix.is_empty() {
            for line in &mut out {
                line.insert_str(0, &self.prefix);
            }
        }
        out
    }

    fn job(&mut self, job: JobView, out: &mut Vec<String>) {
        if self.said != Some((job.status, job.attempt)) {
            self.said = Some((job.status, job.attempt));
            let runner = job.runner_name.as_deref().map(style::harmless).unwrap_or_default();
            match job.status {
                JobStatus::Running if job.attempt > 1 => out.push(format!(
                    "{YELLOW}attempt {} on {runner}{RESET}: {}",
                    job.attempt,
                    style::harmless(job.reason.as_deref().unwrap_or("queued again")),
                )),
                JobStatus::Running => out.push(format!("{DIM}started on {runner}{RESET}")),
                JobStatus::Completed if job.steps.is_empty() => {
                    if let (Some(conclusion), Some(reason)) = (job.conclusion, &job.reason) {
                        let (sign, colour) = style::conclusion(conclusion);
                        out.push(format!("{colour}{sign} {conclusion}{RESET}: {}", style::harmless(reason)));
                    }
                }
                _ => {}
            }
        }
        self.begin_attempt(job.attempt);
        self.job = Some(job);
    }

    fn waits_for_a_name(&self) -> bool {
        self.steps().iter().any(|step| step.name.is_empty() && step.log_start.is_some())
    }

    fn release(&mut self, out: &mut Vec<String>) {
        for (offset, attempt, text) in std::mem::take(&mut self.held) {
            self.text(offset, attempt, &text, out);
        }
    }

    fn text(&mut self, offset: u64, attempt: u32, text: &str, out: &mut Vec<String>) {
        self.begin_attempt(attempt);
        let mut at = offset;
        for line in text.split_inclusive('\n') {
            self.finish_steps(at, out);
            self.begin_steps(at, out);
            let shown = without_stamp(line.trim_end_matches('\n'));
            let step = self.step_at(at).and_then(|step| step.id);
            if step.is_none_or(|step| self.live.is_new(step)) {
                self.line(shown, out);
            }
            at += line.len() as u64;
        }
        self.at = at;
    }

    fn begin_attempt(&mut self, attempt: u32) {
        if attempt != self.attempt {
            self.attempt = attempt;
            (self.begun, self.ended, self.group, self.at) = (0, 0, 0, 0);
            self.live = Live::default();
        }
    }

    /// The step that wrote the line at this place.
    fn step_at(&self, at: u64) -> Option<&StepRecord> {
        let encloses = |step: &&StepRecord| {
            step.log_start.is_some_and(|start| start <= at) && step.log_end.is_none_or(|end| at < end)
        };
        self.steps().iter().rev().find(encloses)
    }

    /// Prints lines of the step that runs before they are in the log, if everything before them is printed.
    fn live_lines(&mut self, out: &mut Vec<String>) {
        for step in self.live.speakers() {
            let Some(index) = self.steps().iter().position(|known| known.id == Some(step)) else { continue };
            if self.steps()[index].name.is_empty() {
                continue;
            }
            if index + 1 < self.begun {
                // Its place on the terminal is past.
                self.live.take(step);
                continue;
            }
            let printed = |step: &StepRecord| {
                step.conclusion.is_some()
                    && match step.log_end {
                        Some(end) => end <= self.at,
                        None => step.conclusion == Some(Conclusion::Skipped),
                    }
            };
            if !self.steps()[self.ended.min(index)..index].iter().all(printed) {
                continue;
            }
            self.finish_steps(self.at, out);
            if self.begun == index {
                self.begin_step(out);
            }
            for line in self.live.take(step) {
                self.line(&line, out);
            }
        }
    }

    fn steps(&self) -> &[StepRecord] {
        match &self.job {
            Some(job) if job.attempt == self.attempt => &job.steps,
            _ => &[],
        }
    }

    /// Prints the heading of every step that begins at or before `at`.
    fn begin_steps(&mut self, at: u64, out: &mut Vec<String>) {
        while self.steps().get(self.begun).is_some_and(|step| step.log_start.is_some_and(|start| start <= at)) {
            self.begin_step(out);
        }
    }

    fn begin_step(&mut self, out: &mut Vec<String>) {
        if let Some(step) = self.steps().get(self.begun) {
            // The end of a step that was skipped says all there is to say.
            if step.conclusion != Some(Conclusion::Skipped) {
                out.push(format!("{BOLD}▸ {}{RESET}", style::harmless(&step.name)));
            }
            self.begun += 1;
            self.group = 0;
        }
    }

    /// Prints the end of every step whose log lies wholly before `at`.
    fn finish_steps(&mut self, at: u64, out: &mut Vec<String>) {
        while let Some(step) = self.steps().get(self.ended) {
            let Some(conclusion) = step.conclusion else { break };
            if step.log_end.is_some_and(|end| end > at) {
                break;
            }
            let line = ended(step, conclusion);
            let failed = (conclusion == Conclusion::Failure).then_some(step.number);
            if self.begun == self.ended {
                self.begin_step(out);
            }
            out.push(line);
            self.failed.extend(failed.map(|number| (number, out.len())));
            self.ended += 1;
        }
    }

    fn line(&mut self, line: &str, out: &mut Vec<String>) {
        let indent = "  ".repeat(self.group + 1);
        let (marker, rest) = match line.strip_prefix("##[").and_then(|rest| rest.split_once(']')) {
            Some((marker, rest)) => (marker, rest),
            None => ("", line),
        };
        let text = style::harmless(rest);
        match marker {
            "group" => {
                out.push(format!("{indent}{CYAN}{text}{RESET}"));
                self.group += 1;
            }
            "endgroup" => self.group = self.group.saturating_sub(1),
            "error" => out.push(format!("{indent}{RED}Error: {text}{RESET}")),
            "warning" => out.push(format!("{indent}{YELLOW}Warning: {text}{RESET}")),
            "notice" => out.push(format!("{indent}{CYAN}Notice: {text}{RESET}")),
            "debug" => out.push(format!("{indent}{DIM}{text}{RESET}")),
            "command" => out.push(format!("{indent}{BLUE}{text}{RESET}")),
            "section" => out.push(format!("{indent}{BOLD}{text}{RESET}")),
            _ => out.push(format!("{indent}{}{RESET}", style::harmless(line))),
        }
    }
}

/// Lines of a log as they are shown, without the steps that they are of.
pub(crate) fn lines_for_people(lines: &[String]) -> Vec<String> {
    let (mut log, mut out) = (JobLog::default(), Vec::new());
    for line in lines {
        log.line(line, &mut out);
    }
    out
}

/// A line of a log without the time stamp in front, which is for the record and not for people.
pub(crate) fn without_stamp(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(stamp, rest)| if is_stamp(stamp) { rest } else { line })
}

fn ended(step: &StepRecord, conclusion: Conclusion) -> String {
    let (sign, colour) = style::conclusion(conclusion);
    let took = elapsed(step.started_at, step.completed_at).filter(|_| conclusion != Conclusion::Skipped);
    let took = took.map(|took| format!(" {DIM}{took}{RESET}"));
    let word = if conclusion == Conclusion::Success { String::new() } else { format!(" ({conclusion})") };
    format!("{colour}{sign} {}{word}{RESET}{}", style::harmless(&step.name), took.unwrap_or_default())
}

/// The time between two points, as text.
pub(crate) fn elapsed(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<String> {
    let took = Duration::try_from(to?.duration_since(from?)).ok()?;
    Some(style::duration(took))
}

fn is_stamp(text: &str) -> bool {
    text.len() >= 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T') && text.starts_with("20")
}

#[cfg(test)]
mod tests {
    use startline_protocol::ids::{JobId, RunId};

    use super::*;

    fn step(
        number: u32,
        name: &str,
        start: Option<u64>,
        end: Option<u64>,
        conclusion: Option<Conclusion>,
    ) -> StepRecord {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        StepRecord {
            number,
            id: None,
            name: name.to_owned(),
            status: if conclusion.is_some() { StepStatus::Completed } else { StepStatus::Running },
            conclusion,
            outcome: conclusion,
            started_at: at(0),
            completed_at: conclusion.and_then(|_| at(2)),
            log_start: start,
            log_end: end,
            summary: None,
        }
    }

    fn job(steps: Vec<StepRecord>) -> LogEvent {
        LogEvent::Job {
            job: Box::new(JobView {
                id: JobId(1),
                run_id: RunId(1),
                key: "a".into(),
                name: "a".into(),
                status: JobStatus::Running,
                conclusion: None,
                attempt: 1,
                environment: None,
                labels: vec![],
                concurrency_group: None,
                runner_id: None,
                runner_name: Some("laptop".into()),
                reason: None,
                continue_on_error: false,
                queued_at: Timestamp::UNIX_EPOCH,
                started_at: None,
                completed_at: None,
                outputs: Default::default(),
                steps,
                annotations: vec![],
            }),
        }
    }

    fn plain(lines: Vec<String>) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    const STAMP: &str = "2026-05-01T10:00:00.1234567Z ";

    #[test]
    fn lines_stand_under_the_step_that_wrote_them() {
        let mut log = JobLog::new("a │ ".to_owned());
        let first = format!("{STAMP}one\n");
        let second = format!("{STAMP}##[error]two\n");
        let split = first.len() as u64;
        let all = split + second.len() as u64;
        let mut out = log.lines(job(vec![
            step(1, "First", Some(0), Some(split), Some(Conclusion::Success)),
            step(2, "Second", Some(split), None, None),
        ]));
        out.extend(log.lines(LogEvent::Log { offset: 0, attempt: 1, text: format!("{first}{second}") }));
        out.extend(log.lines(job(vec![
            step(1, "First", Some(0), Some(split), Some(Conclusion::Success)),
            step(2, "Second", Some(split), Some(all), Some(Conclusion::Failure)),
            step(3, "Third", Some(all), Some(all), Some(Conclusion::Skipped)),
            step(4, "Fourth", None, None, Some(Conclusion::Skipped)),
        ])));
        out.extend(log.lines(LogEvent::End));
        assert_eq!(
            plain(out),
            [
                "a │ started on laptop",
                "a │ ▸ First",
                "a │   one",
                "a │ ✓ First 2.0s",
                "a │ ▸ Second",
                "a │   Error: two",
                "a │ ✗ Second (failure) 2.0s",
                "a │ – Third (skipped)",
                "a │ – Fourth (skipped)",
            ]
        );
    }

    #[test]
    fn lines_of_a_step_wait_until_it_has_a_name() {
        let line = format!("{STAMP}x\n");
        let named = |name| job(vec![step(1, name, Some(0), Some(line.len() as u64), None)]);
        let text = || LogEvent::Log { offset: 0, attempt: 1, text: line.clone() };
        let mut log = JobLog::new(String::new());
        assert_eq!(plain(log.lines(named(""))), ["started on laptop"]);
        assert_eq!(plain(log.lines(text())), [""; 0]);
        assert_eq!(plain(log.lines(named("Complete job"))), ["▸ Complete job", "  x"]);
        // One that never gets a name loses no line.
        let mut log = JobLog::new(String::new());
        log.lines(named(""));
        log.lines(text());
        assert_eq!(plain(log.lines(LogEvent::End)), ["▸ ", "  x"]);
    }

    #[test]
    fn a_step_without_output_still_has_its_heading_in_place() {
        let mut log = JobLog::new(String::new());
        let line = format!("{STAMP}x\n");
        let end = line.len() as u64;
        let mut out = log.lines(job(vec![
            step(1, "Silent", Some(0), Some(0), Some(Conclusion::Success)),
            step(2, "Loud", Some(0), Some(end), Some(Conclusion::Success)),
        ]));
        out.extend(log.lines(LogEvent::Log { offset: 0, attempt: 1, text: line }));
        out.extend(log.lines(LogEvent::End));
        let out = plain(out);
        let place =
            |text: &str| out.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {out:?}"));
        assert!(place("✓ Silent") < place("▸ Loud") && place("▸ Loud") < place("  x"), "{out:?}");
    }
}
