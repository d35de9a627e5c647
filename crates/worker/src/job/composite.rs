//! Local composite actions: `uses: ./path`.

use std::path::{Component, Path, PathBuf};

use startline_protocol::state::Conclusion;
use startline_workflow::action::{self, Manifest, Runs};

use super::Job;
use super::script::texts;
use super::step::{Action, Frame, Left, Ran, Step};
use crate::environment::Environment;

/// How many actions may use each other, as GitHub limits it.
const MAX_DEPTH: usize = 10;

/// The largest manifest that is read.
const LARGEST: u64 = 1024 * 1024;

/// An action that is about to run.
struct Prepared {
    manifest: Manifest,
    folder: PathBuf,
    inputs: Vec<(String, String)>,
}

impl Job {
    pub(super) async fn local_action(
        &mut self,
        frame: &Frame,
        step: &Step,
        path: &str,
        environment: &Environment,
        overrides: Environment,
    ) -> Left {
        let prepared = self.prepare_action(frame, step, path, environment);
        let Prepared { manifest, folder, inputs } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.error(frame.record, &error);
                return Left::failed();
            }
        };
        let Runs::Composite { steps } = &manifest.runs;
        let mut inner = Frame::of_action(
            frame,
            overrides,
            Action {
                inputs: texts(&inputs),
                path: folder.to_string_lossy().into_owned(),
                status: Conclusion::Success,
                depth: frame.depth() + 1,
            },
        );
        let mut ran = Ran::Success;
        for step in steps.iter().map(Step::from_manifest) {
            let (_, conclusion) = self.run_step(&mut inner, &step).await;
            if self.is_abandoned() {
                return Left { ran: Ran::Cancelled, outputs: Vec::new() };
            }
            if inner.deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now()) {
                return Left { ran: Ran::TimedOut, outputs: Vec::new() };
            }
            let failed = match conclusion {
                Conclusion::Failure => Ran::Failure,
                Conclusion::Cancelled => Ran::Cancelled,
                Conclusion::Success | Conclusion::Skipped => continue,
            };
            if ran != Ran::Cancelled {
                ran = failed;
            }
            if let Some(action) = &mut inner.action {
                action.status = if ran == Ran::Cancelled { Conclusion::Cancelled } else { Conclusion::Failure };
            }
        }
        match self.action_outputs(&inner, environment, &manifest) {
            Ok(outputs) => Left { ran, outputs },
            Err(error) => {
                self.error(frame.record, &error);
                Left::failed()
            }
        }
    }

    fn prepare_action(
        &mut self,
        frame: &Frame,
        step: &Step,
        path: &str,
        environment: &Environment,
    ) -> Result<Prepared, String> {
        if frame.depth() >= MAX_DEPTH {
            return Err(format!("`uses: {path}` is nested too deeply: at most {MAX_DEPTH} actions may use each other"));
        }
        let given = self.view(frame, environment, Some(step)).mapping("with", &step.inputs)?;
        self.console.write(&format!("##[group]Run {path}"));
        let shown: Vec<&(String, String)> = given.iter().filter(|(_, value)| !value.is_empty()).collect();
        if !shown.is_empty() {
            self.console.write("with:");
            for (name, value) in shown {
                self.console.write(&format!("  {name}: {value}"));
            }
        }
        self.announce_environment(environment);
        self.console.write("##[endgroup]");
        let folder = self.action_folder(path)?;
        let manifest = self.manifest(path, &folder)?;
        let inputs = self.action_inputs(frame, step, environment, &manifest, given)?;
        Ok(Prepared { manifest, folder, inputs })
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

    fn manifest(&mut self, path: &str, folder: &Path) -> Result<Manifest, String> {
        let file = action::FILE_NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file());
        let Some(file) = file else {
            return Err(format!(
                "Can't find 'action.yml' or 'action.yaml' under '{}': check the path in `uses: {path}`; the repository's \
                 files must be in the workspace before a local action can be used",
                folder.display()
            ));
        };
        let shown = file.strip_prefix(&self.directories.workspace).unwrap_or(&file).to_string_lossy().into_owned();
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
        given: Vec<(String, String)>,
    ) -> Result<Vec<(String, String)>, String> {
        let known = |name: &str| manifest.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name));
        let unexpected: Vec<&str> =
            given.iter().map(|(name, _)| name.as_str()).filter(|name| known(name).is_none()).collect();
        if !unexpected.is_empty() {
            let valid: Vec<&str> = manifest.inputs.iter().map(|input| input.name.as_str()).collect();
            let message = format!(
                "Unexpected input(s) '{}', valid inputs are ['{}']",
                unexpected.join("', '"),
                valid.join("', '")
            );
            self.warning(frame.record, &message);
        }
        for (name, _) in &given {
            if let Some(deprecation) = known(name).and_then(|input| input.deprecation.as_deref()) {
                let message = format!("Input '{name}' has been deprecated with message: {deprecation}");
                self.warning(frame.record, &message);
            }
        }
        let mut inputs = given;
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

    fn action_outputs(
        &self,
        inner: &Frame,
        environment: &Environment,
        manifest: &Manifest,
    ) -> Result<Vec<(String, String)>, String> {
        let view = self.view(inner, environment, None);
        let texts = manifest.outputs.iter().map(|output| {
            let text = view.text(&format!("output `{}` of the action", output.name), &output.value)?;
            Ok((output.name.clone(), text))
        });
        texts.collect()
    }
}
