//! What a secret or a variable belongs to: a scope, or one environment of a repository.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scope::Scope;

/// Most characters of an environment's name, as on GitHub.
const LONGEST: usize = 255;

/// Where a secret or a variable is set. Names are compared without case, as GitHub compares them.
///
/// Written as the scope, or `environment:acme/demo/production`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueScope {
    /// For all jobs of a scope.
    Scope(Scope),
    /// For the jobs of a repository that name this environment.
    Environment {
        /// `owner/name`; lower case.
        repository: String,
        /// Lower case.
        name: String,
    },
}

/// The text is not where values are set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAValueScope {
    /// An environment's name.
    #[error("`{0}` is not the name of an environment: it has 1 to {LONGEST} characters on one line")]
    Name(String),
    /// Something else.
    #[error(
        "`{0}` is not where values are set; write `instance`, `organization:NAME`, `repository:OWNER/NAME` or \
         `environment:OWNER/NAME/ENVIRONMENT`"
    )]
    Text(String),
}

impl ValueScope {
    /// An environment of a repository, `owner/name`.
    ///
    /// # Errors
    /// When one of them is not a name.
    pub fn environment(repository: &str, name: &str) -> Result<Self, NotAValueScope> {
        let Ok(Scope::Repository(repository)) = Scope::repository(repository) else {
            return Err(NotAValueScope::Text(format!("environment:{repository}/{name}")));
        };
        let name = name.trim();
        if name.is_empty() || name.chars().count() > LONGEST || name.chars().any(char::is_control) {
            return Err(NotAValueScope::Name(name.escape_debug().to_string()));
        }
        Ok(Self::Environment { repository, name: name.to_lowercase() })
    }

    /// The scope that it is, or that the environment's repository is.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Scope(scope) => scope.clone(),
            Self::Environment { repository, .. } => Scope::Repository(repository.clone()),
        }
    }
}

impl From<Scope> for ValueScope {
    fn from(scope: Scope) -> Self {
        Self::Scope(scope)
    }
}

impl fmt::Display for ValueScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => scope.fmt(f),
            Self::Environment { repository, name } => write!(f, "environment:{repository}/{name}"),
        }
    }
}

impl FromStr for ValueScope {
    type Err = NotAValueScope;

    fn from_str(text: &str) -> Result<Self, NotAValueScope> {
        let not = || NotAValueScope::Text(text.to_owned());
        let Some(rest) = text.strip_prefix("environment:") else {
            return text.parse().map(Self::Scope).map_err(|_| not());
        };
        let slash = rest.match_indices('/').nth(1).map(|(at, _)| at).ok_or_else(not)?;
        Self::environment(&rest[..slash], &rest[slash + 1..])
    }
}

impl Serialize for ValueScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ValueScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for ValueScope {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ValueScope".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`instance`, `organization:NAME`, `repository:OWNER/NAME` or \
                            `environment:OWNER/NAME/ENVIRONMENT`.",
            "type": "string",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_without_case() {
        for text in ["instance", "organization:acme", "repository:acme/demo", "environment:acme/demo/prod/eu west"] {
            let scope: ValueScope = text.parse().unwrap();
            assert_eq!(scope.to_string(), text);
            assert_eq!(serde_json::from_str::<ValueScope>(&format!("\"{text}\"")).unwrap(), scope);
        }
        let upper: ValueScope = "environment:Acme/Demo/Prod".parse().unwrap();
        assert_eq!(upper, ValueScope::environment("acme/demo", " prod ").unwrap());
        assert_eq!(upper.scope().to_string(), "repository:acme/demo");
    }

    #[test]
    fn what_is_no_place_for_values_is_refused() {
        let long = format!("environment:a/b/{}", "x".repeat(256));
        for bad in ["", "environment:", "environment:acme/demo", "environment:acme/demo/", "environment:a b/c/d", &long]
        {
            assert!(bad.parse::<ValueScope>().is_err(), "{bad}");
        }
        assert!(ValueScope::environment("a/b", "two\nlines").is_err());
    }
}
