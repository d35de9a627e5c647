//! What runners with equal abilities have in common, and what a class asks that it lacks.

use std::collections::BTreeSet;

use crate::explain::Missing;
use crate::interner::PoolId;
use crate::requirement::{Bound, Class, Feature, fold};
use crate::runner::RunnerSpec;

/// Everything of a runner that matching looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Profile {
    labels: BTreeSet<String>,
    group: String,
    features: BTreeSet<Feature>,
    bounds: [u32; 4],
    actions: BTreeSet<String>,
    takes_untrusted: bool,
    pool: PoolId,
}

impl Profile {
    /// The profile of `runner`, which serves `pool`'s repositories and whose group accepts untrusted jobs or not.
    pub(crate) fn of(runner: &RunnerSpec, pool: PoolId, accepts_untrusted: bool) -> Self {
        let machine = &runner.capabilities;
        let features = [
            (Feature::Gpu, machine.gpu_enabled),
            (Feature::Docker, machine.docker_enabled),
            (Feature::Kubernetes, machine.kubernetes_enabled),
        ];
        Self {
            labels: runner.labels.iter().map(|label| fold(label)).collect(),
            group: fold(&runner.group),
            features: features.into_iter().filter(|(_, there)| *there).map(|(feature, _)| feature).collect(),
            bounds: Bound::ALL.map(|bound| match bound {
                Bound::MemoryGb => machine.memory_gb,
                Bound::CpuCores => machine.cpu_cores,
                Bound::DiskSpaceGb => machine.disk_space_gb,
                Bound::GpuMemoryGb => machine.gpu_memory_gb.unwrap_or(0),
            }),
            actions: machine.supported_actions.iter().map(|action| fold(action)).collect(),
            takes_untrusted: accepts_untrusted && runner.ephemeral,
            pool,
        }
    }

    pub(crate) fn labels(&self) -> &BTreeSet<String> {
        &self.labels
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.pool
    }

    /// Whether runners of this profile satisfy `class`, repository aside.
    pub(crate) fn satisfies(&self, class: &Class) -> bool {
        self.lacks(class).next().is_none()
    }

    /// What runners of this profile lack for `class`, repository aside.
    pub(crate) fn lacks<'a>(&'a self, class: &'a Class) -> impl Iterator<Item = Missing> + 'a {
        let group = class.group.iter().filter(|group| **group != self.group);
        let group = group.map(|group| Missing::Group { needed: group.clone(), has: self.group.clone() });
        let trust = (!class.trusted && !self.takes_untrusted).then_some(Missing::Trust);
        let labels = class.labels.difference(&self.labels).cloned().map(Missing::Label);
        // A bare word is also satisfied by a label: people have labelled their machines `gpu` for years.
        let features = class.features.difference(&self.features);
        let features = features.filter(|feature| !self.labels.contains(feature.as_str()));
        let features = features.copied().map(Missing::Feature);
        let bounds = class.bounds.iter().filter_map(|&(bound, least)| {
            let has = self.bounds[bound as usize];
            (has < least).then_some(Missing::Bound { bound, least, has })
        });
        let actions = class.actions.difference(&self.actions).cloned().map(Missing::Action);
        group.chain(trust).chain(labels).chain(features).chain(bounds).chain(actions)
    }
}
