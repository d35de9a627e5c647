//! What time does.

use startline_dispatcher::{
    Brake, Braked, Config, Dispatcher, Effect, Gone, LeaseError, LostEnd, LostPolicy, Patience, RequeueReason,
    RunnerSpec,
};
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::state::RunnerStatus;

use crate::given::{Bench, assigned, at, job, runner, seconds};

#[test]
fn an_offer_that_is_not_taken_returns_to_its_old_place() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.queue(0, [job(1), job(2)]);
    bench.gets(0, 1, false);
    bench.dispatcher.heartbeat(at(100), RunnerId(1)).unwrap();
    assert_eq!(bench.dispatcher.advance(at(119)), []);
    let effects = bench.dispatcher.advance(at(120));
    let [Effect::Requeued { job: JobId(1), old_epoch: Epoch(1), attempt: 1, reason, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert!(reason.to_string().starts_with("runner 1 (r1) did not take the offer of "), "{reason}");
    let again = bench.gets(121, 1, false);
    assert_eq!((again.job, again.epoch), (JobId(1), Epoch(2)));
}

#[test]
fn a_silent_runner_goes_offline_its_offers_return_and_its_lease_lapses_by_itself() {
    let mut two = runner(1);
    two.capabilities.max_parallel_jobs = 2;
    let mut bench = Bench::with_runners([two]);
    bench.running(0, 1, job(1));
    bench.queue(0, [job(2)]);
    bench.gets(0, 1, false);
    let effects = bench.dispatcher.advance(at(60));
    assert_eq!(effects[0], Effect::RunnerOffline { runner: RunnerId(1), last_seen_at: at(0) });
    assert!(matches!(
        effects[1..],
        [Effect::Requeued { job: JobId(2), reason: RequeueReason::OfferWithdrawn { why: Gone::Offline, .. }, .. }]
    ));
    assert_eq!(bench.dispatcher.runner(RunnerId(1)).unwrap().status, RunnerStatus::Offline);
    assert_eq!(bench.dispatcher.next_expiry(), Some(at(90)));
    let effects = bench.dispatcher.advance(at(90));
    let [Effect::Requeued { job: JobId(1), old_epoch: Epoch(1), attempt: 2, requeues_left: 0, reason }] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(
        reason.to_string(),
        "runner 1 (r1), which had the job since 2023-11-14T22:13:20Z, was last heard of at 2023-11-14T22:13:20Z; \
         its lease lapsed at 2023-11-14T22:14:50Z"
    );
    assert_eq!(bench.dispatcher.next_expiry(), None);
}

#[test]
fn an_offline_runner_that_speaks_again_is_online_and_its_poll_counts() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.parks(0, 1, false);
    bench.dispatcher.advance(at(60));
    bench.queue(61, [job(1)]);
    let effects = bench.dispatcher.heartbeat(at(62), RunnerId(1)).unwrap();
    assert_eq!(effects[0], Effect::RunnerOnline { runner: RunnerId(1) });
    assert_eq!(assigned(&effects), [(1, 1)]);
}

#[test]
fn a_lapsed_lease_that_was_not_advanced_past_is_still_renewed_and_completed() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.running(0, 1, job(1));
    assert_eq!(bench.dispatcher.renew(at(300), JobId(1), Epoch(1)).unwrap().expires_at, at(390));
    assert!(bench.dispatcher.complete(at(900), JobId(1), Epoch(1)).is_ok());
}

#[test]
fn a_lost_job_ends_when_policy_or_budget_or_a_cancel_say_so() {
    let end = |policy, requeues_left, cancel| {
        let mut bench = Bench::with_runners([runner(1)]);
        let mut spec = job(1);
        (spec.on_runner_lost, spec.requeues_left) = (policy, requeues_left);
        bench.running(0, 1, spec);
        if cancel {
            let _ = bench.dispatcher.request_cancel(at(1), JobId(1));
        }
        let effects = bench.dispatcher.advance(at(90));
        assert_eq!(bench.dispatcher.job(JobId(1)).is_none(), matches!(effects[1], Effect::Lost { .. }));
        match effects.into_iter().nth(1) {
            Some(Effect::Lost { job: JobId(1), epoch: Epoch(1), attempt: 1, reason }) => Some(reason.end),
            _ => None,
        }
    };
    assert_eq!(end(LostPolicy::Requeue, 1, false), None);
    assert_eq!(end(LostPolicy::Requeue, 0, false), Some(LostEnd::BudgetSpent));
    assert_eq!(end(LostPolicy::Fail, 1, false), Some(LostEnd::Policy));
    assert_eq!(end(LostPolicy::Requeue, 1, true), Some(LostEnd::Cancelled));
}

