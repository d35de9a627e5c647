//! Matching, order, offers and leases.

use std::sync::Arc;

use startline_dispatcher::{
    AssignmentKind, CancelOutcome, Effect, GiveBack, GroupPolicy, JobSpec, LeaseError, Missing, PollEnd, PollOutcome,
    Repositories, RequeueReason, RunnerSpec,
};
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{JobStatus, RunnerStatus};

use crate::given::{Bench, assigned, at, group, job, job_of, job_with, lease_of, runner};

#[test]
fn a_queued_job_goes_to_the_next_poll() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.queue(0, [job(7)]);
    let offer = bench.gets(1, 1, false);
    assert_eq!((offer.job, offer.runner, offer.epoch, offer.attempt), (JobId(7), RunnerId(1), Epoch(1), 1));
    assert_eq!(offer.kind, AssignmentKind::Offer { expires_at: at(121) });
}

#[test]
fn a_new_job_goes_to_exactly_one_parked_poll_the_longest_idle() {
    let mut bench = Bench::with_runners([runner(1), runner(2), runner(3)]);
    bench.running(0, 1, job(1));
    bench.dispatcher.complete(at(1), JobId(1), Epoch(1)).unwrap();
    for id in 1..=3 {
        bench.parks(2, id, true);
    }
    assert_eq!(assigned(&bench.dispatcher.enqueue(at(3), job(2)).unwrap()), [(2, 2)]);
    assert_eq!(assigned(&bench.dispatcher.enqueue(at(3), job(3)).unwrap()), [(3, 3)]);
    assert_eq!(assigned(&bench.dispatcher.enqueue(at(3), job(4)).unwrap()), [(4, 1)], "it worked last");
    assert_eq!(assigned(&bench.dispatcher.enqueue(at(3), job(5)).unwrap()), []);
}

#[test]
fn jobs_spread_over_runners_with_several_slots() {
    let mut many = [runner(1), runner(2)];
    many.iter_mut().for_each(|runner| runner.capabilities.max_parallel_jobs = 2);
    let mut bench = Bench::with_runners(many);
    for id in [1, 1, 2, 2] {
        bench.parks(0, id, true);
    }
    let mut order = Vec::new();
    for id in 1..=4 {
        order.extend(assigned(&bench.dispatcher.enqueue(at(1), job(id)).unwrap()));
    }
    assert_eq!(order, [(1, 1), (2, 2), (3, 1), (4, 2)]);
}

#[test]
fn higher_priority_goes_first_and_then_the_earlier_place() {
    let mut bench = Bench::with_runners((1..=3).map(runner));
    let mut urgent = job(9);
    urgent.priority = 5;
    bench.queue(0, [job(2), job(1), urgent]);
    let order: Vec<_> = (1..=3).map(|id| bench.gets(1, id, true).job.0).collect();
    assert_eq!(order, [9, 1, 2]);
}

#[test]
fn the_repository_with_the_fewest_running_jobs_goes_first() {
    let mut bench = Bench::with_runners((1..=6).map(runner));
    bench.queue(0, (1..=4).map(|id| job_of(id, "acme/noisy")));
    // Another class, and another spelling of the name: the share is the repository's.
    let mut quiet = job_with(10, &["LINUX", "linux"]);
    Arc::make_mut(&mut quiet.requirement).repository = "acme/quiet".to_owned();
    let mut other = job_with(11, &[]);
    Arc::make_mut(&mut other.requirement).repository = "Acme/Quiet".to_owned();
    bench.queue(0, [quiet, other]);
    let order: Vec<_> = (1..=6).map(|id| bench.gets(1, id, false).job.0).collect();
    assert_eq!(order, [1, 10, 2, 11, 3, 4]);
}

