//! "Set up job": directories, masks, contexts, `env` and `defaults`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use startline_protocol::job_message::JobMessage;
use startline_protocol::state::Conclusion;
use startline_workflow::expression::{Object, Value};
use startline_workflow::template::Template;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};
use uuid::Uuid;

use super::ahead::Ahead;
use super::containers::Containers;
use super::stages::Actions;
use super::step::Step;
use super::{Defaults, Host, Job, Parts, services};
use crate::annotations::Annotations;
use crate::console::Console;
use crate::contexts::{self, Contexts};
use crate::environment::Environment;
use crate::mask::Masker;
use crate::matcher::Matchers;
use crate::stop::Stop;
use crate::workspace::{self, Directories};

const RECORD: usize = 0;

/// How often a long copy says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// Variables whose values are switches and not secrets, even when they come as secrets (actions/runner
/// `Runner.Worker/Worker.cs`).
const SWITCHES: [&str; 2] = ["ACTIONS_STEP_DEBUG", "ACTIONS_RUNNER_DEBUG"];

impl Job {
    /// A job ready for its steps, and what is to run before them; none when it cannot run them, and says in
    /// its log why.
    pub(super) async fn set_up(parts: Parts, steps: &[Step]) -> (Self, Option<Vec<Ahead>>) {
        let Parts { message, host, secrets, mut console, board, stop, tasks } = parts;
        let mut all_secrets = Object::new();
        for (name, value) in &secrets {
            all_secrets.insert(name.as_str(), Value::string(value.as_str()));
        }
        for (name, variable) in message.variables.iter().filter(|(_, variable)| variable.is_secret) {
            let system = ["system.accesstoken", "system.github.token"].contains(&name.to_ascii_lowercase().as_str());
            if !system && !all_secrets.contains_key(name) {
                all_secrets.insert(name.as_str(), Value::string(variable.value.as_str()));
            }
        }
        if let Some((_, token)) = services::endpoint(&message).filter(|_| !all_secrets.contains_key("GITHUB_TOKEN")) {
            all_secrets.insert("GITHUB_TOKEN", Value::string(token));
        }
        let bad_patterns = mask(&mut console, &message, &all_secrets);
        let contexts = Contexts::new(&message, all_secrets.clone());
        console.debug = is_switched_on("ACTIONS_STEP_DEBUG", &message, &all_secrets, &contexts);
        let mut job = Self {
            directories: Directories::below(&host.work_dir),
            message,
            host,
            console,
            board,
            annotations: Annotations::default(),
            matchers: Matchers::default(),
            contexts,
            environment: Environment::default(),
            search_path: Vec::new(),
            actions: Actions::default(),
            containers: Containers::default(),
            defaults: Defaults::default(),
            status: Conclusion::Success,
            stop,
            stop_told: false,
            tracking_id: format!("github_{}", Uuid::new_v4()),
            tasks,
        };
        job.begin(RECORD);
        for (pattern, error) in bad_patterns {
            let message =
                format!("The mask pattern `{pattern}` is no regular expression and masks its own text only: {error}");
            job.warning(RECORD, &message);
        }
        let outcome = match job.prepare(&all_secrets, steps).await {
            Ok(()) => Conclusion::Success,
            Err(_) if job.stop.borrow().is_cancelled() => {
                job.observe_stop(RECORD);
                Conclusion::Cancelled
            }
            Err(error) => {
                job.error(RECORD, &error);
                job.fail();
                Conclusion::Failure
            }
        };
        let ahead = (outcome == Conclusion::Success).then(|| job.announce_ahead(steps));
        job.end(RECORD, outcome, outcome);
        (job, ahead)
    }

    async fn prepare(&mut self, secrets: &Object, steps: &[Step]) -> Result<(), String> {
        let host = self.host.clone();
        self.console.write(&format!("Runner name: '{}'", host.runner_name));
        self.console.write(&format!("Runner version: {}", env!("CARGO_PKG_VERSION")));
        if let Some(source) = self.message.github("secret_source").map(str::to_owned) {
            self.console.write(&format!("Secret source: {source}"));
        }
        self.console.write("Prepare workflow directory");
        let repository = self.message.github("repository").unwrap_or_default().to_owned();
        self.directories = Directories::prepare(&host.work_dir, &repository).map_err(|error| error.to_string())?;
        if let Some(from) = host.workspace_from.as_ref().filter(|_| host.in_place) {
            let found = std::fs::canonicalize(from);
            self.directories.workspace =
                found.map_err(|error| format!("cannot find the workspace `{}`: {error}", from.display()))?;
            self.console.write(&format!("The workspace is {} itself", from.display()));
        } else if let Some(from) = &host.workspace_from {
            let files = self.copy_files(from, &self.directories.workspace.clone()).await?;
            self.console.write(&format!("Copied {files} files from {}", from.display()));
        }
        self.fill_contexts(secrets);
        self.write_event()?;
        self.evaluate_environment()?;
        self.evaluate_containers()?;
        self.evaluate_defaults()?;
        self.prepare_actions(RECORD, self.needed(steps), 0).await?;
        self.console.write(&format!("Complete job name: {}", self.message.job_display_name));
        Ok(())
    }

