//! The matching index: queued jobs by lane, waiting runners by profile, and which fit which.
//!
//! A *lane* is a requirement class and a repository. Its jobs are ordered among themselves once and for all
//! (priority, then place); a class orders the heads of its lanes by priority, then by how many jobs of the repository
//! are in runners' hands, then by place. A *profile* orders its waiting runners by how long they have been idle; a class
//! orders the heads of the profiles that satisfy it. So nothing here walks over jobs or over idle runners: an event touches
//! the classes of one profile or the lanes of one repository.
//!
//! Whoever calls has, between events, no queued job that a waiting runner fits. A new pair therefore involves a lane or
//! a profile that the event has touched, and [`Index::next_match`] looks at those alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use startline_protocol::ids::{JobId, RunnerId};

use crate::explain::Missing;
use crate::interner::{ClassId, Interner, ProfileId, RepositoryId, ScopeId};
use crate::profile::Profile;
use crate::requirement::{Class, fold};
use crate::runner::{RunnerSpec, Scope};

#[cfg(test)]
mod tests;

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

/// A runner that waits: the lowest idle stamp has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiter {
    pub(crate) idle: u64,
    pub(crate) runner: RunnerId,
}

#[derive(Debug, Default)]
struct RepositoryState {
    /// Jobs of the repository in runners' hands.
    held: BTreeSet<JobId>,
    /// Classes in which it has queued jobs.
    classes: BTreeSet<ClassId>,
    /// Sets that contain it.
    scopes: BTreeSet<ScopeId>,
}

#[derive(Debug, Default)]
struct ClassState {
    lanes: BTreeMap<RepositoryId, LaneState>,
    heads: BTreeSet<Head>,
    profiles: BTreeSet<ProfileId>,
    /// The stamp under which it stands in the index's `idle`.
    idle_since: Option<u64>,
    /// Heads of satisfying profiles, by the profiles' scope.
    waiting: BTreeMap<Option<ScopeId>, BTreeSet<(Waiter, ProfileId)>>,
}

#[derive(Debug, Default)]
struct LaneState {
    places: BTreeSet<Place>,
    /// As it stands in the class's heads.
    head: Option<Head>,
}

#[derive(Debug, Default)]
struct ProfileState {
    classes: BTreeSet<ClassId>,
    waiters: BTreeSet<Waiter>,
    /// As it stands in the classes' `waiting`.
    head: Option<Waiter>,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    repositories: Interner<RepositoryId, String, RepositoryState>,
    scopes: Interner<ScopeId, BTreeSet<String>, BTreeSet<RepositoryId>>,
    classes: Interner<ClassId, Class, ClassState>,
    profiles: Interner<ProfileId, Profile, ProfileState>,
    by_label: BTreeMap<String, BTreeSet<ProfileId>>,
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
}

/// Jobs.
impl Index {
    /// An index that remembers `idle_classes` classes without jobs.
    pub(crate) fn new(idle_classes: usize) -> Self {
        Self { idle_classes, ..Self::default() }
    }

    /// The lane of jobs of `class` and `repository`, held until [`Self::release_lane`].
    pub(crate) fn retain_lane(&mut self, class: Class, repository: &str) -> Lane {
        let (repository, _) = self.repositories.retain(fold(repository));
        let (class, new) = self.classes.retain(class);
        if new {
            self.match_class(class);
        } else if let Some(since) = self.classes.get_mut(class).idle_since.take() {
            self.idle.remove(&(since, class));
        }
        Lane { class, repository }
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
        debug_assert!(self.touched_lanes.iter().all(|lane| lane.class != id), "a touched lane has jobs");
    }

