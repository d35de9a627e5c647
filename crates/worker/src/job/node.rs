//! JavaScript actions.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use startline_workflow::action::NodeAction;

use super::Job;
use super::action::Loaded;
use super::files::Files;
use super::launch::{JobContainer, Launch};
use super::output::Listener;
use super::script::SearchPath;
use super::step::{Frame, Left, Ran, Stage, Step};
use crate::container::arguments::Command;
use crate::container::paths::NODE;
use crate::environment::{Environment, lookup};
use crate::shell::which;

/// The oldest Node.js that runs actions; older ones have no support any more (actions/runner `NodeUtil.cs`).
const OLDEST: u32 = 20;

/// How long Node.js may take to say its version.
const PATIENCE: Duration = Duration::from_secs(60);

const REMEDY: &str = "install Node.js 20 or newer where the runner finds `node` on its PATH, or name the program with --node (STARTLINE_NODE)";

/// What runs JavaScript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    program: PathBuf,
    major: u32,
    /// As it says.
    version: String,
}

impl Job {
    /// Runs what the action has for the frame's stage.
    pub(super) async fn node_action(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        loaded: &Loaded,
        action: &NodeAction,
        inputs: &[(String, String)],
    ) -> Result<Left, String> {
        if action.post.is_some() && frame.stage != Stage::Post {
            self.register_post(frame, step);
        }
        let script = match frame.stage {
            Stage::Pre => action.pre.as_deref(),
            Stage::Main => Some(action.main.as_str()),
            Stage::Post => action.post.as_deref(),
        };
        let nothing = Left { ran: Ran::Success, outputs: Vec::new() };
        let Some(script) = script else { return Ok(nothing) };
        let script = loaded.folder.join(script);
        if !script.is_file() {
            return Err(format!(
                "`{}` of `uses: {}` does not exist: the action's repository must hold it, built, at this ref",
                script.display(),
                step.uses.shown()
            ));
        }
        let inside = self.inside()?;
        let node = match &inside {
            Some(container) => self.node_inside(container, &step.uses.shown()).await?,
            None => self.node(&step.uses.shown()).await?,
        };
        if node.major < action.version {
            let place = if inside.is_some() { "the container" } else { "this machine" };
            self.console.write(&format!(
                "The action was made for Node.js {}; version {} of {place} runs it.",
                action.version, node.version
            ));
        }
        let folder = &self.directories.file_commands;
        let files =
            Files::create(folder).map_err(|error| format!("cannot create files in `{}`: {error}", folder.display()))?;
        let mut github = self.github(frame, Some(step));
        loaded.show_in(&mut github);
        files.show_in(&mut github);
        let used = frame.use_of(step);
        let own = self.actions.own_environment(environment, &used, inputs);
        let paths = inside.as_deref().map(|container| &container.paths);
        let search_path = inside.as_deref().map_or(SearchPath::Host, |inside| SearchPath::Image(&inside.search_path));
        let mut variables = self.process_environment(&own, &github, search_path);
        self.add_services(&mut variables);
        let script = script.to_string_lossy();
        let script = paths.map_or_else(|| script.to_string(), |paths| paths.to_container(&script));
        let directory = self.directories.workspace.clone();
        let launch = Launch { program: node.program, arguments: vec![script], directory, variables };
        let child = self.launch(launch, inside.as_deref())?;
        let mut listener = Listener::new(frame.record, environment).within(paths);
        let (ran, exit) = self.attend(frame, step, environment, child, &mut listener).await;
        if let Some(exit) = exit {
            // Actions say themselves what went wrong.
            self.console.debug(&exit);
        }
        let (left, state) = self.take_over(frame.record, ran, listener, &files);
        self.actions.keep_state(used, state);
        Ok(left)
    }

    /// The program that runs JavaScript on the host.
    pub(super) async fn node_program(&mut self) -> Result<PathBuf, String> {
        Ok(self.node("it").await?.program)
    }

    /// The host's Node.js, to be mounted in the job's container: whether it runs there is seen when an action needs it.
    pub(super) fn host_node(&self) -> Option<PathBuf> {
        let path = lookup(&self.host.environment, "PATH").unwrap_or_default();
        let program = self.host.node.clone().or_else(|| which("node", path))?;
        std::fs::canonicalize(program).ok()
    }

