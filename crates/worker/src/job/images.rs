//! Images: pulled, or built from an action's files, before what needs them runs.

use std::path::PathBuf;

use startline_workflow::action::{DockerAction, DockerImage, Runs};
use uuid::Uuid;

use super::Job;
use super::action::{Loaded, MAX_DEPTH};
use super::asking::Until;
use super::step::{Frame, Step, Uses};
use crate::container::arguments::Command;
use crate::container::engine::Engine;
use crate::container::spec::{Credentials, registry};

/// An image that a job's actions need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Registry(String),
    /// The file that it is built from.
    File(PathBuf),
}

/// An image to be made ready before the first step.
pub(super) struct Wanted {
    source: Source,
    /// The action that it is for, where it is built.
    of: String,
}

impl Wanted {
    /// The name of its record.
    pub(super) fn title(&self) -> String {
        match &self.source {
            Source::Registry(image) => format!("Pull {image}"),
            Source::File(_) => format!("Build {}", self.of),
        }
    }
}

impl Source {
    /// The image of an action; a file lies in its directory.
    pub(super) fn of(action: &DockerAction, loaded: Option<&Loaded>) -> Self {
        match &action.image {
            DockerImage::Registry(image) => Self::Registry(image.clone()),
            DockerImage::File(file) => Self::File(loaded.map_or_else(PathBuf::new, |loaded| loaded.folder.join(file))),
        }
    }
}

impl Job {
    /// The images that steps need: those that are pulled first, each once.
    pub(super) fn wanted_images(&self, steps: &[Step]) -> Vec<Wanted> {
        let mut all = Vec::new();
        self.add_wanted(steps, MAX_DEPTH, &mut all);
        let (mut wanted, built): (Vec<Wanted>, Vec<Wanted>) =
            all.into_iter().partition(|wanted| matches!(wanted.source, Source::Registry(_)));
        wanted.extend(built);
        wanted
    }

    fn add_wanted(&self, steps: &[Step], depth: usize, all: &mut Vec<Wanted>) {
        for step in steps {
            let (source, of) = match &step.uses {
                Uses::Docker(image) => (Source::Registry(image.clone()), String::new()),
                Uses::Remote(remote) => match self.actions.loaded(remote) {
                    Some(loaded) => match &loaded.manifest.runs {
                        Runs::Docker(action) => (Source::of(action, Some(&loaded)), remote.to_string()),
                        Runs::Composite { .. } if depth > 0 => {
                            self.add_wanted(&loaded.nested(), depth - 1, all);
                            continue;
                        }
                        Runs::Composite { .. } | Runs::Node(_) => continue,
                    },
                    None => continue,
                },
                Uses::Script | Uses::Local(_) => continue,
            };
            if !all.iter().any(|known| known.source == source) {
                all.push(Wanted { source, of });
            }
        }
    }

    /// Makes an image ready before the first step. Where there is no engine at all, only a step that uses the image and is
    /// not skipped can say whether that matters.
    pub(super) async fn prepare_image(&mut self, frame: &Frame, wanted: &Wanted) -> Result<(), String> {
        if let Err(error) = self.engine().await {
            self.console.write(&format!("{error}. A step that needs the image fails, unless it is skipped."));
            return Ok(());
        }
        self.image(frame, &wanted.source).await.map(drop)
    }

    /// The image of an action, ready to be run.
    pub(super) async fn image(&mut self, frame: &Frame, source: &Source) -> Result<String, String> {
        if let Some(ready) = self.containers.images.get(source) {
            return Ok(ready.clone());
        }
        let engine = self.engine().await?;
        let until = self.until(frame);
        let ready = match source {
            Source::Registry(image) => {
                self.console.write(&format!("##[group]Pull down action image '{image}'"));
                let pulled = self.pull(&engine, image, None, until, frame.record).await;
                self.console.write("##[endgroup]");
                pulled?;
                image.clone()
            }
            Source::File(file) => {
                self.console.write("##[group]Building docker image");
                self.console.write(&format!("Dockerfile for action: '{}'.", file.display()));
                let built = self.build(&engine, file, until, frame.record).await;
                self.console.write("##[endgroup]");
                built?
            }
        };
        self.containers.images.insert(source.clone(), ready.clone());
        Ok(ready)
    }

