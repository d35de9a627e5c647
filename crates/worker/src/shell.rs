//! What runs a script: the shells that GitHub knows by name, and templates with `{0}`.
//!
//! Table: actions/runner `Runner.Worker/Handlers/{ScriptHandler,ScriptHandlerHelpers}.cs`.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How a script is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shell {
    /// The program, looked up.
    pub(crate) program: PathBuf,
    /// The arguments as one text with `{0}` for the script, as it is shown.
    pub(crate) arguments: String,
    /// What the script's file name ends with.
    pub(crate) extension: &'static str,
    fix: Fix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fix {
    None,
    Cmd,
    PowerShell,
}

/// Why a shell cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShellError {
    #[error(
        "shell `{0}` is not known: use bash, sh, pwsh, powershell, python or cmd, or a command line that holds `{{0}}` \
         where the script's path belongs"
    )]
    Unknown(String),
    #[error(
        "program `{0}` of the step's shell was not found on PATH: install it on the runner, add its directory to \
         $GITHUB_PATH in an earlier step, or choose another `shell`"
    )]
    Missing(String),
    #[error("shell `{0}` has quotes that do not close")]
    Quotes(String),
}

const POWERSHELL: &str = "-command \". '{0}'\"";

/// Arguments, extension and fix-up of a shell known by name.
fn builtin(name: &str) -> Option<(&'static str, &'static str, Fix)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "bash" => ("--noprofile --norc -e -o pipefail {0}", ".sh", Fix::None),
        "sh" => ("-e {0}", ".sh", Fix::None),
        "pwsh" | "powershell" => (POWERSHELL, ".ps1", Fix::PowerShell),
        "python" => ("{0}", ".py", Fix::None),
        "cmd" => ("/D /E:ON /V:OFF /S /C \"CALL \"{0}\"\"", ".cmd", Fix::Cmd),
        _ => return None,
    })
}

impl Shell {
    /// The shell that `shell` names; without a name `bash -e`, or `sh -e` where there is no bash.
    ///
    /// # Errors
    /// When the name means nothing or its program is not on `path`.
    pub(crate) fn resolve(shell: Option<&str>, path: &OsStr) -> Result<Self, ShellError> {
        Self::resolve_by(shell, |name| which(name, path))
    }

    /// The shell that `shell` names in a container, which alone knows what programs it has; without a name `sh -e`.
    ///
    /// # Errors
    /// When the name means nothing.
    pub(crate) fn within_container(shell: Option<&str>) -> Result<Self, ShellError> {
        let shell = shell.filter(|shell| !shell.trim().is_empty()).or(Some("sh"));
        Self::resolve_by(shell, |name| Some(PathBuf::from(name)))
    }

