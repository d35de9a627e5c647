//! The matching index: queued jobs by lane, waiting runners by profile, and which fit which.
//!
//! A *lane* is a requirement class and a repository. Its jobs are ordered among themselves once and for all
//! (priority, then place). A *profile* is what runners with equal abilities have in common; it orders its waiting runners by
//! how long they have been idle. A *pool* is a runner group and the part of a scope that its runners serve; each profile
//! is of one pool. For each pool with a profile that satisfies it, a class has a *view*: the heads of the lanes that the
//! pool serves, ordered by priority, then by how many jobs of the repository are in runners' hands, then by place; and
//! the heads of those profiles. So nothing here walks over jobs or over idle runners: an event touches the classes of
//! one profile or the lanes of one repository.
//!
//! Limits take away what could be chosen. The lanes of a repository that is at its limit have no head; those of one that is at
//! its limit within a group are not in the views of the group's pools; the pools of a group at its limit are passed over.
//! When a job ends, what it gives back is touched.
//!
//! Whoever calls has, between events, no queued job that a waiting runner fits and may have. A new pair therefore
//! involves a lane, a profile or a pool that the event has touched, and [`Index::next_match`] looks at those alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::scope::Scope;

use crate::group::{GroupKey, GroupPolicy, is_reached};
use crate::interner::{ClassId, GroupId, Interner, PoolId, ProfileId, RepositoryId};
use crate::profile::Profile;
use crate::requirement::{Class, fold};

mod groups;
mod matching;
mod profiles;
mod seeking;
#[cfg(test)]
mod tests;

pub(crate) use seeking::Seeker;

/// Jobs of one class and repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    class: ClassId,
    repository: RepositoryId,
}

/// A job's place in its lane: higher priority first, then lower sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) priority: Reverse<i32>,
    pub(crate) sequence: i64,
    pub(crate) job: JobId,
}

/// A lane's first job among those of other lanes: priority, then fair share, then place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    priority: Reverse<i32>,
    held: usize,
    sequence: i64,
    job: JobId,
    repository: RepositoryId,
}

impl Head {
    fn place(&self) -> Place {
        Place { priority: self.priority, sequence: self.sequence, job: self.job }
    }
}

/// A runner that waits: the lowest idle stamp has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiter {
    pub(crate) idle: u64,
    pub(crate) runner: RunnerId,
}

#[derive(Debug, Default)]
struct RepositoryState {
    /// Jobs of the repository in runners' hands.
    held: usize,
    /// Classes in which it has queued jobs.
    classes: BTreeSet<ClassId>,
    /// Pools that serve it.
    pools: BTreeSet<PoolId>,
}

#[derive(Debug, Default)]
struct GroupState {
    /// `None` until it is set.
    policy: Option<GroupPolicy>,
    /// Jobs that count for its limits.
    held: usize,
    /// The same, by repository; none of them zero.
    by_repository: BTreeMap<RepositoryId, usize>,
    pools: BTreeSet<PoolId>,
}

/// A group and the scopes of its that the pool's runners serve; they do not overlap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pool {
    group: GroupId,
    serves: BTreeSet<Scope>,
}

#[derive(Debug, Default)]
struct PoolState {
    /// The repositories known that it serves.
    repositories: BTreeSet<RepositoryId>,
    /// The classes with a view for it.
    classes: BTreeSet<ClassId>,
}

#[derive(Debug, Default)]
struct ClassState {
    lanes: BTreeMap<RepositoryId, LaneState>,
    views: BTreeMap<PoolId, View>,
    profiles: BTreeSet<ProfileId>,
    /// The stamp under which it stands in the index's `idle`.
    idle_since: Option<u64>,
}

#[derive(Debug, Default)]
struct LaneState {
    places: BTreeSet<Place>,
    /// As it stands in the class's views; `None` while the repository is at its limit.
    head: Option<Head>,
}

/// What a class and a pool have for each other.
#[derive(Debug, Default)]
struct View {
    /// How many profiles of the pool satisfy the class.
    profiles: usize,
    /// Heads of lanes that the pool serves, without those of repositories at their limit in its group.
    heads: BTreeSet<Head>,
    /// Heads of those profiles.
    waiting: BTreeSet<(Waiter, ProfileId)>,
}