    /// Pulls an image. One that cannot be had, and of which there is a copy here, is used with a warning.
    pub(super) async fn pull(
        &mut self,
        engine: &Engine,
        image: &str,
        credentials: Option<&Credentials>,
        until: Until,
        record: usize,
    ) -> Result<(), String> {
        let is_here = Command::new(&["image", "inspect", "--format", "{{.Id}}", image]);
        // There is no registry of this name: the image was made on this machine.
        if image.starts_with("localhost/") && engine.ask(&is_here).await.is_ok() {
            self.console.write(&format!("The image '{image}' is here."));
            return Ok(());
        }
        let folder = match credentials {
            Some(credentials) => Some(self.log_in(engine, image, credentials, until, record).await?),
            None => None,
        };
        let pull = || with_credentials(Command::new(&["pull", image]), folder.as_ref());
        let pulled = self.must_in_tries(engine, pull, until, record, &format!("Docker pull of '{image}'")).await;
        if let Some(folder) = folder {
            let removed = std::fs::remove_dir_all(&folder);
            removed.map_err(|error| format!("cannot remove the credentials in `{}`: {error}", folder.display()))?;
        }
        match pulled {
            Err(error) if !self.stop.borrow().is_cancelled() && engine.ask(&is_here).await.is_ok() => {
                self.warning(record, &format!("{error}; the copy of the image that is here is used."));
                Ok(())
            }
            pulled => pulled,
        }
    }

    /// Logs in for one image. Answers the directory that holds the credentials, which only the next pull uses.
    async fn log_in(
        &mut self,
        engine: &Engine,
        image: &str,
        credentials: &Credentials,
        until: Until,
        record: usize,
    ) -> Result<PathBuf, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = self.directories.temp.join(format!(".docker_{}", Uuid::new_v4()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("cannot create `{}`: {error}", folder.display()))?;
        let server = registry(image);
        let log_in = || {
            let mut command = Command::new(&["login"]);
            if !server.is_empty() {
                command.arguments.push(server.to_owned());
            }
            command.arguments.extend(["-u", &credentials.username, "--password-stdin"].map(str::to_owned));
            command.input = Some(credentials.password.clone());
            with_credentials(command, Some(&folder))
        };
        let done = self.must_in_tries(engine, log_in, until, record, &format!("Docker login for '{server}'")).await;
        if let Err(error) = done {
            // Nothing is in it that was believed.
            let _ = std::fs::remove_dir_all(&folder);
            return Err(error);
        }
        Ok(folder)
    }

    /// Builds an image. Its name stays the same from job to job, so that images do not pile up; it is run by its id, which no
    /// other job changes.
    async fn build(
        &mut self,
        engine: &Engine,
        file: &std::path::Path,
        until: Until,
        record: usize,
    ) -> Result<String, String> {
        if !file.is_file() {
            return Err(format!(
                "`{}` does not exist: the action must hold the file that its image names",
                file.display()
            ));
        }
        let folder = file.parent().unwrap_or(file).to_string_lossy().into_owned();
        let id_file = self.directories.temp.join(format!("{}.iid", Uuid::new_v4()));
        let tag = engine.tag(file);
        let (file, id) = (file.to_string_lossy().into_owned(), id_file.to_string_lossy().into_owned());
        let build = || Command::new(&["build", "-t", &tag, "--iidfile", &id, "-f", &file, &folder]);
        self.must_in_tries(engine, build, until, record, "Docker build").await?;
        let id = std::fs::read_to_string(&id_file)
            .map_err(|error| format!("the engine does not say which image it has built: {error}"))?;
        Ok(id.trim().to_owned())
    }
}

/// Makes `docker` and `podman` read and write their credentials in `folder`.
fn with_credentials(command: Command, folder: Option<&PathBuf>) -> Command {
    match folder {
        Some(folder) => command.with("DOCKER_CONFIG", folder).with("REGISTRY_AUTH_FILE", folder.join("config.json")),
        None => command,
    }
}