    /// Makes `to` a copy of `from`, unless the job is cancelled before; says how many files it has, and now and then how far
    /// it is.
    pub(super) async fn copy_files(&mut self, from: &Path, to: &Path) -> Result<usize, String> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let except = [self.host.work_dir.clone(), self.host.job_dir.clone()];
        let (interrupt, copied) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (flag, counter) = (Arc::clone(&interrupt), Arc::clone(&copied));
        let mut copy = self.tasks.spawn_blocking(move || workspace::copy(&from, &to, &except, &flag, &counter));
        let mut stop: watch::Receiver<Stop> = self.stop.clone();
        let mut stopped = std::pin::pin!(async {
            if stop.wait_for(Stop::is_cancelled).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let mut progress = interval_at(Instant::now() + PROGRESS, PROGRESS);
        let result = loop {
            tokio::select! {
                result = &mut copy => break result,
                () = &mut stopped, if !interrupt.load(Ordering::Relaxed) => interrupt.store(true, Ordering::Relaxed),
                _ = progress.tick() => {
                    self.console.write(&format!("Copied {} files so far", copied.load(Ordering::Relaxed)));
                    self.console.flush();
                }
            }
        };
        result.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn fill_contexts(&mut self, secrets: &Object) {
        let Self { directories, host, message, contexts, .. } = self;
        let path = |path: &Path| Value::string(path.to_string_lossy().into_owned());
        let token = message
            .variable("system.github.token")
            .or_else(|| message.variable("github_token"))
            .or_else(|| secrets.get("GITHUB_TOKEN").and_then(Value::as_str));
        let github = &mut contexts.github;
        github.insert("workspace", path(&directories.workspace));
        github.insert("event_path", path(&directories.event));
        if let Some(job) = message.variable("system.github.job") {
            github.insert("job", Value::string(job));
        }
        if let Some(token) = token.filter(|_| !github.contains_key("token")) {
            github.insert("token", Value::string(token));
        }
        let runner = &mut contexts.runner;
        runner.insert("os", Value::string(host.runner_os.as_str()));
        runner.insert("arch", Value::string(host.runner_arch.as_str()));
        runner.insert("name", Value::string(host.runner_name.as_str()));
        runner.insert("environment", Value::string(host.runner_environment.as_str()));
        runner.insert("tool_cache", path(&host.tool_cache));
        runner.insert("temp", path(&directories.temp));
        runner.insert("workspace", path(&directories.pipeline));
        if self.console.debug {
            runner.insert("debug", Value::string("1"));
        }
    }

    fn write_event(&self) -> Result<(), String> {
        let event = self.contexts.github.get("event").cloned().unwrap_or_else(|| Object::new().into());
        let path = &self.directories.event;
        let text = serde_json::to_vec_pretty(&event.to_json()).map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    }

    /// Each mapping sees what those before it defined.
    fn evaluate_environment(&mut self) -> Result<(), String> {
        for token in &self.message.environment_variables {
            let mut view = self.contexts.view(self.status);
            view.set("env", self.environment.to_value());
            let entries = view.mapping("env", &contexts::lower(token))?;
            self.environment.extend(entries.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        Ok(())
    }

    /// A later `run` replaces an earlier one as a whole (actions/runner `Runner.Worker/JobExtension.cs`).
    fn evaluate_defaults(&mut self) -> Result<(), String> {
        let mut view = self.contexts.view(self.status);
        view.set("env", self.environment.to_value());
        let templates: Vec<Template> = self.message.defaults.iter().map(contexts::lower).collect();
        for run in templates.iter().filter_map(|template| template.get("run")) {
            let entries = view.mapping("defaults.run", run)?;
            let entry = |key: &str| {
                let found = entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            self.defaults = Defaults { shell: entry("shell"), working_directory: entry("working-directory") };
        }
        Ok(())
    }
}

/// Whether a switch is on, as a variable, a secret or a configuration variable.
fn is_switched_on(name: &str, message: &JobMessage, secrets: &Object, contexts: &Contexts) -> bool {
    let configured = contexts.fixed("vars").and_then(|vars| vars.get(name)).and_then(Value::as_str);
    let secret = secrets.get(name).and_then(Value::as_str);
    [message.variable(name), secret, configured].into_iter().flatten().any(|value| value.eq_ignore_ascii_case("true"))
}

/// Masks secrets and secret variables: all that steps' names, which are shown before anything is evaluated, may hold.
pub(crate) fn mask_secrets<'a>(
    masker: &mut Masker,
    message: &'a JobMessage,
    secrets: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let variables = message.variables.iter().filter(|(_, variable)| variable.is_secret);
    for (name, value) in variables.map(|(name, variable)| (name.as_str(), variable.value.as_str())).chain(secrets) {
        if !SWITCHES.iter().any(|switch| switch.eq_ignore_ascii_case(name)) {
            masker.add(value);
        }
    }
}

/// Masks all that the message calls secret. Answers the patterns that are none, with the reason.
fn mask(console: &mut Console, message: &JobMessage, secrets: &Object) -> Vec<(String, String)> {
    let masker = &mut console.masker;
    mask_secrets(masker, message, secrets.iter().filter_map(|(name, value)| Some((name, value.as_str()?))));
    let tokens = [
        message.variable("system.github.token"),
        message.variable("github_token"),
        secrets.get("GITHUB_TOKEN").and_then(Value::as_str),
    ];
    for token in tokens.into_iter().flatten().filter(|token| !token.is_empty()) {
        masker.add(token);
        masker.add(&STANDARD.encode(format!("x-access-token:{token}")));
    }
    for endpoint in &message.resources.endpoints {
        endpoint.authorization.parameters.values().for_each(|value| masker.add(value));
    }
    let mut bad = Vec::new();
    for hint in message.mask.iter().filter(|hint| hint.kind.eq_ignore_ascii_case("regex")) {
        if let Err(error) = masker.add_pattern(&hint.value) {
            bad.push((hint.value.clone(), error.to_string()));
        }
    }
    bad
}

impl Host {
    /// A variable that processes inherit.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        crate::environment::lookup(&self.environment, name).and_then(std::ffi::OsStr::to_str)
    }
}
