//! One workflow of the corpus and how it is run.
//!
//! It is run in a work tree of its own, as `.github/workflows/<name>.yml`. Lines of its leading comment say the rest:
//!
//! * `# corpus: run FLAGS…`: flags of `startline run`; single quotes keep words together, and `\n` within them
//!   is a line feed;
//! * `# corpus: files FOLDER`: the files of `<area>/<FOLDER>/` are the work tree;
//! * `# corpus: event JSON`: the event's body;
//! * `# corpus: engine JSON`: containers are run by `tests/containers/docker` with these settings;
//! * `# corpus: show preamble`: what the log says of a step before its process begins is part of the snapshot;
//! * `# corpus: show setup`: so are the lines of "Set up job" and "Complete job" that are the same for every job.

use std::path::Path;

use super::snapshot::{Shown, Snapshot};
use crate::harness::{Said, root, startline};

/// One workflow of the corpus.
pub(super) struct Case {
    name: String,
    source: String,
    flags: Vec<String>,
    files: Vec<std::path::PathBuf>,
    event: Option<String>,
    engine: Option<String>,
    shown: Shown,
}

impl Case {
    /// Reads `<name>.yml` below `folder`.
    pub(super) fn read(folder: &Path, name: &str) -> Result<Self, String> {
        let path = folder.join(format!("{name}.yml"));
        let source = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut case = Self {
            name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            source: String::new(),
            flags: Vec::new(),
            files: Vec::new(),
            event: None,
            engine: None,
            shown: Shown::default(),
        };
        for option in source.lines().map_while(|line| line.strip_prefix('#')) {
            let Some(option) = option.trim().strip_prefix("corpus:") else { continue };
            match option.trim().split_once(' ').unwrap_or_default() {
                ("run", flags) => case.flags.extend(words(flags)),
                ("files", given) => case.files.push(path.with_file_name(given)),
                ("event", json) => case.event = Some(json.to_owned()),
                ("engine", json) => case.engine = Some(json.to_owned()),
                ("show", "preamble") => case.shown.preamble = true,
                ("show", "setup") => case.shown.setup = true,
                _ => return Err(format!("`# corpus:{option}` is not understood")),
            }
        }
        case.source = source;
        Ok(case)
    }

    /// Runs it and tells what came of it.
    pub(super) fn run(&self) -> Result<String, String> {
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let scratch = scratch.path().canonicalize().map_err(|error| error.to_string())?;
        let tree = scratch.join("tree");
        self.lay_out(&scratch, &tree).map_err(|error| error.to_string())?;
        let mut command = startline();
        // Steps inherit the environment, so it is the same wherever the corpus is run.
        command.env_clear().env("PATH", path()).env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1");
        command.env("HOME", scratch.join("home")).env("TMPDIR", scratch.join("tmp"));
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        command.env("GIT_CEILING_DIRECTORIES", &scratch);
        command.current_dir(&tree).arg("run").arg(format!(".github/workflows/{}.yml", self.name)).arg("--json");
        command.args(["--repository", "acme/app"]).args(&self.flags);
        if self.event.is_some() {
            command.arg("--event-file").arg(scratch.join("event.json"));
        }
        if self.engine.is_some() {
            command.arg("--container-cli").arg(scratch.join("engine/docker"));
        }
        let said: Said = command.output().map_err(|error| error.to_string())?.into();
        Snapshot { scratch: &scratch, shown: self.shown }.of(&said)
    }

    fn lay_out(&self, scratch: &Path, tree: &Path) -> std::io::Result<()> {
        for folder in [&tree.join(".github/workflows"), &scratch.join("home"), &scratch.join("tmp")] {
            std::fs::create_dir_all(folder)?;
        }
        for files in &self.files {
            copy(files, tree)?;
        }
        if let Some(settings) = &self.engine {
            let engine = scratch.join("engine");
            std::fs::create_dir_all(&engine)?;
            std::fs::copy(root().join("tests/containers/docker"), engine.join("docker"))?;
            std::fs::write(engine.join("settings.json"), settings)?;
        }
        if let Some(event) = &self.event {
            std::fs::write(scratch.join("event.json"), event)?;
        }
        std::fs::write(tree.join(".github/workflows").join(format!("{}.yml", self.name)), &self.source)
    }
}

/// Where the programs of this machine are.
fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Words between blanks; single quotes keep blanks, and `\n` within them is a line feed.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' if quoted && rest.as_str().starts_with('n') => {
                rest.next();
                word.push('\n');
            }
            '\'' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[test]
fn quotes_keep_words_together() {
    assert_eq!(words(r"--input a=b\n  --secret 'S=a b\nc' ''"), ["--input", r"a=b\n", "--secret", "S=a b\nc", ""]);
}
