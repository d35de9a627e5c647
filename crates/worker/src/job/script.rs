//! A `run` step: script file, shell, environment, process.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use startline_workflow::expression::{Object, Value};
use tokio::time::sleep_until;
use uuid::Uuid;

use super::Job;
use super::files::Files;
use super::launch::Launch;
use super::output::Listener;
use super::step::{Frame, Left, Ran, Step};
use crate::child::{Child, Event};
use crate::contexts::exported;
use crate::environment::{Environment, lookup};
use crate::shell::Shell;
use crate::stop::Stop;

/// The variable that marks every process of a job.
pub(super) const TRACKING_VARIABLE: &str = "RUNNER_TRACKING_ID";

/// What follows what steps have added to the search path.
#[derive(Clone, Copy)]
pub(super) enum SearchPath<'a> {
    /// That of the runner.
    Host,
    /// That of the job's container.
    Image(&'a str),
    /// An action's container has one of its own, to which nothing is added.
    Own,
}

/// What a `run` step says after evaluation.
struct Script {
    contents: String,
    shell: Option<String>,
    directory: PathBuf,
}

impl Job {
    pub(super) async fn script(&mut self, frame: &Frame, step: &Step, environment: &Environment) -> Left {
        match self.prepared_script(frame, step, environment).await {
            Ok(left) => left,
            Err(error) => {
                self.error(frame.record, &error);
                Left::failed()
            }
        }
    }

    async fn prepared_script(&mut self, frame: &Frame, step: &Step, environment: &Environment) -> Result<Left, String> {
        let folder = &self.directories.file_commands;
        let files =
            Files::create(folder).map_err(|error| format!("cannot create files in `{}`: {error}", folder.display()))?;
        let mut github = self.github(frame, Some(step));
        files.show_in(&mut github);
        let script = self.evaluate_script(frame, step, environment, &github)?;
        let inside = self.inside();
        let container = inside.as_ref().ok().and_then(Option::as_deref);
        let search_path = container.map_or(SearchPath::Host, |container| SearchPath::Image(&container.search_path));
        let mut variables = self.process_environment(environment, &github, search_path);
        self.add_identity(&mut variables);
        let shell = if container.is_some() {
            Shell::within_container(script.shell.as_deref())
        } else {
            let all = variables.over(&self.host.environment);
            Shell::resolve(script.shell.as_deref(), lookup(&all, "PATH").unwrap_or_default())
        };
        self.announce(&script, shell.as_ref().ok(), environment);
        let inside = inside?;
        let shell = shell.map_err(|error| error.to_string())?;
        let paths = inside.as_deref().map(|container| &container.paths);
        // The engine says what is wrong with one that only the container has.
        let elsewhere =
            paths.is_some_and(|paths| !paths.is_shared(&paths.to_container(&script.directory.to_string_lossy())));
        let directory = match paths {
            Some(paths) => PathBuf::from(paths.to_host(&script.directory.to_string_lossy())),
            None => script.directory,
        };
        if !elsewhere && !directory.is_dir() {
            let why = if directory.exists() { "is not a directory" } else { "does not exist" };
            return Err(format!(
                "working directory `{}` {why}: create it in an earlier step or correct `working-directory`",
                directory.display()
            ));
        }
        let file = self.directories.temp.join(format!("{}{}", Uuid::new_v4(), shell.extension));
        std::fs::create_dir_all(&self.directories.temp)
            .and_then(|()| std::fs::write(&file, shell.script(&script.contents)))
            .map_err(|error| format!("cannot write `{}`: {error}", file.display()))?;
        let file = file.to_string_lossy();
        let file = paths.map_or_else(|| file.to_string(), |paths| paths.to_container(&file));
        let launch = Launch { arguments: shell.arguments_for(&file), program: shell.program, directory, variables };
        let child = self.launch(launch, inside.as_deref())?;
        let mut listener = Listener::new(frame.record, environment).within(paths);
        let (ran, exit) = self.attend(frame, step, environment, child, &mut listener).await;
        if let Some(exit) = exit {
            self.error(frame.record, &exit);
        }
        Ok(self.take_over(frame.record, ran, listener, &files).0)
    }