#[derive(Debug, Default)]
struct ProfileState {
    classes: BTreeSet<ClassId>,
    waiters: BTreeSet<Waiter>,
    /// As it stands in the classes' views.
    head: Option<Waiter>,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    repositories: Interner<RepositoryId, String, RepositoryState>,
    groups: Interner<GroupId, GroupKey, GroupState>,
    pools: Interner<PoolId, Pool, PoolState>,
    classes: Interner<ClassId, Class, ClassState>,
    profiles: Interner<ProfileId, Profile, ProfileState>,
    by_label: BTreeMap<String, BTreeSet<ProfileId>>,
    /// Pools by each scope that they serve.
    by_scope: BTreeMap<Scope, BTreeSet<PoolId>>,
    /// Most jobs of one repository in runners' hands.
    max_per_repository: Option<u32>,
    /// Classes with queued jobs.
    queued: BTreeSet<ClassId>,
    /// Classes without jobs, the longest so first.
    idle: BTreeSet<(u64, ClassId)>,
    /// How many of them are remembered.
    idle_classes: usize,
    /// Grows with each class that is left without jobs.
    idle_stamp: u64,
    touched_lanes: BTreeSet<Lane>,
    touched_profiles: BTreeSet<ProfileId>,
    touched_pools: BTreeSet<PoolId>,
}

impl Index {
    /// An index that remembers `idle_classes` classes without jobs.
    pub(crate) fn new(idle_classes: usize, max_per_repository: Option<u32>) -> Self {
        Self { idle_classes, max_per_repository, ..Self::default() }
    }

    /// The lane of jobs of `class` and `repository`, held until [`Self::release_lane`].
    pub(crate) fn retain_lane(&mut self, class: Class, repository: &str) -> Lane {
        let repository = self.retain_repository(fold(repository));
        let (class, new) = self.classes.retain(class);
        if new {
            self.match_class(class);
        } else if let Some(since) = self.classes.get_mut(class).idle_since.take() {
            self.idle.remove(&(since, class));
        }
        Lane { class, repository }
    }

    /// One more use of a lane that is held.
    pub(crate) fn reuse_lane(&mut self, lane: Lane) {
        self.repositories.reuse(lane.repository);
        self.classes.reuse(lane.class);
    }

    /// Whose the lane's jobs are, in lower case.
    pub(crate) fn repository(&self, lane: Lane) -> &str {
        self.repositories.key(lane.repository)
    }

    pub(crate) fn release_lane(&mut self, lane: Lane) {
        self.release_repository(lane.repository);
        if self.classes.release(lane.class) > 0 {
            return;
        }
        self.idle_stamp += 1;
        self.classes.get_mut(lane.class).idle_since = Some(self.idle_stamp);
        self.idle.insert((self.idle_stamp, lane.class));
        if self.idle.len() > self.idle_classes
            && let Some((_, oldest)) = self.idle.pop_first()
        {
            self.forget_class(oldest);
        }
    }

    fn forget_class(&mut self, id: ClassId) {
        let (_, state) = self.classes.remove(id);
        for profile in state.profiles {
            self.profiles.get_mut(profile).classes.remove(&id);
        }
        for pool in state.views.into_keys() {
            self.pools.get_mut(pool).classes.remove(&id);
        }
        debug_assert!(self.touched_lanes.iter().all(|lane| lane.class != id), "a touched lane has jobs");
    }

    pub(crate) fn push(&mut self, lane: Lane, place: Place) {
        let class = self.classes.get_mut(lane.class);
        let state = class.lanes.entry(lane.repository).or_default();
        let is_new = state.places.is_empty();
        // Behind a head that stands, nothing else changes.
        let is_behind = state.head.is_some_and(|head| head.place() < place);
        state.places.insert(place);
        if is_new {
            self.repositories.get_mut(lane.repository).classes.insert(lane.class);
            self.queued.insert(lane.class);
        }
        if !is_behind {
            self.refresh_lane(lane);
        }
        self.touched_lanes.insert(lane);
    }

    pub(crate) fn remove(&mut self, lane: Lane, place: Place) {
        if let Some(state) = self.classes.get_mut(lane.class).lanes.get_mut(&lane.repository) {
            state.places.remove(&place);
        }
        self.refresh_lane(lane);
        let class = self.classes.get_mut(lane.class);
        if class.lanes.get(&lane.repository).is_some_and(|state| state.places.is_empty()) {
            class.lanes.remove(&lane.repository);
            self.repositories.get_mut(lane.repository).classes.remove(&lane.class);
            self.touched_lanes.remove(&lane);
        }
        if class.lanes.is_empty() {
            self.queued.remove(&lane.class);
        }
    }

