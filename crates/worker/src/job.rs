//! One job from its first line to its conclusion.
//!
//! A job is owned by one task: steps run one after the other, and everything that they change (environment, outputs,
//! masks, annotations) is changed here and nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use jiff::Timestamp;
use startline_client::{LaunchClient, Transport};
use startline_protocol::job_message::JobMessage;
use startline_protocol::runner_api::CompleteRequest;
use startline_protocol::state::Conclusion;
use startline_protocol::step::AnnotationLevel;
use startline_protocol::token::JobToken;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::annotations::{Annotations, Place};
use crate::archives::Archives;
use crate::board::Board;
use crate::console::Console;
use crate::contexts::Contexts;
use crate::environment::Environment;
use crate::matcher::Matchers;
use crate::procfs;
use crate::stop::Stop;
use crate::workspace::Directories;

mod action;
mod ahead;
mod asking;
mod checkout;
mod command_line;
mod composite;
mod containers;
mod docker;
mod files;
mod health;
mod hooks;
mod images;
mod launch;
mod node;
mod output;
mod prepare;
mod script;
mod services;
mod setup;
mod stages;
mod step;

use containers::Containers;
pub(crate) use setup::mask_secrets;
use stages::Actions;
use step::{Frame, Stage, Step};

/// All outputs of a job together, so that the completion stays within the size that the service takes.
const MOST_OUTPUT_BYTES: usize = 768 * 1024;

/// Where the machine and the runner put a job.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) work_dir: PathBuf,
    pub(crate) job_dir: PathBuf,
    pub(crate) tool_cache: PathBuf,
    pub(crate) archives: Archives,
    /// What runs JavaScript, where it was named.
    pub(crate) node: Option<PathBuf>,
    /// What runs containers, where it was named.
    pub(crate) container_cli: Option<PathBuf>,
    /// Where actions come from.
    pub(crate) launch: Option<LaunchClient>,
    pub(crate) workspace_from: Option<PathBuf>,
    /// `workspace_from` is the workspace, and what is in it is somebody's.
    pub(crate) in_place: bool,
    pub(crate) runner_name: String,
    pub(crate) runner_os: String,
    pub(crate) runner_arch: String,
    pub(crate) runner_environment: String,
    /// What processes inherit.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// A job being executed.
pub(crate) struct Job {
    message: JobMessage,
    host: Host,
    console: Console,
    board: Board,
    annotations: Annotations,
    matchers: Matchers,
    contexts: Contexts,
    directories: Directories,
    /// `env` of the job and what steps added to it.
    environment: Environment,
    /// What steps added to the search path, last first.
    search_path: Vec<String>,
    actions: Actions,
    containers: Containers,
    defaults: Defaults,
    status: Conclusion,
    stop: watch::Receiver<Stop>,
    stop_told: bool,
    /// Marks every process of this job.
    tracking_id: String,
    tasks: TaskTracker,
}

/// `defaults.run`.
#[derive(Clone, Debug, Default)]
struct Defaults {
    shell: Option<String>,
    working_directory: Option<String>,
}

/// What a job is made of.
pub(crate) struct Parts {
    pub(crate) message: JobMessage,
    pub(crate) host: Host,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) console: Console,
    pub(crate) board: Board,
    pub(crate) stop: watch::Receiver<Stop>,
    pub(crate) tasks: TaskTracker,
}

/// The names of all steps as they are known before anything is evaluated.
pub(crate) fn step_names(message: &JobMessage) -> Vec<String> {
    let mut names = vec!["Set up job".to_owned()];
    names.extend(steps(message).iter().map(Step::first_name));
    names.push("Complete job".to_owned());
    names
}

fn steps(message: &JobMessage) -> Vec<Step> {
    message.steps.iter().enumerate().map(|(index, step)| Step::from_message(index, step)).collect()
}