#[test]
fn labels_capabilities_group_scope_and_trust_all_must_fit() {
    let fits_in = |policy: fn(&mut GroupPolicy), change: fn(&mut RunnerSpec), job: &JobSpec| {
        let mut spec = runner(1);
        change(&mut spec);
        let mut bench = Bench::with_runners([spec]);
        bench.dispatcher.set_group(at(0), group("default", policy));
        bench.queue(0, [job.clone()]);
        matches!(bench.polls(1, 1, false).0, PollOutcome::Assigned(_))
    };
    let fits = |change, job: &JobSpec| fits_in(|_| {}, change, job);
    let job_in = |group: &str| {
        let mut job = job(1);
        Arc::make_mut(&mut job.requirement).group = Some(group.to_owned());
        job
    };
    let mut untrusted = job(1);
    Arc::make_mut(&mut untrusted.requirement).trusted = false;

    assert!(fits(|_| {}, &job(1)));
    assert!(fits(|_| {}, &job_with(1, &["Linux", "LINUX"])));
    assert!(fits(|_| {}, &job_with(1, &[])));
    assert!(!fits(|_| {}, &job_with(1, &["linux", "arm64"])));
    assert!(fits(|_| {}, &job_with(1, &["memory_gb>=16"])));
    assert!(!fits(|_| {}, &job_with(1, &["memory_gb>=8", "memory_gb>=17"])));
    assert!(!fits(|_| {}, &job_with(1, &["gpu_memory_gb>=1"])));
    assert!(!fits(|_| {}, &job_with(1, &["docker"])));
    assert!(fits(|runner| runner.capabilities.docker_enabled = true, &job_with(1, &["Docker"])));
    assert!(fits(|runner| runner.labels.push("GPU".to_owned()), &job_with(1, &["gpu"])));
    assert!(!fits(|_| {}, &job_with(1, &["supports:acme/deploy"])));
    assert!(fits(
        |runner| runner.capabilities.supported_actions.push("Acme/Deploy".to_owned()),
        &job_with(1, &["supports:acme/deploy"])
    ));
    assert!(fits(|_| {}, &job_in("Default")));
    assert!(!fits(|_| {}, &job_in("production")));
    assert!(fits(|runner| runner.scope = Scope::Organization("Acme".to_owned()), &job(1)));
    assert!(!fits(|runner| runner.scope = Scope::Organization("acm".to_owned()), &job(1)));
    assert!(fits(|runner| runner.scope = Scope::Repository("acme/APP".to_owned()), &job(1)));
    assert!(!fits(|runner| runner.scope = Scope::Repository("acme/lib".to_owned()), &job(1)));
    assert!(fits_in(|group| group.repositories = Repositories::Only(["ACME/app".to_owned()].into()), |_| {}, &job(1)));
    assert!(!fits_in(|group| group.repositories = Repositories::Only(["acme/lib".to_owned()].into()), |_| {}, &job(1)));
    assert!(!fits_in(|group| group.repositories = Repositories::Only([].into()), |_| {}, &job(1)));
    assert!(!fits(|_| {}, &untrusted));
    assert!(!fits_in(|group| group.accepts_untrusted = true, |_| {}, &untrusted), "not ephemeral");
    assert!(!fits(|runner| runner.ephemeral = true, &untrusted), "not accepted");
    assert!(fits_in(|group| group.accepts_untrusted = true, |runner| runner.ephemeral = true, &untrusted));
}

#[test]
fn a_changed_machine_takes_effect_for_the_open_poll_at_once() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.parks(0, 1, false);
    bench.queue(1, [job_with(1, &["memory_gb>=32"])]);
    let mut machine = runner(1).capabilities;
    machine.memory_gb = 32;
    assert_eq!(assigned(&bench.dispatcher.update_capabilities(at(2), RunnerId(1), machine).unwrap()), [(1, 1)]);
}

#[test]
fn a_draining_runner_gets_nothing_until_it_no_longer_drains() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.parks(0, 1, false);
    assert_eq!(bench.dispatcher.set_draining(at(1), RunnerId(1), true), Ok(vec![]));
    bench.queue(1, [job(1)]);
    assert_eq!(bench.dispatcher.runner(RunnerId(1)).unwrap().status, RunnerStatus::Draining);
    assert_eq!(assigned(&bench.dispatcher.set_draining(at(2), RunnerId(1), false).unwrap()), [(1, 1)]);
}

#[test]
fn a_draining_runner_has_a_poll_parked_even_when_it_is_full_and_it_ends_with_the_registration() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.queue(0, [job(1), job(2)]);
    assert!(matches!(bench.polls(0, 1, true).0, PollOutcome::Assigned(_)));
    assert_eq!(bench.dispatcher.set_draining(at(1), RunnerId(1), true), Ok(vec![]));
    let first = bench.parks(2, 1, true);
    let (outcome, effects) = bench.polls(3, 1, true);
    assert_eq!(outcome, PollOutcome::Parked);
    assert_eq!(effects, [Effect::PollClosed { poll: first, runner: RunnerId(1), why: PollEnd::Superseded }]);
    let effects = bench.dispatcher.remove_runner(at(4), RunnerId(1));
    assert!(matches!(effects[..], [Effect::PollClosed { why: PollEnd::RunnerRemoved, .. }]), "{effects:?}");
}

