//! The program that runs containers: found, asked whether it answers, and asked for the little that needs no log.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::arguments::Command;
use crate::child::Spec;
use crate::shell::which;

/// Looked for in this order where none is named.
const PROGRAMS: [&str; 2] = ["docker", "podman"];

/// How long an engine may take to say its version, or to do anything else that is not logged.
const PATIENCE: Duration = Duration::from_secs(60);

/// Variables by which the processes of a job and of a runner are found and killed. What engines leave running for all of
/// their containers (the name server of podman's networks) must not be found by them.
const MARKS: [&str; 2] = ["RUNNER_TRACKING_ID", "STARTLINE_TRACKING_ID"];

const REMEDY: &str = "name the program with --container-cli (STARTLINE_CONTAINER_CLI)";

/// Why there is no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("neither `docker` nor `podman` is on the runner's PATH: install one, or {REMEDY}")]
    Nowhere,
    #[error("`{0}`, which --container-cli (STARTLINE_CONTAINER_CLI) names, is no program: correct it")]
    NotThere(String),
    #[error("{0}: start the engine and let the runner's user use it, or {REMEDY} of another one")]
    Silent(String),
}

/// How an engine differs from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
}

/// An engine that answers.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) program: PathBuf,
    pub(crate) kind: Kind,
    /// `name=value`: marks all that this runner makes in this work directory.
    pub(crate) label: String,
    variables: Vec<(OsString, OsString)>,
}