    /// What runs JavaScript in the job's container: the host's, if the container has the libraries that it needs, else the
    /// container's own.
    async fn node_inside(&mut self, container: &JobContainer, shown: &str) -> Result<Node, String> {
        if let Some(node) = &self.actions.node_inside {
            return Ok(node.clone());
        }
        let mut why = Vec::new();
        for program in container.has_node.then_some(NODE).into_iter().chain(["node"]) {
            let said = container.engine.ask(&Command::new(&["exec", &container.id, program, "--version"])).await;
            match said.and_then(|said| {
                version(PathBuf::from(program), &said).map_err(|(Unfit::Old(error) | Unfit::Odd(error))| error)
            }) {
                Ok(node) => {
                    self.console.debug(&format!("Node.js {} at {program} in the container", node.version));
                    return Ok(self.actions.node_inside.insert(node).clone());
                }
                Err(error) => why.push(error),
            }
        }
        Err(format!(
            "`uses: {shown}` is a JavaScript action, and nothing in the job's container of `{}` runs it: use an image that              has Node.js {OLDEST} or newer, or one with the libraries that the runner's Node.js needs ({})",
            container.image,
            why.join("; ")
        ))
    }

    /// What runs JavaScript here; looked for once in a job.
    async fn node(&mut self, shown: &str) -> Result<Node, String> {
        if let Some(node) = &self.actions.node {
            return Ok(node.clone());
        }
        let path = lookup(&self.host.environment, "PATH").unwrap_or_default();
        let found = find(self.host.node.as_deref(), path).await;
        let node = found.map_err(|error| format!("`uses: {shown}` is a JavaScript action, and {error}: {REMEDY}"))?;
        self.console.debug(&format!("Node.js {} at {}", node.version, node.program.display()));
        self.actions.node = Some(node.clone());
        Ok(node)
    }
}

/// The program that was named, else the one on the search path, with its version.
async fn find(named: Option<&Path>, path: &OsStr) -> Result<Node, String> {
    let program = match named {
        Some(named) => named.to_owned(),
        None => which("node", path).ok_or("there is no Node.js on this machine")?,
    };
    let failed = |why: &str| format!("`{}` does not say which version of Node.js it is ({why})", program.display());
    let mut command = tokio::process::Command::new(&program);
    command.arg("--version").env_remove("NODE_OPTIONS").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.map_err(|_| failed("no answer"))?;
    let output = output.map_err(|error| failed(&error.to_string()))?;
    version(program.clone(), &String::from_utf8_lossy(&output.stdout)).map_err(|error| match error {
        Unfit::Old(error) => error,
        Unfit::Odd(said) => failed(&said),
    })
}

/// Node.js by what it says of itself.
fn version(program: PathBuf, said: &str) -> Result<Node, Unfit> {
    let version = said.trim().to_owned();
    let major = version.strip_prefix('v').and_then(|text| text.split('.').next()).and_then(|text| text.parse().ok());
    match major {
        Some(major) if major >= OLDEST => Ok(Node { program, major, version }),
        Some(_) => Err(Unfit::Old(format!("Node.js {version} at `{}` is too old for it", program.display()))),
        None => Err(Unfit::Odd(format!("it says `{}`", version.escape_debug()))),
    }
}

/// Why a program does not do as Node.js.
enum Unfit {
    Old(String),
    Odd(String),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn node(script: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    #[tokio::test]
    async fn node_is_the_program_that_was_named_or_the_one_on_the_path() {
        let (named, other) = (node("echo v24.1.0"), node("echo v20.9.1"));
        let path = other.path().as_os_str();
        let found = find(None, path).await.unwrap();
        assert_eq!((found.major, found.version.as_str()), (20, "v20.9.1"));
        assert_eq!(find(Some(&named.path().join("node")), path).await.unwrap().major, 24);
    }

    #[tokio::test]
    async fn a_node_that_is_missing_too_old_or_none_is_named() {
        let (old, odd) = (node("echo v18.20.1"), node("echo hello"));
        let none = tempfile::tempdir().unwrap();
        for (directory, expected) in
            [(&old, "Node.js v18.20.1 at"), (&odd, "it says `hello`"), (&none, "there is no Node.js on this machine")]
        {
            let said = find(None, directory.path().as_os_str()).await.unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
        let said = find(Some(Path::new("/absent/node")), OsStr::new("")).await.unwrap_err();
        assert!(said.contains("`/absent/node` does not say"), "{said}");
    }
}