#[test]
fn an_aborted_poll_gets_nothing() {
    let mut bench = Bench::with_runners([runner(1)]);
    let poll = bench.parks(0, 1, false);
    assert!(bench.dispatcher.abort_poll(poll));
    assert!(!bench.dispatcher.abort_poll(poll));
    bench.queue(1, [job(1)]);
}

#[test]
fn one_poll_too_many_closes_the_oldest() {
    let mut bench = Bench::with_runners([runner(1)]);
    let first = bench.parks(0, 1, false);
    let (outcome, effects) = bench.polls(1, 1, true);
    assert_eq!(outcome, PollOutcome::Parked);
    assert_eq!(effects, [Effect::PollClosed { poll: first, runner: RunnerId(1), why: PollEnd::Superseded }]);
    assert!(matches!(
        bench.dispatcher.enqueue(at(2), job(1)).unwrap()[..],
        [Effect::Assigned { ref assignment, .. }] if lease_of(assignment) == at(92)
    ));
    assert_eq!(bench.polls(3, 1, false).0, PollOutcome::NoFreeSlot);
    assert_eq!(bench.polls(3, 2, false).0, PollOutcome::UnknownRunner);
}

#[test]
fn an_undelivered_job_returns_to_its_old_place_and_its_attempt_does_not_count() {
    let mut bench = Bench::with_runners([runner(1), runner(2)]);
    bench.queue(0, [job(1), job(2)]);
    let lease = bench.gets(1, 1, true);
    let effects = bench.dispatcher.give_back(at(2), JobId(1), lease.epoch, GiveBack::Undelivered).unwrap();
    assert!(matches!(
        effects[..],
        [Effect::Requeued { job: JobId(1), old_epoch: Epoch(1), attempt: 1, requeues_left: 1, .. }]
    ));
    let next = bench.gets(3, 2, true);
    assert_eq!((next.job, next.epoch, next.attempt), (JobId(1), Epoch(2), 1));
    assert_eq!(
        bench.dispatcher.renew(at(3), JobId(1), Epoch(1)),
        Err(LeaseError::Stale { job: JobId(1), quoted: Epoch(1), current: Epoch(2) })
    );
}

#[test]
fn a_renewed_lease_cannot_be_given_back_as_undelivered() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.running(0, 1, job(1));
    bench.dispatcher.renew(at(1), JobId(1), Epoch(1)).unwrap();
    let refused = bench.dispatcher.give_back(at(2), JobId(1), Epoch(1), GiveBack::Undelivered);
    assert_eq!(refused, Err(LeaseError::Delivered { job: JobId(1), epoch: Epoch(1) }));
    let effects = bench.dispatcher.give_back(at(2), JobId(1), Epoch(1), GiveBack::RunnerFailed).unwrap();
    assert!(matches!(
        effects[..],
        [Effect::Requeued { attempt: 2, requeues_left: 0, reason: RequeueReason::RunnerLost(_), .. }]
    ));
}

#[test]
fn an_offer_is_acquired_by_its_runner_under_its_epoch_and_can_be_acquired_again() {
    let mut bench = Bench::with_runners([runner(1), runner(2)]);
    bench.queue(0, [job(1)]);
    bench.gets(0, 1, false);
    let dispatcher = &mut bench.dispatcher;
    let (id, epoch) = (JobId(1), Epoch(1));
    assert_eq!(dispatcher.renew(at(1), id, epoch), Err(LeaseError::NotAcquired { job: id, epoch }));
    assert!(matches!(dispatcher.complete(at(1), id, epoch), Err(LeaseError::NotAcquired { .. })));
    assert!(matches!(dispatcher.acquire(at(1), RunnerId(2), id, epoch), Err(LeaseError::NotYours { .. })));
    assert!(matches!(dispatcher.acquire(at(1), RunnerId(1), id, Epoch(2)), Err(LeaseError::Stale { .. })));
    let lease = dispatcher.acquire(at(1), RunnerId(1), id, epoch).unwrap();
    assert_eq!(lease_of(&lease), at(91));
    assert_eq!(dispatcher.acquire(at(50), RunnerId(1), id, epoch), Ok(lease), "a repeat does not extend it");
    assert_eq!(dispatcher.next_expiry(), Some(at(60)), "runner 2's silence, not the offer");
}

