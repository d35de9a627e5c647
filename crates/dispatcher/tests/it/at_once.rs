//! Jobs that are leased while they are queued, and take that back.

use startline_dispatcher::{Effect, LeaseError, PollOutcome, RunnerSpec};
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::state::RunnerStatus;

use crate::given::{Bench, assigned, at, job, job_with, lease_of, runner};

#[test]
fn a_job_is_leased_to_a_poll_that_ends_with_a_lease() {
    let mut bench = Bench::with_runners([runner(1)]);
    assert!(!bench.dispatcher.awaits_leases());
    let poll = bench.parks(1, 1, true);
    assert!(bench.dispatcher.awaits_leases());
    let (ended, assignment) = bench.dispatcher.enqueue_leased(at(2), &job(7)).unwrap();
    assert_eq!(ended, poll);
    assert_eq!((assignment.job, assignment.runner, assignment.epoch), (JobId(7), RunnerId(1), Epoch(1)));
    assert!(lease_of(&assignment) > at(2));
    assert!(!bench.dispatcher.awaits_leases() && !bench.dispatcher.abort_poll(poll));
    assert_eq!(bench.dispatcher.complete(at(3), JobId(7), Epoch(1)).unwrap().runner, RunnerId(1));
}

#[test]
fn nothing_is_queued_that_is_not_leased_at_once() {
    let mut bench = Bench::with_runners([runner(1), runner(2)]);
    // Nobody waits; nobody ends with a lease; nobody who does has what the job asks for.
    assert_eq!(bench.dispatcher.enqueue_leased(at(1), &job(7)), None);
    bench.parks(1, 1, false);
    assert_eq!(bench.dispatcher.enqueue_leased(at(1), &job(7)), None);
    bench.parks(2, 2, true);
    assert_eq!(bench.dispatcher.enqueue_leased(at(2), &job_with(7, &["gpu"])), None);
    // Whoever has waited longest is next, and gets an offer.
    assert_eq!(bench.dispatcher.enqueue_leased(at(2), &job(7)), None);
    assert_eq!(bench.dispatcher.jobs().count(), 0);
    assert_eq!(assigned(&bench.dispatcher.enqueue(at(3), job(7)).unwrap()), [(7, 1)]);
    assert_eq!(bench.dispatcher.enqueue_leased(at(3), &job(7)), None, "it is known");
    let (_, assignment) = bench.dispatcher.enqueue_leased(at(3), &job(8)).unwrap();
    assert_eq!(assignment.runner, RunnerId(2));
}

#[test]
fn a_lease_that_never_was_leaves_no_trace() {
    let mut bench = Bench::with_runners([RunnerSpec { ephemeral: true, ..runner(1) }]);
    bench.parks(1, 1, true);
    let (_, assignment) = bench.dispatcher.enqueue_leased(at(2), &job(7)).unwrap();
    assert_eq!(bench.polls(2, 1, true).0, PollOutcome::Spent);
    let stale = bench.dispatcher.revoke(at(3), JobId(7), Epoch(2)).unwrap_err();
    assert_eq!(stale, LeaseError::Stale { job: JobId(7), quoted: Epoch(2), current: Epoch(1) });
    assert_eq!(bench.dispatcher.revoke(at(3), JobId(7), assignment.epoch), Ok(vec![]));
    assert_eq!(bench.dispatcher.jobs().count(), 0);
    assert_eq!(bench.dispatcher.runner(RunnerId(1)).unwrap().status, RunnerStatus::Online);
    // The id is free, and the runner, which is for one job, has had none.
    bench.parks(4, 1, true);
    let (_, assignment) = bench.dispatcher.enqueue_leased(at(5), &job(7)).unwrap();
    assert_eq!((assignment.runner, assignment.epoch), (RunnerId(1), Epoch(1)));
}

#[test]
fn whoever_waits_gets_the_room_of_a_lease_that_never_was() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.dispatcher.set_max_running_jobs_per_repository(at(0), Some(1));
    bench.parks(1, 1, true);
    let (_, assignment) = bench.dispatcher.enqueue_leased(at(2), &job(7)).unwrap();
    bench.queue(2, [job(8)]);
    let effects = bench.dispatcher.add_runner(at(2), runner(2));
    assert_eq!(effects, []);
    bench.parks(2, 2, true);
    let effects = bench.dispatcher.revoke(at(3), JobId(7), assignment.epoch).unwrap();
    assert!(matches!(effects.as_slice(), [Effect::Assigned { .. }]), "{effects:?}");
    assert_eq!(assigned(&effects), [(8, 2)]);
}

#[test]
fn an_offer_is_not_revoked() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.queue(1, [job(7)]);
    let offer = bench.gets(1, 1, false);
    let refused = bench.dispatcher.revoke(at(2), JobId(7), offer.epoch).unwrap_err();
    assert_eq!(refused, LeaseError::NotAcquired { job: JobId(7), epoch: offer.epoch });
}
