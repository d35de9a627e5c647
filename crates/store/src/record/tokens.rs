//! Tokens.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::permission::Permission;
use startline_protocol::scope::Scope;

use super::{Hash, kept};
use crate::error::Error;

/// An API token to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiToken {
    /// A note for people.
    pub name: String,
    /// SHA-256 of its text.
    pub hash: Hash,
    /// What it may act on.
    pub scope: Scope,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Creation.
    pub created_at: Timestamp,
    /// End of its life, if any.
    pub expires_at: Option<Timestamp>,
}

/// An API token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTokenRecord {
    /// Its id.
    pub id: i64,
    /// A note for people.
    pub name: String,
    /// What it may act on.
    pub scope: Scope,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Creation.
    pub created_at: Timestamp,
    /// End of its life, if any.
    pub expires_at: Option<Timestamp>,
    /// Revocation.
    pub revoked_at: Option<Timestamp>,
}

impl ApiTokenRecord {
    /// Whether it may be used at `now`: neither revoked nor expired.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }
}

/// A registration token to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRegistrationToken {
    /// A note for people.
    pub name: String,
    /// SHA-256 of its text.
    pub hash: Hash,
    /// Where its runners belong.
    pub scope: Scope,
    /// Labels that its runners may carry; `None` is any that the group does not protect.
    pub labels: Option<Vec<String>>,
    /// Group that its runners join: the innermost of this name that its scope lies in.
    pub group: String,
    /// Networks from which it may be used; `None` is any. Kept here, compared by the caller.
    pub cidr: Option<Vec<String>>,
    /// Its runners are ephemeral, whatever they ask for.
    pub ephemeral: bool,
    /// How often it may be used; `None` is unlimited.
    pub max_uses: Option<u32>,
    /// Creation.
    pub created_at: Timestamp,
    /// End of its life.
    pub expires_at: Timestamp,
}

/// A registration token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationTokenRecord {
    /// Its id.
    pub id: i64,
    /// Times used.
    pub uses: u32,
    /// Revocation.
    pub revoked_at: Option<Timestamp>,
    /// As added.
    pub token: NewRegistrationToken,
}

impl RegistrationTokenRecord {
    /// Refuses a use at `now`.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Error> {
        if self.revoked_at.is_some() {
            Err(Error::TokenRevoked)
        } else if self.token.expires_at <= now {
            Err(Error::TokenExpired)
        } else if self.token.max_uses.is_some_and(|max| self.uses >= max) {
            Err(Error::TokenExhausted(self.uses))
        } else {
            Ok(())
        }
    }
}

/// All tokens that are listed; those of runners are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// API tokens, by id.
    pub api: Vec<ApiTokenRecord>,
    /// Registration tokens, by id.
    pub registration: Vec<RegistrationTokenRecord>,
}

impl NewRegistrationToken {
    /// Refuses labels that the token does not allow, or that the group protects and the token does not name. Labels are
    /// compared without case.
    pub(crate) fn check_labels(&self, labels: &[String], group: &GroupRequest) -> Result<(), Error> {
        let keys = |labels: &[String]| labels.iter().map(|label| label.to_lowercase()).collect::<BTreeSet<_>>();
        let named = keys(self.labels.as_deref().unwrap_or_default());
        let protected = keys(&group.protected_labels);
        let all = |is_refused: &dyn Fn(&String) -> bool| -> Vec<String> {
            labels.iter().filter(|label| is_refused(&label.to_lowercase())).cloned().collect()
        };
        let not_allowed = all(&|key| self.labels.is_some() && !named.contains(key));
        if !not_allowed.is_empty() {
            return Err(Error::LabelNotAllowed(not_allowed));
        }
        let not_named = all(&|key| protected.contains(key) && !named.contains(key));
        if !not_named.is_empty() {
            return Err(Error::LabelProtected(not_named));
        }
        Ok(())
    }
}

/// When tokens that are replaced at `now` stop to work: calls that are on their way with the old one may still arrive.
pub(crate) fn replaced_token_end(now: Timestamp) -> Timestamp {
    kept(now.checked_add(SignedDuration::from_mins(2)).unwrap_or(Timestamp::MAX))
}
