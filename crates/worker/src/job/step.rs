//! One step: environment, condition, run, result.
//!
//! An action may run up to three times for one step: before all steps of the job, in its place, and after all of them
//! ([`Stage`]). The frame says which of these it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use startline_protocol::job_message::{ActionStep, StepReference};
use startline_protocol::state::Conclusion;
use startline_workflow::expression::{Object, Value};
use startline_workflow::model::{CompiledStep, Reference};
use startline_workflow::template::{Kind, Template};
use tokio::time::Instant;

use super::Job;
use super::action::{Loaded, Remote};
use crate::contexts::{self, Status, View};
use crate::environment::Environment;
use crate::stop::Stop;

/// A step of a job or of a composite action.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Key in the `steps` context, and `github.action`.
    pub(super) context_name: String,
    /// Its place among its siblings, from 0.
    pub(super) index: usize,
    pub(super) uses: Uses,
    pub(super) inputs: Template,
    condition: String,
    environment: Option<Template>,
    continue_on_error: Option<Template>,
    timeout: Option<Template>,
    name: Option<Template>,
}

/// What a step runs.
#[derive(Clone, Debug)]
pub(super) enum Uses {
    Script,
    /// An action below the workspace.
    Local(String),
    /// An action of another repository.
    Remote(Remote),
    /// An image.
    Docker(String),
}

impl Uses {
    /// As it is written behind `uses`.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Script => String::new(),
            Self::Local(path) => path.clone(),
            Self::Remote(remote) => remote.to_string(),
            Self::Docker(image) => format!("docker://{image}"),
        }
    }
}

/// When an action runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Pre,
    Main,
    Post,
}

/// Where steps run: the job, or one use of a composite action.
pub(super) struct Frame {
    /// The step on the board that all of it belongs to.
    pub(super) record: usize,
    pub(super) stage: Stage,
    /// The places of the steps around these, from the job's own on.
    path: Vec<usize>,
    /// What the steps before left.
    results: Vec<StepResult>,
    /// `env` of the steps around it.
    pub(super) overrides: Environment,
    /// Set inside a composite action.
    pub(super) action: Option<Action>,
    /// When the step on the board has run for too long.
    pub(super) deadline: Option<Instant>,
}

/// One use of a composite action.
pub(super) struct Action {
    pub(super) inputs: Value,
    pub(super) loaded: Arc<Loaded>,
    pub(super) status: Conclusion,
    /// How many actions are around it.
    pub(super) depth: usize,
}

struct StepResult {
    context_name: String,
    outputs: Vec<(String, String)>,
    outcome: Conclusion,
    conclusion: Conclusion,
}

/// How the run of a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    Success,
    Failure,
    Cancelled,
    TimedOut,
}

/// What a step leaves.
pub(super) struct Left {
    pub(super) ran: Ran,
    pub(super) outputs: Vec<(String, String)>,
}

impl Left {
    pub(super) const fn failed() -> Self {
        Self { ran: Ran::Failure, outputs: Vec::new() }
    }
}

impl Frame {
    pub(super) fn of_job() -> Self {
        Self {
            record: 0,
            stage: Stage::Main,
            path: Vec::new(),
            results: Vec::new(),
            overrides: Environment::default(),
            action: None,
            deadline: None,
        }
    }

    /// The steps inside `step`, which uses an action.
    pub(super) fn of_action(outer: &Self, step: &Step, overrides: Environment, action: Action) -> Self {
        Self {
            record: outer.record,
            stage: outer.stage,
            path: outer.use_of(step),
            results: Vec::new(),
            overrides,
            action: Some(action),
            deadline: outer.deadline,
        }
    }

    /// What tells this use of an action from all others: the places of the steps that lead to it.
    pub(super) fn use_of(&self, step: &Step) -> Vec<usize> {
        self.path.iter().copied().chain([step.index]).collect()
    }

    pub(super) fn depth(&self) -> usize {
        self.action.as_ref().map_or(0, |action| action.depth)
    }

