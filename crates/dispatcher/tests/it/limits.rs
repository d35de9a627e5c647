//! Groups and limits.

use std::sync::Arc;

use startline_dispatcher::{
    Config, Dispatcher, GiveBack, GroupKey, GroupPolicy, Missing, PollId, Repositories, RunnerSpec,
};
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::scope::Scope;

use crate::given::{Bench, assigned, at, group, job, job_of, runner};

fn runner_in(id: i64, group: &str) -> RunnerSpec {
    RunnerSpec { group: group.to_owned(), ..runner(id) }
}

fn missing(dispatcher: &Dispatcher, job: i64, runner: usize) -> Vec<String> {
    let explanation = dispatcher.explain(JobId(job)).unwrap();
    explanation.candidates[runner].missing.iter().map(Missing::to_string).collect()
}

#[test]
fn a_group_at_its_limit_holds_jobs_back_until_one_of_its_jobs_ends() {
    let mut bench = Bench::with_runners((1..=3).map(|id| runner_in(id, "gpu")));
    bench.dispatcher.set_group(at(0), group("GPU", |group| group.max_running_jobs = Some(2)));
    bench.queue(0, (1..=3).map(job));
    assert_eq!([1, 2].map(|id| bench.gets(0, id, id == 1).job.0), [1, 2], "an offer counts like a lease");
    bench.parks(1, 3, true);
    assert_eq!(missing(&bench.dispatcher, 3, 2), ["limit: group gpu runs 2 of 2 jobs"]);
    assert_eq!(
        bench.dispatcher.explain(JobId(3)).unwrap().summary(),
        "The job waits for one of 3 fitting runners: 2 busy, 0 offline, 0 draining or not polling. \
         It is held back by limit: group gpu runs 2 of 2 jobs."
    );
    let done = bench.dispatcher.complete(at(2), JobId(1), Epoch(1)).unwrap();
    assert_eq!(assigned(&done.effects), [(3, 3)]);
}

#[test]
fn a_job_that_is_held_back_does_not_hold_up_other_repositories_and_keeps_its_place() {
    let mut bench = Bench::with_runners((1..=4).map(runner));
    bench.dispatcher.set_group(at(0), group("default", |group| group.max_running_jobs_per_repository = Some(1)));
    let mut urgent = job_of(2, "Acme/App");
    urgent.priority = 9;
    bench.queue(0, [job_of(1, "acme/app")]);
    bench.gets(0, 1, true);
    bench.queue(1, [urgent, job_of(3, "acme/app"), job_of(4, "acme/lib")]);
    assert_eq!(bench.gets(1, 2, true).job, JobId(4));
    bench.parks(2, 3, true);
    bench.parks(2, 4, true);
    assert_eq!(missing(&bench.dispatcher, 2, 2), ["limit: acme/app runs 1 of 1 jobs in group default"]);
    let effects = bench.dispatcher.give_back(at(3), JobId(1), Epoch(1), GiveBack::Undelivered).unwrap();
    assert_eq!(assigned(&effects), [(2, 3)], "one of the three, the most urgent");
    assert_eq!(assigned(&bench.dispatcher.complete(at(4), JobId(2), Epoch(1)).unwrap().effects), [(1, 4)]);
}

#[test]
fn another_group_takes_what_one_group_may_not() {
    let mut bench = Bench::with_runners([runner_in(1, "small"), runner_in(2, "small"), runner_in(3, "large")]);
    bench.dispatcher.set_group(at(0), group("small", |group| group.max_running_jobs_per_repository = Some(1)));
    bench.running(0, 1, job(1));
    bench.parks(1, 2, true);
    bench.parks(1, 3, true);
    assert_eq!(assigned(&bench.dispatcher.enqueue(at(2), job(2)).unwrap()), [(2, 3)], "runner 2 is idle for longer");
}

#[test]
fn the_limit_of_every_repository_holds_over_all_groups_and_can_be_changed() {
    let config = Config { max_running_jobs_per_repository: Some(1), ..Config::default() };
    let mut dispatcher = Dispatcher::new(config);
    for (id, group) in [(1, "small"), (2, "large"), (3, "large")] {
        dispatcher.add_runner(at(0), runner_in(id, group));
        let _ = dispatcher.poll(at(0), RunnerId(id), PollId(id.unsigned_abs()), true);
    }
    assert_eq!(assigned(&dispatcher.enqueue(at(1), job(1)).unwrap()), [(1, 1)]);
    assert_eq!(assigned(&dispatcher.enqueue(at(1), job(2)).unwrap()), []);
    assert_eq!(missing(&dispatcher, 2, 1), ["limit: acme/app runs 1 of 1 jobs"]);
    assert_eq!(assigned(&dispatcher.enqueue(at(1), job_of(3, "acme/lib")).unwrap()), [(3, 2)]);
    assert_eq!(assigned(&dispatcher.set_max_running_jobs_per_repository(at(2), Some(2))), [(2, 3)]);
}