/// Where a worker looks for the actions of its job.
pub(crate) fn launch(message: &JobMessage, transport: Transport, token: JobToken) -> Option<LaunchClient> {
    let (endpoint, _) = services::endpoint(message)?;
    Some(LaunchClient::new(transport, &endpoint.url, message.plan.plan_id, message.job_id, token))
}

/// Executes a job to its end. `None` when it was abandoned: then nothing is to be reported.
pub(crate) async fn run(parts: Parts) -> Option<CompleteRequest> {
    let steps = steps(&parts.message);
    let (mut job, ahead) = Job::set_up(parts, &steps).await;
    let mut frame = None;
    if let Some(ahead) = ahead {
        let frame = frame.insert(Frame::of_job());
        frame.stage = Stage::Pre;
        for (record, ahead) in (1..).zip(ahead) {
            if job.is_abandoned() {
                break;
            }
            frame.record = record;
            job.run_ahead(frame, ahead, &steps).await;
        }
        frame.stage = Stage::Main;
        for step in &steps {
            if job.is_abandoned() {
                break;
            }
            frame.record = job.record_of(step.index);
            job.run_top(frame, step).await;
        }
        job.run_posts(frame, &steps).await;
        frame.stage = Stage::Main;
    }
    let last = job.board.steps().len() - 1;
    if frame.is_none() {
        for index in 1..last {
            job.board.end(index, Timestamp::now(), 0, Conclusion::Skipped, Conclusion::Skipped);
        }
    }
    job.finish(last, frame).await
}

impl Job {
    fn is_abandoned(&self) -> bool {
        *self.stop.borrow() == Stop::Abandon
    }

    /// Takes note of a stop that was asked for, in the log of the step `record`.
    fn observe_stop(&mut self, record: usize) {
        let stop = self.stop.borrow().clone();
        if !stop.is_cancelled() {
            return;
        }
        self.status = Conclusion::Cancelled;
        if std::mem::replace(&mut self.stop_told, true) {
            return;
        }
        match stop {
            Stop::Cancel { reason, timed_out: true } => self.error(record, &reason),
            Stop::Cancel { reason, .. } => {
                self.console.write(&format!("##[warning]The job is being cancelled: {reason}"));
            }
            _ => {}
        }
    }

    /// Writes an error to the log and keeps it as an annotation.
    fn error(&mut self, record: usize, message: &str) {
        self.issue(record, AnnotationLevel::Failure, message, Place::default());
    }

    fn warning(&mut self, record: usize, message: &str) {
        self.issue(record, AnnotationLevel::Warning, message, Place::default());
    }

    fn issue(&mut self, record: usize, level: AnnotationLevel, message: &str, place: Place) {
        let marker = match level {
            AnnotationLevel::Notice => "notice",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Failure => "error",
        };
        self.console.write(&format!("##[{marker}]{message}"));
        self.annotate(record, level, message, place);
    }

    fn annotate(&mut self, record: usize, level: AnnotationLevel, message: &str, place: Place) {
        let masker = &self.console.masker;
        let place = Place {
            title: place.title.map(|title| masker.mask(&title).into_owned()),
            path: place.path.map(|path| masker.mask(&path).into_owned()),
            ..place
        };
        self.annotations.add(level, &masker.mask(message), place, Some(self.board.number(record)));
    }

    fn begin(&mut self, record: usize) {
        self.board.begin(record, Timestamp::now(), self.console.offset());
    }

    fn end(&mut self, record: usize, outcome: Conclusion, conclusion: Conclusion) {
        self.console.flush();
        self.board.end(record, Timestamp::now(), self.console.offset(), outcome, conclusion);
    }

