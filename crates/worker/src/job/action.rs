//! A step that uses an action: which one it is, its manifest, its inputs, and what runs of it at which stage.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use startline_workflow::action::{self, Manifest, Runs};
use startline_workflow::expression::{Object, Value};
use tokio::time::Instant;

use super::Job;
use super::checkout::Served;
use super::step::{Frame, Left, Ran, Stage, Step, Uses};
use crate::environment::Environment;

/// How many actions may use each other, as GitHub limits it.
pub(super) const MAX_DEPTH: usize = 10;

/// The largest manifest that is read.
const LARGEST: u64 = 1024 * 1024;

/// An action of another repository, as a step names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remote {
    /// `owner/name`.
    pub(super) name: String,
    pub(super) git_ref: String,
    /// The directory inside; empty for the repository itself.
    pub(super) path: String,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.path.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}@{}", self.name, self.path, self.git_ref)
    }
}

impl Remote {
    /// Where its repository lies below the directory of actions; none for a name that would lie elsewhere.
    pub(super) fn repository(&self, actions: &Path) -> Option<PathBuf> {
        let (owner, name) = self.name.split_once('/')?;
        let plain = |text: &str| !text.is_empty() && !text.contains('/') && below(Path::new(text)).is_some();
        (plain(owner) && plain(name)).then_some(())?;
        Some(actions.join(owner).join(name).join(below(Path::new(&self.git_ref))?))
    }

    /// Where the action itself lies.
    pub(super) fn folder(&self, actions: &Path) -> Option<PathBuf> {
        let root = self.repository(actions)?;
        if self.path.is_empty() { Some(root) } else { Some(root.join(below(Path::new(&self.path))?)) }
    }
}

/// A path that stays below where it begins and names something there.
pub(super) fn below(path: &Path) -> Option<&Path> {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then_some(path)
}

/// An action whose manifest was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) manifest: Manifest,
    pub(super) folder: PathBuf,
    /// Where it comes from; none for one of the workspace.
    pub(super) remote: Option<Remote>,
}

impl Loaded {
    /// What the `github` context of the action's own steps says of it.
    pub(super) fn show_in(&self, github: &mut Object) {
        github.insert("action_path", Value::string(self.folder.to_string_lossy().into_owned()));
        let (name, git_ref) = self.remote.as_ref().map_or(("", ""), |remote| (&*remote.name, &*remote.git_ref));
        github.insert("action_repository", Value::string(name));
        github.insert("action_ref", Value::string(git_ref));
    }

    /// The actions that its steps use.
    pub(super) fn nested(&self) -> Vec<Step> {
        match &self.manifest.runs {
            Runs::Composite { steps } => {
                steps.iter().enumerate().map(|(index, step)| Step::from_manifest(index, step)).collect()
            }
            Runs::Node(_) | Runs::Docker(_) => Vec::new(),
        }
    }
}

impl Job {
    pub(super) async fn action(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        overrides: Environment,
    ) -> Left {
        let nothing = |ran| Left { ran, outputs: Vec::new() };
        match self.prepared_action(frame, step, environment, overrides).await {
            Ok(left) => left,
            Err(_) if self.stop.borrow().is_cancelled() && !self.still_wanted(frame, environment, step) => {
                self.observe_stop(frame.record);
                nothing(Ran::Cancelled)
            }
            Err(_) if frame.deadline.is_some_and(|deadline| deadline <= Instant::now()) => nothing(Ran::TimedOut),
            Err(error) => {
                self.error(frame.record, &error);
                Left::failed()
            }
        }
    }

