//! What is queued for runners that are not there.

use std::collections::{BTreeMap, BTreeSet};

use startline_protocol::scope::Scope;

use super::{Index, Lane, Place};
use crate::group::{GroupKey, GroupPolicy, Repositories};
use crate::interner::{Number as _, PoolId, RepositoryId};
use crate::profile::Profile;
use crate::runner::RunnerSpec;

/// A runner that is not there, under its group's policy as it is now.
pub(crate) struct Seeker {
    profile: Profile,
    serves: BTreeSet<Scope>,
    group: GroupKey,
    policy: Option<GroupPolicy>,
}

/// Queued jobs of one class and repository.
pub(crate) struct Queued<'a> {
    pub(crate) lane: Lane,
    pub(crate) places: &'a BTreeSet<Place>,
}

/// How many more jobs may be in hands, as far as there is a limit.
pub(crate) struct Rooms {
    group: Option<usize>,
    /// Of each repository within the group.
    each: Option<u32>,
    by_repository: BTreeMap<RepositoryId, usize>,
    held_in_group: BTreeMap<RepositoryId, usize>,
}

impl Index {
    /// What decides about the jobs of runners like `spec`.
    pub(crate) fn seeker(&self, spec: &RunnerSpec) -> Seeker {
        let group = self.resolve(&spec.scope, &spec.group);
        let policy = self.policy(&group).cloned();
        let accepts_untrusted = policy.as_ref().is_some_and(|policy| policy.accepts_untrusted);
        let serves = policy.as_ref().map_or(&Repositories::All, |policy| &policy.repositories).within(&spec.scope);
        // The pool of a profile says which repositories it serves, which is in `serves` here.
        Seeker { profile: Profile::of(spec, PoolId::at(0), accepts_untrusted), serves, group, policy }
    }

    /// The queued jobs that fit, by lane; limits aside.
    pub(crate) fn lanes_for<'a>(&'a self, seeker: &'a Seeker) -> impl Iterator<Item = Queued<'a>> {
        let classes = self.queued.iter().filter(|id| seeker.profile.satisfies(self.classes.key(**id)));
        classes.flat_map(move |&class| {
            let lanes = self.classes.get(class).lanes.iter();
            let served = lanes.filter(|(repository, _)| self.serves(seeker, **repository));
            served.map(move |(&repository, state)| Queued { lane: Lane { class, repository }, places: &state.places })
        })
    }

    /// Whether jobs of the lane fit, limits aside.
    pub(crate) fn fits(&self, seeker: &Seeker, lane: Lane) -> bool {
        seeker.profile.satisfies(self.classes.key(lane.class)) && self.serves(seeker, lane.repository)
    }

    fn serves(&self, seeker: &Seeker, repository: RepositoryId) -> bool {
        let repository = Scope::Repository(self.repositories.key(repository).to_string());
        seeker.serves.iter().any(|scope| scope.covers(&repository))
    }

    /// Jobs of the lane's repository that are in runners' hands.
    pub(crate) fn held_of(&self, lane: Lane) -> usize {
        self.repositories.get(lane.repository).held
    }

    /// The room that there is now.
    pub(crate) fn rooms(&self, seeker: &Seeker) -> Rooms {
        let state = self.groups.find(&seeker.group).map(|id| self.groups.get(id));
        let held = state.map_or(0, |state| state.held);
        let most = seeker.policy.as_ref().and_then(|policy| policy.max_running_jobs);
        Rooms {
            group: most.map(|most| left(most, held)),
            each: seeker.policy.as_ref().and_then(|policy| policy.max_running_jobs_per_repository),
            by_repository: BTreeMap::new(),
            held_in_group: state.map(|state| state.by_repository.clone()).unwrap_or_default(),
        }
    }

    /// Takes the room of one more job of the lane, if there is some.
    pub(crate) fn fill(&self, rooms: &mut Rooms, lane: Lane) -> bool {
        let id = lane.repository;
        let more = rooms.by_repository.get(&id).copied().unwrap_or(0);
        let in_group = rooms.held_in_group.get(&id).copied().unwrap_or(0) + more;
        let of_all = self.repositories.get(id).held + more;
        let full = rooms.group == Some(0)
            || rooms.each.is_some_and(|most| left(most, in_group) == 0)
            || self.max_per_repository.is_some_and(|most| left(most, of_all) == 0);
        if full {
            return false;
        }
        self.reserve(rooms, lane);
        true
    }

    /// Takes the room of one more job of the lane, whether there is some or not.
    pub(crate) fn reserve(&self, rooms: &mut Rooms, lane: Lane) {
        rooms.group = rooms.group.map(|left| left.saturating_sub(1));
        *rooms.by_repository.entry(lane.repository).or_default() += 1;
    }
}

impl Lane {
    pub(crate) fn repository(self) -> RepositoryId {
        self.repository
    }
}

fn left(most: u32, held: usize) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(held)
}