    fn evaluate_script(
        &self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        github: &Object,
    ) -> Result<Script, String> {
        let mut view = self.view(frame, environment, Some(step));
        view.set("github", self.seen(github.clone()).into());
        let inputs = view.mapping("run", &step.inputs)?;
        let input =
            |key: &str| inputs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str());
        // The job's defaults do not reach into actions. An empty directory hides the default, an empty shell does not
        // (actions/runner `Runner.Worker/Handlers/ScriptHandler.cs`).
        let defaults = frame.action.is_none().then_some(&self.defaults);
        let shell = input("shell").filter(|shell| !shell.is_empty()).or_else(|| defaults?.shell.as_deref());
        if shell.is_none() && frame.action.is_some() {
            return Err("a `run` step of an action has no `shell`: add `shell: bash`".to_owned());
        }
        let directory = input("workingDirectory").or_else(|| defaults?.working_directory.as_deref());
        Ok(Script {
            contents: input("script").unwrap_or_default().to_owned(),
            shell: shell.map(str::to_owned),
            directory: self.directories.workspace.join(directory.unwrap_or_default()),
        })
    }

    /// The beginning of the step's log: what runs, in which shell, with which variables.
    fn announce(&mut self, script: &Script, shell: Option<&Shell>, environment: &Environment) {
        let title = script.contents.trim_start().lines().next().unwrap_or_default();
        self.console.write(&format!("##[group]Run {title}"));
        for line in script.contents.replace("\r\n", "\n").trim_end_matches('\n').split('\n') {
            self.console.write(&format!("\u{1b}[36;1m{line}\u{1b}[0m"));
        }
        match (shell, &script.shell) {
            (Some(shell), _) => self.console.write(&format!("shell: {} {}", shell.program.display(), shell.arguments)),
            (None, Some(name)) => self.console.write(&format!("shell: {name}")),
            (None, None) => {}
        }
        self.announce_environment(environment);
        self.console.write("##[endgroup]");
    }

    pub(super) fn announce_environment(&mut self, environment: &Environment) {
        if !environment.is_empty() {
            self.console.write("env:");
            for (name, value) in environment.iter() {
                self.console.write(&format!("  {name}: {value}"));
            }
        }
    }

    /// What a process of a step gets: inherited variables, then `env`, the search path, and what describes the job;
    /// later ones win (actions/runner `Runner.Worker/Handlers/ScriptHandler.cs`).
    pub(super) fn process_environment(
        &self,
        environment: &Environment,
        github: &Object,
        search_path: SearchPath<'_>,
    ) -> Environment {
        let mut all = environment.clone();
        let on_host = matches!(search_path, SearchPath::Host);
        if !self.search_path.is_empty() && !matches!(search_path, SearchPath::Own) {
            let inherited = environment.get("PATH").or_else(|| match search_path {
                SearchPath::Host => self.host.variable("PATH"),
                SearchPath::Image(path) => Some(path),
                SearchPath::Own => None,
            });
            let parts: Vec<&str> =
                self.search_path.iter().map(String::as_str).chain(inherited.filter(|path| !path.is_empty())).collect();
            all.set("PATH", parts.join(":"));
        }
        for (name, value) in exported(github) {
            all.set(name, value);
        }
        for (name, value) in self.contexts.runner.iter() {
            all.set(format!("RUNNER_{}", name.to_ascii_uppercase()), value.to_text());
        }
        if all.get("CI").is_none() && !(on_host && self.host.variable("CI").is_some()) {
            all.set("CI", "true");
        }
        all.set("GITHUB_ACTIONS", "true");
        if all.get(TRACKING_VARIABLE).is_none() {
            all.set(TRACKING_VARIABLE, self.tracking_id.as_str());
        }
        all
    }

    /// Listens to a process until it has ended, and ends it when it is to stop. Says of an exit code that is not 0.
    pub(super) async fn attend(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        mut child: Child,
        listener: &mut Listener,
    ) -> (Ran, Option<String>) {
        let mut stop = self.stop.clone();
        // The state before the process began counts too.
        stop.mark_changed();
        let mut ended_for: Option<Ran> = None;
        let status = loop {
            let deadline = frame.deadline.filter(|_| ended_for.is_none());
            let event = tokio::select! {
                biased;
                Ok(()) = stop.changed() => {
                    if self.must_end(frame, step, environment, &mut child) {
                        ended_for.get_or_insert(Ran::Cancelled);
                    }
                    continue;
                }
                () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                    ended_for = Some(Ran::TimedOut);
                    child.end();
                    continue;
                }
                event = child.event() => event,
            };
            match event {
                Event::Output(stream, bytes) => {
                    self.listen(listener, stream, &bytes);
                    if child.is_quiet() {
                        self.console.flush();
                    }
                }
                Event::Ended(status) => break status,
            }
        };
        self.listen_to_rest(listener);
        if let Some(ran) = ended_for {
            child.sweep().await;
            return (ran, None);
        }
        match status.map(exit_code) {
            Some(0) => (Ran::Success, None),
            Some(code) => (Ran::Failure, Some(format!("Process completed with exit code {code}."))),
            None => (Ran::Failure, Some("The exit code of the process could not be learnt.".to_owned())),
        }
    }

    /// Acts on a stop; true when the process is being ended for it.
    fn must_end(&mut self, frame: &Frame, step: &Step, environment: &Environment, child: &mut Child) -> bool {
        match self.stop_now() {
            Stop::Not => false,
            Stop::Cancel { .. } => {
                self.observe_stop(frame.record);
                self.console.flush();
                let end = !self.still_wanted(frame, environment, step);
                if end {
                    child.end();
                }
                end
            }
            Stop::Now | Stop::Abandon => {
                self.observe_stop(frame.record);
                child.kill();
                true
            }
        }
    }
}

/// As shells tell it: 128 and the number of the signal for a process that a signal ended.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

pub(super) fn explain_spawn(program: &Path, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::ArgumentListTooLong => ": the environment is too large; set fewer or shorter variables",
        std::io::ErrorKind::PermissionDenied => ": the runner's user may not execute it",
        _ => "",
    };
    format!("cannot start `{}`: {error}{hint}", program.display())
}

/// A value for expressions from plain text pairs.
pub(super) fn texts(entries: &[(String, String)]) -> Value {
    Value::object(entries.iter().map(|(name, value)| (name.as_str(), Value::string(value.as_str()))))
}
