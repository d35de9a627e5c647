//! Random histories, played to the dispatcher and to the naive model, compared and checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use startline_dispatcher::{
    Assignment, AssignmentKind, Brake, CancelOutcome, Config, Dispatcher, Effect, GiveBack, GroupKey, GroupPolicy,
    JobSnapshot, JobSpec, LeaseError, Limit, LostPolicy, Missing, Patience, PollId, PollOutcome, Repositories,
    Requirement, RunnerSpec,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{JobStatus, RunnerStatus};

use crate::given::at;
use crate::naive::Naive;

#[derive(Clone, Debug)]
enum Op {
    AddRunner(RunnerSpec),
    RemoveRunner(RunnerId),
    SetGroup(GroupPolicy),
    RemoveGroup(GroupKey),
    SetRepositoryLimit(Option<u32>),
    UpdateCapabilities(RunnerId, Capabilities),
    SetDraining(RunnerId, bool),
    Heartbeat(RunnerId),
    Poll {
        runner: RunnerId,
        auto_acquire: bool,
    },
    AbortPoll(Index),
    /// The id is set when it is played.
    Enqueue(JobSpec),
    EnqueueLeased(JobSpec),
    RestoreLease(RunnerId, JobSpec),
    CancelQueued(Index),
    RequestCancel(Index),
    Acquire(Index),
    /// Somebody else's, or under another epoch.
    AcquireWrongly(Index, RunnerId, i64),
    Renew(Index),
    Revoke(Index),
    Complete(Index),
    GiveBack(Index, GiveBack),
    Step(i64),
    Advance,
}

fn runner_id() -> impl Strategy<Value = RunnerId> {
    (1..=6_i64).prop_map(RunnerId)
}

fn repository() -> impl Strategy<Value = String> {
    select(vec!["acme/app", "Acme/App", "acme/lib", "umbrella/site"]).prop_map(str::to_owned)
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    (0..4_u32, any::<bool>(), 0..4_u32).prop_map(|(memory, docker_enabled, max_parallel_jobs)| Capabilities {
        memory_gb: memory * 8,
        docker_enabled,
        max_parallel_jobs,
        ..Capabilities::default()
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    let scopes = [
        "instance",
        "instance",
        "organization:acme",
        "organization:umbrella",
        "repository:acme/app",
        "repository:acme/lib",
    ];
    select(scopes.to_vec()).prop_map(|scope| scope.parse().unwrap())
}

fn group_name() -> impl Strategy<Value = &'static str> {
    select(vec!["default", "default", "Default", "gold"])
}

fn group_key() -> impl Strategy<Value = GroupKey> {
    (scope(), group_name()).prop_map(|(scope, name)| GroupKey::new(&scope, name))
}

fn limit() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![2 => Just(None), 1 => Just(Some(0)), 6 => (1..4_u32).prop_map(Some)]
}

fn group() -> impl Strategy<Value = GroupPolicy> {
    let repositories = prop_oneof![
        3 => Just(Repositories::All),
        2 => btree_set(repository(), 0..3).prop_map(Repositories::Only),
    ];
    (group_key(), repositories, any::<bool>(), limit(), limit()).prop_map(
        |(key, repositories, accepts_untrusted, max_running_jobs, max_running_jobs_per_repository)| GroupPolicy {
            key,
            repositories,
            accepts_untrusted,
            max_running_jobs,
            max_running_jobs_per_repository,
        },
    )
}

fn runner() -> impl Strategy<Value = RunnerSpec> {
    let labels = subsequence(vec!["Linux", "big", "docker"], 0..=3);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.05));
    let own = || proptest::option::weighted(0.3, (30_i64..400).prop_map(SignedDuration::from_secs));
    let patience =
        (own(), own()).prop_map(|(lease_duration, offline_after)| Patience { lease_duration, offline_after });
    (runner_id(), labels, scope(), group_name(), capabilities(), flags, patience).prop_map(
        |(id, labels, scope, group, capabilities, (ephemeral, draining), patience)| RunnerSpec {
            id,
            name: format!("r{id}"),
            labels: labels.into_iter().map(str::to_owned).collect(),
            scope,
            group: group.to_owned(),
            capabilities,
            ephemeral,
            draining,
            patience,
        },
    )
}

