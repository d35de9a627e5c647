//! What the index keeps and forgets; what it matches is for the model test.

use std::cmp::Reverse;

use startline_protocol::capabilities::Capabilities;

use super::*;
use crate::Requirement;

fn runner(id: i64, repositories: Scope) -> RunnerSpec {
    RunnerSpec {
        id: RunnerId(id),
        name: String::new(),
        labels: vec!["linux".to_owned()],
        group: "default".to_owned(),
        capabilities: Capabilities::default(),
        ephemeral: false,
        repositories,
        accepts_untrusted: false,
        draining: false,
    }
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
    let mut index = Index::new(0);
    let scope = Scope::Only(["acme/app".to_owned(), "acme/lib".to_owned()].into());
    let profiles = [1, 2].map(|id| index.retain_profile(&runner(id, scope.clone())));
    assert_eq!(profiles[0], profiles[1]);
    let lanes = ["acme/app", "acme/site"].map(|repository| index.retain_lane(class("linux"), repository));
    index.push(lanes[0], place(1));
    index.push(lanes[1], place(2));
    index.wait(profiles[0], Waiter { idle: 1, runner: RunnerId(1) });
    assert_eq!(index.next_match(), Some((JobId(1), RunnerId(1))));
    index.stop_waiting(profiles[0], Waiter { idle: 1, runner: RunnerId(1) });
    index.remove(lanes[0], place(1));
    index.set_held(lanes[0], JobId(1), true);
    index.set_held(lanes[0], JobId(1), false);
    assert_eq!(index.next_match(), None);
    index.remove(lanes[1], place(2));

    lanes.into_iter().for_each(|lane| index.release_lane(lane));
    profiles.into_iter().for_each(|profile| index.release_profile(profile));
    assert_eq!((index.classes.len(), index.profiles.len()), (0, 0));
    assert_eq!((index.scopes.len(), index.repositories.len()), (0, 0));
    assert!(index.by_label.is_empty() && index.queued.is_empty() && index.idle.is_empty());
}

#[test]
fn a_repository_forgets_a_scope_whose_number_is_given_anew() {
    let mut index = Index::new(0);
    let lane = index.retain_lane(class("linux"), "acme/app");
    let first = index.retain_profile(&runner(1, Scope::Only(["acme/app".to_owned()].into())));
    index.release_profile(first);
    let other = index.retain_profile(&runner(1, Scope::Only(["acme/lib".to_owned()].into())));
    index.wait(other, Waiter { idle: 1, runner: RunnerId(1) });
    index.push(lane, place(1));
    assert_eq!(index.next_match(), None);
}

#[test]
fn idle_classes_are_forgotten_oldest_first_and_only_when_they_are_too_many() {
    let mut index = Index::new(2);
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