/// A short name for a path.
fn short(path: &Path) -> String {
    let digest = digest(&SHA256, path.as_os_str().as_encoded_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The label of all that is made for jobs in a work directory.
pub(crate) fn label(work: &Path) -> String {
    format!("startline.instance={}", short(work))
}

impl Engine {
    /// The engine that was named, else the first one on the search path that answers.
    pub(crate) async fn connect(
        named: Option<&Path>,
        inherited: &[(OsString, OsString)],
        work: &Path,
    ) -> Result<Self, EngineError> {
        let path = crate::environment::lookup(inherited, "PATH").unwrap_or_default();
        let marked = |name: &OsStr| MARKS.iter().any(|mark| name == *mark);
        let variables: Vec<_> = inherited.iter().filter(|(name, _)| !marked(name)).cloned().collect();
        let mut silent = Vec::new();
        for program in candidates(named, path)? {
            let mut engine = Self { program, kind: Kind::Docker, label: label(work), variables: variables.clone() };
            match engine.ask(&Command::new(&["version"])).await {
                Ok(said) => {
                    if said.to_ascii_lowercase().contains("podman") {
                        engine.kind = Kind::Podman;
                    }
                    return Ok(engine);
                }
                Err(error) => silent.push(error),
            }
        }
        Err(EngineError::Silent(silent.join("; ")))
    }

    /// A process of the engine's program.
    pub(crate) fn spec(&self, command: Command, directory: PathBuf) -> Spec {
        let mut environment = self.variables.clone();
        environment.retain(|(name, _)| !command.variables.iter().any(|(own, _)| own == name));
        environment.extend(command.variables);
        Spec {
            program: self.program.clone(),
            arguments: command.arguments,
            directory,
            environment,
            input: command.input,
        }
    }

    /// What the program says to `command`, on standard output; an error says what it has on standard error.
    pub(crate) async fn ask(&self, command: &Command) -> Result<String, String> {
        let shown = || format!("`{} {}`", self.program.display(), command.shown());
        let mut process = tokio::process::Command::new(&self.program);
        process.args(&command.arguments).env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        process.envs(command.variables.iter().map(|(name, value)| (name, value)));
        process.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, process.output())
            .await
            .map_err(|_| format!("{} does not answer within {} s", shown(), PATIENCE.as_secs()))?
            .map_err(|error| format!("{} cannot be started: {error}", shown()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim();
        let code = output.status.code().map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        Err(format!("{} fails with {code}: {said}", shown()))
    }

    /// The name of the image that is built from a file.
    pub(crate) fn tag(&self, file: &Path) -> String {
        let (_, instance) = self.label.split_once('=').unwrap_or_default();
        format!("localhost/startline-{instance}:{}", short(file))
    }

    /// Removes containers, which end at once.
    pub(crate) fn remove(&self, containers: &[&str]) -> Command {
        let mut all = vec!["rm", "--force", "--volumes"];
        if self.kind == Kind::Podman {
            // Docker never waits; podman asks first, and waits for ten seconds.
            all.extend(["--time", "0"]);
        }
        all.extend(containers);
        Command::new(&all)
    }

    /// The containers that bear the label.
    pub(crate) fn all(&self) -> Command {
        Command::new(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &format!("label={}", self.label)])
    }

    /// Removes the networks that bear the label and that no container is in.
    pub(crate) fn prune(&self) -> Command {
        Command::new(&["network", "prune", "--force", "--filter", &format!("label={}", self.label)])
    }

    /// Removes all that bears the label.
    pub(crate) async fn sweep(&self) -> Result<usize, String> {
        let said = self.ask(&self.all()).await?;
        let ids: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if !ids.is_empty() {
            self.ask(&self.remove(&ids)).await?;
        }
        self.ask(&self.prune()).await?;
        Ok(ids.len())
    }
}

/// The programs that may be it.
fn candidates(named: Option<&Path>, path: &OsStr) -> Result<Vec<PathBuf>, EngineError> {
    if let Some(named) = named {
        let text = named.to_string_lossy();
        return which(&text, path).map(|program| vec![program]).ok_or_else(|| EngineError::NotThere(text.into_owned()));
    }
    let found: Vec<PathBuf> = PROGRAMS.iter().filter_map(|name| which(name, path)).collect();
    if found.is_empty() { Err(EngineError::Nowhere) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory with programs: names and what they do.
    fn programs(all: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, script) in all {
            let file = directory.path().join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        directory
    }

    async fn connect(directory: &tempfile::TempDir, named: Option<&str>) -> Result<Engine, EngineError> {
        let path = directory.path().as_os_str().to_owned();
        Engine::connect(named.map(Path::new), &[("PATH".into(), path)], Path::new("/w")).await
    }

    #[tokio::test]
    async fn the_engine_is_the_one_that_was_named_or_the_first_that_answers() {
        let both = programs(&[("docker", "echo Docker"), ("podman", "echo Podman Engine")]);
        assert_eq!(connect(&both, None).await.unwrap().kind, Kind::Docker);
        let podman = connect(&both, Some("podman")).await.unwrap();
        assert_eq!((podman.kind, podman.program), (Kind::Podman, both.path().join("podman")));
        let down =
            programs(&[("docker", "echo 'Cannot connect to the daemon' >&2; exit 1"), ("podman", "echo podman")]);
        assert_eq!(connect(&down, None).await.unwrap().kind, Kind::Podman);
    }

    #[tokio::test]
    async fn what_is_missing_or_silent_is_named_with_the_remedy() {
        let said = connect(&programs(&[]), None).await.unwrap_err().to_string();
        assert!(said.contains("neither `docker` nor `podman`") && said.contains("STARTLINE_CONTAINER_CLI"), "{said}");
        let said = connect(&programs(&[]), Some("/none/docker")).await.unwrap_err().to_string();
        assert!(said.contains("`/none/docker`"), "{said}");
        let down = programs(&[("docker", "echo 'Cannot connect to the daemon' >&2; exit 1")]);
        let said = connect(&down, None).await.unwrap_err().to_string();
        assert!(said.contains("docker version` fails with exit code 1: Cannot connect to the daemon: start"), "{said}");
    }

    #[tokio::test]
    async fn what_engines_leave_running_does_not_bear_the_marks_of_a_job() {
        let directory =
            programs(&[("docker", "echo \"${RUNNER_TRACKING_ID-none} ${STARTLINE_TRACKING_ID-none} $KEPT\"")]);
        let path = directory.path().as_os_str().to_owned();
        let inherited = [
            ("PATH", path.to_str().unwrap()),
            ("STARTLINE_TRACKING_ID", "x"),
            ("RUNNER_TRACKING_ID", "y"),
            ("KEPT", "z"),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let engine = Engine::connect(None, &inherited, Path::new("/w")).await.unwrap();
        assert_eq!(engine.ask(&Command::new(&["x"])).await.unwrap(), "none none z\n");
        assert!(!engine.spec(Command::default(), "/".into()).environment.iter().any(|(name, _)| name == MARKS[0]));
    }
}
