//! What a run came to, as text that is the same wherever and whenever the workflow is run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use regex_lite::Regex;
use startline_protocol::runs_api::{JobView, RunDetail};
use startline_protocol::state::Conclusion;
use startline_protocol::step::{Annotation, AnnotationLevel, StepRecord};

use crate::harness::Said;

/// What is shown although it is much the same in every run.
#[derive(Clone, Copy, Default)]
pub(super) struct Shown {
    /// What the log says of a step before its process begins.
    pub preamble: bool,
    /// What "Set up job" and "Complete job" say in every job.
    pub setup: bool,
}

/// Beginnings of the lines that "Set up job" and "Complete job" write in every job.
const USUAL: [&str; 7] = [
    "Runner name: ",
    "Runner version: ",
    "Secret source: ",
    "Prepare workflow directory",
    "Copied ",
    "Complete job name: ",
    "Cleaning up orphan processes",
];

/// How one run is told.
pub(super) struct Snapshot<'a> {
    /// The directory around everything that the run has on disk.
    pub scratch: &'a Path,
    pub shown: Shown,
}

/// One line of `startline run --json`, as far as it is told.
#[derive(serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Log {
        job_id: i64,
        offset: usize,
        text: String,
    },
    Run {
        detail: Box<RunDetail>,
    },
    #[serde(other)]
    Other,
}

impl Snapshot<'_> {
    /// The snapshot of what the command said.
    pub(super) fn of(&self, said: &Said) -> Result<String, String> {
        let mut text =
            format!("exit {}\n", said.code.map_or_else(|| "by a signal".to_owned(), |code| code.to_string()));
        let mut logs: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
        let mut detail = None;
        for line in said.out.lines() {
            match serde_json::from_str(line).map_err(|error| format!("{error}: {line}\n{}", said.err))? {
                Event::Log { job_id, offset, text } => {
                    let log = logs.entry(job_id).or_default();
                    if log.len() < offset + text.len() {
                        log.resize(offset + text.len(), b' ');
                    }
                    log[offset..offset + text.len()].copy_from_slice(text.as_bytes());
                }
                Event::Run { detail: found } => detail = Some(found),
                Event::Other => {}
            }
        }
        for line in said.err.lines().filter(|line| !is_about_waiting(line)) {
            push(&mut text, line, "");
        }
        if let Some(detail) = detail {
            self.run(&mut text, *detail, &logs);
        }
        Ok(self.stable(text))
    }

    fn run(&self, text: &mut String, mut detail: RunDetail, logs: &BTreeMap<i64, Vec<u8>>) {
        let _ = writeln!(text, "run {}: {}", conclusion(detail.run.conclusion), detail.run.name);
        for pending in &detail.pending {
            let _ = writeln!(text, "never decided: {pending:?}");
        }
        // Jobs that others made ready stand in the order in which those ended.
        detail.jobs.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        for job in &detail.jobs {
            let empty = Vec::new();
            self.job(text, job, logs.get(&job.id.0).unwrap_or(&empty));
        }
    }

    fn job(&self, text: &mut String, job: &JobView, log: &[u8]) {
        let key = if job.key == job.name { String::new() } else { format!(" [{}]", job.key) };
        let _ = writeln!(text, "\njob {}{key}: {}", job.name, conclusion(job.conclusion));
        if let Some(reason) = &job.reason {
            push(text, &format!("because {reason}"), "  ");
        }
        for (name, value) in &job.outputs {
            push(text, &format!("output {name} = {value}"), "  ");
        }
        for annotation in &job.annotations {
            push(text, &told(annotation), "  ");
        }
        for step in &job.steps {
            self.step(text, step, log);
        }
    }

    fn step(&self, text: &mut String, step: &StepRecord, log: &[u8]) {
        let mut lines = self.lines(step, log);
        if lines.is_empty() && is_frame(step) && step.conclusion == Some(Conclusion::Success) {
            return;
        }
        let outcome = if step.outcome == step.conclusion {
            String::new()
        } else {
            format!(", outcome {}", conclusion(step.outcome))
        };
        push(text, &format!("{} {}: {}{outcome}", step.number, step.name, conclusion(step.conclusion)), "  ");
        if let Some(summary) = &step.summary {
            lines.extend(summary.lines().map(|line| format!("summary: {line}")));
        }
        for line in lines {
            push(text, &line, "    | ");
        }
    }

    /// The lines of a step's log, without times.
    fn lines(&self, step: &StepRecord, log: &[u8]) -> Vec<String> {
        let end = step.log_end.map_or(log.len(), |end| usize::try_from(end).unwrap()).min(log.len());
        let start = step.log_start.map_or(end, |start| usize::try_from(start).unwrap()).min(end);
        let log = String::from_utf8_lossy(&log[start..end]).into_owned();
        let (mut lines, mut preamble) = (Vec::new(), false);
        for line in log.split_terminator('\n') {
            let line = line.split_once(' ').map_or("", |(_, line)| line);
            // What an engine is asked has paths and sockets of this machine in it; other tests look at that.
            if line.starts_with("##[command]") {
                continue;
            }
            if !self.shown.setup && is_frame(step) && USUAL.iter().any(|usual| line.starts_with(usual)) {
                continue;
            }
            if !self.shown.preamble {
                preamble |= line.starts_with("##[group]Run ");
                if preamble {
                    preamble = line != "##[endgroup]";
                    continue;
                }
            }
            lines.push(line.to_owned());
        }
        lines
    }

    /// Takes out what differs between machines and between runs.
    fn stable(&self, text: String) -> String {
        let scratch = self.scratch.display().to_string();
        let mut text = text.replace(&format!("{scratch}/tree"), "<tree>").replace(&format!("{scratch}/home"), "<user>");
        for (pattern, stable) in [
            (format!("{}/tmp/startline-[0-9A-Za-z]+", regex_lite::escape(&scratch)), "<home>"),
            ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".to_owned(), "<id>"),
            (r"(?m)^(    \| )[0-9a-f]{64}( running)?$".to_owned(), "$1<container>$2"),
            ("github_network_[0-9a-f]{32}".to_owned(), "github_network_<id>"),
            (r"\b(startline_\w+)_[0-9a-f]{6}\b".to_owned(), "${1}_<id>"),
            (r"127\.0\.0\.1:\d+".to_owned(), "127.0.0.1:<port>"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z".to_owned(), "<time>"),
            (r"(?m)^(    \| shell: )\S*/".to_owned(), "$1<path>/"),
            (r"(?m)^(    \| Runner (name|version): ).*$".to_owned(), "$1<any>"),
            (r"pid \(\d+\)".to_owned(), "pid (<n>)"),
        ] {
            text = Regex::new(&pattern).unwrap().replace_all(&text, stable).into_owned();
        }
        text
    }
}

