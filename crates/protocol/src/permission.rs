//! What an API token may do, in one list.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::state::spelled;

spelled!(
    /// One permission of an API token, within the token's scope. Writing includes reading the same thing.
    Permission {
        /// Mint registration tokens, and nothing else.
        RunnersRegister => "runners:register",
        /// See runners.
        RunnersRead => "runners:read",
        /// Remove and drain runners.
        RunnersWrite => "runners:write",
        /// See runs, jobs and logs.
        JobsRead => "jobs:read",
        /// Submit, cancel and re-run.
        JobsWrite => "jobs:write",
        /// See the names of secrets.
        SecretsRead => "secrets:read",
        /// Set and delete secrets; no permission reads their values.
        SecretsWrite => "secrets:write",
        /// See variables.
        VariablesRead => "variables:read",
        /// Set and delete variables.
        VariablesWrite => "variables:write",
        /// See runner groups.
        GroupsRead => "groups:read",
        /// Make, change and delete runner groups.
        GroupsWrite => "groups:write",
        /// See tokens, never their text.
        TokensRead => "tokens:read",
        /// Make tokens with no more than one's own permissions and scope, and revoke them.
        TokensWrite => "tokens:write",
        /// Read the audit log.
        AuditRead => "audit:read",
        /// Follow live events.
        EventsRead => "events:read",
    }
);

impl Permission {
    /// The permission that includes this one, if any.
    #[must_use]
    pub const fn included_in(self) -> Option<Self> {
        Some(match self {
            Self::RunnersRead | Self::RunnersRegister => Self::RunnersWrite,
            Self::JobsRead => Self::JobsWrite,
            Self::SecretsRead => Self::SecretsWrite,
            Self::VariablesRead => Self::VariablesWrite,
            Self::GroupsRead => Self::GroupsWrite,
            Self::TokensRead => Self::TokensWrite,
            _ => return None,
        })
    }

    /// Whether `granted` gives this permission.
    #[must_use]
    pub fn is_in(self, granted: &[Self]) -> bool {
        granted.contains(&self) || self.included_in().is_some_and(|larger| granted.contains(&larger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_includes_reading_and_registering_includes_nothing() {
        assert!(Permission::JobsRead.is_in(&[Permission::JobsWrite]));
        assert!(!Permission::JobsWrite.is_in(&[Permission::JobsRead]));
        for permission in Permission::ALL.iter().filter(|permission| **permission != Permission::RunnersRegister) {
            assert!(!permission.is_in(&[Permission::RunnersRegister]), "{permission}");
        }
    }
}
