//! Settings in layers: flags over environment over file over defaults.
//!
//! [`config!`](crate::config!) declares the settings once and makes two structs of them: a *layer*, in which every
//! setting is optional and which clap fills from flags and environment and serde from a TOML file, and the
//! *configuration*, in which the layers are merged. Secrets are not settings: a setting may name a file that has one.

mod layers;
mod period;
mod size;

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use period::{NotAPeriod, Period};
pub use size::{NotASize, Size};

/// A layer that was read from a file.
#[derive(Clone, Debug)]
pub struct FileLayer<L> {
    /// The file.
    pub path: PathBuf,
    /// What stood in it.
    pub layer: L,
}

/// A configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The operating system refused.
    #[error("configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Not TOML, or not our settings. The text has the line and, for an unknown key, the known ones.
    #[error("configuration file {}: {}", path.display(), source.to_string().trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
}

/// Reads the layer in the TOML file at `path`.
///
/// # Errors
/// When the file cannot be read, is not TOML, or has a key or value that the layer does not know.
pub fn read<L: DeserializeOwned>(path: impl AsRef<Path>) -> Result<FileLayer<L>, ConfigError> {
    let path = path.as_ref().to_owned();
    match fs::read_to_string(&path) {
        Ok(text) => match toml::from_str(&text) {
            Ok(layer) => Ok(FileLayer { path, layer }),
            Err(source) => Err(ConfigError::Parse { path, source: Box::new(source) }),
        },
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// [`read`], or nothing if there is no such file: for a file at the usual place that nobody asked for.
///
/// # Errors
/// As [`read`], except for a missing file.
pub fn read_if_exists<L: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Option<FileLayer<L>>, ConfigError> {
    match read(path) {
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line or this environment variable.
    FlagOrEnvironment(&'static str),
    /// This file.
    File(PathBuf),
    /// Nobody has set it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlagOrEnvironment(variable) => write!(f, "from the command line or {variable}"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as it came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name in the file.
    pub key: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Its value; none if it has no default and nobody has set it.
    pub value: Option<toml::Value>,
    /// Where the value comes from.
    pub source: Source,
}

impl Setting {
    /// For [`config!`](crate::config!).
    #[doc(hidden)]
    pub fn new(key: &'static str, help: &'static str, value: Option<impl Serialize>, source: Source) -> Self {
        let value = value.map(|value| {
            // What TOML cannot write (a path that is not Unicode) is shown by its reason.
            toml::Value::try_from(value).unwrap_or_else(|error| toml::Value::String(format!("({error})")))
        });
        Self { key, help, value, source }
    }
}

/// A configuration with the story of each of its settings.
#[derive(Clone, Debug)]
pub struct Resolved<C> {
    /// The configuration.
    pub config: C,
    /// The settings in the order of their declaration.
    pub settings: Vec<Setting>,
}

impl<C> Resolved<C> {
    /// The settings as a TOML file, with a comment on each: what `--print-config` prints.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for Setting { key, help, value, source } in &self.settings {
            for line in help.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let _ = writeln!(out, "# {line}");
            }
            let _ = match value {
                Some(value) => writeln!(out, "{key} = {value} # {source}\n"),
                None => writeln!(out, "# {key} = … # not set\n"),
            };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

#[cfg(test)]
mod tests;
