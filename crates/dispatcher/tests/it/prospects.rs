//! What runners that are not there would find in the queue.

use std::sync::Arc;

use startline_dispatcher::{GroupKey, GroupPolicy, Repositories, RunnerSpec};
use startline_protocol::ids::JobId;
use startline_protocol::scope::Scope;
use startline_protocol::state::RunnerStatus;

use crate::given::{Bench, at, group, job, job_of, job_with, runner};

fn prospect() -> RunnerSpec {
    RunnerSpec { ephemeral: true, ..runner(99) }
}

fn ids(jobs: &[JobId]) -> Vec<i64> {
    jobs.iter().map(|job| job.0).collect()
}

#[test]
fn a_prospect_is_told_of_jobs_that_fit_labels_scope_group_and_trust_alone() {
    let mut bench = Bench::new();
    let mut untrusted = job(3);
    Arc::make_mut(&mut untrusted.requirement).trusted = false;
    let mut elsewhere = job(4);
    Arc::make_mut(&mut elsewhere.requirement).group = Some("gpu".to_owned());
    bench.queue(0, [job(1), job_with(2, &["windows"]), untrusted, elsewhere, job_of(5, "umbrella/site")]);
    let next = |bench: &Bench, prospect: &RunnerSpec| ids(&bench.dispatcher.next_for(prospect, 9, [], |_| false));
    assert_eq!(next(&bench, &prospect()), [1, 5]);
    assert_eq!(bench.dispatcher.queued_for(&prospect()), 2);
    let ours = RunnerSpec { scope: Scope::organization("umbrella").unwrap(), ..prospect() };
    assert_eq!(next(&bench, &ours), [5]);
    let accepting = group("default", |group: &mut GroupPolicy| {
        group.accepts_untrusted = true;
        group.repositories = Repositories::Only(["acme/app".to_owned()].into());
    });
    bench.dispatcher.set_group(at(0), accepting);
    assert_eq!(next(&bench, &prospect()), [1, 3]);
    assert_eq!(next(&bench, &RunnerSpec { ephemeral: false, ..prospect() }), [1], "trust needs ephemeral runners");
    assert!(bench.dispatcher.would_fit(&prospect(), JobId(3)) && !bench.dispatcher.would_fit(&prospect(), JobId(5)));
}

#[test]
fn a_prospect_is_told_of_no_more_jobs_than_the_limits_leave_room_for() {
    let mut bench = Bench::with_runners([runner(1)]);
    bench.dispatcher.set_group(at(0), group("default", |group| group.max_running_jobs = Some(3)));
    bench.queue(0, (1..=6).map(job));
    bench.gets(0, 1, true);
    let next = |bench: &Bench, own: &[i64]| {
        ids(&bench.dispatcher.next_for(&prospect(), 9, own.iter().map(|id| JobId(*id)), |_| false))
    };
    assert_eq!(next(&bench, &[]), [2, 3]);
    assert_eq!(next(&bench, &[5]), [2], "what is spoken for takes room");
    assert_eq!(next(&bench, &[5, 6]), [0; 0]);
    assert_eq!(bench.dispatcher.queued_for(&prospect()), 5, "all that wait and fit are counted");
    bench.dispatcher.remove_group(at(0), &GroupKey::new(&Scope::Instance, "default"));
    assert_eq!(ids(&bench.dispatcher.next_for(&prospect(), 2, [], |job| job == JobId(3))), [2, 4]);
}

#[test]
fn repositories_take_turns_among_the_jobs_that_a_prospect_is_told_of() {
    let mut bench = Bench::new();
    let mut urgent = job_of(6, "acme/lib");
    urgent.priority = 1;
    bench.queue(0, [job(1), job(2), job(3), job_of(4, "acme/lib"), job_of(5, "acme/lib"), urgent]);
    assert_eq!(ids(&bench.dispatcher.next_for(&prospect(), 9, [], |_| false)), [6, 1, 2, 4, 3, 5]);
}

#[test]
fn jobs_that_come_go_or_change_hands_are_told_once() {
    let mut bench = Bench::with_runners([runner(1)]);
    let changed = |bench: &mut Bench| bench.dispatcher.take_changed_jobs().iter().map(|job| job.0).collect::<Vec<_>>();
    bench.queue(0, [job(1), job(2)]);
    assert_eq!(changed(&mut bench), [1, 2]);
    let offer = bench.gets(0, 1, false);
    assert_eq!(changed(&mut bench), [1]);
    bench.dispatcher.acquire(at(1), offer.runner, offer.job, offer.epoch).unwrap();
    assert_eq!(changed(&mut bench), [1]);
    assert_eq!(bench.dispatcher.jobs_of(offer.runner).collect::<Vec<_>>(), [JobId(1)]);
    assert_eq!(bench.dispatcher.runner_status(offer.runner), Some(RunnerStatus::Busy));
    bench.dispatcher.renew(at(2), offer.job, offer.epoch).unwrap();
    assert_eq!(changed(&mut bench), [0; 0]);
    bench.dispatcher.complete(at(3), offer.job, offer.epoch).unwrap();
    assert!(bench.dispatcher.cancel_queued(JobId(2)));
    assert_eq!(changed(&mut bench), [1, 2]);
}