    fn push(&mut self, step: &Step, outputs: Vec<(String, String)>, outcome: Conclusion, conclusion: Conclusion) {
        self.results.push(StepResult { context_name: step.context_name.clone(), outputs, outcome, conclusion });
    }

    /// The `steps` context; generated names are not shown there.
    fn steps(&self) -> Value {
        Value::object(self.results.iter().filter(|result| !result.context_name.starts_with("__")).map(|result| {
            let outputs = result.outputs.iter().map(|(name, value)| (name.as_str(), Value::string(value.as_str())));
            let entry = Value::object([
                ("outputs", Value::object(outputs)),
                ("outcome", Value::string(result.outcome.as_str())),
                ("conclusion", Value::string(result.conclusion.as_str())),
            ]);
            (result.context_name.as_str(), entry)
        }))
    }
}

impl Step {
    pub(super) fn from_message(index: usize, step: &ActionStep) -> Self {
        let uses = match &step.reference {
            StepReference::Script => Uses::Script,
            StepReference::Repository { repository_type, path, .. } if repository_type.eq_ignore_ascii_case("self") => {
                Uses::Local(path.clone().unwrap_or_default())
            }
            StepReference::Repository { name, git_ref, path, .. } => Uses::Remote(Remote {
                name: name.clone().unwrap_or_default(),
                git_ref: git_ref.clone().unwrap_or_default(),
                path: path.clone().unwrap_or_default(),
            }),
            StepReference::ContainerRegistry { image } => Uses::Docker(image.clone()),
        };
        let context_name = if step.context_name.is_empty() { &step.name } else { &step.context_name };
        Self {
            context_name: context_name.clone(),
            index,
            uses,
            inputs: contexts::lower(&step.inputs),
            condition: step.condition.clone(),
            environment: step.environment.as_ref().map(contexts::lower),
            continue_on_error: step.continue_on_error.as_ref().map(contexts::lower),
            timeout: step.timeout_in_minutes.as_ref().map(contexts::lower),
            name: step.display_name_token.as_ref().map(contexts::lower),
        }
    }

    /// Stands for something that the worker itself runs, whatever has become of the job.
    pub(super) fn of_worker() -> Self {
        Self {
            context_name: String::new(),
            index: 0,
            uses: Uses::Script,
            inputs: Template::new(Kind::Null),
            condition: "always()".to_owned(),
            environment: None,
            continue_on_error: None,
            timeout: None,
            name: None,
        }
    }

    pub(super) fn from_manifest(index: usize, step: &CompiledStep) -> Self {
        Self {
            context_name: step.context_name.clone(),
            index,
            uses: match &step.reference {
                Reference::Script => Uses::Script,
                Reference::Local { path } => Uses::Local(path.clone()),
                Reference::Repository { name, git_ref, path } => Uses::Remote(Remote {
                    name: name.clone(),
                    git_ref: git_ref.clone(),
                    path: path.clone().unwrap_or_default(),
                }),
                Reference::Docker { image } => Uses::Docker(image.clone()),
            },
            inputs: step.inputs.clone(),
            condition: step.condition.clone(),
            environment: step.env.clone(),
            continue_on_error: step.continue_on_error.clone(),
            timeout: None,
            name: step.name.clone(),
        }
    }

    /// The name before anything can be evaluated: expressions are shown as they are written.
    pub(super) fn first_name(&self) -> String {
        let written = |template: &Template| match &template.kind {
            Kind::String(text) => text.clone(),
            Kind::Expression(text) => format!("${{{{ {text} }}}}"),
            _ => String::new(),
        };
        self.title(&mut |template| Some(written(template))).unwrap_or_else(|| "Run".to_owned())
    }

    /// The name made of evaluated texts (actions/runner `Runner.Worker/ActionRunner.cs`): the step's own, or `Run`
    /// with the first line of what it runs.
    pub(super) fn title(&self, text: &mut dyn FnMut(&Template) -> Option<String>) -> Option<String> {
        let (prefix, title) = match (&self.name, &self.uses) {
            (Some(name), _) => ("", text(name)?),
            (None, Uses::Script) => ("Run ", text(self.inputs.get("script")?)?),
            (None, Uses::Docker(image)) => ("Run ", image.clone()),
            (None, uses) => ("Run ", uses.shown()),
        };
        let title = title.trim_start().lines().next().unwrap_or_default().to_owned();
        (!title.is_empty()).then(|| format!("{prefix}{title}"))
    }
}

