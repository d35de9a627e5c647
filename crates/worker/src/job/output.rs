//! What a process writes, line by line: a command, a problem, or output to show.

use std::path::Path;

use startline_protocol::step::AnnotationLevel;

use super::Job;
use crate::annotations::Place;
use crate::child::Stream;
use crate::command;
use crate::container::paths::PathMap;
use crate::environment::Environment;
use crate::lines::{Line, Lines};
use crate::matcher::Problem;

/// Who listens to one process.
pub(super) struct Listener {
    pub(super) record: usize,
    out: Lines,
    error: Lines,
    /// What `set-output` set.
    pub(super) outputs: Vec<(String, String)>,
    /// What `save-state` saved.
    pub(super) state: Vec<(String, String)>,
    /// A command failed, and so does the step.
    pub(super) failed: bool,
    /// Commands are shown before they are executed.
    pub(super) echo: bool,
    /// Commands are ignored until this token comes.
    pub(super) stop_token: Option<String>,
    /// `set-env` and `add-path` are allowed.
    pub(super) insecure_commands: bool,
    /// Any token may stop commands.
    pub(super) insecure_tokens: bool,
    /// Old commands that were warned of.
    pub(super) warned: Vec<String>,
    /// Where the paths lie that the process names, when it runs in a container.
    paths: Option<PathMap>,
}

impl Listener {
    pub(super) fn new(record: usize, environment: &Environment) -> Self {
        let on = |name: &str| environment.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Self {
            record,
            out: Lines::default(),
            error: Lines::default(),
            outputs: Vec::new(),
            state: Vec::new(),
            failed: false,
            echo: false,
            stop_token: None,
            insecure_commands: on("ACTIONS_ALLOW_UNSECURE_COMMANDS"),
            insecure_tokens: on("ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS"),
            warned: Vec::new(),
            paths: None,
        }
    }

    fn lines(&mut self, stream: Stream) -> &mut Lines {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Error => &mut self.error,
        }
    }

    /// The same for a process in a container.
    pub(super) fn within(self, paths: Option<&PathMap>) -> Self {
        Self { paths: paths.cloned(), ..self }
    }

    /// A path that the process names, on the host.
    pub(super) fn host_path(&self, path: &str) -> String {
        self.paths.as_ref().map_or_else(|| path.to_owned(), |paths| paths.to_host(path))
    }
}

impl Job {
    /// Takes what was read from a process.
    pub(super) fn listen(&mut self, listener: &mut Listener, stream: Stream, bytes: &[u8]) {
        let mut lines = std::mem::take(listener.lines(stream));
        lines.push(bytes);
        // Each line may add a mask that counts for the next one.
        while let Some(line) = lines.next(&self.console.masker) {
            self.line(listener, line);
        }
        *listener.lines(stream) = lines;
    }

    /// Takes what is left without a line end.
    pub(super) fn listen_to_rest(&mut self, listener: &mut Listener) {
        for stream in [Stream::Out, Stream::Error] {
            let mut lines = std::mem::take(listener.lines(stream));
            if let Some(line) = lines.rest() {
                self.line(listener, line);
            }
        }
    }

    fn line(&mut self, listener: &mut Listener, Line { text, is_piece }: Line<'_>) {
        if !is_piece
            && let Some(command) = command::parse(text, listener.stop_token.as_deref())
            && self.command(listener, text, &command)
        {
            return;
        }
        match self.matchers.find(text) {
            Some(problem) => self.problem(listener, text, problem),
            None => self.console.write(text),
        }
    }

    /// A problem that a matcher found: the line is shown with its level, the parts become an annotation.
    fn problem(&mut self, listener: &Listener, line: &str, problem: Problem) {
        let Some(level) = problem.level() else {
            self.console.debug(&format!("Skip the matched line: its severity {:?} is not known", problem.severity));
            self.console.write(line);
            return;
        };
        let marker = match level {
            AnnotationLevel::Notice => "notice",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Failure => "error",
        };
        self.console.write(&format!("##[{marker}]{line}"));
        let from = problem.from_path.as_deref().map(|from| listener.host_path(from));
        let path = problem.file.as_deref().map(|file| listener.host_path(file));
        let path = path.and_then(|file| self.problem_path(&file, from.as_deref()));
        let place = Place {
            start_line: problem.line,
            end_line: problem.line,
            start_column: problem.column,
            end_column: problem.column,
            title: problem.code,
            path,
        };
        self.annotate(listener.record, level, &problem.message, place);
    }

    /// A file that a tool named, if it exists in the workspace.
    fn problem_path(&self, file: &str, from: Option<&str>) -> Option<String> {
        let workspace = &self.directories.workspace;
        let base = from
            .and_then(|from| Path::new(from).parent())
            .map_or_else(|| workspace.clone(), |from| workspace.join(from));
        let file = std::fs::canonicalize(base.join(file)).ok().filter(|file| file.is_file())?;
        let root = std::fs::canonicalize(workspace).ok()?;
        Some(file.strip_prefix(root).ok()?.to_string_lossy().into_owned())
    }
}
