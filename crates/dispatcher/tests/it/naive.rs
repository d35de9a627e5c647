//! The dispatcher once more, as plainly as it can be said: vectors, linear scans, nothing kept that can be computed.

use jiff::Timestamp;
use startline_dispatcher::AssignmentKind;
use startline_dispatcher::{
    Assignment, Braked, CancelOutcome, Completed, Config, Effect, GiveBack, Gone, GroupKey, GroupPolicy, JobSpec,
    Lease, LeaseError, Limit, Loss, LostEnd, LostPolicy, LostReason, PollEnd, PollId, PollOutcome, Repositories,
    RequeueReason, RunnerRef, RunnerSpec, Stats,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::scope::Scope;

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    pub(crate) held: Option<Held>,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) runner: RunnerId,
    /// That the runner was last registered in.
    pub(crate) group: Option<GroupKey>,
    since: Timestamp,
    expires_at: Timestamp,
    /// From one renewal to the end, once it is leased.
    lasts: jiff::SignedDuration,
    pub(crate) leased: bool,
    renewed_at: Option<Timestamp>,
    cancel: bool,
    braked: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Runner {
    pub(crate) spec: RunnerSpec,
    pub(crate) polls: Vec<(PollId, bool)>,
    idle: u64,
    seen: Timestamp,
    offline_at: Option<Timestamp>,
    braked: bool,
    spent: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Naive {
    config: Config,
    pub(crate) jobs: Vec<Job>,
    pub(crate) runners: Vec<Runner>,
    pub(crate) groups: Vec<GroupPolicy>,
    ticks: u64,
    effects: Vec<Effect>,
}

impl Naive {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, jobs: vec![], runners: vec![], groups: vec![], ticks: 0, effects: vec![] }
    }

    // What can be read off.

    fn used(&self, id: RunnerId) -> usize {
        self.jobs.iter().filter(|job| job.held.as_ref().is_some_and(|held| held.runner == id)).count()
    }

    fn leases(&self, id: RunnerId) -> usize {
        let leased = |job: &&Job| job.held.as_ref().is_some_and(|held| held.runner == id && held.leased);
        self.jobs.iter().filter(leased).count()
    }

    fn free(&self, runner: &Runner) -> usize {
        slots(runner).saturating_sub(self.used(runner.spec.id))
    }

    fn waits(&self, runner: &Runner) -> bool {
        !runner.polls.is_empty()
            && runner.offline_at.is_some()
            && !runner.spec.draining
            && !runner.spent
            && self.free(runner) > 0
    }

    fn share(&self, job: &Job) -> usize {
        let repository = job.spec.requirement.repository.to_lowercase();
        let same = |other: &&Job| other.spec.requirement.repository.to_lowercase() == repository;
        self.jobs.iter().filter(same).filter(|job| job.held.is_some()).count()
    }

    /// The group that a runner is in: its organization's, or else the instance's, or else one without rules.
    pub(crate) fn group_of(&self, runner: &RunnerSpec) -> GroupPolicy {
        let own = GroupKey::new(&runner.scope, &runner.group);
        let outer = GroupKey::new(&Scope::Instance, &runner.group);
        let set = |key: &GroupKey| self.groups.iter().find(|group| group.key == *key).cloned();
        set(&own).or_else(|| set(&outer)).unwrap_or_else(|| GroupPolicy::open(outer.clone()))
    }

    /// Jobs in runners' hands, of a group or of all, of a repository or of all.
    pub(crate) fn in_hands(&self, group: Option<&GroupKey>, repository: Option<&str>) -> usize {
        let counts = |job: &&Job| {
            let of_repository =
                repository.is_none_or(|name| name.eq_ignore_ascii_case(&job.spec.requirement.repository));
            let held = job.held.as_ref();
            of_repository && held.is_some_and(|held| group.is_none() || held.group.as_ref() == group)
        };
        self.jobs.iter().filter(counts).count()
    }

    /// The limits that a repository has reached for a runner.
    pub(crate) fn limits(&self, runner: &RunnerSpec, repository: &str) -> Vec<Limit> {
        let GroupPolicy { key: group, max_running_jobs, max_running_jobs_per_repository, .. } = self.group_of(runner);
        let of_group = self.in_hands(Some(&group), None);
        let in_group = self.in_hands(Some(&group), Some(repository));
        let of_all = self.in_hands(None, Some(repository));
        let reached = |most: Option<u32>, running: usize| most.filter(|most| running >= *most as usize);
        let repository = repository.to_lowercase();
        let mut limits = Vec::new();
        if let Some(most) = reached(max_running_jobs, of_group) {
            limits.push(Limit::Group { group: group.clone(), running: of_group, most });
        }
        if let Some(most) = reached(max_running_jobs_per_repository, in_group) {
            limits.push(Limit::RepositoryInGroup { repository: repository.clone(), group, running: in_group, most });
        }
        if let Some(most) = reached(self.config.max_running_jobs_per_repository, of_all) {
            limits.push(Limit::Repository { repository, running: of_all, most });
        }
        limits
    }

    /// Whether a runner has what a job asks for, limits aside.
    pub(crate) fn fits(&self, runner: &RunnerSpec, job: &JobSpec) -> bool {
        fits(runner, &self.group_of(runner), job)
    }

    /// The jobs that runners like `prospect` would get, best first; such as are in `own` only take room.
    pub(crate) fn next_for(
        &self,
        prospect: &RunnerSpec,
        most: usize,
        own: &[JobId],
        passed: impl Fn(JobId) -> bool,
    ) -> Vec<JobId> {
        let policy = self.group_of(prospect);
        let mut fitting: Vec<&Job> = self.queued_for(prospect);
        let mut taken: Vec<&Job> =
            self.jobs.iter().filter(|job| job.held.is_none() && own.contains(&job.spec.id)).collect();
        let reserved = taken.len();
        fitting.retain(|job| !own.contains(&job.spec.id) && !passed(job.spec.id));
        let same =
            |a: &Job, b: &Job| a.spec.requirement.repository.eq_ignore_ascii_case(&b.spec.requirement.repository);
        while taken.len() - reserved < most {
            let room = |job: &&&Job| {
                let repository = Some(job.spec.requirement.repository.as_str());
                let alike = taken.iter().filter(|other| same(other, job)).count();
                let below = |most: Option<u32>, count: usize| most.is_none_or(|most| count < most as usize);
                below(policy.max_running_jobs, self.in_hands(Some(&policy.key), None) + taken.len())
                    && below(
                        policy.max_running_jobs_per_repository,
                        self.in_hands(Some(&policy.key), repository) + alike,
                    )
                    && below(self.config.max_running_jobs_per_repository, self.in_hands(None, repository) + alike)
            };
            let best = fitting.iter().filter(room).min_by_key(|job| {
                let given = taken[reserved..].iter().filter(|other| same(other, job)).count();
                (-job.spec.priority, self.share(job) + given, job.spec.sequence, job.spec.id)
            });
            let Some(&best) = best else { break };
            fitting.retain(|job| job.spec.id != best.spec.id);
            taken.push(best);
        }
        taken[reserved..].iter().map(|job| job.spec.id).collect()
    }

    /// The queued jobs that runners like `prospect` could take, limits aside.
    pub(crate) fn queued_for(&self, prospect: &RunnerSpec) -> Vec<&Job> {
        self.jobs.iter().filter(|job| job.held.is_none() && self.fits(prospect, &job.spec)).collect()
    }

    /// Jobs that wait although a runner waits that they fit, best first, each with that runner.
    pub(crate) fn missed(&self) -> Vec<(JobId, RunnerId)> {
        let mut queued: Vec<_> = self.jobs.iter().filter(|job| job.held.is_none()).collect();
        queued.sort_by_key(|job| (-job.spec.priority, self.share(job), job.spec.sequence, job.spec.id));
        let runner_for = |job: &Job| {
            let may = |runner: &Runner| {
                let allowed = || self.limits(&runner.spec, &job.spec.requirement.repository).is_empty();
                self.waits(runner) && self.fits(&runner.spec, &job.spec) && allowed()
            };
            let waiting = self.runners.iter().filter(|runner| may(runner));
            waiting.min_by_key(|runner| runner.idle).map(|runner| (job.spec.id, runner.spec.id))
        };
        queued.into_iter().filter_map(runner_for).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let count = |queued: bool, leased: bool| {
            let standing = |job: &&Job| match &job.held {
                None => queued,
                Some(held) => !queued && held.leased == leased,
            };
            self.jobs.iter().filter(standing).count()
        };
        let mut stats = Stats {
            jobs_queued: count(true, false),
            jobs_offered: count(false, false),
            jobs_running: count(false, true),
            ..Stats::default()
        };
        for runner in &self.runners {
            let (slots, used) = (slots(runner), self.used(runner.spec.id));
            *(if runner.offline_at.is_none() {
                &mut stats.runners_offline
            } else if runner.spec.draining {
                &mut stats.runners_draining
            } else if runner.spent || used >= slots {
                &mut stats.runners_busy
            } else {
                &mut stats.runners_online
            }) += 1;
            stats.slots_declared += slots;
            stats.slots_used += used.min(slots);
            stats.slots_free += slots - used.min(slots);
            stats.slots_exceeded += used - used.min(slots);
            stats.polls_parked += runner.polls.len();
        }
        stats
    }

    fn named(&self, id: RunnerId) -> RunnerRef {
        RunnerRef { id, name: self.runners.iter().find(|runner| runner.spec.id == id).map(|r| r.spec.name.clone()) }
    }

    pub(crate) fn job(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.spec.id == id)
    }

    fn runner(&mut self, id: RunnerId) -> Option<&mut Runner> {
        self.runners.iter_mut().find(|runner| runner.spec.id == id)
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    // What all events have in common.

    fn lasts(&self, id: RunnerId) -> jiff::SignedDuration {
        let own = self
            .runners
            .iter()
            .find(|runner| runner.spec.id == id)
            .and_then(|runner| runner.spec.patience.lease_duration);
        own.unwrap_or(self.config.lease_duration)
    }

    fn settle(&mut self, now: Timestamp) -> Vec<Effect> {
        while let Some(&(job, runner)) = self.missed().first() {
            let (lease, offer) = (self.lasts(runner), self.config.offer_window);
            let waiting = self.runner(runner).unwrap();
            let (poll, auto) = waiting.polls.remove(0);
            waiting.spent = waiting.spec.ephemeral && auto;
            let expires_at = now + if auto { lease } else { offer };
            let group = self.registered_in(runner);
            let job = self.job(job).unwrap();
            job.spec.epoch = Epoch(job.spec.epoch.0 + 1);
            job.held = Some(Held {
                runner,
                group,
                since: now,
                expires_at,
                lasts: lease,
                leased: auto,
                renewed_at: None,
                cancel: false,
                braked: false,
            });
            let assignment = assignment(job);
            self.moved(runner);
            self.effects.push(Effect::Assigned { poll, assignment });
        }
        std::mem::take(&mut self.effects)
    }

    fn registered_in(&self, id: RunnerId) -> Option<GroupKey> {
        let runner = self.runners.iter().find(|runner| runner.spec.id == id)?;
        Some(self.group_of(&runner.spec).key)
    }

    /// Lets all jobs count for the groups that their runners are in.
    fn regroup(&mut self) {
        let groups: Vec<_> =
            self.runners.iter().map(|runner| (runner.spec.id, self.group_of(&runner.spec).key)).collect();
        for (id, group) in groups {
            for held in self.jobs.iter_mut().filter_map(|job| job.held.as_mut()).filter(|held| held.runner == id) {
                held.group = Some(group.clone());
            }
        }
    }

    /// The runner goes to the end of the line.
    fn moved(&mut self, runner: RunnerId) {
        let idle = self.tick();
        if let Some(runner) = self.runner(runner) {
            runner.idle = idle;
        }
    }

    fn release(&mut self, id: JobId) -> Held {
        let held = self.job(id).unwrap().held.take().unwrap();
        self.moved(held.runner);
        held
    }

    fn requeued(&mut self, id: JobId, reason: RequeueReason) {
        let spec = self.job(id).unwrap().spec.clone();
        self.effects.push(Effect::Requeued {
            job: id,
            old_epoch: spec.epoch,
            attempt: spec.attempt,
            requeues_left: spec.requeues_left,
            reason,
        });
    }

    fn forget(&mut self, id: JobId) {
        self.jobs.retain(|job| job.spec.id != id);
    }

    fn lose(&mut self, id: JobId, ended_at: Timestamp, reported: bool) {
        let held = self.release(id);
        let loss = Loss {
            runner: self.named(held.runner),
            acquired_at: held.since,
            renewed_at: held.renewed_at.unwrap_or(held.since),
            ended_at,
            reported,
        };
        let spec = &mut self.job(id).unwrap().spec;
        let end = match (held.cancel, spec.on_runner_lost, spec.requeues_left) {
            (true, ..) => LostEnd::Cancelled,
            (_, LostPolicy::Fail, _) => LostEnd::Policy,
            (_, _, 0) => LostEnd::BudgetSpent,
            _ => {
                spec.attempt += 1;
                spec.requeues_left -= 1;
                return self.requeued(id, RequeueReason::RunnerLost(loss));
            }
        };
        let (epoch, attempt) = (spec.epoch, spec.attempt);
        self.effects.push(Effect::Lost { job: id, epoch, attempt, reason: LostReason { loss, end } });
        self.forget(id);
    }

    fn withdraw(&mut self, runner: RunnerId, why: Gone) {
        let offered = |job: &Job| job.held.as_ref().is_some_and(|held| held.runner == runner && !held.leased);
        let mut offers: Vec<JobId> = self.jobs.iter().filter(|job| offered(job)).map(|job| job.spec.id).collect();
        offers.sort();
        for id in offers {
            let offered_at = self.release(id).since;
            let runner = self.named(runner);
            self.requeued(id, RequeueReason::OfferWithdrawn { runner, offered_at, why });
        }
    }

    fn seen(&mut self, now: Timestamp, id: RunnerId, revives: bool) {
        let configured = self.config.offline_after;
        let Some(runner) = self.runner(id) else { return };
        if runner.offline_at.is_none() && !revives {
            return;
        }
        runner.seen = now;
        runner.braked = false;
        let offline_at = now + runner.spec.patience.offline_after.unwrap_or(configured);
        if runner.offline_at.replace(offline_at).is_none() {
            self.effects.push(Effect::RunnerOnline { runner: id });
        }
    }

    // Events.

    pub(crate) fn add_runner(&mut self, now: Timestamp, spec: RunnerSpec) -> Vec<Effect> {
        let id = spec.id;
        let leases = self.leases(id) > 0;
        if let Some(runner) = self.runner(id) {
            runner.spent = spec.ephemeral && (runner.spent || leases);
            runner.spec = spec;
        } else {
            let (idle, spent) = (self.tick(), spec.ephemeral && leases);
            let offline_at = Some(now + spec.patience.offline_after.unwrap_or(self.config.offline_after));
            self.runners.push(Runner { spec, polls: vec![], idle, seen: now, offline_at, braked: false, spent });
        }
        self.regroup();
        self.seen(now, id, true);
        self.settle(now)
    }

    pub(crate) fn set_group(&mut self, now: Timestamp, policy: GroupPolicy) -> Vec<Effect> {
        self.groups.retain(|group| group.key != policy.key);
        self.groups.push(policy);
        self.regroup();
        self.settle(now)
    }

    pub(crate) fn remove_group(&mut self, now: Timestamp, key: &GroupKey) -> Vec<Effect> {
        self.groups.retain(|group| group.key != *key);
        self.regroup();
        self.settle(now)
    }

    pub(crate) fn set_max_running_jobs_per_repository(&mut self, now: Timestamp, most: Option<u32>) -> Vec<Effect> {
        self.config.max_running_jobs_per_repository = most;
        self.settle(now)
    }

    pub(crate) fn remove_runner(&mut self, now: Timestamp, id: RunnerId) -> Vec<Effect> {
        self.withdraw(id, Gone::Removed);
        for (poll, _) in self.runner(id).map(|runner| runner.polls.clone()).unwrap_or_default() {
            self.effects.push(Effect::PollClosed { poll, runner: id, why: PollEnd::RunnerRemoved });
        }
        self.runners.retain(|runner| runner.spec.id != id);
        self.settle(now)
    }

    pub(crate) fn update_capabilities(
        &mut self,
        now: Timestamp,
        id: RunnerId,
        capabilities: Capabilities,
    ) -> Option<Vec<Effect>> {
        self.runner(id)?.spec.capabilities = capabilities;
        Some(self.settle(now))
    }

    pub(crate) fn set_draining(&mut self, now: Timestamp, id: RunnerId, draining: bool) -> Option<Vec<Effect>> {
        self.runner(id)?.spec.draining = draining;
        Some(self.settle(now))
    }

    pub(crate) fn heartbeat(&mut self, now: Timestamp, id: RunnerId) -> Option<Vec<Effect>> {
        self.runner(id)?;
        self.seen(now, id, true);
        Some(self.settle(now))
    }

    pub(crate) fn poll(
        &mut self,
        now: Timestamp,
        id: RunnerId,
        poll: PollId,
        auto: bool,
    ) -> (PollOutcome, Vec<Effect>) {
        if self.runner(id).is_none() {
            return (PollOutcome::UnknownRunner, vec![]);
        }
        self.seen(now, id, true);
        let runner = self.runner(id).unwrap().clone();
        let free = self.free(&runner);
        let runner = self.runner(id).unwrap();
        let most = if runner.spec.draining { free.max(1) } else { free };
        let outcome = match (runner.spent, most) {
            (true, _) => PollOutcome::Spent,
            (_, 0) => PollOutcome::NoFreeSlot,
            _ => {
                runner.polls.push((poll, auto));
                while self.runner(id).unwrap().polls.len() > most {
                    let (poll, _) = self.runner(id).unwrap().polls.remove(0);
                    self.effects.push(Effect::PollClosed { poll, runner: id, why: PollEnd::Superseded });
                }
                PollOutcome::Parked
            }
        };
        let (mine, others): (Vec<_>, Vec<_>) = self
            .settle(now)
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Assigned { poll: at, .. } if *at == poll));
        match mine.into_iter().next() {
            Some(Effect::Assigned { assignment, .. }) => (PollOutcome::Assigned(assignment), others),
            _ => (outcome, others),
        }
    }

    pub(crate) fn abort_poll(&mut self, poll: PollId) -> bool {
        let parked = |runner: &Runner| runner.polls.iter().any(|(at, _)| *at == poll);
        let found = self.runners.iter().any(parked);
        self.runners.iter_mut().for_each(|runner| runner.polls.retain(|(at, _)| *at != poll));
        found
    }

    pub(crate) fn enqueue(&mut self, now: Timestamp, spec: JobSpec) -> Vec<Effect> {
        self.jobs.push(Job { spec, held: None });
        self.settle(now)
    }

    /// Queues a job if it is leased at once.
    pub(crate) fn enqueue_leased(&mut self, now: Timestamp, spec: JobSpec) -> Option<(PollId, Assignment)> {
        let mut after = self.clone();
        match after.enqueue(now, spec).as_slice() {
            [Effect::Assigned { poll, assignment }] if matches!(assignment.kind, AssignmentKind::Lease { .. }) => {
                *self = after;
                Some((*poll, assignment.clone()))
            }
            _ => None,
        }
    }

    pub(crate) fn revoke(&mut self, now: Timestamp, id: JobId, epoch: Epoch) -> Result<Vec<Effect>, LeaseError> {
        let held = self.current(id, epoch)?.held.clone().unwrap();
        if !held.leased {
            return Err(LeaseError::NotAcquired { job: id, epoch });
        }
        let others = self.leases(held.runner) > 1;
        if let Some(runner) = self.runner(held.runner) {
            runner.spent &= others;
        }
        self.release(id);
        self.forget(id);
        Ok(self.settle(now))
    }

    pub(crate) fn restore_lease(&mut self, now: Timestamp, id: RunnerId, spec: JobSpec) -> Assignment {
        let lasts = self.lasts(id);
        let expires_at = now + lasts;
        let group = self.registered_in(id);
        let held = Held {
            runner: id,
            group,
            since: now,
            expires_at,
            lasts,
            leased: true,
            renewed_at: None,
            cancel: false,
            braked: false,
        };
        let job = Job { spec, held: Some(held) };
        let restored = assignment(&job);
        self.jobs.push(job);
        if let Some(runner) = self.runner(id) {
            runner.spent |= runner.spec.ephemeral;
        }
        self.moved(id);
        restored
    }

    pub(crate) fn cancel_queued(&mut self, id: JobId) -> bool {
        let queued = self.job(id).is_some_and(|job| job.held.is_none());
        if queued {
            self.forget(id);
        }
        queued
    }

    pub(crate) fn request_cancel(&mut self, now: Timestamp, id: JobId) -> (CancelOutcome, Vec<Effect>) {
        let Some(job) = self.job(id) else { return (CancelOutcome::Unknown, vec![]) };
        let epoch = job.spec.epoch;
        let outcome = match &mut job.held {
            None => {
                self.forget(id);
                CancelOutcome::WasQueued
            }
            Some(held) if held.leased => {
                held.cancel = true;
                CancelOutcome::Running { runner: held.runner, epoch }
            }
            Some(_) => {
                let runner = self.release(id).runner;
                self.forget(id);
                CancelOutcome::Offered { runner, epoch }
            }
        };
        (outcome, self.settle(now))
    }

    fn current(&mut self, job: JobId, epoch: Epoch) -> Result<&mut Job, LeaseError> {
        let found = self.job(job).ok_or(LeaseError::Unknown { job })?;
        match found.spec.epoch {
            current if current != epoch => Err(LeaseError::Stale { job, quoted: epoch, current }),
            _ if found.held.is_none() => Err(LeaseError::Over { job, epoch }),
            _ => Ok(found),
        }
    }

    pub(crate) fn acquire(
        &mut self,
        now: Timestamp,
        runner: RunnerId,
        id: JobId,
        epoch: Epoch,
    ) -> Result<Assignment, LeaseError> {
        let lasts = self.lasts(runner);
        let job = self.current(id, epoch)?;
        let held = job.held.as_mut().unwrap();
        if held.runner != runner {
            return Err(LeaseError::NotYours { job: id, epoch, runner });
        }
        if !held.leased {
            (held.leased, held.since, held.expires_at, held.lasts) = (true, now, now + lasts, lasts);
        }
        let assignment = assignment(job);
        if let Some(runner) = self.runner(runner) {
            runner.spent |= runner.spec.ephemeral;
        }
        self.seen(now, runner, false);
        Ok(assignment)
    }

    pub(crate) fn renew(&mut self, now: Timestamp, id: JobId, epoch: Epoch) -> Result<Lease, LeaseError> {
        let held = self.current(id, epoch)?.held.as_mut().unwrap();
        let expires_at = now + held.lasts;
        if !held.leased {
            return Err(LeaseError::NotAcquired { job: id, epoch });
        }
        (held.renewed_at, held.expires_at, held.braked) = (Some(now), expires_at, false);
        let lease = Lease { runner: held.runner, expires_at, cancel_requested: held.cancel };
        self.seen(now, lease.runner, false);
        Ok(lease)
    }

    pub(crate) fn complete(&mut self, now: Timestamp, id: JobId, epoch: Epoch) -> Result<Completed, LeaseError> {
        let job = self.current(id, epoch)?;
        let (attempt, held) = (job.spec.attempt, job.held.as_ref().unwrap());
        if !held.leased {
            return Err(LeaseError::NotAcquired { job: id, epoch });
        }
        let runner = held.runner;
        self.seen(now, runner, false);
        self.release(id);
        self.forget(id);
        let ephemeral = self.runner(runner).is_some_and(|runner| runner.spec.ephemeral);
        Ok(Completed { runner, ephemeral, attempt, effects: self.settle(now) })
    }

    pub(crate) fn give_back(
        &mut self,
        now: Timestamp,
        id: JobId,
        epoch: Epoch,
        why: GiveBack,
    ) -> Result<Vec<Effect>, LeaseError> {
        let held = self.current(id, epoch)?.held.clone().unwrap();
        if held.leased && why == GiveBack::RunnerFailed {
            self.lose(id, now, true);
        } else if held.leased && held.renewed_at.is_some() {
            return Err(LeaseError::Delivered { job: id, epoch });
        } else {
            let others = self.leases(held.runner) > 1;
            if let Some(runner) = self.runner(held.runner).filter(|_| held.leased) {
                runner.spent &= others;
            }
            if held.cancel {
                self.lose(id, now, true);
            } else {
                self.release(id);
                let runner = self.named(held.runner);
                self.requeued(id, RequeueReason::GivenBack { runner, why });
            }
        }
        Ok(self.settle(now))
    }

    /// Everything that expires, in order.
    fn due(&self) -> Vec<(Timestamp, u8, i64)> {
        let jobs = self.jobs.iter().filter_map(|job| Some((job.held.as_ref()?.expires_at, 0, job.spec.id.0)));
        let runners = self.runners.iter().filter_map(|runner| Some((runner.offline_at?, 1, runner.spec.id.0)));
        let mut due: Vec<_> = jobs.chain(runners).collect();
        due.sort();
        due
    }

    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.due().first().map(|due| due.0)
    }

    pub(crate) fn advance(&mut self, now: Timestamp) -> Vec<Effect> {
        self.brake(now);
        while let Some(&(at, kind, id)) = self.due().first().filter(|due| due.0 <= now) {
            if kind == 1 {
                let runner = self.runner(RunnerId(id)).unwrap();
                (runner.offline_at, runner.braked) = (None, false);
                let last_seen_at = runner.seen;
                self.effects.push(Effect::RunnerOffline { runner: RunnerId(id), last_seen_at });
                self.withdraw(RunnerId(id), Gone::Offline);
            } else if self.job(JobId(id)).unwrap().held.as_ref().unwrap().leased {
                self.lose(JobId(id), at, false);
            } else {
                let held = self.release(JobId(id));
                let runner = self.named(held.runner);
                let reason = RequeueReason::OfferExpired { runner, offered_at: held.since, expired_at: at };
                self.requeued(JobId(id), reason);
            }
        }
        self.settle(now)
    }

    fn brake(&mut self, now: Timestamp) {
        let brake = self.config.brake.clone();
        let tripped = |ends: Vec<(Timestamp, bool)>, life: jiff::SignedDuration| {
            let ahead = now + brake.window.min(life / 3);
            let fresh = |until: Timestamp| ends.iter().filter(|(at, braked)| *at <= until && !braked).count();
            let share = usize::from(brake.share_percent);
            let many = fresh(ahead) >= brake.at_least && fresh(ahead) * 100 > ends.len() * share;
            (fresh(now) > 0 && many).then_some((ahead, fresh(ahead), ends.len(), now + life))
        };
        let leases = self.jobs.iter().filter_map(|job| job.held.as_ref()).filter(|held| held.leased);
        let leases = leases.map(|held| (held.expires_at, held.braked)).collect();
        if let Some((ahead, extended, of, until)) = tripped(leases, self.config.lease_duration) {
            let leases = self.jobs.iter_mut().filter_map(|job| job.held.as_mut()).filter(|held| held.leased);
            for held in leases.filter(|held| held.expires_at <= ahead && !held.braked) {
                (held.expires_at, held.braked) = (until, true);
            }
            self.effects.push(Effect::Braked { what: Braked::Leases, extended, of, until });
        }
        let runners = self.runners.iter().filter_map(|runner| Some((runner.offline_at?, runner.braked))).collect();
        if let Some((ahead, extended, of, until)) = tripped(runners, self.config.offline_after) {
            for runner in &mut self.runners {
                if runner.offline_at.is_some_and(|at| at <= ahead) && !runner.braked {
                    (runner.offline_at, runner.braked) = (Some(until), true);
                }
            }
            self.effects.push(Effect::Braked { what: Braked::Runners, extended, of, until });
        }
    }
}