impl Job {
    /// What an expression in `frame` sees. `step` is the one being run.
    pub(super) fn view(&self, frame: &Frame, environment: &Environment, step: Option<&Step>) -> View {
        let mut view = self.contexts.view(self.status);
        view.set("env", environment.to_value());
        view.set("steps", frame.steps());
        view.set("github", self.seen(self.github(frame, step)).into());
        if self.containers.job.is_some() {
            view.set("runner", self.seen(self.contexts.runner.clone()).into());
        }
        view.set_status(self.step_status(frame));
        view.set_workspace(&self.directories.workspace);
        if let Some(action) = &frame.action {
            view.set("inputs", action.inputs.clone());
            // What an action may see is told by its inputs (actions/runner `Runner.Worker/action_yaml.json`).
            ["secrets", "needs", "vars"].into_iter().for_each(|name| view.remove(name));
        }
        view
    }

    pub(super) fn github(&self, frame: &Frame, step: Option<&Step>) -> Object {
        let mut github = self.contexts.github.clone();
        if let Some(step) = step {
            github.insert("action", Value::string(step.context_name.as_str()));
        }
        if let Some(action) = &frame.action {
            action.loaded.show_in(&mut github);
            github.insert("action_status", Value::string(self.step_status(frame).steps.as_str()));
        }
        github
    }

    fn step_status(&self, frame: &Frame) -> Status {
        let cancelled = self.status == Conclusion::Cancelled;
        // Before and after the job's steps only the job's status counts (actions/runner `SuccessFunction.cs`).
        let steps = match &frame.action {
            _ if frame.stage != Stage::Main => self.status,
            Some(_) if cancelled => Conclusion::Cancelled,
            Some(action) => action.status,
            None => self.status,
        };
        Status { steps, cancelled }
    }

    /// Whether the condition of a running step still holds now that the job is being cancelled.
    pub(super) fn still_wanted(&self, frame: &Frame, environment: &Environment, step: &Step) -> bool {
        self.view(frame, environment, Some(step)).holds(&self.condition(frame, step)).unwrap_or(false)
    }

    fn condition(&self, frame: &Frame, step: &Step) -> String {
        match frame.stage {
            Stage::Main => step.condition.clone(),
            stage => self.stage_condition(frame, step, stage),
        }
    }

    /// Runs a step of the job itself, which has a record on the board.
    pub(super) async fn run_top(&mut self, frame: &mut Frame, step: &Step) {
        let record = frame.record;
        self.begin(record);
        let start = self.console.offset();
        let (outcome, conclusion) = self.run_step(frame, step).await;
        if conclusion == Conclusion::Failure {
            self.fail();
        }
        if outcome == Conclusion::Skipped && self.console.offset() == start {
            self.board.end(record, Timestamp::now(), start, outcome, conclusion);
        } else {
            self.end(record, outcome, conclusion);
        }
    }