#[test]
fn a_completed_job_frees_its_slot_for_a_poll_that_waits_for_it() {
    let mut two = runner(1);
    two.capabilities.max_parallel_jobs = 2;
    let mut bench = Bench::with_runners([two.clone()]);
    bench.running(0, 1, job(1));
    bench.parks(0, 1, true);
    two.capabilities.max_parallel_jobs = 1;
    bench.dispatcher.add_runner(at(1), two);
    bench.queue(1, [job(2)]);
    let done = bench.dispatcher.complete(at(2), JobId(1), Epoch(1)).unwrap();
    assert_eq!((done.runner, done.ephemeral, done.attempt), (RunnerId(1), false, 1));
    assert_eq!(assigned(&done.effects), [(2, 1)]);
    assert_eq!(bench.dispatcher.complete(at(2), JobId(1), Epoch(1)), Err(LeaseError::Unknown { job: JobId(1) }));
}

#[test]
fn an_ephemeral_runner_gets_one_job_only() {
    let mut once = runner(1);
    once.ephemeral = true;
    once.capabilities.max_parallel_jobs = 4;
    let mut bench = Bench::with_runners([once]);
    bench.queue(0, [job(1), job(2)]);
    bench.gets(0, 1, false);
    bench.dispatcher.give_back(at(1), JobId(1), Epoch(1), GiveBack::Declined).unwrap();
    let lease = bench.gets(1, 1, true);
    bench.dispatcher.give_back(at(2), lease.job, lease.epoch, GiveBack::NotPersisted).unwrap();
    let lease = bench.gets(3, 1, true);
    assert!(bench.dispatcher.complete(at(4), lease.job, lease.epoch).unwrap().ephemeral);
    assert_eq!(bench.polls(5, 1, true).0, PollOutcome::Spent);
}

#[test]
fn an_ephemeral_runner_that_holds_a_job_does_not_get_another_for_giving_one_back() {
    let mut once = runner(1);
    once.ephemeral = true;
    let mut bench = Bench::with_runners([once]);
    for id in [1, 2] {
        bench.dispatcher.restore_lease(at(0), RunnerId(1), job(id)).unwrap();
    }
    bench.dispatcher.give_back(at(1), JobId(1), Epoch::ZERO, GiveBack::Undelivered).unwrap();
    assert_eq!(bench.polls(2, 1, true).0, PollOutcome::Spent);
}

#[test]
fn a_cancel_finds_a_job_wherever_it_stands() {
    let mut bench = Bench::with_runners([runner(1), runner(2)]);
    bench.queue(0, [job(1), job(2), job(3)]);
    bench.gets(0, 1, true);
    bench.gets(0, 2, false);
    let mut cancel = |id| bench.dispatcher.request_cancel(at(1), JobId(id)).0;
    assert_eq!(cancel(1), CancelOutcome::Running { runner: RunnerId(1), epoch: Epoch(1) });
    assert_eq!(cancel(2), CancelOutcome::Offered { runner: RunnerId(2), epoch: Epoch(1) });
    assert_eq!(cancel(3), CancelOutcome::WasQueued);
    assert_eq!(cancel(2), CancelOutcome::Unknown);
    assert!(bench.dispatcher.renew(at(2), JobId(1), Epoch(1)).unwrap().cancel_requested);
    assert!(!bench.dispatcher.cancel_queued(JobId(1)));
    let gone = bench.dispatcher.acquire(at(2), RunnerId(2), JobId(2), Epoch(1));
    assert_eq!(gone, Err(LeaseError::Unknown { job: JobId(2) }));
}

#[test]
fn a_removed_runner_leaves_its_polls_closed_its_offers_queued_and_its_leases_alive() {
    let mut three = runner(1);
    three.capabilities.max_parallel_jobs = 3;
    three.labels.push("big".to_owned());
    let mut bench = Bench::with_runners([three, runner(2)]);
    bench.running(0, 1, job(1));
    bench.queue(0, [job(2)]);
    bench.gets(0, 1, false);
    let poll = bench.parks(0, 1, false);
    bench.parks(0, 2, false);
    let effects = bench.dispatcher.remove_runner(at(1), RunnerId(1));
    assert!(matches!(effects[0], Effect::Requeued { job: JobId(2), .. }));
    assert_eq!(effects[1], Effect::PollClosed { poll, runner: RunnerId(1), why: PollEnd::RunnerRemoved });
    assert_eq!(assigned(&effects), [(2, 2)]);
    assert_eq!(bench.dispatcher.renew(at(2), JobId(1), Epoch(1)).unwrap().expires_at, at(92));
    assert_eq!(bench.dispatcher.complete(at(3), JobId(1), Epoch(1)).unwrap().runner, RunnerId(1));
}

