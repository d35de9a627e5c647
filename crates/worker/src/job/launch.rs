//! Where the processes of a step run: on the host, or in the job's container.

use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::Signal;
use startline_workflow::expression::{Object, Value};
use uuid::Uuid;

use super::Job;
use super::script::explain_spawn;
use crate::child::{Child, Elsewhere, Spec};
use crate::container::arguments;
use crate::container::engine::Engine;
use crate::container::paths::PathMap;
use crate::environment::Environment;

/// The container that a job's steps run in.
#[derive(Debug)]
pub(super) struct JobContainer {
    pub(super) id: String,
    pub(super) image: String,
    pub(super) engine: Engine,
    pub(super) paths: PathMap,
    /// `PATH` of the image.
    pub(super) search_path: String,
    /// Whether the host's Node.js is mounted there.
    pub(super) has_node: bool,
}

/// A process to start.
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// On the host, also for a process in a container.
    pub(super) directory: PathBuf,
    pub(super) variables: Environment,
}

/// The name of a signal as `kill` wants it.
pub(super) fn signal_name(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

impl Job {
    /// The job's container, where the job has one.
    pub(super) fn inside(&self) -> Result<Option<Arc<JobContainer>>, String> {
        match (&self.containers.wanted, &self.containers.job) {
            (Some(wanted), None) => Err(format!(
                "the job's container of `{}` does not run, and the step would run in it; see \"Initialize containers\"",
                wanted.image
            )),
            (_, container) => Ok(container.clone()),
        }
    }

    /// Starts a process on the host, or in the container.
    pub(super) fn launch(&self, launch: Launch, inside: Option<&JobContainer>) -> Result<Child, String> {
        let Launch { program, arguments, directory, variables } = launch;
        let Some(container) = inside else {
            let spec = Spec {
                program,
                arguments,
                directory,
                environment: variables.over(&self.host.environment),
                input: None,
            };
            return Child::spawn(&spec, &self.tasks).map_err(|error| explain_spawn(&spec.program, &error));
        };
        let mark = Uuid::new_v4().to_string();
        let mut seen = Environment::default();
        for (name, value) in variables.iter() {
            seen.set(name, container.paths.to_container(value));
        }
        seen.set(arguments::MARK, mark.as_str());
        let directory = container.paths.to_container(&directory.to_string_lossy());
        let mut line = vec![program.to_string_lossy().into_owned()];
        line.extend(arguments);
        let command = arguments::execute(&container.id, &directory, &seen, &line);
        let spec = container.engine.spec(command, self.directories.work.clone());
        let mut child = Child::spawn(&spec, &self.tasks).map_err(|error| explain_spawn(&spec.program, &error))?;
        let (engine, id, folder) = (container.engine.clone(), container.id.clone(), self.directories.work.clone());
        child.reach(Elsewhere {
            signal: Box::new(move |signal| {
                engine.spec(arguments::signal(&id, signal_name(signal), &mark), folder.clone())
            }),
            tasks: self.tasks.clone(),
        });
        Ok(child)
    }

    /// A context as expressions of a job in a container see it: paths are those of the container
    /// (actions/runner `ExecutionContext.cs`, `UpdatePathsInExpressionValues`).
    pub(super) fn seen(&self, context: Object) -> Object {
        let Some(container) = &self.containers.job else { return context };
        let mut seen = context.clone();
        for (name, value) in context.iter() {
            if let Some(text) = value.as_str() {
                seen.insert(name, Value::string(container.paths.to_container(text)));
            }
        }
        seen
    }
}
