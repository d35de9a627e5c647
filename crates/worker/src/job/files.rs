//! The files that a step writes for its worker: fresh ones before it, read after it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use startline_protocol::state::Conclusion;
use startline_workflow::expression::{Object, Value};
use uuid::Uuid;

use super::Job;
use super::output::Listener;
use super::step::{Left, Ran};
use crate::file_command;

/// The largest file of pairs that is read.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The largest summary of one step (actions/runner `Runner.Worker/FileCommandManager.cs`).
const LARGEST_SUMMARY: u64 = 1024 * 1024;

/// The files of one step.
pub(super) struct Files {
    environment: PathBuf,
    output: PathBuf,
    path: PathBuf,
    state: PathBuf,
    summary: PathBuf,
}

/// What a step said in its files.
pub(super) struct Said {
    pub(super) outputs: Vec<(String, String)>,
    /// For the other stages of the same use of an action.
    pub(super) state: Vec<(String, String)>,
    /// Failure when a file could not be understood.
    pub(super) result: Conclusion,
}

impl Files {
    /// New empty files in `folder`.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let id = Uuid::new_v4();
        let file = |prefix: &str| {
            let path = folder.join(format!("{prefix}_{id}"));
            std::fs::File::create(&path).map(|_| path)
        };
        // A step may have removed the directory.
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            environment: file("set_env")?,
            output: file("set_output")?,
            path: file("add_path")?,
            state: file("save_state")?,
            summary: file("step_summary")?,
        })
    }

    /// Shows the files in the `github` context, and so to processes as `GITHUB_ENV` and its siblings.
    pub(super) fn show_in(&self, github: &mut Object) {
        for (name, path) in [
            ("env", &self.environment),
            ("output", &self.output),
            ("path", &self.path),
            ("state", &self.state),
            ("step_summary", &self.summary),
        ] {
            github.insert(name, Value::string(path.to_string_lossy().into_owned()));
        }
    }
}

impl Job {
    /// Reads what a step said. What stood before an error counts.
    pub(super) fn hear(&mut self, record: usize, files: &Files) -> Said {
        let mut said = Said { outputs: Vec::new(), state: Vec::new(), result: Conclusion::Success };
        match read(&files.path, LARGEST) {
            Ok(text) => file_command::paths(&text).into_iter().for_each(|path| self.add_search_path(path)),
            Err(error) => self.bad_file(record, "path", &error.to_string(), &mut said),
        }
        for (name, value) in self.pairs(record, "env", &files.environment, &mut said) {
            self.set_variable(record, name, value);
        }
        said.state = self.pairs(record, "state", &files.state, &mut said);
        for (name, value) in &said.state {
            self.console.debug(&format!("Save intra-action state {name} = {value}"));
        }
        said.outputs = self.pairs(record, "output", &files.output, &mut said);
        for (name, value) in &said.outputs {
            self.console.debug(&format!("Set output {name} = {value}"));
        }
        self.hear_summary(record, &files.summary);
        said
    }

    /// What a step's process leaves, by its files and by what `listener` heard, and the state that it saved.
    pub(super) fn take_over(
        &mut self,
        record: usize,
        ran: Ran,
        listener: Listener,
        files: &Files,
    ) -> (Left, Vec<(String, String)>) {
        let said = self.hear(record, files);
        let failed = ran == Ran::Success && (listener.failed || said.result == Conclusion::Failure);
        let (mut outputs, mut state) = (listener.outputs, listener.state);
        outputs.extend(said.outputs);
        state.extend(said.state);
        (Left { ran: if failed { Ran::Failure } else { ran }, outputs }, state)
    }

    fn pairs(&mut self, record: usize, name: &str, path: &Path, said: &mut Said) -> Vec<(String, String)> {
        let text = match read(path, LARGEST) {
            Ok(text) => text,
            Err(error) => {
                self.bad_file(record, name, &error.to_string(), said);
                return Vec::new();
            }
        };
        let (pairs, error) = file_command::pairs(&text);
        if let Some(error) = error {
            self.bad_file(record, name, &error.to_string(), said);
        }
        pairs
    }

    fn bad_file(&mut self, record: usize, name: &str, error: &str, said: &mut Said) {
        self.error(record, &format!("Unable to process file command '{name}' successfully."));
        self.error(record, error);
        said.result = Conclusion::Failure;
    }

    /// Sets a variable for later steps, unless GitHub does not allow it.
    pub(super) fn set_variable(&mut self, record: usize, name: String, value: String) {
        if name.eq_ignore_ascii_case("NODE_OPTIONS") {
            self.error(record, "Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.");
            return;
        }
        self.console.debug(&format!("{name}='{value}'"));
        self.environment.set(name, value);
    }

    /// Puts a directory first on the search path of later steps.
    pub(super) fn add_search_path(&mut self, path: String) {
        self.search_path.retain(|known| *known != path);
        self.search_path.insert(0, path);
    }

    fn hear_summary(&mut self, record: usize, path: &Path) {
        let size = std::fs::metadata(path).map_or(0, |data| data.len());
        if size == 0 {
            return;
        }
        let text = match read(path, LARGEST_SUMMARY) {
            Ok(text) => text,
            Err(_) if size > LARGEST_SUMMARY => {
                let message = format!(
                    "$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of {}k, got {}k.",
                    LARGEST_SUMMARY / 1024,
                    size / 1024
                );
                self.error(record, &message);
                return;
            }
            Err(error) => {
                self.error(record, &format!("Failed to create step summary using 'GITHUB_STEP_SUMMARY': {error}"));
                return;
            }
        };
        let text = text.replace('\0', "");
        let masked = self.console.masker.mask(&text);
        if let Err(error) = self.board.summarize(record, &masked) {
            let message = format!(
                "$GITHUB_STEP_SUMMARY upload aborted: the summaries of a job may have {} KiB in all, and this one adds {} KiB.",
                error.limit / 1024,
                error.size.div_ceil(1024)
            );
            self.error(record, &message);
        }
    }
}

/// The text of a file of at most `largest` bytes; one that was removed is empty.
fn read(path: &Path, largest: u64) -> io::Result<String> {
    // A step may have put anything in the file's place; a pipe would never end.
    match std::fs::metadata(path) {
        Ok(data) if !data.is_file() => {
            return Err(io::Error::other(format!("`{}` is no file any more", path.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!("`{}` is larger than {} KiB", path.display(), largest / 1024)));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