    /// Runs a step and leaves its result in the frame: before and after `continue-on-error`.
    pub(super) fn run_step<'a>(
        &'a mut self,
        frame: &'a mut Frame,
        step: &'a Step,
    ) -> Pin<Box<dyn Future<Output = (Conclusion, Conclusion)> + Send + 'a>> {
        // Boxed, because a step may be an action that has steps.
        Box::pin(async move {
            self.observe_stop(frame.record);
            let (outputs, outcome, conclusion) = self.step(frame, step).await;
            if frame.stage == Stage::Main {
                frame.push(step, outputs, outcome, conclusion);
            }
            (outcome, conclusion)
        })
    }

    async fn step(&mut self, frame: &mut Frame, step: &Step) -> (Vec<(String, String)>, Conclusion, Conclusion) {
        let record = frame.record;
        let both = |conclusion| (Vec::new(), conclusion, conclusion);
        let (environment, own) = match self.step_environment(frame, step) {
            Ok(environment) => environment,
            Err(error) => {
                self.error(record, &error);
                return both(Conclusion::Failure);
            }
        };
        if self.stop.borrow().is_final() {
            return both(Conclusion::Skipped);
        }
        let view = self.view(frame, &environment, Some(step));
        if frame.action.is_none()
            && frame.stage == Stage::Main
            && let Some(name) = step.title(&mut |template| view.text("name", template).ok())
        {
            let name = self.console.masker.mask(&name).into_owned();
            self.board.rename(record, name);
        }
        match view.holds(&self.condition(frame, step)) {
            Ok(true) => {}
            Ok(false) => return both(Conclusion::Skipped),
            Err(error) => {
                self.error(record, &error);
                return both(Conclusion::Failure);
            }
        }
        let limit = self.step_limit(frame, step, &view);
        drop(view);
        let outer = frame.deadline;
        if let Some((_, limit)) = limit {
            let deadline = Instant::now() + limit;
            frame.deadline = Some(outer.map_or(deadline, |outer| outer.min(deadline)));
        }
        let left = match &step.uses {
            Uses::Script => self.script(frame, step, &environment).await,
            Uses::Local(_) | Uses::Remote(_) | Uses::Docker(_) => self.action(frame, step, &environment, own).await,
        };
        frame.deadline = outer;
        let outcome = match left.ran {
            Ran::Success => Conclusion::Success,
            Ran::Failure => Conclusion::Failure,
            Ran::Cancelled => {
                if frame.action.is_none() {
                    self.error(record, "The operation was canceled.");
                }
                Conclusion::Cancelled
            }
            Ran::TimedOut => {
                if let Some((minutes, _)) = limit {
                    let name = self.board.name(record).to_owned();
                    self.error(record, &format!("The action '{name}' has timed out after {minutes} minutes."));
                }
                Conclusion::Failure
            }
        };
        let conclusion = self.conclude(frame, step, &environment, outcome);
        (left.outputs, outcome, conclusion)
    }

    /// The `env` context of a step, and the part of it that steps inside inherit.
    fn step_environment(&self, frame: &Frame, step: &Step) -> Result<(Environment, Environment), String> {
        let mut environment = self.environment.clone();
        environment.extend(frame.overrides.iter());
        let mut overrides = frame.overrides.clone();
        if let Some(template) = &step.environment {
            let entries = self.view(frame, &environment, Some(step)).mapping("env", template)?;
            for (name, value) in entries {
                environment.set(name.as_str(), value.as_str());
                overrides.set(name, value);
            }
        }
        Ok((environment, overrides))
    }

    /// `timeout-minutes`, as it is shown and as it counts.
    fn step_limit(&mut self, frame: &Frame, step: &Step, view: &View) -> Option<(String, Duration)> {
        let value = match view.evaluate("timeout-minutes", step.timeout.as_ref()?) {
            Ok(value) => value,
            Err(error) => {
                let message = format!("An error occurred when attempting to determine the step timeout. {error}");
                self.error(frame.record, &message);
                return None;
            }
        };
        let minutes = value.to_number();
        let limit = Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|limit| !limit.is_zero())?;
        Some((value.to_text().into_owned(), limit))
    }

    /// Applies `continue-on-error`.
    fn conclude(&mut self, frame: &Frame, step: &Step, environment: &Environment, outcome: Conclusion) -> Conclusion {
        let (Conclusion::Failure, Some(template)) = (outcome, &step.continue_on_error) else { return outcome };
        let value = self.view(frame, environment, Some(step)).evaluate("continue-on-error", template);
        match value {
            Ok(value) if value.truthy() && value.to_text() != "false" => Conclusion::Success,
            Ok(_) => outcome,
            Err(error) => {
                self.error(frame.record, &error);
                outcome
            }
        }
    }

    /// How hard the job is to stop right now.
    pub(super) fn stop_now(&self) -> Stop {
        self.stop.borrow().clone()
    }
}