    fn resolve_by(shell: Option<&str>, which: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, ShellError> {
        let Some(shell) = shell.filter(|shell| !shell.trim().is_empty()) else {
            // The arguments are those of sh even for bash: no `pipefail` (same file).
            let program = which("bash").or_else(|| which("sh")).ok_or_else(|| ShellError::Missing("sh".to_owned()))?;
            return Ok(Self { program, arguments: "-e {0}".to_owned(), extension: ".sh", fix: Fix::None });
        };
        let (name, own) = shell.split_once(' ').unwrap_or((shell, ""));
        let known = builtin(name);
        let arguments = match (own.trim_start(), known) {
            ("", Some((arguments, ..))) => arguments,
            (own, _) => own,
        };
        if !arguments.contains("{0}") {
            return Err(ShellError::Unknown(shell.to_owned()));
        }
        words(arguments).ok_or_else(|| ShellError::Quotes(shell.to_owned()))?;
        let program = which(name).ok_or_else(|| ShellError::Missing(name.to_owned()))?;
        let (extension, fix) = known.map_or(("", Fix::None), |(_, extension, fix)| (extension, fix));
        Ok(Self { program, arguments: arguments.to_owned(), extension, fix })
    }

    /// The arguments for `script`.
    pub(crate) fn arguments_for(&self, script: &str) -> Vec<String> {
        let words = words(&self.arguments).unwrap_or_default();
        words.into_iter().map(|word| word.replace("{0}", script)).collect()
    }

    /// The script as the shell wants it.
    pub(crate) fn script(&self, contents: &str) -> String {
        match self.fix {
            Fix::None => contents.to_owned(),
            Fix::Cmd => format!("@echo off\n{contents}"),
            Fix::PowerShell => format!(
                "$ErrorActionPreference = 'stop'\n{contents}\n\
                 if ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) {{ exit $LASTEXITCODE }}"
            ),
        }
    }
}

/// Splits a command line at blanks; double quotes keep blanks, a backslash keeps a quote.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' if rest.peek() == Some(&'"') => {
                rest.next();
                word.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

/// The executable file called `name` on `path`; a name with a separator is a path already.
pub(crate) fn which(name: &str, path: &OsStr) -> Option<PathBuf> {
    let runs = |file: &Path| {
        std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| runs(file));
    }
    if name.is_empty() {
        return None;
    }
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| runs(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with executable files of the given names.
    fn programs(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            let file = directory.path().join(name);
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        directory
    }

    #[test]
    fn command_lines_are_those_of_github() {
        let all = programs(&["bash", "sh", "pwsh", "powershell", "python", "cmd", "perl"]);
        for (shell, program, arguments, extension) in [
            (None, "bash", "-e /t/s", ".sh"),
            (Some(""), "bash", "-e /t/s", ".sh"),
            (Some("bash"), "bash", "--noprofile|--norc|-e|-o|pipefail|/t/s", ".sh"),
            (Some("sh"), "sh", "-e|/t/s", ".sh"),
            (Some("pwsh"), "pwsh", "-command|. '/t/s'", ".ps1"),
            (Some("powershell"), "powershell", "-command|. '/t/s'", ".ps1"),
            (Some("python"), "python", "/t/s", ".py"),
            (Some("cmd"), "cmd", "/D|/E:ON|/V:OFF|/S|/C|CALL /t/s", ".cmd"),
            (Some("perl {0}"), "perl", "/t/s", ""),
            (Some("bash -eux {0} --flag"), "bash", "-eux|/t/s|--flag", ".sh"),
            (Some("perl -e \"a b\" {0}"), "perl", "-e|a b|/t/s", ""),
        ] {
            let shell = Shell::resolve(shell, all.path().as_os_str()).unwrap();
            assert_eq!(shell.program, all.path().join(program));
            assert_eq!(shell.arguments_for("/t/s").join("|"), arguments.replace("-e /t", "-e|/t"), "{shell:?}");
            assert_eq!(shell.extension, extension);
        }
    }

    #[test]
    fn without_bash_the_default_is_sh() {
        let sh = programs(&["sh"]);
        let shell = Shell::resolve(None, sh.path().as_os_str()).unwrap();
        assert_eq!((shell.program, shell.arguments.as_str()), (sh.path().join("sh"), "-e {0}"));
    }

    #[test]
    fn in_a_container_the_default_is_sh_and_nothing_is_looked_up() {
        for (shell, program, arguments) in
            [(None, "sh", "-e|/t/s"), (Some("bash"), "bash", "--noprofile|--norc|-e|-o|pipefail|/t/s")]
        {
            let shell = Shell::within_container(shell).unwrap();
            assert_eq!(
                (shell.program.to_str().unwrap(), &*shell.arguments_for("/t/s").join("|")),
                (program, arguments)
            );
        }
        assert!(Shell::within_container(Some("fish")).is_err());
    }

    #[test]
    fn what_cannot_run_is_named_with_the_remedy() {
        let none = programs(&["fish"]);
        let path = none.path().as_os_str();
        for (shell, expected) in [
            (Some("fish"), "shell `fish` is not known"),
            (Some("bash -e"), "shell `bash -e` is not known"),
            (Some("zsh {0}"), "program `zsh` of the step's shell was not found on PATH"),
            (Some("pwsh"), "program `pwsh` of the step's shell was not found on PATH"),
            (None, "program `sh` of the step's shell was not found on PATH"),
            (Some("fish \"{0}"), "quotes that do not close"),
        ] {
            let message = Shell::resolve(shell, path).unwrap_err().to_string();
            assert!(message.contains(expected), "{shell:?}: {message}");
        }
    }

    #[test]
    fn scripts_of_powershell_and_cmd_are_fixed_up() {
        let all = programs(&["pwsh", "cmd", "sh"]);
        let script = |shell| Shell::resolve(Some(shell), all.path().as_os_str()).unwrap().script("x");
        assert!(script("pwsh").starts_with("$ErrorActionPreference = 'stop'\nx\nif "));
        assert_eq!(script("cmd"), "@echo off\nx");
        assert_eq!(script("sh"), "x");
    }

    #[test]
    fn only_executable_files_are_found() {
        let directory = programs(&["tool"]);
        std::fs::write(directory.path().join("text"), "").unwrap();
        let path = directory.path().as_os_str();
        assert_eq!(which("tool", path), Some(directory.path().join("tool")));
        assert_eq!((which("text", path), which("", path), which("absent", path)), (None, None, None));
        assert_eq!(
            which(directory.path().join("tool").to_str().unwrap(), OsStr::new("")),
            Some(directory.path().join("tool"))
        );
    }
}
