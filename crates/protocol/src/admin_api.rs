//! `/api/v1` as administrators speak it: tokens, runner groups, secrets, variables, the audit log.
//!
//! Where a request names a scope and does not give it, the caller's own scope is meant; one outside the caller's answers
//! 404.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::permission::Permission;
use crate::scope::Scope;
use crate::token::{ApiToken, TokenKind};
use crate::value_scope::ValueScope;

/// `POST /api/v1/tokens`: mints an API token. 201 [`CreatedToken`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateTokenRequest {
    /// A note for people.
    #[cfg_attr(
        feature = "openapi",
        schemars(
            length(min = 1, max = 100),
            regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")
        )
    )]
    pub name: String,
    /// What it may act on; within the caller's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What it may do; no more than the caller may.
    pub permissions: Vec<Permission>,
    /// Life in seconds; absent means until revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 60, max = 315_360_000)))]
    pub expires_in_seconds: Option<u64>,
}

/// Answer to [`CreateTokenRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CreatedToken {
    /// The token; shown this once.
    pub token: ApiToken,
    /// As it is listed.
    pub view: TokenView,
}

/// A token in a listing: never its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TokenView {
    /// Its id, unique among tokens of its kind.
    pub id: i64,
    /// API or registration token.
    pub kind: TokenKind,
    /// A note for people.
    pub name: String,
    /// What it may act on.
    pub scope: Scope,
    /// What an API token may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<Permission>,
    /// Labels that a registration token allows; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Group that a registration token's runners join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_group: Option<String>,
    /// Networks from which a registration token may be used; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Vec<String>>,
    /// How often a registration token may be used; absent means unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
    /// How often a registration token was used.
    #[serde(default)]
    pub uses: u32,
    /// Creation.
    pub created_at: Timestamp,
    /// End of its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// `GET /api/v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TokenPage {
    /// Tokens of both kinds within the caller's scope, by kind and id.
    pub tokens: Vec<TokenView>,
}

/// `PUT /api/v1/runner-groups/{name}?organization=…`: makes or replaces a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// Repositories, `owner/name`, whose jobs its runners take; absent means all of the group's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(length(max = 1000)))]
    pub repositories: Option<Vec<String>>,
    /// Takes jobs whose code is not trusted, on ephemeral runners.
    #[serde(default)]
    pub accepts_untrusted: bool,
    /// Labels that a runner of the group carries only when its registration token names them.
    #[serde(default)]
    pub protected_labels: Vec<String>,
    /// Most jobs of the group at the same time; absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1)))]
    pub max_running_jobs: Option<u32>,
    /// Most jobs of one repository in the group at the same time; absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1)))]
    pub max_running_jobs_per_repository: Option<u32>,
}

/// A runner group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct GroupView {
    /// Its name, unique in its scope without regard to case. `default` always exists.
    pub name: String,
    /// The instance or an organization.
    pub scope: Scope,
    /// As set.
    pub policy: GroupRequest,
    /// Registered runners in it.
    pub runners: u32,
}

/// `GET /api/v1/runner-groups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct GroupPage {
    /// Groups within the caller's scope.
    pub groups: Vec<GroupView>,
}

/// `PUT /api/v1/secrets/{name}` and `PUT /api/v1/variables/{name}`, with `?organization=` or `?repository=`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ValueRequest {
    /// The value; a secret's is sealed and never returned.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = 49_152)))]
    pub value: String,
}

impl std::fmt::Debug for ValueRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValueRequest(…)")
    }
}

/// A secret in a listing: never its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct SecretView {
    /// Its name, upper case.
    pub name: String,
    /// Where it is set.
    pub scope: ValueScope,
    /// First set.
    pub created_at: Timestamp,
    /// Last set.
    pub updated_at: Timestamp,
}

/// `GET /api/v1/secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct SecretPage {
    /// Secrets of one scope, by name.
    pub secrets: Vec<SecretView>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct VariableView {
    /// Its name, upper case.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it is set.
    pub scope: ValueScope,
    /// First set.
    pub created_at: Timestamp,
    /// Last set.
    pub updated_at: Timestamp,
}

/// `GET /api/v1/variables`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct VariablePage {
    /// Variables of one scope, by name.
    pub variables: Vec<VariableView>,
}

/// One line of the audit log. `hash` = SHA-256 over the previous line's hash and this line's canonical JSON without
/// `hash`, so that no line can be changed or taken out without breaking all that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AuditView {
    /// Place in the log, from 1 without gaps.
    pub sequence: i64,
    /// When.
    pub at: Timestamp,
    /// Who: `api_token:3 (admin)`, `runner:7 (vm)`, `job:12`, `registration_token:4`, `service`, `anonymous`.
    pub actor: String,
    /// What was done, such as `runner.register`, `token.revoke`, `run.submit`.
    pub action: String,
    /// To what, such as `runner:7`.
    pub subject: String,
    /// `success`, or `refused` or `failed` with the reason behind a colon.
    pub outcome: String,
    /// The scope concerned.
    pub scope: Scope,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The caller's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Further facts; never a token or a secret's value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// The chain, 64 hexadecimal digits.
    pub hash: String,
}

/// `GET /api/v1/audit`, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AuditPage {
    /// The lines.
    pub records: Vec<AuditView>,
    /// Pass as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The last line of the audit log that was purged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AuditBeginning {
    /// Its place.
    pub sequence: i64,
    /// When it was written.
    pub at: Timestamp,
    /// Its hash, in hexadecimal digits, which the first line that is left continues.
    pub hash: String,
}

/// `GET /api/v1/audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AuditVerification {
    /// The whole chain holds.
    pub valid: bool,
    /// Lines checked.
    pub records: i64,
    /// The last line that was purged because of its age; the log begins behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<AuditBeginning>,
    /// The first line that does not fit, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// The last line's hash: keep it elsewhere to notice that the end was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}