fn job() -> impl Strategy<Value = JobSpec> {
    let labels = prop_oneof![
        Just(vec![]),
        Just(vec!["linux"]),
        subsequence(vec!["linux", "BIG", "docker", "memory_gb>=8", "memory_gb>=24"], 1..=2),
    ];
    let group = prop_oneof![4 => Just(None), 1 => select(vec!["Default", "gold"]).prop_map(Some)];
    let policy = prop_oneof![4 => Just(LostPolicy::Requeue), 1 => Just(LostPolicy::Fail)];
    (labels, group, repository(), prop::bool::weighted(0.9), -1..2_i32, 0..20_i64, policy, 0..3_u32).prop_map(
        |(labels, group, repository, trusted, priority, sequence, on_runner_lost, requeues_left)| JobSpec {
            id: JobId(0),
            run: RunId(0),
            timeout_minutes: 360,
            requirement: Arc::new(Requirement {
                labels: labels.into_iter().map(str::to_owned).collect(),
                group: group.map(str::to_owned),
                repository,
                trusted,
            }),
            priority,
            sequence,
            attempt: 1,
            epoch: Epoch::ZERO,
            queued_at: at(0),
            on_runner_lost,
            requeues_left,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let why = select(vec![GiveBack::Undelivered, GiveBack::NotPersisted, GiveBack::Declined, GiveBack::RunnerFailed]);
    prop_oneof![
        3 => runner().prop_map(Op::AddRunner),
        1 => runner_id().prop_map(Op::RemoveRunner),
        2 => group().prop_map(Op::SetGroup),
        1 => group_key().prop_map(Op::RemoveGroup),
        1 => limit().prop_map(Op::SetRepositoryLimit),
        1 => (runner_id(), capabilities()).prop_map(|(id, machine)| Op::UpdateCapabilities(id, machine)),
        1 => (runner_id(), prop::bool::weighted(0.3)).prop_map(|(id, draining)| Op::SetDraining(id, draining)),
        3 => runner_id().prop_map(Op::Heartbeat),
        14 => (runner_id(), any::<bool>()).prop_map(|(runner, auto_acquire)| Op::Poll { runner, auto_acquire }),
        2 => any::<Index>().prop_map(Op::AbortPoll),
        6 => job().prop_map(Op::Enqueue),
        4 => job().prop_map(Op::EnqueueLeased),
        1 => (runner_id(), job()).prop_map(|(runner, job)| Op::RestoreLease(runner, job)),
        1 => any::<Index>().prop_map(Op::CancelQueued),
        1 => any::<Index>().prop_map(Op::RequestCancel),
        4 => any::<Index>().prop_map(Op::Acquire),
        1 => (any::<Index>(), runner_id(), -1..2_i64).prop_map(|(job, runner, by)| Op::AcquireWrongly(job, runner, by)),
        4 => any::<Index>().prop_map(Op::Renew),
        1 => any::<Index>().prop_map(Op::Revoke),
        4 => any::<Index>().prop_map(Op::Complete),
        2 => (any::<Index>(), why).prop_map(|(job, why)| Op::GiveBack(job, why)),
        3 => (0..20_i64).prop_map(Op::Step),
        1 => (20..130_i64).prop_map(Op::Step),
        3 => Just(Op::Advance),
    ]
}

/// Both dispatchers, and what an observer knows who sees nothing but answers and effects.
struct Play {
    now: Timestamp,
    tested: Dispatcher,
    naive: Naive,
    jobs: i64,
    polls: u64,
    /// Jobs that were queued or restored and did not end since, with the epoch last seen and who has it.
    live: BTreeMap<JobId, (Epoch, Option<RunnerId>)>,
    ended: BTreeSet<JobId>,
    /// Assigned in the last step.
    fresh: Vec<Assignment>,
    /// Runners as somebody knows them who looks only at those that are said to have changed.
    statuses: BTreeMap<RunnerId, RunnerStatus>,
    /// The same for jobs.
    holders: BTreeMap<JobId, (JobStatus, Option<RunnerId>)>,
    checks: usize,
}

impl Play {
    fn new() -> Self {
        let brake = Brake { at_least: 3, ..Brake::default() };
        let config = Config { brake, idle_classes: 2, ..Config::default() };
        Self {
            now: at(0),
            tested: Dispatcher::new(config.clone()),
            naive: Naive::new(config),
            jobs: 0,
            polls: 0,
            live: BTreeMap::new(),
            ended: BTreeSet::new(),
            fresh: Vec::new(),
            statuses: BTreeMap::new(),
            holders: BTreeMap::new(),
            checks: 0,
        }
    }

    fn job(&self, index: &Index) -> Option<(JobId, Epoch, Option<RunnerId>)> {
        let jobs: Vec<_> = self.live.iter().map(|(id, (epoch, runner))| (*id, *epoch, *runner)).collect();
        // Prefer jobs that somebody has: most of what can be said about a job is about those.
        let held: Vec<_> = jobs.iter().copied().filter(|job| job.2.is_some()).collect();
        let jobs = if held.is_empty() || index.index(4) == 0 { jobs } else { held };
        (!jobs.is_empty()).then(|| *index.get(&jobs))
    }

    fn next_job(&mut self, mut spec: JobSpec) -> JobSpec {
        self.jobs += 1;
        spec.id = JobId(self.jobs);
        self.live.insert(spec.id, (spec.epoch, None));
        spec
    }

    fn play(&mut self, op: &Op) {
        let now = self.now;
        let (tested, naive) = (&mut self.tested, &mut self.naive);
        match op {
            Op::Step(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Op::Advance => {
                let effects = tested.advance(now);
                assert_eq!(effects, naive.advance(now));
                assert!(tested.next_expiry().is_none_or(|at| at > now));
                self.observe(&effects);
            }
            Op::AddRunner(spec) => {
                let effects = tested.add_runner(now, spec.clone());
                assert_eq!(effects, naive.add_runner(now, spec.clone()));
                self.observe(&effects);
            }
            Op::RemoveRunner(id) => {
                let effects = tested.remove_runner(now, *id);
                assert_eq!(effects, naive.remove_runner(now, *id));
                self.observe(&effects);
            }
            Op::SetGroup(policy) => {
                let effects = tested.set_group(now, policy.clone());
                assert_eq!(effects, naive.set_group(now, policy.clone()));
                self.observe(&effects);
            }
            Op::RemoveGroup(key) => {
                let effects = tested.remove_group(now, key);
                assert_eq!(effects, naive.remove_group(now, key));
                self.observe(&effects);
            }
            Op::SetRepositoryLimit(most) => {
                let effects = tested.set_max_running_jobs_per_repository(now, *most);
                assert_eq!(effects, naive.set_max_running_jobs_per_repository(now, *most));
                self.observe(&effects);
            }
            Op::UpdateCapabilities(id, machine) => {
                let effects = tested.update_capabilities(now, *id, machine.clone()).ok();
                assert_eq!(effects, naive.update_capabilities(now, *id, machine.clone()));
                self.observe(&effects.unwrap_or_default());
            }
            Op::SetDraining(id, draining) => {
                let effects = tested.set_draining(now, *id, *draining).ok();
                assert_eq!(effects, naive.set_draining(now, *id, *draining));
                self.observe(&effects.unwrap_or_default());
            }
            Op::Heartbeat(id) => {
                let effects = tested.heartbeat(now, *id).ok();
                assert_eq!(effects, naive.heartbeat(now, *id));
                self.observe(&effects.unwrap_or_default());
            }
            Op::Poll { runner, auto_acquire } => {
                self.polls += 1;
                let poll = PollId(self.polls);
                let (outcome, effects) = tested.poll(now, *runner, poll, *auto_acquire);
                assert_eq!((outcome.clone(), effects.clone()), naive.poll(now, *runner, poll, *auto_acquire));
                self.observe(&effects);
                if let PollOutcome::Assigned(assignment) = outcome {
                    assert_eq!(matches!(assignment.kind, AssignmentKind::Lease { .. }), *auto_acquire);
                    self.observe_assignment(&assignment);
                }
            }
            Op::AbortPoll(index) => {
                let polls: Vec<_> = naive.runners.iter().flat_map(|runner| &runner.polls).map(|poll| poll.0).collect();
                let poll = if polls.is_empty() { PollId(self.polls) } else { *index.get(&polls) };
                assert_eq!(tested.abort_poll(poll), naive.abort_poll(poll));
            }
            Op::Enqueue(spec) => {
                let spec = self.next_job(spec.clone());
                let effects = self.tested.enqueue(now, spec.clone()).unwrap();
                assert_eq!(effects, self.naive.enqueue(now, spec.clone()));
                assert!(effects.len() <= 1, "one job wakes at most one poll: {effects:?}");
                self.observe(&effects);
                assert!(self.tested.enqueue(now, spec).is_err(), "a job is queued once");
            }
            Op::EnqueueLeased(spec) => {
                let spec = self.next_job(spec.clone());
                let leased = self.tested.enqueue_leased(now, &spec);
                assert_eq!(leased, self.naive.enqueue_leased(now, spec.clone()));
                assert!(leased.is_none() || self.tested.enqueue_leased(now, &spec).is_none(), "a job is queued once");
                match leased {
                    Some((_, assignment)) => self.observe_assignment(&assignment),
                    // As if it had not been.
                    None => drop(self.live.remove(&spec.id)),
                }
            }
            Op::RestoreLease(runner, spec) => {
                let spec = self.next_job(JobSpec { epoch: Epoch(3), ..spec.clone() });
                let assignment = self.tested.restore_lease(now, *runner, spec.clone()).unwrap();
                assert_eq!(assignment, self.naive.restore_lease(now, *runner, spec));
                self.live.insert(assignment.job, (assignment.epoch, Some(*runner)));
            }
            op => self.play_on_job(op),
        }
    }

    fn play_on_job(&mut self, op: &Op) {
        let now = self.now;
        let (Op::CancelQueued(index)
        | Op::RequestCancel(index)
        | Op::Acquire(index)
        | Op::AcquireWrongly(index, ..)
        | Op::Renew(index)
        | Op::Revoke(index)
        | Op::Complete(index)
        | Op::GiveBack(index, _)) = op
        else {
            unreachable!("every other op is played elsewhere")
        };
        let Some((id, epoch, runner)) = self.job(index) else { return };
        let (tested, naive) = (&mut self.tested, &mut self.naive);
        match op {
            Op::CancelQueued(_) => {
                let cancelled = tested.cancel_queued(id);
                assert_eq!(cancelled, naive.cancel_queued(id));
                if cancelled {
                    self.end(id);
                }
            }
            Op::RequestCancel(_) => {
                let (outcome, effects) = tested.request_cancel(now, id);
                assert_eq!((outcome, effects.clone()), naive.request_cancel(now, id));
                if !matches!(outcome, CancelOutcome::Running { .. }) {
                    self.end(id);
                }
                self.observe(&effects);
            }
            Op::Acquire(_) => {
                let runner = runner.unwrap_or(RunnerId(1));
                assert_eq!(tested.acquire(now, runner, id, epoch), naive.acquire(now, runner, id, epoch));
            }
            Op::AcquireWrongly(_, runner, by) => {
                let epoch = Epoch(epoch.0 + by);
                assert_eq!(tested.acquire(now, *runner, id, epoch), naive.acquire(now, *runner, id, epoch));
            }
            Op::Renew(_) => assert_eq!(tested.renew(now, id, epoch), naive.renew(now, id, epoch)),
            Op::Revoke(_) => {
                let revoked = tested.revoke(now, id, epoch);
                assert_eq!(revoked, naive.revoke(now, id, epoch));
                if let Ok(effects) = revoked {
                    self.end(id);
                    self.observe(&effects);
                }
            }
            Op::Complete(_) => {
                let completed = tested.complete(now, id, epoch);
                assert_eq!(completed, naive.complete(now, id, epoch));
                if let Ok(completed) = completed {
                    assert_eq!(Some(completed.runner), runner, "only its holder completes a job");
                    self.end(id);
                    self.observe(&completed.effects);
                }
            }
            Op::GiveBack(_, why) => {
                let effects = tested.give_back(now, id, epoch, *why);
                assert_eq!(effects, naive.give_back(now, id, epoch, *why));
                self.observe(&effects.unwrap_or_default());
            }
            _ => {}
        }
    }

    fn end(&mut self, id: JobId) {
        assert!(self.live.remove(&id).is_some(), "{id:?} ends once");
        self.ended.insert(id);
    }

    fn observe_assignment(&mut self, assignment: &Assignment) {
        let job = self.live.get_mut(&assignment.job).expect("only a live job is assigned");
        assert_eq!(job.1, None, "a job has one holder: {assignment:?}");
        assert_eq!(assignment.epoch, job.0.next(), "each offer has the next epoch");
        *job = (assignment.epoch, Some(assignment.runner));
        self.fresh.push(assignment.clone());
    }

    fn observe(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Assigned { assignment, .. } => self.observe_assignment(assignment),
                Effect::Requeued { job, old_epoch, .. } => {
                    let live = self.live.get_mut(job).expect("only a live job is re-queued");
                    assert!(live.1.take().is_some() && live.0 == *old_epoch, "{effect:?}");
                }
                Effect::Lost { job, epoch, .. } => {
                    assert!(self.live.get(job).is_some_and(|live| live.0 == *epoch && live.1.is_some()), "{effect:?}");
                    self.end(*job);
                }
                _ => {}
            }
        }
    }

    /// The invariants.
    fn check(&mut self) {
        // No job is lost, and each has the one holder that the observer knows of.
        let jobs: BTreeMap<_, _> = self
            .tested
            .jobs()
            .map(|job| (job.id, (job.epoch, job.assignment.map(|assignment| assignment.runner))))
            .collect();
        assert_eq!(jobs, self.live);
        let mut in_hands = BTreeSet::new();
        for runner in self.tested.runners() {
            for job in runner.current_jobs {
                assert!(in_hands.insert(job), "{job:?} is in two hands");
                assert_eq!(self.live[&job].1, Some(runner.id));
            }
        }

        // Whoever looks at the changed runners alone knows all.
        for id in self.tested.take_changed_runners() {
            match self.tested.runner(id) {
                Some(runner) => self.statuses.insert(id, runner.status),
                None => self.statuses.remove(&id),
            };
        }
        assert_eq!(self.statuses, self.tested.runners().map(|runner| (runner.id, runner.status)).collect());

        // The same for jobs.
        let holder = |job: JobSnapshot| (job.status, job.assignment.map(|assignment| assignment.runner));
        for id in self.tested.take_changed_jobs() {
            match self.tested.job(id) {
                Some(job) => self.holders.insert(id, holder(job)),
                None => self.holders.remove(&id),
            };
        }
        assert_eq!(self.holders, self.tested.jobs().map(|job| (job.id, holder(job))).collect());

        // Whoever would start ephemeral runners like one of these, beside all that are there, is told what they would get.
        if let Some(runner) = self.naive.runners.get(self.checks % self.naive.runners.len().max(1)) {
            let prospect = RunnerSpec { ephemeral: self.checks.is_multiple_of(2), ..runner.spec.clone() };
            assert_eq!(self.tested.queued_for(&prospect), self.naive.queued_for(&prospect).len());
            let fitting = self.tested.jobs().filter(|job| self.tested.would_fit(&prospect, job.id));
            assert_eq!(fitting.count(), self.naive.queued_for(&prospect).len());
            let own: Vec<JobId> = self.naive.queued_for(&prospect).iter().map(|job| job.spec.id).collect();
            let own: Vec<JobId> = own.into_iter().filter(|id| id.0 % 3 == 0).collect();
            let passed = |id: JobId| id.0 % 4 == 1;
            let most = 1 + self.checks % 4;
            let next = self.tested.next_for(&prospect, most, own.iter().copied(), passed);
            assert_eq!(next, self.naive.next_for(&prospect, most, &own, passed));
        }

        // No fitting poll is parked while a fitting job is queued.
        assert_eq!(self.naive.missed(), []);

        // No new assignment exceeds a limit.
        for fresh in std::mem::take(&mut self.fresh) {
            let runner = self.naive.runners.iter().find(|runner| runner.spec.id == fresh.runner).unwrap().spec.clone();
            let repository = self.naive.job(fresh.job).unwrap().spec.requirement.repository.clone();
            for limit in self.naive.limits(&runner, &repository) {
                let (Limit::Group { running, most, .. }
                | Limit::RepositoryInGroup { running, most, .. }
                | Limit::Repository { running, most, .. }) = limit;
                assert!(running <= most as usize, "{fresh:?} exceeds {limit:?}");
            }
        }

        // What counts for a group's limits equals a recount, and groups are not kept beyond their use.
        for group in self.tested.groups() {
            let key = &group.policy.key;
            assert_eq!(group.jobs.values().sum::<usize>(), self.naive.in_hands(Some(key), None));
            for (repository, jobs) in group.jobs {
                assert_eq!(jobs, self.naive.in_hands(Some(key), Some(&repository)));
            }
            let has_runner = || self.naive.runners.iter().any(|runner| self.naive.group_of(&runner.spec).key == *key);
            let set = self.naive.groups.contains(&group.policy);
            assert!(set || has_runner() || self.naive.in_hands(Some(key), None) > 0, "{key} is of no use");
        }

        // Classes and profiles are not kept beyond their use.
        let mut stats = self.tested.stats();
        assert!(stats.classes <= self.live.len() + 2);
        assert!(stats.profiles <= self.naive.runners.len());

        // Statistics equal a recount, and slots add up.
        assert_eq!(stats.slots_used + stats.slots_free, stats.slots_declared);
        (stats.classes, stats.profiles) = (0, 0);
        assert_eq!(stats, self.naive.stats());
        assert_eq!(self.tested.next_expiry(), self.naive.next_expiry());

        // One job a step; over a history that is each of them many times.
        self.checks += 1;
        if let Some((&id, &(epoch, _))) = self.live.iter().nth(self.checks % self.live.len().max(1)) {
            // Every queued job has a reason with each runner, and the reasons are the true ones.
            let explanation = self.tested.explain(id).unwrap();
            let spec = self.naive.job(id).unwrap().spec.clone();
            assert_eq!(explanation.candidates.len(), self.naive.runners.len());
            for candidate in &explanation.candidates {
                let runner = self.naive.runners.iter().find(|runner| runner.spec.id == candidate.runner).unwrap();
                assert_eq!(candidate.fits(), self.naive.fits(&runner.spec, &spec), "{candidate:?}");
                let limits = candidate.missing.iter().filter_map(|missing| match missing {
                    Missing::Limit(limit) => Some(limit.clone()),
                    _ => None,
                });
                let queued = explanation.status == JobStatus::Queued;
                let reached = self.naive.limits(&runner.spec, &spec.requirement.repository);
                assert_eq!(limits.collect::<Vec<_>>(), if queued { reached } else { vec![] });
                assert!(explanation.status != JobStatus::Queued || !candidate.missing.is_empty(), "{candidate:?}");
            }
            assert!(!explanation.summary().is_empty());

            // Old epochs are refused.
            let old = Epoch(epoch.0 - 1);
            let stale = LeaseError::Stale { job: id, quoted: old, current: epoch };
            assert_eq!(self.tested.renew(self.now, id, old), Err(stale));
            assert_eq!(self.tested.complete(self.now, id, old).unwrap_err(), stale);
            assert_eq!(self.tested.acquire(self.now, RunnerId(1), id, old).unwrap_err(), stale);
            assert_eq!(self.tested.give_back(self.now, id, old, GiveBack::Declined).unwrap_err(), stale);
            assert_eq!(self.tested.revoke(self.now, id, old).unwrap_err(), stale);
        }
        if let Some(&job) = self.ended.iter().nth(self.checks % self.ended.len().max(1)) {
            assert_eq!(self.tested.renew(self.now, job, Epoch(1)), Err(LeaseError::Unknown { job }));
        }
    }
}

proptest! {
    #[test]
    fn every_history_is_that_of_the_naive_dispatcher_and_keeps_the_invariants(
        groups in vec(group(), 0..3),
        runners in vec(runner(), 3..7),
        ops in vec(op(), 50..100),
    ) {
        let mut play = Play::new();
        for group in groups {
            play.play(&Op::SetGroup(group));
        }
        for runner in runners {
            play.play(&Op::AddRunner(runner));
            play.check();
        }
        for op in &ops {
            play.play(op);
            play.check();
        }
    }
}