    pub(crate) fn push(&mut self, lane: Lane, place: Place) {
        let class = self.classes.get_mut(lane.class);
        class.lanes.entry(lane.repository).or_default().places.insert(place);
        self.repositories.get_mut(lane.repository).classes.insert(lane.class);
        self.queued.insert(lane.class);
        self.refresh_lane(lane);
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
        }
        if class.lanes.is_empty() {
            self.queued.remove(&lane.class);
        }
    }

    /// Counts `job` among those of its repository that are in runners' hands, or no longer.
    pub(crate) fn set_held(&mut self, lane: Lane, job: JobId, held: bool) {
        let repository = self.repositories.get_mut(lane.repository);
        let changed = if held { repository.held.insert(job) } else { repository.held.remove(&job) };
        if changed {
            for class in repository.classes.clone() {
                self.refresh_lane(Lane { class, ..lane });
            }
        }
    }

    /// Brings the lane's entry in its class's heads up to date.
    fn refresh_lane(&mut self, lane: Lane) {
        let held = self.repositories.get(lane.repository).held.len();
        let class = self.classes.get_mut(lane.class);
        let Some(state) = class.lanes.get_mut(&lane.repository) else { return };
        let head = state.places.first().map(|&Place { priority, sequence, job }| Head {
            priority,
            held,
            sequence,
            job,
            repository: lane.repository,
        });
        if state.head == head {
            return;
        }
        if let Some(old) = std::mem::replace(&mut state.head, head) {
            class.heads.remove(&old);
        }
        class.heads.extend(head);
    }

    fn release_repository(&mut self, repository: RepositoryId) {
        if self.repositories.release(repository) == 0 {
            self.repositories.remove(repository);
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

/// Runners.
impl Index {
    /// The profile of `runner`, held until [`Self::release_profile`].
    pub(crate) fn retain_profile(&mut self, runner: &RunnerSpec) -> ProfileId {
        let scope = match &runner.repositories {
            Scope::All => None,
            Scope::Only(repositories) => Some(self.retain_scope(repositories)),
        };
        let (id, new) = self.profiles.retain(Profile::of(runner, scope));
        if new {
            self.match_profile(id);
        } else if let Some(scope) = scope {
            // The profile holds its scope once, however many runners share it.
            self.release_scope(scope);
        }
        id
    }

    pub(crate) fn release_profile(&mut self, id: ProfileId) {
        if self.profiles.release(id) > 0 {
            return;
        }
        let (profile, state) = self.profiles.remove(id);
        debug_assert!(state.waiters.is_empty());
        for class in state.classes {
            self.classes.get_mut(class).profiles.remove(&id);
        }
        for label in profile.labels() {
            if let Some(profiles) = self.by_label.get_mut(label) {
                profiles.remove(&id);
                if profiles.is_empty() {
                    self.by_label.remove(label);
                }
            }
        }
        if let Some(scope) = profile.scope() {
            self.release_scope(scope);
        }
        self.touched_profiles.remove(&id);
    }

    pub(crate) fn wait(&mut self, profile: ProfileId, waiter: Waiter) {
        self.profiles.get_mut(profile).waiters.insert(waiter);
        self.refresh_profile(profile);
        self.touched_profiles.insert(profile);
    }

    pub(crate) fn stop_waiting(&mut self, profile: ProfileId, waiter: Waiter) {
        self.profiles.get_mut(profile).waiters.remove(&waiter);
        self.refresh_profile(profile);
    }

    /// Brings the profile's entry in its classes' `waiting` up to date.
    fn refresh_profile(&mut self, id: ProfileId) {
        let scope = self.profiles.key(id).scope();
        let profile = self.profiles.get_mut(id);
        let head = profile.waiters.first().copied();
        if profile.head == head {
            return;
        }
        let old = std::mem::replace(&mut profile.head, head);
        for &class in &profile.classes {
            let waiting = &mut self.classes.get_mut(class).waiting;
            set_waiting(waiting, scope, id, old, head);
        }
    }

    fn retain_scope(&mut self, repositories: &BTreeSet<String>) -> ScopeId {
        let names: BTreeSet<String> = repositories.iter().map(|repository| fold(repository)).collect();
        let (id, new) = self.scopes.retain(names);
        if new {
            for name in Arc::clone(self.scopes.key(id)).iter() {
                let (repository, _) = self.repositories.retain(name.clone());
                self.repositories.get_mut(repository).scopes.insert(id);
                self.scopes.get_mut(id).insert(repository);
            }
        }
        id
    }

    fn release_scope(&mut self, id: ScopeId) {
        if self.scopes.release(id) > 0 {
            return;
        }
        let (_, repositories) = self.scopes.remove(id);
        for repository in repositories {
            self.repositories.get_mut(repository).scopes.remove(&id);
            self.release_repository(repository);
        }
    }
}

/// Which fit which.
impl Index {
    /// What runners of `profile` lack for jobs of `lane`.
    pub(crate) fn lacks(&self, profile: ProfileId, lane: Lane) -> Vec<Missing> {
        let profile = self.profiles.key(profile);
        let mut missing = Vec::new();
        if profile.scope().is_some_and(|scope| !self.scopes.get(scope).contains(&lane.repository)) {
            missing.push(Missing::Repository(self.repositories.key(lane.repository).to_string()));
        }
        missing.extend(profile.lacks(self.classes.key(lane.class)));
        missing
    }

    /// The best queued job that fits a waiting runner, and among those runners the one idle for longest. The caller
    /// takes both out of the index before it asks again, until there is no more.
    pub(crate) fn next_match(&mut self) -> Option<(JobId, RunnerId)> {
        let mut best: Option<(Head, ClassId)> = None;
        for lane in std::mem::take(&mut self.touched_lanes) {
            let head = self.classes.get(lane.class).lanes.get(&lane.repository).and_then(|state| state.head);
            let Some(head) = head else { continue };
            if self.waiter_for(lane).is_some() {
                self.touched_lanes.insert(lane);
                best = better(best, (head, lane.class));
            }
        }
        for profile in std::mem::take(&mut self.touched_profiles) {
            if self.profiles.get(profile).head.is_none() {
                continue;
            }
            if let Some(found) = self.job_for(profile) {
                self.touched_profiles.insert(profile);
                best = better(best, found);
            }
        }
        let (head, class) = best?;
        let waiter = self.waiter_for(Lane { class, repository: head.repository })?;
        Some((head.job, waiter.runner))
    }

    /// The longest idle runner that fits jobs of `lane`.
    fn waiter_for(&self, lane: Lane) -> Option<Waiter> {
        let waiting = &self.classes.get(lane.class).waiting;
        let scopes = self.repositories.get(lane.repository).scopes.iter().copied().map(Some);
        let heads = scopes.chain([None]).filter_map(|scope| waiting.get(&scope)?.first());
        heads.map(|&(waiter, _)| waiter).min()
    }

    /// The best job that fits runners of `profile`.
    fn job_for(&self, profile: ProfileId) -> Option<(Head, ClassId)> {
        let classes = &self.profiles.get(profile).classes;
        let scope = self.profiles.key(profile).scope().map(|scope| self.scopes.get(scope));
        let (few, many) =
            if classes.len() < self.queued.len() { (classes, &self.queued) } else { (&self.queued, classes) };
        let mut best = None;
        for &id in few.iter().filter(|id| many.contains(id)) {
            let class = self.classes.get(id);
            let head = match scope {
                None => class.heads.first().copied(),
                Some(repositories) if repositories.len() < class.lanes.len() => {
                    repositories.iter().filter_map(|repository| class.lanes.get(repository)?.head).min()
                }
                Some(repositories) => class.heads.iter().find(|head| repositories.contains(&head.repository)).copied(),
            };
            if let Some(head) = head {
                best = better(best, (head, id));
            }
        }
        best
    }

    /// Finds the profiles that satisfy a new class, through its rarest label.
    fn match_class(&mut self, id: ClassId) {
        let key = self.classes.key(id).clone();
        let none = BTreeSet::new();
        let rarest =
            key.labels.iter().map(|label| self.by_label.get(label).unwrap_or(&none)).min_by_key(|set| set.len());
        let fits = |profile: &ProfileId| self.profiles.key(*profile).satisfies(&key);
        let profiles: Vec<ProfileId> = match rarest {
            Some(profiles) => profiles.iter().copied().filter(fits).collect(),
            None => self.profiles.ids().filter(fits).collect(),
        };
        for profile in profiles {
            self.join(id, profile);
        }
    }

    /// Finds the classes that a new profile satisfies.
    fn match_profile(&mut self, id: ProfileId) {
        let key = self.profiles.key(id).clone();
        for label in key.labels() {
            self.by_label.entry(label.clone()).or_default().insert(id);
        }
        let fits = |class: &ClassId| key.satisfies(self.classes.key(*class));
        for class in self.classes.ids().filter(fits).collect::<Vec<_>>() {
            self.join(class, id);
        }
    }

    fn join(&mut self, class: ClassId, id: ProfileId) {
        let scope = self.profiles.key(id).scope();
        let profile = self.profiles.get_mut(id);
        profile.classes.insert(class);
        let state = self.classes.get_mut(class);
        state.profiles.insert(id);
        set_waiting(&mut state.waiting, scope, id, None, profile.head);
    }
}

fn better(best: Option<(Head, ClassId)>, other: (Head, ClassId)) -> Option<(Head, ClassId)> {
    Some(best.map_or(other, |best| best.min(other)))
}

fn set_waiting(
    waiting: &mut BTreeMap<Option<ScopeId>, BTreeSet<(Waiter, ProfileId)>>,
    scope: Option<ScopeId>,
    profile: ProfileId,
    old: Option<Waiter>,
    new: Option<Waiter>,
) {
    let heads = waiting.entry(scope).or_default();
    if let Some(old) = old {
        heads.remove(&(old, profile));
    }
    heads.extend(new.map(|new| (new, profile)));
    if heads.is_empty() {
        waiting.remove(&scope);
    }
}