#[test]
fn restored_leases_count_even_beyond_the_limit() {
    let mut bench = Bench::new();
    bench.dispatcher.set_group(at(0), group("default", |group| group.max_running_jobs = Some(1)));
    let mut many = runner(1);
    many.capabilities.max_parallel_jobs = 3;
    // One before its runner is registered and one after: both count for the runner's group.
    bench.dispatcher.restore_lease(at(0), RunnerId(1), job(1)).unwrap();
    bench.dispatcher.add_runner(at(0), many);
    bench.dispatcher.restore_lease(at(0), RunnerId(1), job(2)).unwrap();
    bench.parks(1, 1, true);
    bench.queue(1, [job(3)]);
    assert_eq!(missing(&bench.dispatcher, 3, 0), ["limit: group default runs 2 of 1 jobs"]);
    assert_eq!(bench.dispatcher.complete(at(2), JobId(1), Epoch::ZERO).unwrap().effects, []);
    assert_eq!(assigned(&bench.dispatcher.complete(at(2), JobId(2), Epoch::ZERO).unwrap().effects), [(3, 1)]);
}

#[test]
fn a_lease_whose_runner_is_removed_counts_for_its_group_until_it_ends() {
    let mut bench = Bench::with_runners([runner(1), runner(2)]);
    bench.dispatcher.set_group(at(0), group("default", |group| group.max_running_jobs = Some(1)));
    bench.running(0, 1, job(1));
    bench.dispatcher.remove_runner(at(1), RunnerId(1));
    bench.parks(1, 2, true);
    bench.queue(1, [job(2)]);
    assert_eq!(assigned(&bench.dispatcher.complete(at(2), JobId(1), Epoch(1)).unwrap().effects), [(2, 2)]);
}

#[test]
fn a_changed_policy_is_in_force_for_queued_jobs_and_parked_polls_at_once() {
    let mut once = runner(1);
    once.ephemeral = true;
    let mut bench = Bench::with_runners([once, runner(2)]);
    bench.dispatcher.set_group(at(0), group("default", |group| group.max_running_jobs = Some(0)));
    bench.parks(0, 1, true);
    bench.parks(0, 2, true);
    let mut untrusted = job(1);
    Arc::make_mut(&mut untrusted.requirement).trusted = false;
    bench.queue(0, [untrusted, job(2)]);
    let only = |names: &[&str]| Repositories::Only(names.iter().map(ToString::to_string).collect());
    let mut set = |policy| assigned(&bench.dispatcher.set_group(at(1), policy));
    assert_eq!(set(group("default", |group| group.repositories = only(&["acme/lib"]))), []);
    assert_eq!(
        set(group("default", |group| {
            group.accepts_untrusted = true;
            group.repositories = only(&["acme/app"]);
        })),
        [(1, 1), (2, 2)]
    );
}

#[test]
fn an_organizations_group_takes_in_its_runners_with_their_jobs_and_leaves_them_to_the_instances() {
    let acme = |id| RunnerSpec { scope: Scope::Organization("acme".to_owned()), ..runner_in(id, "gpu") };
    let own = GroupKey::new(&Scope::Organization("acme".to_owned()), "gpu");
    let outer = GroupKey::new(&Scope::Instance, "gpu");
    let mut bench = Bench::with_runners([acme(1), acme(2), runner_in(3, "gpu")]);
    bench.dispatcher.set_group(at(0), group("gpu", |group| group.max_running_jobs = Some(1)));
    bench.running(0, 1, job(1));
    bench.parks(1, 2, true);
    bench.parks(1, 3, true);
    bench.queue(1, [job(2), job(3), job_of(4, "umbrella/site")]);
    // The instance's group is empty without the organization's runners, and the organization's has no limit.
    let effects = bench.dispatcher.set_group(at(2), GroupPolicy::open(own.clone()));
    assert_eq!(assigned(&effects), [(4, 3), (2, 2)]);
    let jobs = |bench: &Bench, key| bench.dispatcher.group(key).map(|group| group.jobs.values().sum::<usize>());
    assert_eq!((jobs(&bench, &own), jobs(&bench, &outer)), (Some(2), Some(1)));
    assert_eq!(bench.dispatcher.remove_group(at(3), &own), []);
    assert_eq!((jobs(&bench, &own), jobs(&bench, &outer)), (None, Some(3)));
}
