//! Watching a run until it ends: every job's log, live, and what becomes of the run.

mod failures;
mod silence;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anstream::{eprintln, println};
use startline_client::{ApiClient, Error};
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::runs_api::{JobView, LogEvent, RunDetail};
use startline_protocol::state::{Conclusion, JobStatus};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::failures::FailedStep;
use self::silence::Silence;
use crate::exit;
use crate::render::log::{self, JobLog};
use crate::render::style::{BOLD, DIM, RED, RESET, YELLOW, harmless};

/// How long one look at a run is held by the service.
const HOLD: Duration = Duration::from_secs(20);
/// How long a job may wait before the reason is shown.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// Events as JSON lines.
    Json,
}

/// One line of `--json`.
#[derive(serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Begin { root: &'a Path, in_place: bool, value_files: Vec<&'a str> },
    Log { job_id: JobId, attempt: u32, offset: u64, text: &'a str },
    Console { job_id: JobId, attempt: u32, step_id: Option<Uuid>, first_line: Option<u64>, lines: &'a [String] },
    Job { job: &'a JobView },
    FailedStep(&'a FailedStep),
    Run { detail: &'a RunDetail },
}

/// Follows one run.
pub(super) struct Follower {
    client: ApiClient,
    form: Form,
    views: BTreeMap<JobId, JobLog>,
    /// Whether lines carry the name of their job.
    prefixed: bool,
    followed: HashSet<JobId>,
    tasks: TaskTracker,
    sender: mpsc::Sender<(JobId, Result<LogEvent, Error>)>,
    receiver: mpsc::Receiver<(JobId, Result<LogEvent, Error>)>,
    /// Logs that are still being read.
    open: usize,
    explained: HashSet<JobId>,
    /// What was told of waits.
    told: HashSet<String>,
    silence: Silence,
    /// Lines printed so far, and how many there were when the end of a failed step (by its number) had been.
    printed: u64,
    failed: HashMap<(JobId, u32), u64>,
}

/// A failed step's last lines are repeated when more than so many others have come since.
const BURIED: u64 = 10;

impl Follower {
    pub(super) fn new(client: ApiClient, form: Form) -> Self {
        // Bounded: a log that comes faster than the terminal takes it waits at the service.
        let (sender, receiver) = mpsc::channel(64);
        Self {
            client,
            form,
            views: BTreeMap::new(),
            prefixed: false,
            followed: HashSet::new(),
            tasks: TaskTracker::new(),
            sender,
            receiver,
            open: 0,
            explained: HashSet::new(),
            told: HashSet::new(),
            silence: Silence::new(form == Form::Text),
            printed: 0,
            failed: HashMap::new(),
        }
    }

    /// Says to programs where the jobs of a local run work, and which files their values are from.
    pub(super) fn begin(&self, root: &Path, in_place: bool, value_files: Vec<&str>) {
        line(&Line::Begin { root, in_place, value_files });
    }

    /// Follows the run to its end and returns what it came to. `changed` sees every state on the way.
    pub(super) async fn follow(
        &mut self,
        first: RunDetail,
        mut changed: impl AsyncFnMut(&RunDetail) -> anyhow::Result<()>,
    ) -> anyhow::Result<RunDetail> {
        let id = first.run.id;
        let mut detail = first;
        loop {
            self.see(&detail);
            self.tell_waits(&detail);
            changed(&detail).await?;
            if detail.run.conclusion.is_some() {
                break;
            }
            detail = self.next_state(id, detail).await?;
        }
        while self.open > 0 {
            if let Some((job, event)) = self.receiver.recv().await {
                self.show(job, event);
            }
        }
        self.repeat_failures(&detail).await;
        if self.form == Form::Json {
            line(&Line::Run { detail: &detail });
        }
        Ok(detail)
    }

    /// Repeats the last lines of failed steps: for people those that other lines have buried.
    async fn repeat_failures(&self, detail: &RunDetail) {
        let buried =
            |job, number| self.failed.get(&(job, number)).is_some_and(|at| self.printed.saturating_sub(*at) > BURIED);
        let wanted = |job, number| self.form == Form::Json || buried(job, number);
        for failed in failures::collect(&self.client, detail, wanted).await {
            if self.form == Form::Json {
                line(&Line::FailedStep(&failed));
                continue;
            }
            let exit = failed.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
            println!(
                "\n{RED}✗{RESET} {BOLD}{} / {}{RESET} failed{exit}; its last lines:",
                harmless(&failed.job),
                harmless(&failed.step)
            );
            for line in log::lines_for_people(&failed.lines) {
                println!("{line}");
            }
        }
    }

    /// Waits for the run to change, printing logs meanwhile.
    async fn next_state(&mut self, id: RunId, detail: RunDetail) -> anyhow::Result<RunDetail> {
        let client = self.client.clone();
        let waiting = waiting(&detail, &self.explained);
        let look = client.run(id, Some(detail.version), HOLD);
        let mut look = std::pin::pin!(look);
        let patience = tokio::time::sleep(PATIENCE);
        let mut patience = std::pin::pin!(patience);
        let mut told = waiting.is_empty();
        loop {
            let silent = self.silence.until();
            tokio::select! {
                biased;
                Some((job, event)) = self.receiver.recv() => self.show(job, event),
                state = &mut look => return Ok(state?),
                () = &mut patience, if !told => {
                    told = true;
                    for job in &waiting {
                        self.explain(job).await;
                    }
                }
                () = sleep_until(silent.unwrap_or_else(Instant::now)), if silent.is_some() => {
                    let running = self.views.values().filter_map(JobLog::running).collect::<Vec<_>>().join("; ");
                    self.silence.tell(&running);
                }
            }
        }
    }

    /// Says why the run or a job waits for its concurrency group, when that has changed.
    fn tell_waits(&mut self, detail: &RunDetail) {
        if self.form != Form::Text || detail.run.conclusion.is_some() {
            return;
        }
        let run = detail.run.reason.iter().map(|reason| format!("run {} {}", detail.run.id, harmless(reason)));
        let held = detail.jobs.iter().filter(|job| job.status == JobStatus::Waiting && job.concurrency_group.is_some());
        let jobs =
            held.filter_map(|job| Some(format!("job {} {}", harmless(&job.name), harmless(job.reason.as_ref()?))));
        for wait in run.chain(jobs) {
            if self.told.insert(wait.clone()) {
                eprintln!("{YELLOW}waiting{RESET}: {wait}");
            }
        }
    }

    /// Begins to read the logs of jobs that have one.
    fn see(&mut self, detail: &RunDetail) {
        let several = detail.jobs.len() + detail.pending.len() > 1;
        self.prefixed |= several;
        let width = detail.jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or_default();
        for job in &detail.jobs {
            let begun = matches!(job.status, JobStatus::Running | JobStatus::Completed);
            if !begun || !self.followed.insert(job.id) {
                continue;
            }
            let prefix =
                if self.prefixed { format!("{DIM}{:width$} │{RESET} ", harmless(&job.name)) } else { String::new() };
            self.views.insert(job.id, JobLog::new(prefix));
            self.open += 1;
            let mut log = self.client.follow_job_log(job.id, 0, None);
            let (sender, id) = (self.sender.clone(), job.id);
            self.tasks.spawn(async move {
                loop {
                    let event = log.next().await;
                    let last = !matches!(&event, Ok(Some(event)) if !matches!(event, LogEvent::End));
                    // A stream that ends without a last word has ended all the same.
                    let event = event.map(|event| event.unwrap_or(LogEvent::End));
                    if sender.send((id, event)).await.is_err() || last {
                        return;
                    }
                }
            });
        }
    }

    fn show(&mut self, id: JobId, event: Result<LogEvent, Error>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                eprintln!("{YELLOW}warning{RESET}: the log of job {id} cannot be read further: {error}");
                self.open -= 1;
                return;
            }
        };
        if matches!(event, LogEvent::End) {
            self.open -= 1;
        }
        match self.form {
            Form::Json => match &event {
                LogEvent::Job { job } => line(&Line::Job { job }),
                LogEvent::Log { offset, attempt, text } => {
                    line(&Line::Log { job_id: id, attempt: *attempt, offset: *offset, text });
                }
                LogEvent::Console { attempt, step_id, first_line, lines } => {
                    let (step_id, first_line) = (*step_id, *first_line);
                    line(&Line::Console { job_id: id, attempt: *attempt, step_id, first_line, lines });
                }
                LogEvent::End => {}
            },
            Form::Text => {
                let Some(view) = self.views.get_mut(&id) else { return };
                let lines = view.lines(event);
                if !lines.is_empty() {
                    self.silence.broken();
                }
                for (number, at) in view.take_failed() {
                    self.failed.insert((id, number), self.printed + at as u64);
                }
                self.printed += lines.len() as u64;
                for line in lines {
                    println!("{line}");
                }
            }
        }
    }

    async fn explain(&mut self, job: &JobView) {
        let Ok(found) = self.client.explain(job.id).await else { return };
        if found.status != JobStatus::Queued {
            return;
        }
        self.explained.insert(job.id);
        self.silence.broken();
        eprintln!("{YELLOW}waiting{RESET}: job {} ({}): {}", harmless(&job.name), job.id, found.summary);
        for candidate in found.candidates.iter().take(5) {
            eprintln!("  runner {}: {}", harmless(&candidate.runner_name), harmless(&candidate.missing.join(", ")));
        }
        let labels: Vec<&str> = found
            .candidates
            .iter()
            .flat_map(|candidate| candidate.missing.iter().filter_map(|lack| lack.strip_prefix("label: ")))
            .collect();
        if let Some(first) = labels.first() {
            eprintln!("  register one that has it: startline runner register --label {}", harmless(first));
        }
    }
}

fn waiting(detail: &RunDetail, explained: &HashSet<JobId>) -> Vec<JobView> {
    let idle = !detail.jobs.iter().any(|job| matches!(job.status, JobStatus::Offered | JobStatus::Running));
    let queued = |job: &&JobView| job.status == JobStatus::Queued && !explained.contains(&job.id);
    // While something runs, the others most likely wait for it.
    if idle { detail.jobs.iter().filter(queued).cloned().collect() } else { Vec::new() }
}

fn line(value: &Line<'_>) {
    if let Ok(text) = serde_json::to_string(value) {
        println!("{text}");
    }
}

/// The exit code that says how a run ended.
pub(super) fn code(detail: &RunDetail) -> u8 {
    conclusion_code(detail.run.conclusion)
}

/// The exit code that says how something ended; without a conclusion it did not end well.
pub(super) const fn conclusion_code(conclusion: Option<Conclusion>) -> u8 {
    match conclusion {
        Some(Conclusion::Success | Conclusion::Skipped) => 0,
        _ => exit::FAILED,
    }
}