#[test]
fn a_late_word_from_a_lost_runner_is_refused() {
    let mut bench = Bench::with_runners([runner(1), runner(2)]);
    bench.running(0, 1, job(1));
    bench.dispatcher.advance(at(90));
    assert_eq!(bench.gets(91, 2, true).epoch, Epoch(2));
    let stale = Err(LeaseError::Stale { job: JobId(1), quoted: Epoch(1), current: Epoch(2) });
    assert_eq!(bench.dispatcher.renew(at(92), JobId(1), Epoch(1)), stale);
    assert_eq!(bench.dispatcher.complete(at(92), JobId(1), Epoch(1)).map(|_| ()), stale.map(|_| ()));
}

#[test]
fn when_most_leases_would_lapse_at_once_they_are_extended_once() {
    let mut bench = Bench::with_runners((1..=8).map(runner));
    for id in 1..=8 {
        bench.running(id, id, job(id));
    }
    // Two are in good health, six fell silent within some seconds.
    for now in [60, 90] {
        for id in [1, 2] {
            bench.dispatcher.renew(at(now), JobId(id), Epoch(1)).unwrap();
        }
        for id in 1..=8 {
            bench.dispatcher.heartbeat(at(now), RunnerId(id)).unwrap();
        }
    }
    let effects = bench.dispatcher.advance(at(93));
    assert_eq!(effects, [Effect::Braked { what: Braked::Leases, extended: 6, of: 8, until: at(183) }]);
    // A renewal makes a lease as good as new; the others lapse for good.
    bench.dispatcher.renew(at(100), JobId(3), Epoch(1)).unwrap();
    for id in 1..=8 {
        bench.dispatcher.heartbeat(at(140), RunnerId(id)).unwrap();
    }
    let _ = [1, 2, 3].map(|id| bench.dispatcher.renew(at(150), JobId(id), Epoch(1)).unwrap());
    let effects = bench.dispatcher.advance(at(183));
    let lapsed = effects.iter().filter(|effect| matches!(effect, Effect::Requeued { attempt: 2, .. })).count();
    assert_eq!((lapsed, effects.len()), (5, 5));
}

#[test]
fn when_most_runners_fall_silent_at_once_they_get_another_chance() {
    let mut bench = Bench::with_runners((1..=6).map(runner));
    let effects = bench.dispatcher.advance(at(60));
    assert_eq!(effects, [Effect::Braked { what: Braked::Runners, extended: 6, of: 6, until: at(120) }]);
    bench.dispatcher.heartbeat(at(100), RunnerId(1)).unwrap();
    let effects = bench.dispatcher.advance(at(120));
    assert_eq!(effects.len(), 5);
    assert!(effects.iter().all(|effect| matches!(effect, Effect::RunnerOffline { .. })));
}

#[test]
fn a_few_lapses_do_not_trip_the_brake() {
    let mut bench = Bench::with_runners((1..=4).map(runner));
    for id in 1..=4 {
        bench.running(0, id, job(id));
    }
    assert!(!bench.dispatcher.advance(at(90)).iter().any(|effect| matches!(effect, Effect::Braked { .. })));
}

#[test]
fn a_wide_window_does_not_take_healthy_leases_for_lapsing_ones() {
    let brake = Brake { window: seconds(3_600), at_least: 2, ..Brake::default() };
    let mut dispatcher = Dispatcher::new(Config { brake, ..Config::default() });
    for id in 1..=4 {
        dispatcher.add_runner(at(0), runner(id));
        dispatcher.restore_lease(at(if id == 1 { 0 } else { 31 }), RunnerId(id), job(id)).unwrap();
        dispatcher.heartbeat(at(80), RunnerId(id)).unwrap();
    }
    assert!(matches!(dispatcher.advance(at(90))[..], [Effect::Requeued { job: JobId(1), .. }]));
}

#[test]
fn a_runner_of_slower_pace_keeps_its_lease_and_its_good_name_for_longer() {
    let patience = Patience { lease_duration: Some(seconds(600)), offline_after: Some(seconds(120)) };
    let mut bench = Bench::with_runners([RunnerSpec { patience, ..runner(1) }]);
    let lease = bench.running(0, 1, job(7));
    assert_eq!(lease.kind.expires_at(), at(600));
    assert_eq!(bench.dispatcher.advance(at(119)), []);
    let effects = bench.dispatcher.advance(at(120));
    assert_eq!(effects, [Effect::RunnerOffline { runner: RunnerId(1), last_seen_at: at(0) }]);
    assert_eq!(bench.dispatcher.renew(at(500), JobId(7), lease.epoch).unwrap().expires_at, at(1100));
}

#[test]
fn who_was_seen_lately_is_told_with_the_time() {
    let mut dispatcher = Dispatcher::new(Config::default());
    for id in 1..=3 {
        dispatcher.add_runner(at(id), runner(id));
    }
    dispatcher.heartbeat(at(5), RunnerId(1)).unwrap();
    let seen = |since| {
        let mut seen: Vec<_> = dispatcher.seen_since(at(since)).collect();
        seen.sort();
        seen
    };
    assert_eq!(seen(3), [(RunnerId(1), at(5)), (RunnerId(3), at(3))]);
    assert_eq!((seen(0).len(), seen(6).len()), (3, 0));
}
