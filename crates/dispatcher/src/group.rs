//! Runner groups: whose jobs their runners take, and how many at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use startline_protocol::scope::Scope;

use crate::requirement::fold;

/// Which group: a name, unique among the groups of the instance or of one organization.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    scope: Scope,
    name: String,
}

impl GroupKey {
    /// The group `name` of `scope`; case does not matter. Repositories have no groups of their own: what is said of one
    /// means its organization.
    #[must_use]
    pub fn new(scope: &Scope, name: &str) -> Self {
        let scope = match folded(scope) {
            Scope::Repository(repository) => Scope::Organization(owner(&repository).to_owned()),
            other => other,
        };
        Self { scope, name: fold(name) }
    }

    /// The instance or an organization.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Organization(organization) => write!(f, "{organization}/{}", self.name),
            _ => f.write_str(&self.name),
        }
    }
}

/// What holds for all runners of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPolicy {
    /// Which group.
    pub key: GroupKey,
    /// Whose jobs its runners may run, within each runner's own scope.
    pub repositories: Repositories,
    /// It accepts untrusted jobs. They go to ephemeral runners only, whatever the group says.
    pub accepts_untrusted: bool,
    /// Most jobs in the hands of its runners at the same time.
    pub max_running_jobs: Option<u32>,
    /// Most jobs of one repository in the hands of its runners at the same time.
    pub max_running_jobs_per_repository: Option<u32>,
}

impl GroupPolicy {
    /// The policy of a group that was never set: everything in its runners' scopes, trusted code only, without limits.
    #[must_use]
    pub const fn open(key: GroupKey) -> Self {
        Self {
            key,
            repositories: Repositories::All,
            accepts_untrusted: false,
            max_running_jobs: None,
            max_running_jobs_per_repository: None,
        }
    }

    /// Whether runners match the same jobs under both, limits aside.
    pub(crate) fn matches_like(&self, other: &Self) -> bool {
        self.repositories == other.repositories && self.accepts_untrusted == other.accepts_untrusted
    }
}

/// Whose jobs a group's runners may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repositories {
    /// Every repository's.
    #[default]
    All,
    /// Those of these repositories, `owner/name`; case does not matter.
    Only(BTreeSet<String>),
}

impl Repositories {
    /// What is left of a runner's scope: scopes that do not overlap.
    pub(crate) fn within(&self, scope: &Scope) -> BTreeSet<Scope> {
        let scope = folded(scope);
        match self {
            Self::All => [scope].into(),
            Self::Only(names) => {
                let repositories = names.iter().map(|name| Scope::Repository(fold(name)));
                repositories.filter(|repository| scope.covers(repository)).collect()
            }
        }
    }
}

/// A group as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// Its policy, as set, or [`GroupPolicy::open`].
    pub policy: GroupPolicy,
    /// Jobs that count for its limits: in the hands of its runners, by repository in lower case.
    pub jobs: BTreeMap<String, usize>,
}

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of a group.
    Group {
        /// Which.
        group: GroupKey,
        /// Jobs in the hands of its runners.
        running: usize,
        /// The limit.
        most: u32,
    },
    /// Of a repository in a group.
    RepositoryInGroup {
        /// Which repository.
        repository: String,
        /// In which group.
        group: GroupKey,
        /// Its jobs in the hands of the group's runners.
        running: usize,
        /// The limit.
        most: u32,
    },
    /// Of a repository.
    Repository {
        /// Which.
        repository: String,
        /// Its jobs in runners' hands.
        running: usize,
        /// The limit.
        most: u32,
    },
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { group, running, most } => write!(f, "group {group} runs {running} of {most} jobs"),
            Self::RepositoryInGroup { repository, group, running, most } => {
                write!(f, "{repository} runs {running} of {most} jobs in group {group}")
            }
            Self::Repository { repository, running, most } => write!(f, "{repository} runs {running} of {most} jobs"),
        }
    }
}

/// Whether `limit` leaves no room beside `running` jobs.
pub(crate) fn is_reached(limit: Option<u32>, running: usize) -> bool {
    limit.is_some_and(|most| running >= usize::try_from(most).unwrap_or(usize::MAX))
}

/// The scope in lower case, as the protocol writes it.
fn folded(scope: &Scope) -> Scope {
    match scope {
        Scope::Instance => Scope::Instance,
        Scope::Organization(name) => Scope::Organization(fold(name)),
        Scope::Repository(name) => Scope::Repository(fold(name)),
    }
}

fn owner(repository: &str) -> &str {
    repository.split_once('/').map_or(repository, |(owner, _)| owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_belongs_to_the_instance_or_an_organization_and_case_does_not_matter() {
        let key = |scope: &str, name| GroupKey::new(&scope.parse().unwrap(), name);
        assert_eq!(key("repository:acme/app", "GPU "), key("organization:Acme", "gpu"));
        assert_ne!(key("instance", "gpu"), key("organization:acme", "gpu"));
        assert_eq!(GroupKey::new(&Scope::Organization("ACME".to_owned()), "x"), key("organization:acme", "x"));
        assert_eq!(key("organization:acme", "gpu").to_string(), "acme/gpu");
        assert_eq!(key("instance", "gpu").to_string(), "gpu");
    }

    #[test]
    fn a_group_never_widens_its_runners_scope() {
        let only = Repositories::Only(["Acme/App".to_owned(), "umbrella/site".to_owned()].into());
        let within = |repositories: &Repositories, scope: &str| {
            let scopes = repositories.within(&scope.parse().unwrap());
            scopes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(within(&only, "instance"), ["repository:acme/app", "repository:umbrella/site"]);
        assert_eq!(within(&only, "organization:acme"), ["repository:acme/app"]);
        assert_eq!(within(&only, "repository:acme/lib"), [""; 0]);
        assert_eq!(within(&Repositories::All, "organization:acme"), ["organization:acme"]);
    }

    #[test]
    fn a_limit_is_reached_at_its_number_and_beyond() {
        assert!(!is_reached(None, usize::MAX));
        assert!(is_reached(Some(0), 0));
        assert_eq!([1, 2, 3].map(|running| is_reached(Some(2), running)), [false, true, true]);
    }
}
