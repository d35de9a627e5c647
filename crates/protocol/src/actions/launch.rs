//! Which commits actions are, and where their archives come from (actions/runner `Sdk/WebApi/WebApi/LaunchContracts.cs`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `POST /actions/build/{plan}/jobs/{job}/runnerresolve/actions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveRequest {
    /// What is asked for.
    #[serde(default)]
    pub actions: Vec<ActionReference>,
}

/// An action as a step names it. Its path makes no difference: an archive has the whole repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActionReference {
    /// `owner/name`.
    pub action: String,
    /// Branch, tag or commit.
    pub version: String,
}

impl ActionReference {
    /// Under what answers are found.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}@{}", self.action, self.version)
    }
}

/// Answer to [`ResolveRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveAnswer {
    /// By [`ActionReference::key`], exactly as it was asked.
    pub actions: BTreeMap<String, ActionDownload>,
}

/// Where an action is had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionDownload {
    /// As it was asked.
    pub name: String,
    /// As it was asked.
    pub version: String,
    /// Where it comes from.
    pub resolved_name: String,
    /// Its commit.
    pub resolved_sha: String,
    /// Archive for Unix: one directory with the repository's files.
    pub tar_url: String,
    /// Archive for Windows.
    pub zip_url: String,
    /// `sha256:` and the digest of the archive for Unix in hexadecimal; ours, official runners do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tar_digest: Option<String>,
    /// What opens the archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<ActionAuthentication>,
}

/// The bearer of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionAuthentication {
    /// The password of `Basic`.
    pub token: String,
    /// End of its life.
    pub expires_at: Timestamp,
}

/// Refusal of [`ResolveRequest`]: 422, or 429 when a source asks for patience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveRefusal {
    /// What is wrong, by [`ActionReference::key`].
    pub errors: BTreeMap<String, ResolveError>,
}

/// Why an action cannot be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveError {
    /// For people.
    pub message: String,
}