    /// "Complete job": outputs, left-over processes, the conclusion. Without a frame the job never got to its steps.
    async fn finish(mut self, record: usize, frame: Option<Frame>) -> Option<CompleteRequest> {
        if self.is_abandoned() {
            self.abandon_containers().await;
            self.kill_processes();
            return None;
        }
        self.begin(record);
        self.observe_stop(record);
        let mut conclusion = Conclusion::Success;
        let mut outputs = BTreeMap::new();
        let mut environment_url = None;
        if let Some(mut frame) = frame {
            frame.record = record;
            match self.outputs(&frame) {
                Ok(found) => outputs = found,
                Err(error) => {
                    self.error(record, &format!("Fail to evaluate job outputs. {error}"));
                    conclusion = Conclusion::Failure;
                    self.fail();
                }
            }
            match self.environment_url(&frame) {
                Ok(found) => environment_url = found,
                Err(error) => {
                    self.error(record, &format!("Fail to evaluate environment url. {error}"));
                    conclusion = Conclusion::Failure;
                    self.fail();
                }
            }
        }
        if self.message.variable("process.clean").is_none_or(|value| !value.eq_ignore_ascii_case("false")) {
            self.console.write("Cleaning up orphan processes");
            for (id, name) in self.kill_processes() {
                self.console.write(&format!("Terminate orphan process: pid ({id}) ({name})"));
            }
        }
        // With the directory goes the note that there are containers: there are none any more.
        if let Err(error) = self.directories.clear() {
            self.console.write(&format!("##[warning]The temporary directory cannot be emptied: {error}"));
        }
        self.end(record, conclusion, conclusion);
        Some(CompleteRequest {
            conclusion: self.status,
            outputs,
            environment_url,
            steps: self.board.steps().to_vec(),
            annotations: self.annotations.into_list(),
        })
    }

    fn fail(&mut self) {
        if self.status == Conclusion::Success {
            self.status = Conclusion::Failure;
        }
    }

    fn kill_processes(&self) -> Vec<(i32, String)> {
        procfs::kill_marked(&format!("{}={}", script::TRACKING_VARIABLE, self.tracking_id))
    }

    /// Where what was deployed can be seen.
    fn environment_url(&mut self, frame: &Frame) -> Result<Option<String>, String> {
        let Some(environment) = &self.message.actions_environment else { return Ok(None) };
        let Some(token) = &environment.url else { return Ok(None) };
        let (name, template) = (environment.name.clone(), crate::contexts::lower(token));
        self.console.write("Evaluate and set environment url");
        let mut view = self.view(frame, &self.environment, None);
        view.remove("secrets");
        let url = view.text("environment.url", &template)?;
        if self.console.masker.touches(&url) {
            let message = format!("Skip setting environment url as environment '{name}' may contain secret.");
            self.warning(frame.record, &message);
            return Ok(None);
        }
        self.console.write(&format!("Evaluated environment url: {url}"));
        Ok(Some(url).filter(|url| !url.is_empty()))
    }

    fn outputs(&mut self, frame: &Frame) -> Result<BTreeMap<String, String>, String> {
        let mut outputs = BTreeMap::new();
        let Some(token) = &self.message.job_outputs else { return Ok(outputs) };
        let template = crate::contexts::lower(token);
        let entries = self.view(frame, &self.environment, None).mapping("outputs", &template)?;
        if entries.is_empty() {
            return Ok(outputs);
        }
        self.console.write("Evaluate and set job outputs");
        let mut size = 0;
        for (name, value) in entries {
            if value.is_empty() {
                self.console.debug(&format!("Skip output '{name}' since it's empty"));
            } else if self.console.masker.touches(&value) {
                self.warning(frame.record, &format!("Skip output '{name}' since it may contain secret."));
            } else if size + value.len() > MOST_OUTPUT_BYTES {
                let limit = MOST_OUTPUT_BYTES / 1024;
                let message = format!(
                    "Skip output '{name}': the outputs of a job may have {limit} KiB in all; write large data to files"
                );
                self.warning(frame.record, &message);
            } else {
                self.console.write(&format!("Set output '{name}'"));
                size += value.len();
                outputs.insert(name, value);
            }
        }
        Ok(outputs)
    }
}
