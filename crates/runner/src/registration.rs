//! The registration: asked for once, kept in a file, given back at the end.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use startline_client::{Credentials, Retry, RunnerClient, Transport};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::runner_api::RegisterRequest;
use startline_protocol::token::{RegistrationToken, RunnerToken};

use crate::error::Error;

/// The version of the file's form.
const FORMAT: u32 = 1;

/// How a runner is registered.
#[derive(Clone, Debug)]
pub struct RegisterOptions {
    /// The service, with its path prefix if it has one.
    pub url: String,
    /// The right to register.
    pub token: RegistrationToken,
    /// Unique among the runners of the scope; see [`crate::default_name`].
    pub name: String,
    /// All labels; see [`crate::default_labels`].
    pub labels: Vec<String>,
    /// What the machine can do; see [`crate::detect`].
    pub capabilities: Capabilities,
    /// The registration ends with the first job.
    pub ephemeral: bool,
    /// Take the name over from an earlier registration, here or elsewhere.
    pub replace: bool,
    /// The registration is to survive a loss of power, which takes the time of two writes to the disk.
    pub durable: bool,
}

/// A registration as kept in `runner.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Version of this file's form.
    pub format: u32,
    /// The service.
    pub url: String,
    /// The runner's id there.
    pub runner_id: RunnerId,
    /// The runner's bearer.
    pub runner_token: RunnerToken,
    /// When the bearer was handed out, unix seconds.
    pub issued_at: i64,
    /// When it ends, unix seconds.
    pub expires_at: i64,
    /// The runner's name.
    pub name: String,
    /// Its labels, as accepted.
    pub labels: Vec<String>,
    /// Its group.
    pub runner_group: String,
    /// The registration ends with the first job.
    pub ephemeral: bool,
    /// How many jobs it takes at once, as registered.
    #[serde(default = "one")]
    pub max_parallel_jobs: u32,
    /// How long the service wants a poll to ask to be held.
    pub poll_timeout_seconds: u32,
    /// How often the service wants a heartbeat.
    pub heartbeat_interval_seconds: u32,
}

const fn one() -> u32 {
    1
}

impl Registration {
    /// Where `dir` keeps its registration.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("runner.json")
    }

    /// Reads the registration in `dir`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = Self::path(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotRegistered { dir: dir.to_owned() });
            }
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let bad = |cause: String| Error::BadRegistration { path: path.clone(), cause };
        let registration: Self = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if registration.format == FORMAT {
            Ok(registration)
        } else {
            Err(bad(format!("its format is {}, this program knows {FORMAT}", registration.format)))
        }
    }

    /// Writes the registration into `dir`, readable by its owner only, in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        self.save_as(dir, true)
    }

    fn save_as(&self, dir: &Path, durable: bool) -> Result<(), Error> {
        let path = Self::path(dir);
        let fresh = dir.join("runner.json.new");
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            if !durable {
                return fs::rename(&fresh, &path);
            }
            // A token that is lost in a power cut can never be had again.
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(dir)?.sync_all()
        };
        write().map_err(Error::file("write", &path))
    }

    pub(crate) fn forget(dir: &Path) -> Result<(), Error> {
        let path = Self::path(dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            runner_id: self.runner_id,
            token: self.runner_token.clone(),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        }
    }

    /// This registration with the token renewed.
    pub(crate) fn with(&self, credentials: &Credentials) -> Self {
        Self {
            runner_token: credentials.token.clone(),
            issued_at: credentials.issued_at,
            expires_at: credentials.expires_at,
            ..self.clone()
        }
    }
}

/// Registers a runner and keeps the registration in `dir`. Tries for minutes when the service is not there.
///
/// # Errors
/// When `dir` holds a registration and `replace` is not set, the service refuses, or the file cannot be written; in
/// that last case the registration is given back.
pub async fn register(transport: Transport, options: &RegisterOptions, dir: &Path) -> Result<Registration, Error> {
    if !options.replace {
        match Registration::load(dir) {
            Ok(Registration { url, name, .. }) => {
                return Err(Error::AlreadyRegistered { dir: dir.to_owned(), url, name });
            }
            Err(Error::NotRegistered { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let client = RunnerClient::new(transport, &options.url)?;
    let request = RegisterRequest {
        name: options.name.clone(),
        labels: options.labels.clone(),
        capabilities: options.capabilities.clone(),
        ephemeral: options.ephemeral,
        replace: options.replace,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let response = client.register(&options.token, &request).await?;
    let credentials = Credentials::of(&response, Timestamp::now());
    let registration = Registration {
        format: FORMAT,
        url: options.url.clone(),
        runner_id: response.runner_id,
        runner_token: response.runner_token,
        issued_at: credentials.issued_at,
        expires_at: credentials.expires_at,
        name: options.name.clone(),
        labels: response.labels,
        runner_group: response.runner_group,
        ephemeral: options.ephemeral,
        max_parallel_jobs: options.capabilities.max_parallel_jobs.max(1),
        poll_timeout_seconds: response.poll_timeout_seconds,
        heartbeat_interval_seconds: response.heartbeat_interval_seconds,
    };
    if let Err(error) = registration.save_as(dir, options.durable) {
        // Nobody could ever use it.
        if let Err(error) = client.with_retry(Retry::BRIEF).session(credentials).deregister(false).await {
            tracing::warn!(%error, runner_id = %registration.runner_id, "cannot give the registration back");
        }
        return Err(error);
    }
    Ok(registration)
}

/// Gives the registration in `dir` back and removes its file. With `force`, even while the runner holds jobs.
///
/// # Errors
/// When there is no registration, or the service refuses or cannot be reached; the file is then kept.
pub async fn remove(transport: Transport, dir: &Path, force: bool) -> Result<Registration, Error> {
    let registration = Registration::load(dir)?;
    let client = RunnerClient::new(transport, &registration.url)?.with_retry(Retry::BRIEF);
    match client.session(registration.credentials()).deregister(force).await {
        // The service no longer knows the token: there is nothing left to give back.
        Err(error) if error.status() == Some(401) => {}
        outcome => outcome?,
    }
    Registration::forget(dir)?;
    Ok(registration)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn registration() -> Registration {
        Registration {
            format: FORMAT,
            url: "http://host".into(),
            runner_id: RunnerId(7),
            runner_token: RunnerToken::parse("slt_x").unwrap(),
            issued_at: 1,
            expires_at: 2,
            name: "box".into(),
            labels: vec!["linux".into()],
            runner_group: "default".into(),
            ephemeral: false,
            max_parallel_jobs: 1,
            poll_timeout_seconds: 30,
            heartbeat_interval_seconds: 15,
        }
    }

    #[test]
    fn a_registration_is_read_back_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        registration().save(dir.path()).unwrap();
        assert_eq!(Registration::load(dir.path()).unwrap(), registration());
        let mode = fs::metadata(Registration::path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_a_broken_and_a_newer_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Registration::load(dir.path()), Err(Error::NotRegistered { .. })));
        Registration { format: 9, ..registration() }.save(dir.path()).unwrap();
        let error = Registration::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("its format is 9"), "{error}");
        fs::write(Registration::path(dir.path()), "{").unwrap();
        assert!(matches!(Registration::load(dir.path()), Err(Error::BadRegistration { .. })));
    }
}
