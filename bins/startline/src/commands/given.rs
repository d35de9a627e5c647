//! What a run is given besides its file: variables, secrets and inputs, of flags and of files.
//!
//! Flags win over files, and a later flag or file over an earlier one of its kind.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::dotenv;
use crate::cli::Submission;
use crate::exit::Usage;
use crate::terminal;

/// Files that are read when no other of their kind is named, in the root of the work tree.
const ENV: &str = ".env";
const SECRETS: &str = ".secrets";
const VARIABLES: &str = ".vars";
const INPUTS: &str = ".input";

/// All of those.
pub(crate) const USUAL: [&str; 4] = [ENV, SECRETS, VARIABLES, INPUTS];

/// The largest file of values that is read.
const LARGEST: u64 = 1024 * 1024;

/// What was given.
#[derive(Default)]
pub(crate) struct Given {
    pub env: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, String>,
    pub variables: BTreeMap<String, String>,
    pub inputs: BTreeMap<String, String>,
    /// The files that were read, with what they gave.
    pub files: Vec<Read>,
    /// What people should know of them.
    pub warnings: Vec<String>,
}

/// A file that was read.
pub(crate) struct Read {
    pub path: PathBuf,
    /// Such as `2 secrets`.
    pub gave: String,
}

impl Given {
    /// Reads flags and files. `defaults` is where files with the usual names are looked for.
    pub(crate) fn read(args: &Submission, defaults: Option<&Path>) -> anyhow::Result<Self> {
        let mut given = Self::default();
        let Submission { env_files, secret_files, var_files, input_files, .. } = args;
        given.env = given.files(env_files, defaults, ENV, ["variable for every step", "variables for every step"])?;
        given.secrets = given.files(secret_files, defaults, SECRETS, ["secret", "secrets"])?;
        given.variables =
            given.files(var_files, defaults, VARIABLES, ["configuration variable", "configuration variables"])?;
        given.inputs = given.files(input_files, defaults, INPUTS, ["input", "inputs"])?;
        let found = secret_files.iter().cloned().chain(defaults.map(|root| root.join(SECRETS)));
        for path in found.filter(|path| given.files.iter().any(|read| read.path == *path)).collect::<Vec<_>>() {
            given.warnings.extend(open_to_others(&path));
        }
        given.env.extend(pairs("--env", &args.env)?);
        given.secrets.extend(secrets(&args.secrets)?);
        given.variables.extend(pairs("--var", &args.variables)?);
        given.inputs.extend(pairs("--input", &args.inputs)?);
        Ok(given)
    }

    fn files(
        &mut self,
        named: &[PathBuf],
        defaults: Option<&Path>,
        usual: &str,
        [one, many]: [&str; 2],
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let usual = defaults.map(|root| root.join(usual)).filter(|path| named.is_empty() && path.is_file());
        let mut all = BTreeMap::new();
        for path in named.iter().chain(&usual) {
            let found: BTreeMap<String, String> = read(path)?.into_iter().collect();
            let gave = format!("{} {}", found.len(), if found.len() == 1 { one } else { many });
            self.files.push(Read { path: path.clone(), gave });
            all.extend(found);
        }
        Ok(all)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let shown = path.display();
    let cannot = |error: std::io::Error| Usage(format!("cannot read {shown}: {error}"));
    // Also of a device, which has no size and no end.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LARGEST + 1), &mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Usage(format!("{shown} is larger than 1 MiB; give a file with lines NAME=value")).into());
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Usage(format!("{shown}:{line}: this is not UTF-8; save the file as UTF-8"))
    })?;
    Ok(dotenv::parse(text).map_err(|mistake| Usage(format!("{shown}:{mistake}")))?)
}

/// Says so when a file of secrets can be read by more than its owner.
fn open_to_others(path: &Path) -> Option<String> {
    let data = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mode = data.permissions().mode() & 0o777;
    let shown = path.display();
    (mode & 0o044 != 0).then(|| {
        format!(
            "the secrets in {shown} can be read by other users of this machine (mode {mode:04o}): chmod 600 {shown}"
        )
    })
}

pub(crate) fn pairs(flag: &str, given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    given
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Usage(format!("{flag} `{text}` is not KEY=VALUE")).into()),
        })
        .collect()
}

/// Takes or asks for the values of secrets that were only named, so that nobody is asked again.
pub(crate) fn complete_secrets(args: &mut Submission) -> anyhow::Result<()> {
    for given in args.secrets.iter_mut().filter(|given| !given.contains('=')) {
        let value = secret(given)?;
        given.push('=');
        given.push_str(&value);
    }
    Ok(())
}

fn secrets(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|text| match text.split_once('=') {
            Some(("", _)) => {
                Err(Usage("--secret has no name before `=`; write NAME=VALUE, or NAME alone".to_owned()).into())
            }
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Ok((text.clone(), secret(text)?)),
        })
        .collect()
}

/// The value of a secret that was only named.
fn secret(name: &str) -> anyhow::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "the user names the variable on the command line")]
    if let Ok(value) = std::env::var(name) {
        return Ok(value);
    }
    if terminal::is_attended() {
        return Ok(terminal::ask_hidden(&format!("Value of the secret {name} (not shown): "))?);
    }
    Err(Usage(format!(
        "--secret {name}: the environment variable {name} is not set; set it, give {name}=VALUE, or name a file with \
         --secret-file"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_without_a_key_is_named_with_its_flag() {
        let error = pairs("--env", &["=x".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "--env `=x` is not KEY=VALUE");
        assert_eq!(pairs("--env", &["A=b=c".to_owned()]).unwrap(), [("A".to_owned(), "b=c".to_owned())]);
    }
}