/// "Set up job" or "Complete job".
fn is_frame(step: &StepRecord) -> bool {
    ["Set up job", "Complete job"].contains(&step.name.as_str())
}

/// Said to people when a job waits for long, as it may on a busy machine.
fn is_about_waiting(line: &str) -> bool {
    line.starts_with("waiting: job ") || line.starts_with("  runner ")
}

fn conclusion(conclusion: Option<Conclusion>) -> &'static str {
    conclusion.map_or("none", |conclusion| conclusion.as_str())
}

/// A line with its control characters made visible.
fn push(text: &mut String, line: &str, indent: &str) {
    let line: String = line
        .chars()
        .map(|c| match c {
            '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(c),
            c => c,
        })
        .collect();
    text.push_str(format!("{indent}{line}").trim_end());
    text.push('\n');
}

fn told(annotation: &Annotation) -> String {
    let level = match annotation.level {
        AnnotationLevel::Notice => "notice",
        AnnotationLevel::Warning => "warning",
        AnnotationLevel::Failure => "error",
    };
    let mut text = format!("annotation {level}");
    if let Some(step) = annotation.step_number {
        let _ = write!(text, " of step {step}");
    }
    if let Some(path) = &annotation.path {
        let _ = write!(text, " at {path}");
    }
    let range = |first: Option<u32>, last: Option<u32>| match (first, last) {
        (Some(first), Some(last)) if first != last => Some(format!("{first}-{last}")),
        (Some(first), _) => Some(first.to_string()),
        (None, _) => None,
    };
    if let Some(lines) = range(annotation.start_line, annotation.end_line) {
        let _ = write!(text, " line {lines}");
    }
    if let Some(columns) = range(annotation.start_column, annotation.end_column) {
        let _ = write!(text, " column {columns}");
    }
    if let Some(title) = &annotation.title {
        let _ = write!(text, " ({title})");
    }
    let _ = write!(text, ": {}", annotation.message);
    text
}
