//! What a job asks of a runner, and its canonical form.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who may run a job.
///
/// Labels are compared without regard to case. These words are capability bounds instead: `memory_gb>=N`,
/// `cpu_cores>=N`, `disk_space_gb>=N`, `gpu_memory_gb>=N`, `supports:owner/action`, `gpu`, `docker`, `kubernetes`; the last
/// three are also satisfied by a label of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Labels and capability bounds, all to be satisfied.
    pub labels: Vec<String>,
    /// The runner group, when the job names one.
    pub group: Option<String>,
    /// Whose job it is, `owner/name`.
    pub repository: String,
    /// Its code is trusted. An untrusted job only goes to ephemeral runners of groups that accept such jobs.
    pub trusted: bool,
}

impl Requirement {
    /// Most labels that a requirement may name.
    pub const MAX_LABELS: usize = 64;
    /// Most bytes of one label.
    pub const MAX_LABEL_BYTES: usize = 256;

    /// Says whether the requirement can be understood, so that a submission can be refused before it is stored.
    ///
    /// # Errors
    ///
    /// The first label that cannot be understood.
    pub fn check(&self) -> Result<(), RequirementError> {
        self.class().map(drop)
    }

    /// The canonical form: equal for requirements that the same runners satisfy, repository aside.
    pub(crate) fn class(&self) -> Result<Class, RequirementError> {
        if self.labels.len() > Self::MAX_LABELS {
            return Err(RequirementError::TooManyLabels { count: self.labels.len() });
        }
        let mut class = Class { group: self.group.as_deref().map(fold), trusted: self.trusted, ..Class::default() };
        for label in &self.labels {
            class.add(label)?;
        }
        Ok(class)
    }
}

/// Why a requirement cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// A label without text.
    #[error("a label is empty")]
    EmptyLabel,
    /// A label beyond [`Requirement::MAX_LABEL_BYTES`].
    #[error("a label of {bytes} bytes is longer than {} bytes", Requirement::MAX_LABEL_BYTES)]
    LabelTooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than [`Requirement::MAX_LABELS`].
    #[error("{count} labels are more than {}", Requirement::MAX_LABELS)]
    TooManyLabels {
        /// How many.
        count: usize,
    },
    /// A bound on something that is no capability.
    #[error("`{label}`: `{name}` is not a capability; known are {}", Bound::NAMES)]
    UnknownCapability {
        /// The label.
        label: String,
        /// What stands left of the operator.
        name: String,
    },
    /// A comparison other than `>=`.
    #[error("`{label}`: a capability is bounded with `>=` only")]
    BadOperator {
        /// The label.
        label: String,
    },
    /// Not a whole number right of the operator.
    #[error("`{label}`: `{value}` is not a whole number")]
    BadNumber {
        /// The label.
        label: String,
        /// What stands there.
        value: String,
    },
    /// `supports:` without `owner/action`.
    #[error("`{label}`: `supports:` is followed by `owner/action`")]
    BadAction {
        /// The label.
        label: String,
    },
}

/// A capability with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// Memory in GiB.
    MemoryGb,
    /// Processors.
    CpuCores,
    /// Free disk in GiB.
    DiskSpaceGb,
    /// Memory of the largest GPU in GiB.
    GpuMemoryGb,
}

impl Bound {
    pub(crate) const ALL: [Self; 4] = [Self::MemoryGb, Self::CpuCores, Self::DiskSpaceGb, Self::GpuMemoryGb];
    const NAMES: &'static str = "memory_gb, cpu_cores, disk_space_gb, gpu_memory_gb";

    /// How the capability is spelled.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemoryGb => "memory_gb",
            Self::CpuCores => "cpu_cores",
            Self::DiskSpaceGb => "disk_space_gb",
            Self::GpuMemoryGb => "gpu_memory_gb",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A capability that is there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// A GPU.
    Gpu,
    /// A Docker engine.
    Docker,
    /// A Kubernetes cluster.
    Kubernetes,
}

impl Feature {
    const ALL: [Self; 3] = [Self::Gpu, Self::Docker, Self::Kubernetes];

    /// How the capability is spelled.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A requirement class: everything that a requirement asks of a runner, repository aside, in one spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) labels: BTreeSet<String>,
    pub(crate) features: BTreeSet<Feature>,
    pub(crate) bounds: Vec<(Bound, u32)>,
    pub(crate) actions: BTreeSet<String>,
    pub(crate) group: Option<String>,
    pub(crate) trusted: bool,
}

