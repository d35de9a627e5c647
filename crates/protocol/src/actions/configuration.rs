//! How a runner is configured: `config.sh`, and the REST calls of administrators.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Body of `POST …/actions/runner-registration` (`Runner.Listener/Configuration/ConfigurationManager.cs`,
/// `GetTenantCredential`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionRequest {
    /// What the user typed as `--url`.
    pub url: String,
    /// `register` or `remove`.
    #[serde(default)]
    pub runner_event: String,
}

/// Answer to a [`ConnectionRequest`] (`Runner.Listener/Configuration/CredentialManager.cs`, `GitHubAuthResult`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// Base of the Actions service; has a path and ends with `/`.
    pub url: String,
    /// `OAuthAccessToken`.
    pub token_schema: String,
    /// A JWT with a numeric `exp`; the bearer of the scale set calls.
    pub token: String,
    /// The runner is to speak to broker and run service.
    pub use_v2_flow: bool,
}

/// Answer of `GET …/actions/runner-groups` (`Sdk/DTWebApi/WebApi/RunnerGroup.cs`, `ListRunnerGroupsResponse`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunnerGroups {
    /// How many.
    pub total_count: usize,
    /// All of them.
    pub runner_groups: Vec<RunnerGroup>,
}

/// A runner group as `config.sh` sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerGroup {
    /// A positive number that fits an `int32`; 1 is the default group.
    pub id: i32,
    /// Name.
    pub name: String,
    /// Taken when the user names none.
    pub default: bool,
    /// Never: groups of hosted runners are passed over.
    pub is_hosted: bool,
}

/// Body of `POST …/actions/runners/register` (`Runner.Common/RunnerDotcomServer.cs`, `AddOrReplaceRunner`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// What the user typed as `--url`.
    pub url: String,
    /// The group chosen from [`RunnerGroups`].
    #[serde(default)]
    pub group_id: i32,
    /// Name.
    pub name: String,
    /// Version of the runner program.
    #[serde(default)]
    pub version: String,
    /// It does not update itself.
    #[serde(default)]
    pub updates_disabled: bool,
    /// It takes one job.
    #[serde(default)]
    pub ephemeral: bool,
    /// Labels.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// `<RSAKeyValue>…</RSAKeyValue>`.
    pub public_key: String,
    /// The registration to replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u64>,
    /// Replace it.
    #[serde(default)]
    pub replace: bool,
}

/// A label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// 0 in requests.
    #[serde(default)]
    pub id: i64,
    /// Name.
    pub name: String,
    /// `system`, `read-only`, `user` or `custom`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

/// Answer to a [`RegisterRequest`] (`Sdk/DTWebApi/WebApi/Runner.cs`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// The registration.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// How the runner gets its tokens.
    pub authorization: Authorization,
}

/// How a registered runner gets its tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Authorization {
    /// Where it exchanges an assertion for a token; the assertion's audience as well.
    pub authorization_url: String,
    /// Base of the broker; ends with `/`.
    pub server_url: String,
    /// Its client id, a GUID.
    pub client_id: String,
}

/// Answer of `POST …/actions/runners/registration-token` and `…/remove-token`.
#[derive(Clone, Serialize, Deserialize)]
pub struct ExpiringToken {
    /// The token.
    pub token: String,
    /// End of its life.
    pub expires_at: Timestamp,
}

impl fmt::Debug for ExpiringToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpiringToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// A runner as GitHub's REST interface shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Runner {
    /// The registration.
    pub id: i64,
    /// Name.
    pub name: String,
    /// `linux`, `macos` or `windows`.
    pub os: String,
    /// `online` or `offline`.
    pub status: String,
    /// It holds a job.
    pub busy: bool,
    /// It takes one job.
    pub ephemeral: bool,
    /// Its group.
    pub runner_group_id: i32,
    /// Version of the runner program.
    pub version: String,
    /// Labels.
    pub labels: Vec<Label>,
}

/// Answer of `GET …/actions/runners`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Runners {
    /// How many there are on all pages.
    pub total_count: usize,
    /// This page.
    pub runners: Vec<Runner>,
}

/// Body of `POST …/actions/runners/generate-jitconfig`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JitRequest {
    /// Name.
    pub name: String,
    /// Group.
    #[serde(default = "default_group")]
    pub runner_group_id: i32,
    /// Names of labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Where jobs work; `_work` when empty.
    #[serde(default)]
    pub work_folder: Option<String>,
}

const fn default_group() -> i32 {
    1
}

/// Answer to a [`JitRequest`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Jit {
    /// The registration.
    pub runner: Runner,
    /// What `run.sh --jitconfig` takes; holds the private key.
    pub encoded_jit_config: String,
}

impl fmt::Debug for Jit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jit").field("runner", &self.runner).finish_non_exhaustive()
    }
}

/// Body of `POST` and `PUT …/actions/runners/{id}/labels`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelNames {
    /// Names.
    pub labels: Vec<String>,
}

/// Answer of everything under `…/actions/runners/{id}/labels`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Labels {
    /// How many.
    pub total_count: usize,
    /// All of them.
    pub labels: Vec<Label>,
}
