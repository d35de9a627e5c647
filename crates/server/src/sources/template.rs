//! Addresses of mirrors with places for names.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::name::{GitRef, RepositoryName};

/// One mirror's address. With `{ref}` it names tarballs, without it git repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(String);

/// The text is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a mirror; write http://, https:// or file:// and an address with {{owner}} and {{repo}}, and {{ref}} where it \
     names tarballs"
)]
pub struct NotAMirror(String);

impl FromStr for Template {
    type Err = NotAMirror;

    fn from_str(text: &str) -> Result<Self, NotAMirror> {
        let scheme = ["http://", "https://", "file:///"].iter().any(|scheme| text.starts_with(scheme));
        let plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
        if scheme && plain && text.contains("{repo}") && text.contains("{owner}") {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAMirror(text.to_owned()))
        }
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Template {
    /// Whether it names tarballs.
    pub(super) fn is_of_tarballs(&self) -> bool {
        self.0.contains("{ref}")
    }

    /// The address for a name.
    pub(super) fn fill(&self, name: &RepositoryName, git_ref: &GitRef) -> String {
        let mut encoded = String::new();
        for byte in git_ref.as_str().bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        self.0.replace("{owner}", name.owner()).replace("{repo}", name.repo()).replace("{ref}", &encoded)
    }
}

/// Mirrors in the order in which they are asked; as text separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors(pub(super) Vec<Template>);

impl FromStr for Mirrors {
    type Err = NotAMirror;

    fn from_str(text: &str) -> Result<Self, NotAMirror> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Mirrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Mirrors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_and_nothing_in_a_ref_changes_the_address() {
        let template: Template = "https://m.example/{owner}/{repo}/archive/{ref}.tar.gz".parse().unwrap();
        let name = RepositoryName::parse("acme/tools").unwrap();
        let git_ref = GitRef::parse("v1#x%y").unwrap();
        assert_eq!(template.fill(&name, &git_ref), "https://m.example/acme/tools/archive/v1%23x%25y.tar.gz");
        assert!(template.is_of_tarballs());
        for bad in ["ssh://x/{owner}/{repo}", "https://x/{repo}", "ext::sh {owner}{repo}", "/srv/{owner}/{repo}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
        assert_eq!("".parse::<Mirrors>().unwrap().0.len(), 0);
    }
}