    /// Counts one more job of the lane's repository as in runners' hands, for `group` too.
    pub(crate) fn hold(&mut self, lane: Lane, group: Option<GroupId>) {
        self.repositories.get_mut(lane.repository).held += 1;
        if let Some(group) = group {
            self.count_in(group, lane.repository);
        }
        self.refresh_repository(lane.repository);
    }

    /// Ends one [`Self::hold`].
    pub(crate) fn let_go(&mut self, lane: Lane, group: Option<GroupId>) {
        self.repositories.get_mut(lane.repository).held -= 1;
        if let Some(group) = group {
            self.count_out(group, lane.repository);
        }
        self.refresh_repository(lane.repository);
    }

    /// Lets a job in runners' hands count for another group.
    pub(crate) fn regroup(&mut self, lane: Lane, old: Option<GroupId>, new: GroupId) {
        self.count_in(new, lane.repository);
        if let Some(old) = old {
            self.count_out(old, lane.repository);
        }
        self.refresh_repository(lane.repository);
    }

    /// Changes the limit of every repository.
    pub(crate) fn set_max_per_repository(&mut self, most: Option<u32>) {
        self.max_per_repository = most;
        for repository in self.repositories.ids().collect::<Vec<_>>() {
            self.refresh_repository(repository);
        }
    }

    /// Brings the repository's lanes up to date after a change of its counts or limits.
    fn refresh_repository(&mut self, repository: RepositoryId) {
        // Lanes come and go elsewhere, so the set is lent meanwhile.
        let classes = std::mem::take(&mut self.repositories.get_mut(repository).classes);
        for &class in &classes {
            self.refresh_lane(Lane { class, repository });
        }
        self.repositories.get_mut(repository).classes = classes;
    }

    /// Brings the lane's entries in its class's views up to date. A lane that comes into a view is touched.
    fn refresh_lane(&mut self, lane: Lane) {
        let Self { repositories, groups, pools, classes, touched_lanes, .. } = self;
        let repository = repositories.get(lane.repository);
        let class = classes.get_mut(lane.class);
        let Some(state) = class.lanes.get_mut(&lane.repository) else { return };
        let held = repository.held;
        let first = state.places.first().filter(|_| !is_reached(self.max_per_repository, held));
        let head = first.map(|&Place { priority, sequence, job }| Head {
            priority,
            held,
            sequence,
            job,
            repository: lane.repository,
        });
        let old = std::mem::replace(&mut state.head, head);
        for &pool in &repository.pools {
            let Some(view) = class.views.get_mut(&pool) else { continue };
            let stood = old.is_some_and(|old| view.heads.remove(&old));
            if let Some(head) = head
                && !groups.get(pools.key(pool).group).rations(lane.repository)
            {
                view.heads.insert(head);
                if !stood {
                    touched_lanes.insert(lane);
                }
            }
        }
    }

    /// The repository, held until [`Self::release_repository`]. `name` is in lower case.
    fn retain_repository(&mut self, name: String) -> RepositoryId {
        let scopes = Scope::Repository(name.clone()).ancestry();
        let (id, new) = self.repositories.retain(name);
        if new {
            for pool in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
                self.pools.get_mut(*pool).repositories.insert(id);
                self.repositories.get_mut(id).pools.insert(*pool);
            }
        }
        id
    }

    fn release_repository(&mut self, id: RepositoryId) {
        if self.repositories.release(id) == 0 {
            let (_, state) = self.repositories.remove(id);
            debug_assert!(state.held == 0 && state.classes.is_empty());
            for pool in state.pools {
                self.pools.get_mut(pool).repositories.remove(&id);
            }
        }
    }

    /// Queued jobs.
    pub(crate) fn queued_jobs(&self) -> usize {
        let classes = self.queued.iter().map(|&class| self.classes.get(class));
        classes.flat_map(|class| class.lanes.values()).map(|lane| lane.places.len()).sum()
    }

    /// Classes known, with jobs or remembered.
    pub(crate) fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// Profiles known.
    pub(crate) fn profile_count(&self) -> usize {
        self.profiles.len()
    }
}