#[test]
fn a_restored_lease_holds_its_slot_and_has_all_its_time() {
    let mut bench = Bench::with_runners([runner(1)]);
    let mut spec = job(1);
    (spec.epoch, spec.attempt) = (Epoch(4), 2);
    let lease = bench.dispatcher.restore_lease(at(10), RunnerId(1), spec).unwrap();
    assert_eq!((lease_of(&lease), lease.epoch, lease.attempt), (at(100), Epoch(4), 2));
    assert_eq!(bench.polls(11, 1, false).0, PollOutcome::NoFreeSlot);
    assert!(bench.dispatcher.complete(at(12), JobId(1), Epoch(4)).is_ok());
}

#[test]
fn an_offer_from_before_a_restart_is_refused_with_both_epochs() {
    let mut bench = Bench::with_runners([runner(1), runner(2)]);
    let mut spec = job(1);
    spec.epoch = Epoch(3);
    bench.queue(0, [spec]);
    let (id, epoch) = (JobId(1), Epoch(3));
    let over = bench.dispatcher.acquire(at(1), RunnerId(1), id, epoch).unwrap_err();
    assert_eq!(over, LeaseError::Over { job: id, epoch });
    assert_eq!(bench.gets(2, 2, false).epoch, Epoch(4));
    let stale = bench.dispatcher.acquire(at(3), RunnerId(1), id, epoch).unwrap_err();
    assert_eq!(stale.to_string(), "epoch 3 of job 1 is stale, the current one is 4");
}

#[test]
fn a_waiting_job_is_explained_by_what_each_runner_lacks() {
    let mut small = runner(2);
    small.labels.clear();
    small.scope = Scope::Repository("acme/other".to_owned());
    let mut bench = Bench::with_runners([runner(1), small]);
    bench.running(0, 1, job(1));
    bench.queue(0, [job_with(2, &["linux", "memory_gb>=8", "docker"])]);
    let explanation = bench.dispatcher.explain(JobId(2)).unwrap();
    let missing =
        |at: usize| -> Vec<String> { explanation.candidates[at].missing.iter().map(Missing::to_string).collect() };
    assert_eq!(missing(0), ["busy (1 of 1 slots)", "capability: docker"]);
    assert_eq!(missing(1), ["not polling", "scope: does not serve acme/app", "label: linux", "capability: docker"]);
    assert_eq!(
        explanation.summary(),
        "None of the 2 registered runners can take the job; the nearest, r1, lacks capability: docker."
    );
    assert_eq!(bench.dispatcher.explain(JobId(1)).unwrap().status, JobStatus::Running);
    assert_eq!(bench.dispatcher.explain(JobId(9)), None);
}

#[test]
fn jobs_that_wait_since_before_a_time_are_found_also_when_they_come_back() {
    let mut bench = Bench::with_runners([runner(1)]);
    let since = |second, id| JobSpec { queued_at: at(second), ..job(id) };
    bench.queue(50, [since(10, 1), since(50, 2), since(30, 3)]);
    let due = |bench: &mut Bench, second| -> Vec<i64> {
        bench.dispatcher.queued_since_before(at(second)).into_iter().map(|job| job.0).collect()
    };
    assert_eq!([10, 11, 31, 51].map(|second| due(&mut bench, second)), [vec![], vec![1], vec![1, 3], vec![1, 2, 3]]);
    let offer = bench.gets(51, 1, false);
    assert_eq!(offer.job, JobId(1));
    assert_eq!(due(&mut bench, 60), [2, 3]);
    assert!(bench.dispatcher.cancel_queued(JobId(3)));
    assert_eq!([due(&mut bench, 50), due(&mut bench, 60)], [vec![], vec![2]]);
    let given_back = bench.dispatcher.give_back(at(61), offer.job, offer.epoch, GiveBack::Undelivered);
    assert!(given_back.is_ok());
    assert_eq!([due(&mut bench, 10), due(&mut bench, 20)], [vec![], vec![1]]);
    bench.queue(62, [since(5, 4)]);
    assert_eq!(due(&mut bench, 6), [4]);
}