    async fn prepared_action(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        overrides: Environment,
    ) -> Result<Left, String> {
        if let Uses::Docker(image) = &step.uses {
            return self.image_step(frame, step, image, environment).await;
        }
        let shown = step.uses.shown();
        if frame.depth() >= MAX_DEPTH {
            return Err(format!(
                "`uses: {shown}` is nested too deeply: at most {MAX_DEPTH} actions may use each other"
            ));
        }
        let given = self.view(frame, environment, Some(step)).mapping("with", &step.inputs)?;
        if let Uses::Remote(remote) = &step.uses
            && remote.is_checkout()
        {
            match self.who_checks_out(frame, step, remote, &given).await? {
                Served::Action => {}
                Served::Files(from) => {
                    self.announce_action(frame, &shown, &given, environment);
                    return self.check_out_files(&from, &given).await;
                }
                Served::Git => {
                    self.announce_action(frame, &shown, &given, environment);
                    return self.check_out_by_git(frame, step, environment, &given).await;
                }
            }
        }
        let inputs = async {
            let loaded = self.load(frame, step).await?;
            let inputs = self.action_inputs(frame, step, environment, &loaded.manifest, &given)?;
            Ok::<_, String>((loaded, inputs))
        };
        let (loaded, inputs) = match inputs.await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.announce_action(frame, &shown, &given, environment);
                return Err(error);
            }
        };
        match &loaded.manifest.runs {
            Runs::Node(node) => {
                self.announce_action(frame, &shown, &inputs, environment);
                self.node_action(frame, step, environment, &loaded, node, &inputs).await
            }
            Runs::Docker(docker) => {
                self.announce_action(frame, &shown, &inputs, environment);
                self.docker_action(frame, step, environment, Some(&loaded), docker, &inputs).await
            }
            Runs::Composite { .. } => {
                if frame.stage == Stage::Main {
                    self.announce_action(frame, &shown, &inputs, environment);
                }
                Ok(self.composite(frame, step, environment, overrides, loaded, &inputs).await)
            }
        }
    }

    /// The action of a step; one of the workspace is read when its step runs, with what it uses.
    async fn load(&mut self, frame: &Frame, step: &Step) -> Result<Arc<Loaded>, String> {
        let path = match &step.uses {
            Uses::Remote(remote) => {
                return self
                    .actions
                    .loaded(remote)
                    .ok_or_else(|| format!("`uses: {remote}` was not prepared in \"Set up job\""));
            }
            Uses::Local(path) => path,
            Uses::Script | Uses::Docker(_) => return Err("the step uses no action".to_owned()),
        };
        let id = frame.use_of(step);
        if let Some(loaded) = self.actions.locals.get(&id) {
            // Steps may have changed or removed its files since.
            return Ok(Arc::clone(loaded));
        }
        let folder = self.action_folder(path)?;
        let manifest = self.manifest(path, &folder)?;
        let has_pre = match &manifest.runs {
            Runs::Node(node) => node.pre.is_some(),
            Runs::Docker(docker) => docker.pre.is_some(),
            Runs::Composite { .. } => false,
        };
        if has_pre {
            let message = format!("`pre` execution is not supported for local action from '{path}'");
            self.warning(frame.record, &message);
        }
        let loaded = Arc::new(Loaded { manifest, folder, remote: None });
        let nested = loaded.nested();
        self.prepare_actions(frame.record, self.needed(&nested), frame.depth() + 1).await?;
        for wanted in self.wanted_images(&nested) {
            self.prepare_image(frame, &wanted).await?;
        }
        self.actions.locals.insert(id, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The beginning of the log of an action.
    pub(super) fn announce_action(
        &mut self,
        frame: &Frame,
        shown: &str,
        inputs: &[(String, String)],
        environment: &Environment,
    ) {
        if frame.stage == Stage::Post {
            self.console.write("Post job cleanup.");
            return;
        }
        self.console.write(&format!("##[group]Run {shown}"));
        let mut title = Some("with:");
        for (name, value) in inputs.iter().filter(|(_, value)| !value.is_empty()) {
            if let Some(title) = title.take() {
                self.console.write(title);
            }
            self.console.write(&format!("  {name}: {value}"));
        }
        self.announce_environment(environment);
        self.console.write("##[endgroup]");
    }

    /// The directory of a local action, which must be below the workspace.
    fn action_folder(&self, path: &str) -> Result<PathBuf, String> {
        let mut folder = self.directories.workspace.clone();
        for part in Path::new(path).components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => folder.push(name),
                Component::ParentDir if folder != self.directories.workspace => {
                    folder.pop();
                }
                _ => return Err(format!("`uses: {path}` leaves the workspace; name a directory below it")),
            }
        }
        Ok(folder)
    }

    /// Reads the manifest of the action in `folder`, and writes what is found in it to the log.
    pub(super) fn manifest(&mut self, uses: &str, folder: &Path) -> Result<Manifest, String> {
        let file = action::FILE_NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file());
        let Some(file) = file else {
            let remedy = if folder.starts_with(&self.directories.actions) {
                "the repository has no such action at this ref"
            } else {
                "the repository's files must be in the workspace before a local action can be used"
            };
            return Err(format!(
                "Can't find 'action.yml' or 'action.yaml' under '{}': check the path in `uses: {uses}`; {remedy}",
                folder.display()
            ));
        };
        let shown = [&self.directories.workspace, &self.directories.actions]
            .into_iter()
            .find_map(|root| file.strip_prefix(root).ok())
            .unwrap_or(&file);
        let shown = shown.to_string_lossy().into_owned();
        let size = std::fs::metadata(&file).map_or(0, |data| data.len());
        if size > LARGEST {
            return Err(format!("`{shown}` is larger than {} KiB", LARGEST / 1024));
        }
        let source = std::fs::read_to_string(&file).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
        let (manifest, findings) = action::parse(&source);
        for finding in &findings {
            self.console.write(&finding.render(&source, &shown, false));
        }
        manifest.ok_or_else(|| {
            let errors: Vec<&str> =
                findings.iter().filter(|finding| finding.is_error()).map(|finding| finding.message.as_str()).collect();
            let mistakes = if errors.len() == 1 { "a mistake" } else { "mistakes" };
            format!("`{shown}` has {mistakes}: {}", errors.join("; "))
        })
    }

    /// What is given, then defaults; all are texts.
    fn action_inputs(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        manifest: &Manifest,
        given: &[(String, String)],
    ) -> Result<Vec<(String, String)>, String> {
        // What runs in a container takes these in any case (actions/runner `ActionRunner.cs`).
        let always: &[&str] = if matches!(manifest.runs, Runs::Docker(_)) { &["entryPoint", "args"] } else { &[] };
        let is_always = |name: &str| always.iter().any(|known| known.eq_ignore_ascii_case(name));
        let known = |name: &str| manifest.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name));
        // Once for a step is enough.
        if frame.stage == Stage::Main {
            let unexpected: Vec<&str> = given
                .iter()
                .map(|(name, _)| name.as_str())
                .filter(|name| known(name).is_none() && !is_always(name))
                .collect();
            if !unexpected.is_empty() {
                let own = manifest.inputs.iter().map(|input| input.name.as_str());
                let valid: Vec<&str> = always.iter().copied().chain(own).collect();
                let message = format!(
                    "Unexpected input(s) '{}', valid inputs are ['{}']",
                    unexpected.join("', '"),
                    valid.join("', '")
                );
                self.warning(frame.record, &message);
            }
            for (name, _) in given {
                if let Some(deprecation) = known(name).and_then(|input| input.deprecation.as_deref()) {
                    let message = format!("Input '{name}' has been deprecated with message: {deprecation}");
                    self.warning(frame.record, &message);
                }
            }
        }
        let mut inputs = given.to_vec();
        let mut view = self.view(frame, environment, Some(step));
        ["secrets", "needs", "vars", "inputs", "steps"].into_iter().for_each(|name| view.remove(name));
        for input in &manifest.inputs {
            if !inputs.iter().any(|(name, _)| name.eq_ignore_ascii_case(&input.name)) {
                let default = input
                    .default
                    .as_ref()
                    .map(|default| view.text(&format!("the default of input `{}`", input.name), default));
                inputs.push((input.name.clone(), default.transpose()?.unwrap_or_default()));
            }
        }
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_lies_in_its_repository_or_nowhere() {
        let folder = |path: &str| {
            let remote = Remote { name: "acme/tools".into(), git_ref: "v1".into(), path: path.into() };
            remote.folder(Path::new("/a")).map(|path| path.to_string_lossy().into_owned())
        };
        assert_eq!(folder("lint/js"), Some("/a/acme/tools/v1/lint/js".to_owned()));
        assert_eq!((folder("../other"), folder("/etc")), (None, None));
    }

    #[test]
    fn a_repository_lies_below_the_directory_of_actions_or_nowhere() {
        let place = |name: &str, git_ref: &str| {
            let remote = Remote { name: name.into(), git_ref: git_ref.into(), path: String::new() };
            remote.repository(Path::new("/a")).map(|path| path.to_string_lossy().into_owned())
        };
        assert_eq!(place("acme/tools", "releases/v1"), Some("/a/acme/tools/releases/v1".to_owned()));
        for (name, git_ref) in [
            ("acme/tools", "../../x"),
            ("acme/tools", "/etc"),
            ("acme/tools", ""),
            ("../tools", "v1"),
            ("acme/..", "v1"),
            ("acme", "v1"),
            ("acme/a/b", "v1"),
        ] {
            assert_eq!(place(name, git_ref), None, "{name}@{git_ref}");
        }
    }
}
