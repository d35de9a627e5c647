//! Secrets and variables.

use jiff::Timestamp;
use startline_protocol::value_scope::ValueScope;

/// Most secrets of one scope.
pub(crate) const MAX_SECRETS: u32 = 100;
/// Most variables of one scope.
pub(crate) const MAX_VARIABLES: u32 = 500;

/// A secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// Where it is set.
    pub scope: ValueScope,
    /// Its name, upper case.
    pub name: String,
    /// First set.
    pub created_at: Timestamp,
    /// Last set.
    pub updated_at: Timestamp,
}

/// A secret's sealed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecret {
    /// Where it is set.
    pub scope: ValueScope,
    /// Its name, upper case.
    pub name: String,
    /// The value, sealed by the caller.
    pub sealed: Vec<u8>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableRecord {
    /// Where it is set.
    pub scope: ValueScope,
    /// Its name, upper case.
    pub name: String,
    /// Its value.
    pub value: String,
    /// First set.
    pub created_at: Timestamp,
    /// Last set.
    pub updated_at: Timestamp,
}

/// The form in which a secret's or variable's name is kept and compared.
pub(crate) fn value_key(name: &str) -> String {
    name.to_uppercase()
}
