//! Scripts that the runner's administrator has run before and after each job (actions/runner `JobHookProvider.cs`).

use std::path::{Path, PathBuf};

use startline_protocol::state::Conclusion;

use super::Job;
use super::files::Files;
use super::launch::Launch;
use super::output::Listener;
use super::script::SearchPath;
use super::step::{Frame, Ran, Step};
use crate::environment::{Environment, lookup};
use crate::shell::Shell;

/// Scripts around containers, which are another thing.
pub(super) const CONTAINER_HOOKS: &str = "ACTIONS_RUNNER_CONTAINER_HOOKS";

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Started,
    Completed,
}

impl Hook {
    /// The name of its record (actions/runner `Constants.cs`).
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Started => "Set up runner",
            Self::Completed => "Complete runner",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Started => "ACTIONS_RUNNER_HOOK_JOB_STARTED",
            Self::Completed => "ACTIONS_RUNNER_HOOK_JOB_COMPLETED",
        }
    }
}

impl Job {
    /// The script of a hook, if the runner's environment names one.
    pub(super) fn hook(&self, hook: Hook) -> Option<PathBuf> {
        self.host.variable(hook.variable()).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// Runs a hook on the host, also for a job in a container.
    pub(super) async fn run_hook(&mut self, frame: &Frame, hook: Hook) -> Result<(), String> {
        let Some(path) = self.hook(hook) else { return Ok(()) };
        let kind = match hook {
            Hook::Started => "started",
            Hook::Completed => "completed",
        };
        self.console.write(&format!("A job {kind} hook has been configured by the self-hosted runner administrator"));
        let named = format!("`{}`, which {} of the runner's environment names,", path.display(), hook.variable());
        if !path.is_file() {
            return Err(format!("{named} does not exist: correct the variable, and start the runner again"));
        }
        let folder = &self.directories.file_commands;
        let files =
            Files::create(folder).map_err(|error| format!("cannot create files in `{}`: {error}", folder.display()))?;
        let mut github = self.contexts.github.clone();
        files.show_in(&mut github);
        let environment = Environment::default();
        let variables = self.process_environment(&environment, &github, SearchPath::Host);
        let (program, arguments) =
            self.hook_command(&path, &variables).await.map_err(|why| format!("{named} {why}"))?;
        self.console.write(&format!("##[group]Run '{}'", path.display()));
        self.console.write(&format!("shell: {} {}", program.display(), arguments.join(" ")));
        self.console.write("##[endgroup]");
        let launch = Launch { program, arguments, directory: self.directories.workspace.clone(), variables };
        let child = self.launch(launch, None)?;
        let mut listener = Listener::new(frame.record, &environment);
        let step = Step::of_worker();
        let (ran, exit) = self.attend(frame, &step, &environment, child, &mut listener).await;
        let said = self.hear(frame.record, &files);
        match (ran, exit) {
            (Ran::Success, _) if listener.failed || said.result == Conclusion::Failure => {
                Err(format!("{named} failed"))
            }
            (Ran::Success, _) => Ok(()),
            (_, exit) => Err(exit.unwrap_or_else(|| format!("{named} was stopped"))),
        }
    }

    /// What runs a script, by the end of its name (actions/runner `HostContext.cs`, `GetDefaultShellForScript`).
    async fn hook_command(&mut self, path: &Path, variables: &Environment) -> Result<(PathBuf, Vec<String>), String> {
        let script = path.to_string_lossy();
        let all = variables.over(&self.host.environment);
        let search = lookup(&all, "PATH").unwrap_or_default();
        let shell = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sh") => Shell::resolve(None, search),
            Some("ps1") => Shell::resolve(Some("pwsh"), search).or_else(|_| Shell::resolve(Some("powershell"), search)),
            Some("js") => {
                let program = self.node_program().await.map_err(|error| format!("cannot be run: {error}"))?;
                return Ok((program, vec![script.into_owned()]));
            }
            _ => return Err("is no script: its name must end with .sh, .ps1 or .js".to_owned()),
        };
        let shell = shell.map_err(|error| format!("cannot be run: {error}"))?;
        let arguments = shell.arguments_for(&script);
        Ok((shell.program, arguments))
    }
}
