//! What the index keeps and forgets; what it matches is for the model test.

use std::cmp::Reverse;

use startline_protocol::capabilities::Capabilities;

use super::*;
use crate::Requirement;
use crate::group::Repositories;
use crate::runner::{Patience, RunnerSpec};

fn runner(id: i64, scope: &str) -> RunnerSpec {
    RunnerSpec {
        id: RunnerId(id),
        name: String::new(),
        labels: vec!["linux".to_owned()],
        scope: scope.parse().unwrap(),
        group: "default".to_owned(),
        capabilities: Capabilities::default(),
        ephemeral: false,
        draining: false,
        patience: Patience::default(),
    }
}

fn group(change: impl FnOnce(&mut GroupPolicy)) -> GroupPolicy {
    let mut policy = GroupPolicy::open(GroupKey::new(&Scope::Instance, "default"));
    change(&mut policy);
    policy
}

fn set(index: &mut Index, policy: GroupPolicy) {
    index.set_policy(&policy.key.clone(), Some(policy));
}

fn class(label: &str) -> Class {
    let labels = vec![label.to_owned()];
    Requirement { labels, trusted: true, ..Requirement::default() }.class().expect("a plain label")
}

fn place(job: i64) -> Place {
    Place { priority: Reverse(0), sequence: job, job: JobId(job) }
}

#[test]
fn nothing_stays_when_everything_has_gone() {
    let mut index = Index::new(0, None);
    let only = ["acme/app".to_owned(), "acme/lib".to_owned()];
    set(&mut index, group(|group| group.repositories = Repositories::Only(only.into())));
    let profiles = [1, 2].map(|id| index.retain_profile(&runner(id, "instance")));
    assert_eq!(profiles[0], profiles[1]);
    let lanes = ["acme/app", "acme/site"].map(|repository| index.retain_lane(class("linux"), repository));
    index.push(lanes[0], place(1));
    index.push(lanes[1], place(2));
    index.wait(profiles[0], Waiter { idle: 1, runner: RunnerId(1) });
    assert_eq!(index.next_match(), Some((JobId(1), RunnerId(1))));
    index.stop_waiting(profiles[0], Waiter { idle: 1, runner: RunnerId(1) });
    index.remove(lanes[0], place(1));
    let default = Some(index.group_of(profiles[0]));
    index.hold(lanes[0], default);
    index.let_go(lanes[0], default);
    assert_eq!(index.next_match(), None);
    index.remove(lanes[1], place(2));

    lanes.into_iter().for_each(|lane| index.release_lane(lane));
    profiles.into_iter().for_each(|profile| index.release_profile(profile));
    assert_eq!(index.groups.len(), 1, "it has a policy");
    index.set_policy(&GroupKey::new(&Scope::Instance, "default"), None);
    assert_eq!((index.classes.len(), index.profiles.len()), (0, 0));
    assert_eq!((index.pools.len(), index.groups.len(), index.repositories.len()), (0, 0, 0));
    assert!(index.by_scope.is_empty() && index.by_label.is_empty() && index.queued.is_empty() && index.idle.is_empty());
}

#[test]
fn a_repository_forgets_a_pool_whose_number_is_given_anew() {
    let mut index = Index::new(0, None);
    let lane = index.retain_lane(class("linux"), "acme/app");
    let first = index.retain_profile(&runner(1, "repository:acme/app"));
    index.release_profile(first);
    let other = index.retain_profile(&runner(1, "repository:acme/lib"));
    index.wait(other, Waiter { idle: 1, runner: RunnerId(1) });
    index.push(lane, place(1));
    assert_eq!(index.next_match(), None);
}

#[test]
fn a_repository_meets_the_pools_that_serve_it_whoever_comes_first() {
    let mut index = Index::new(0, None);
    let early = index.retain_lane(class("linux"), "acme/app");
    for scope in
        ["instance", "organization:acme", "repository:acme/app", "repository:acme/lib", "organization:umbrella"]
    {
        index.retain_profile(&runner(1, scope));
    }
    let late = index.retain_lane(class("linux"), "acme/lib");
    assert_eq!([early, late].map(|lane| index.repositories.get(lane.repository).pools.len()), [3, 3]);
}

#[test]
fn lanes_of_a_repository_at_its_limit_are_not_among_the_candidates() {
    let mut index = Index::new(0, None);
    set(&mut index, group(|group| group.max_running_jobs_per_repository = Some(1)));
    let profile = index.retain_profile(&runner(1, "instance"));
    let (pool, default) = (index.profiles.key(profile).pool(), Some(index.group_of(profile)));
    let lane = index.retain_lane(class("linux"), "acme/app");
    index.push(lane, place(1));
    let heads = |index: &Index| index.classes.get(lane.class).views[&pool].heads.len();
    assert_eq!(heads(&index), 1);
    index.hold(lane, default);
    assert_eq!(heads(&index), 0);
    index.touched_lanes.clear();
    index.let_go(lane, default);
    assert_eq!((heads(&index), index.touched_lanes.len()), (1, 1), "it is a candidate again");
    index.set_max_per_repository(Some(0));
    assert_eq!(heads(&index), 0);
}

#[test]
fn idle_classes_are_forgotten_oldest_first_and_only_when_they_are_too_many() {
    let mut index = Index::new(2, None);
    for label in ["a", "b", "a", "c"] {
        let lane = index.retain_lane(class(label), "acme/app");
        index.release_lane(lane);
    }
    let kept = |index: &Index| -> Vec<_> {
        let labels = index.classes.ids().flat_map(|id| index.classes.key(id).labels.clone());
        labels.collect()
    };
    let mut labels = kept(&index);
    labels.sort();
    assert_eq!(labels, ["a", "c"]);
}