fn slots(runner: &Runner) -> usize {
    let declared = runner.spec.capabilities.max_parallel_jobs as usize;
    if runner.spec.ephemeral { declared.min(1) } else { declared }
}

fn assignment(job: &Job) -> Assignment {
    let held = job.held.as_ref().unwrap();
    let expires_at = held.expires_at;
    let kind = if held.leased { AssignmentKind::Lease { expires_at } } else { AssignmentKind::Offer { expires_at } };
    Assignment { job: job.spec.id, runner: held.runner, epoch: job.spec.epoch, attempt: job.spec.attempt, kind }
}

/// Whether a runner has what a job asks for.
fn fits(runner: &RunnerSpec, policy: &GroupPolicy, job: &JobSpec) -> bool {
    let wanted = &job.requirement;
    let labelled = |label: &str| runner.labels.iter().any(|own| own.eq_ignore_ascii_case(label));
    let labels = wanted.labels.iter().all(|label| match label.to_lowercase().as_str() {
        "docker" => runner.capabilities.docker_enabled || labelled("docker"),
        word if word.starts_with("memory_gb>=") => runner.capabilities.memory_gb >= word[11..].parse().unwrap(),
        word => labelled(word),
    });
    let group = wanted.group.as_ref().is_none_or(|group| group.eq_ignore_ascii_case(&runner.group));
    let trust = wanted.trusted || (runner.ephemeral && policy.accepts_untrusted);
    let named = match &policy.repositories {
        Repositories::All => true,
        Repositories::Only(own) => own.iter().any(|own| own.eq_ignore_ascii_case(&wanted.repository)),
    };
    let scope = runner.scope.covers_repository(&wanted.repository);
    labels && group && trust && named && scope
}
