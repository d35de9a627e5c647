//! What a token, a runner, a secret or a variable belongs to: the instance, an organization, or a repository.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A scope. Names are compared without case, as GitHub compares them.
///
/// Written `instance`, `organization:acme` or `repository:acme/demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    #[default]
    Instance,
    /// One organization with all its repositories; lower case.
    Organization(String),
    /// One repository, `owner/name`; lower case.
    Repository(String),
}

/// The text is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scope; write `instance`, `organization:NAME` or `repository:OWNER/NAME`")]
pub struct NotAScope(String);

/// Whether `name` may be an organization's or a repository's: it becomes a directory and a part of URLs.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl Scope {
    /// The scope of an organization.
    ///
    /// # Errors
    /// When it is not a name.
    pub fn organization(name: &str) -> Result<Self, NotAScope> {
        if is_name(name) { Ok(Self::Organization(name.to_ascii_lowercase())) } else { Err(NotAScope(name.to_owned())) }
    }

    /// The scope of a repository, `owner/name`.
    ///
    /// # Errors
    /// When it is not `owner/name`.
    pub fn repository(name: &str) -> Result<Self, NotAScope> {
        match name.split_once('/') {
            Some((owner, repository)) if is_name(owner) && is_name(repository) => {
                Ok(Self::Repository(name.to_ascii_lowercase()))
            }
            _ => Err(NotAScope(name.to_owned())),
        }
    }

    /// Whether everything in `other` is in `self`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Instance, _) => true,
            (Self::Organization(own), Self::Organization(other)) => own == other,
            (Self::Organization(own), Self::Repository(repository)) => owner(repository) == own,
            (Self::Repository(own), Self::Repository(other)) => own == other,
            _ => false,
        }
    }

    /// Whether a repository, `owner/name`, is in it.
    #[must_use]
    pub fn covers_repository(&self, name: &str) -> bool {
        Self::repository(name).is_ok_and(|repository| self.covers(&repository))
    }

    /// The scopes that this one lies in, itself last: where its secrets and variables come from, later ones winning.
    #[must_use]
    pub fn ancestry(&self) -> Vec<Self> {
        match self {
            Self::Instance => vec![Self::Instance],
            Self::Organization(_) => vec![Self::Instance, self.clone()],
            Self::Repository(name) => {
                vec![Self::Instance, Self::Organization(owner(name).to_owned()), self.clone()]
            }
        }
    }
}

fn owner(repository: &str) -> &str {
    repository.split('/').next().unwrap_or_default()
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance => f.write_str("instance"),
            Self::Organization(name) => write!(f, "organization:{name}"),
            Self::Repository(name) => write!(f, "repository:{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        match text.split_once(':') {
            None if text == "instance" => Ok(Self::Instance),
            Some(("organization", name)) => Self::organization(name).map_err(|_| NotAScope(text.to_owned())),
            Some(("repository", name)) => Self::repository(name).map_err(|_| NotAScope(text.to_owned())),
            _ => Err(NotAScope(text.to_owned())),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for Scope {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`instance`, `organization:NAME` or `repository:OWNER/NAME`.",
            "type": "string",
            "pattern": "^(instance|organization:[A-Za-z0-9._-]+|repository:[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn is_written_as_it_is_read() {
        for text in ["instance", "organization:acme", "repository:acme/demo.rs"] {
            assert_eq!(scope(text).to_string(), text);
        }
        for bad in
            ["", "acme", "organization:", "organization:a/b", "repository:a", "repository:../b", "repository:a/b/c"]
        {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
        assert_eq!(scope("repository:Acme/Demo"), scope("repository:acme/demo"));
    }

    #[test]
    fn covers_what_lies_inside_and_nothing_else() {
        let all = ["instance", "organization:acme", "organization:other", "repository:acme/a", "repository:acme/b"];
        let covered = |outer: &str| all.iter().filter(|inner| scope(outer).covers(&scope(inner))).count();
        assert_eq!(all.map(covered), [5, 3, 1, 1, 1]);
        assert!(!scope("organization:acm").covers_repository("acme/a"));
        assert!(scope("organization:acme").covers_repository("ACME/a"));
    }

    #[test]
    fn ancestry_goes_from_the_instance_inwards() {
        let ancestry: Vec<String> = scope("repository:acme/a").ancestry().iter().map(ToString::to_string).collect();
        assert_eq!(ancestry, ["instance", "organization:acme", "repository:acme/a"]);
    }
}