impl Class {
    fn add(&mut self, label: &str) -> Result<(), RequirementError> {
        let label = label.trim();
        if label.is_empty() {
            return Err(RequirementError::EmptyLabel);
        }
        if label.len() > Requirement::MAX_LABEL_BYTES {
            return Err(RequirementError::LabelTooLong { bytes: label.len() });
        }
        let word = fold(label);
        if let Some(action) = word.strip_prefix("supports:") {
            let action = action.trim();
            if !matches!(action.split_once('/'), Some((owner, name)) if !owner.is_empty() && !name.is_empty()) {
                return Err(RequirementError::BadAction { label: label.to_owned() });
            }
            self.actions.insert(action.to_owned());
        } else if let Some(at) = word.find(['<', '>']) {
            let (bound, least) = parse_bound(label, &word, at)?;
            match self.bounds.binary_search_by_key(&bound, |(bound, _)| *bound) {
                Ok(at) => self.bounds[at].1 = self.bounds[at].1.max(least),
                Err(at) => self.bounds.insert(at, (bound, least)),
            }
        } else if let Some(feature) = Feature::ALL.into_iter().find(|feature| feature.as_str() == word) {
            self.features.insert(feature);
        } else {
            self.labels.insert(word);
        }
        Ok(())
    }
}

fn parse_bound(label: &str, word: &str, at: usize) -> Result<(Bound, u32), RequirementError> {
    let (name, rest) = word.split_at(at);
    let name = name.trim();
    let Some(bound) = Bound::ALL.into_iter().find(|bound| bound.as_str() == name) else {
        return Err(RequirementError::UnknownCapability { label: label.to_owned(), name: name.to_owned() });
    };
    let Some(value) = rest.strip_prefix(">=") else {
        return Err(RequirementError::BadOperator { label: label.to_owned() });
    };
    let value = value.trim();
    // `u32::from_str` takes a leading plus sign, which nobody means to write here.
    let number = if value.starts_with('+') { None } else { value.parse().ok() };
    let number =
        number.ok_or_else(|| RequirementError::BadNumber { label: label.to_owned(), value: value.to_owned() })?;
    Ok((bound, number))
}

/// The spelling in which labels, groups, repositories and actions are compared.
pub(crate) fn fold(text: &str) -> String {
    text.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(labels: &[&str]) -> Result<Class, RequirementError> {
        let labels = labels.iter().map(ToString::to_string).collect();
        Requirement { labels, ..Requirement::default() }.class()
    }

    fn refused(label: &str) -> String {
        class(&[label]).unwrap_err().to_string()
    }

    #[test]
    fn spelling_order_and_repetition_do_not_make_a_class() {
        let one = class(&["Linux", "x64", "memory_gb>=8", "GPU", "supports:Acme/Deploy"]).unwrap();
        let other =
            class(&["supports:acme/deploy", "X64 ", "gpu", "MEMORY_GB >= 8", "memory_gb>=4", "linux", "x64"]).unwrap();
        assert_eq!(one, other);
        assert_ne!(one, class(&["linux", "x64", "memory_gb>=9", "gpu", "supports:acme/deploy"]).unwrap());
    }

    #[test]
    fn ordinary_labels_may_look_almost_like_bounds() {
        let labels = class(&["memory_gb", "cpu=4", "runs-on:big", "gpu-large", "supports"]).unwrap().labels;
        assert_eq!(labels.len(), 5);
    }

    #[test]
    fn a_bound_that_cannot_be_understood_is_refused_by_name() {
        assert_eq!(
            refused("Disk>=3"),
            "`Disk>=3`: `disk` is not a capability; known are memory_gb, cpu_cores, disk_space_gb, gpu_memory_gb"
        );
        assert_eq!(refused("cpu_cores<8"), "`cpu_cores<8`: a capability is bounded with `>=` only");
        assert_eq!(refused("cpu_cores>8"), "`cpu_cores>8`: a capability is bounded with `>=` only");
        for value in ["", "-1", "+1", "1.5", "8GB", "4294967296"] {
            let text = refused(&format!("memory_gb>={value}"));
            assert!(text.ends_with(&format!("`{}` is not a whole number", value.to_lowercase())), "{text}");
        }
        assert_eq!(refused("supports:deploy"), "`supports:deploy`: `supports:` is followed by `owner/action`");
        assert_eq!(refused(" "), "a label is empty");
        assert_eq!(refused(&"x".repeat(257)), "a label of 257 bytes is longer than 256 bytes");
        assert_eq!(class(&["x"; 65]).unwrap_err(), RequirementError::TooManyLabels { count: 65 });
        assert_eq!(class(&["x"; 64]).map(|class| class.labels.len()), Ok(1));
    }
}
