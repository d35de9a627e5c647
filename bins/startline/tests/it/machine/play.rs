//! Plays a history to the service, keeps the model, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::sample::Index;
use startline_client::{AppendOutcome, Credentials, Error, PollResult};
use startline_daemon::{Clock, Hand};
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{
    CompleteRequest, HeartbeatRequest, JobAssignment, PollRequest, RegisterRequest, RegistrationTokenRequest,
    RenewRequest, RunnerCommand, StatusRequest,
};
use startline_protocol::runs_api::{RunDetail, SubmitRequest};
use startline_protocol::state::{Conclusion, JobStatus, RunnerStatus};
use startline_protocol::token::{JobToken, RegistrationToken};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Op;
use super::model::{Counts, Job, Machine, Model, Needs, Runner, State, Times, View};
use super::stage::Stage;
use crate::http::Wire;

/// The longest that the service may take to come to rest on a busy machine.
const REST: Duration = Duration::from_secs(20);
/// The same once a history has failed, so that there is time to shrink it.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(2);
static FAILED: AtomicBool = AtomicBool::new(false);
pub(super) const TIMES: Times = Times { offer: 20, lease: 40, offline: 60, requeues: 1 };

/// A poll under way.
struct Poll {
    runner: RunnerId,
    task: JoinHandle<PollResult>,
}

/// An assignment as its runner knows it.
#[derive(Clone)]
struct Taken {
    runner: RunnerId,
    assignment: JobAssignment,
    token: Option<JobToken>,
}

/// Notes that a history has failed.
struct Noting;

impl Drop for Noting {
    fn drop(&mut self) {
        if std::thread::panicking() {
            FAILED.store(true, Ordering::Relaxed);
        }
    }
}

pub(super) struct Play {
    _noting: Noting,
    stage: Stage,
    model: Model,
    hand: Hand,
    start: Timestamp,
    /// By group and repository.
    tokens: BTreeMap<(&'static str, Option<&'static str>), RegistrationToken>,
    /// Everybody who was ever registered, gone or not.
    sessions: Vec<Credentials>,
    polls: BTreeMap<u64, Poll>,
    next_poll: u64,
    /// Every assignment that was ever given, in order.
    taken: Vec<Taken>,
    tasks: TaskTracker,
    steps: usize,
}

impl Play {
    pub(super) async fn open() -> Self {
        // Whole seconds, as the model counts.
        let start = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let (clock, hand) = Clock::by_hand(start);
        let stage = Stage::open(clock, TIMES).await;
        stage.people.put_group("gold", None, &GroupRequest::default()).await.unwrap();
        let mut tokens = BTreeMap::new();
        for (group, repository) in [("default", None), ("gold", None), ("default", Some("acme/app"))] {
            let request = RegistrationTokenRequest {
                runner_group: Some(group.to_owned()),
                expires_in_seconds: Some(604_800),
                scope: repository.map(|name| format!("repository:{name}").parse().unwrap()),
                ..RegistrationTokenRequest::default()
            };
            let minted = stage.registry().request_registration_token(stage.admin(), &request).await.unwrap();
            tokens.insert((group, repository), minted.token);
        }
        Self {
            _noting: Noting,
            stage,
            model: Model::new(TIMES),
            hand,
            start,
            tokens,
            sessions: Vec::new(),
            polls: BTreeMap::new(),
            next_poll: 0,
            taken: Vec::new(),
            tasks: TaskTracker::new(),
            steps: 0,
        }
    }

    pub(super) fn close(self) {
        self.polls.values().for_each(|poll| poll.task.abort());
        self.stage.close();
    }

    pub(super) async fn step(&mut self, op: &Op) {
        match op {
            Op::Register { name, machine, replace } => self.register(*name, machine, *replace).await,
            Op::Deregister { who, force, by_admin } => self.deregister(who, *force, *by_admin).await,
            Op::Submit { needs, jobs } => {
                let detail = self.stage.people.submit_run(&submission(needs, *jobs)).await.unwrap();
                self.submitted(detail.run.id, needs, *jobs).await;
            }
            Op::Poll { who, auto_acquire, held } => self.poll(who, *auto_acquire, *held).await,
            Op::AbortPoll(which) => self.abort_poll(which).await,
            Op::Acquire(which) => {
                if let Some(number) = self.pick(which, false) {
                    let answer = self.acquire(number).await;
                    self.acquired(number, answer);
                }
            }
            Op::Renew(which) => self.renew(which).await,
            Op::Report(which) => self.report(which).await,
            Op::Append(which) => self.append(which).await,
            Op::Complete(which, conclusion) => {
                if let Some(number) = self.pick(which, true) {
                    let answer = self.complete(number, *conclusion).await;
                    self.completed(number, *conclusion, answer);
                }
            }
            Op::Heartbeat { who, draining } => self.heartbeat(who, *draining).await,
            Op::Cancel(which) => {
                let runs: Vec<RunId> = self.model.jobs.values().map(|job| job.run).collect();
                if !runs.is_empty() {
                    let run = *which.get(&runs);
                    self.stage.people.cancel_run(run).await.unwrap();
                    self.model.cancel(run);
                }
            }
            Op::Turn(seconds) => {
                if !self.model.would_brake() {
                    self.hand.turn(Duration::from_secs(seconds.unsigned_abs()));
                    self.model.turn(*seconds);
                }
            }
            Op::Crash => self.crash().await,
            Op::CrashDuring(op) => self.crash_during(op).await,
        }
        self.settle().await;
        self.check().await;
        self.steps += 1;
    }

    // Who is meant.

    fn session(&self, who: &Index) -> Option<Credentials> {
        // Mostly one that is still there.
        let there: Vec<&Credentials> =
            self.sessions.iter().filter(|own| self.model.runners.contains_key(&own.runner_id)).collect();
        let all: Vec<&Credentials> = self.sessions.iter().collect();
        let among = if there.is_empty() || who.index(8) == 0 { all } else { there };
        (!among.is_empty()).then(|| (*who.get(&among)).clone())
    }

    fn credentials(&self, runner: RunnerId) -> &Credentials {
        self.sessions.iter().find(|own| own.runner_id == runner).unwrap()
    }

    /// An assignment, mostly one that is still good; with `leased` one that came with a job token.
    fn pick(&self, which: &Index, leased: bool) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.taken.len()).filter(|number| !leased || self.taken[*number].token.is_some()).collect();
        let good: Vec<usize> = all.iter().copied().filter(|number| self.holds(*number)).collect();
        let among = if good.is_empty() || which.index(5) == 0 { all } else { good };
        (!among.is_empty()).then(|| *which.get(&among))
    }

    fn job_of(&self, number: usize) -> &Job {
        &self.model.jobs[&self.taken[number].assignment.job_id]
    }

    /// Whether an assignment is its job's current one.
    fn holds(&self, number: usize) -> bool {
        let job = self.job_of(number);
        job.epoch == self.taken[number].assignment.epoch.0
            && matches!(job.state, State::Offered { .. } | State::Running { .. })
    }

    fn works(&self, number: usize) -> bool {
        self.holds(number) && matches!(self.job_of(number).state, State::Running { .. })
    }

    // What runners do.

    async fn register(&mut self, name: u8, machine: &Machine, replace: bool) {
        let name = format!("r{name}");
        // Names are one scope's business.
        let own = |runner: &Runner| runner.name == name && runner.machine.repository == machine.repository;
        let holder = self.model.runners.iter().find(|(_, runner)| own(runner)).map(|(id, _)| *id);
        let request = RegisterRequest {
            name: name.clone(),
            labels: machine.labels.iter().map(|label| (*label).to_owned()).collect(),
            capabilities: Capabilities {
                memory_gb: machine.memory_gb,
                max_parallel_jobs: u32::try_from(machine.slots).unwrap(),
                ..Capabilities::default()
            },
            ephemeral: machine.ephemeral,
            replace,
            version: String::new(),
        };
        let token = &self.tokens[&(machine.group, machine.repository)];
        let answer = self.stage.registry().register(token, &request).await;
        if let Some(holder) = holder {
            if !replace {
                return refused(answer, 409, kind::NAME_TAKEN);
            }
            self.model.remove(holder);
        }
        let registered = answer.unwrap();
        self.sessions.push(Credentials::of(&registered, Timestamp::now()));
        self.model.register(registered.runner_id, name, machine.clone());
    }

    async fn deregister(&mut self, who: &Index, force: bool, by_admin: bool) {
        let Some(own) = self.session(who) else { return };
        let busy = !self.model.held(own.runner_id).is_empty() && self.model.runners.contains_key(&own.runner_id);
        let answer = if by_admin {
            self.stage.people.delete_runner(own.runner_id, force).await
        } else {
            self.stage.session(&own).deregister(force).await
        };
        if busy && !force {
            return refused(answer, 409, kind::RUNNER_BUSY);
        }
        answer.unwrap();
        self.model.remove(own.runner_id);
    }

    async fn poll(&mut self, who: &Index, auto_acquire: bool, held: bool) {
        let Some(own) = self.session(who) else { return };
        let id = own.runner_id;
        let session = self.stage.session(&own);
        let request = PollRequest { timeout_seconds: if held { 60 } else { 0 }, capabilities: None, auto_acquire };
        let task = self.tasks.spawn(async move { session.poll_for_job(&request).await });
        let used = self.model.held(id).len();
        let Some(runner) = self.model.runners.get(&id) else {
            let result = task.await.unwrap();
            assert!(matches!(result, PollResult::RunnerOffline), "{id} is gone: {result:?}");
            return;
        };
        let (spent, draining, full) = (runner.spent, runner.draining, used >= runner.machine.slots);
        self.model.seen(id);
        if spent || (full && !draining) {
            match task.await.unwrap() {
                PollResult::ServerError(error) => return refused::<()>(Err(error), 409, kind::RUNNER_BUSY),
                other => panic!("{id} has no room: {other:?}"),
            }
        }
        self.next_poll += 1;
        let poll = self.next_poll;
        self.model.park(id, poll);
        if !held {
            self.model.closing.insert(poll);
        }
        self.polls.insert(poll, Poll { runner: id, task });
    }

    async fn abort_poll(&mut self, which: &Index) {
        let open: Vec<u64> = self.polls.keys().copied().collect();
        if open.is_empty() {
            return;
        }
        let number = *which.get(&open);
        let poll = self.polls.remove(&number).unwrap();
        poll.task.abort();
        assert!(poll.task.await.unwrap_err().is_cancelled());
        self.model.forget_poll(number);
    }

    fn acquire(&self, number: usize) -> impl Future<Output = Result<JobAssignment, Error>> + Send + use<> {
        let Taken { runner, assignment, .. } = self.taken[number].clone();
        let session = self.stage.session(self.credentials(runner));
        let offer = JobAssignment { urls: self.stage.here(&assignment.urls), ..assignment };
        async move { session.acquire(&offer).await }
    }

    fn acquired(&mut self, number: usize, answer: Result<JobAssignment, Error>) {
        let Taken { runner, assignment, .. } = self.taken[number].clone();
        if !self.model.runners.contains_key(&runner) {
            return refused(answer, 410, kind::RUNNER_OFFLINE);
        }
        if !self.holds(number) {
            return refused(answer, 409, kind::STALE_EPOCH);
        }
        let lease = answer.unwrap();
        assert_eq!(
            (lease.job_id, lease.epoch, lease.attempt),
            (assignment.job_id, assignment.epoch, assignment.attempt)
        );
        if self.works(number) {
            self.model.speak(assignment.job_id, false);
        } else {
            self.model.acquire(assignment.job_id);
        }
        self.taken[number].token = lease.job_token;
    }

    async fn renew(&mut self, which: &Index) {
        let Some(number) = self.pick(which, true) else { return };
        let answer = self.holder(number).renew(&RenewRequest::default()).await;
        if !self.works(number) {
            return refused(answer, 409, kind::STALE_EPOCH);
        }
        let job = self.taken[number].assignment.job_id;
        let renewed = answer.unwrap();
        assert_eq!(renewed.cancel_requested, self.model.jobs[&job].cancelled, "{renewed:?}");
        assert_eq!(renewed.lease_expires_at, self.start.as_second() + self.model.now + TIMES.lease);
        self.model.speak(job, true);
    }

    async fn report(&mut self, which: &Index) {
        let Some(number) = self.pick(which, true) else { return };
        let answer = self.holder(number).update_job_status(&StatusRequest { steps: vec![] }).await;
        if self.works(number) { answer.unwrap() } else { refused(answer, 409, kind::STALE_EPOCH) }
    }

    async fn append(&mut self, which: &Index) {
        let Some(number) = self.pick(which, true) else { return };
        let Taken { assignment, .. } = &self.taken[number];
        let (job, attempt) = (assignment.job_id, assignment.attempt);
        let line = format!("2026-01-01T00:00:00.0000000Z epoch {} step {}\n", assignment.epoch, self.steps);
        let before = self.model.jobs[&job].logs.get(&attempt).cloned().unwrap_or_default();
        let answer = self.holder(number).append_log(before.len() as u64, Bytes::from(line.clone())).await;
        if !self.works(number) {
            return refused(answer, 409, kind::STALE_EPOCH);
        }
        let text = before + &line;
        assert_eq!(answer.unwrap(), AppendOutcome::Stored { offset: text.len() as u64 });
        self.model.jobs.get_mut(&job).unwrap().logs.insert(attempt, text);
    }

    fn complete(
        &self,
        number: usize,
        conclusion: Conclusion,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let holder = self.holder(number);
        let request = CompleteRequest::new(conclusion);
        async move { holder.complete_job(&request).await }
    }

    fn completed(&mut self, number: usize, conclusion: Conclusion, answer: Result<(), Error>) {
        let job = self.job_of(number);
        let same = job.epoch == self.taken[number].assignment.epoch.0;
        match job.state {
            State::Running { .. } if same => {
                answer.unwrap();
                self.model.complete(self.taken[number].assignment.job_id, conclusion);
            }
            // A repeat changes nothing, as what is seen from now on must show.
            State::Done(_) if same => answer.unwrap(),
            _ => refused(answer, 409, kind::STALE_EPOCH),
        }
    }

    fn holder(&self, number: usize) -> startline_client::JobClient {
        let Taken { assignment, token, .. } = &self.taken[number];
        self.stage.holder(&assignment.urls, token.as_ref().unwrap())
    }

    async fn heartbeat(&mut self, who: &Index, draining: bool) {
        let Some(own) = self.session(who) else { return };
        let id = own.runner_id;
        let status = if draining { RunnerStatus::Draining } else { RunnerStatus::Online };
        // It believes that it holds all that it ever got.
        let ever: BTreeSet<JobId> =
            self.taken.iter().filter(|taken| taken.runner == id).map(|taken| taken.assignment.job_id).collect();
        let request = HeartbeatRequest { status, current_jobs: ever.iter().copied().collect(), system_info: None };
        let answer = self.stage.session(&own).send_heartbeat(&request).await;
        if !self.model.runners.contains_key(&id) {
            return refused(answer, 410, kind::RUNNER_OFFLINE);
        }
        let held = self.model.held(id);
        let expected: Vec<RunnerCommand> = ever
            .into_iter()
            .filter_map(|job_id| match held.contains(&job_id) {
                false => Some(RunnerCommand::AbandonJob { job_id }),
                true => self.model.jobs[&job_id].cancelled.then_some(RunnerCommand::CancelJob { job_id }),
            })
            .collect();
        let commands = answer.unwrap().commands;
        // A runner that stops draining may get a queued job for its open poll in the same moment, one that it had before too.
        let wakes = self.model.runners[&id].draining && !draining;
        let again = |command: &RunnerCommand| match command {
            RunnerCommand::AbandonJob { job_id } => wakes && matches!(self.model.jobs[job_id].state, State::Queued),
            RunnerCommand::CancelJob { .. } => false,
        };
        let expected: Vec<RunnerCommand> =
            expected.into_iter().filter(|command| commands.contains(command) || !again(command)).collect();
        assert_eq!(commands, expected);
        self.model.seen(id);
        self.model.runners.get_mut(&id).unwrap().draining = draining;
    }

    /// A run was acknowledged: its jobs come to be without anybody's doing.
    async fn submitted(&mut self, run: RunId, needs: &Needs, jobs: usize) {
        let until = Instant::now() + REST;
        let detail: RunDetail = loop {
            let detail = self.stage.people.run(run, None, Duration::ZERO).await.unwrap();
            if detail.jobs.len() == jobs {
                break detail;
            }
            assert!(Instant::now() < until, "the jobs of an acknowledged run do not come: {detail:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        for job in detail.jobs {
            let new = Job {
                run,
                needs: needs.clone(),
                state: State::Queued,
                epoch: 0,
                attempt: 1,
                requeues_left: TIMES.requeues,
                cancelled: false,
                logs: BTreeMap::new(),
            };
            assert!(self.model.jobs.insert(job.id, new).is_none(), "{} is new", job.id);
        }
    }

    // Crashes.

    async fn crash(&mut self) {
        for poll in std::mem::take(&mut self.polls).into_values() {
            poll.task.abort();
        }
        self.stage.crash().await;
        self.model.crash();
    }

    /// Begins a call and crashes the service at some moment of it. What was answered by then must be found afterwards; of
    /// what was not, either may be true, and is taken over from what is found.
    async fn crash_during(&mut self, op: &Op) {
        // Nobody waits for a job meanwhile: what the call frees or queues could be taken in the same moment, and the
        // lease then be durable although no answer told of it.
        for (number, poll) in std::mem::take(&mut self.polls) {
            poll.task.abort();
            drop(poll.task.await);
            self.model.forget_poll(number);
        }
        self.settle().await;
        let moment = Duration::from_micros(self.steps as u64 * 397 % 6000);
        match op {
            Op::Submit { needs, jobs } => {
                let (people, request) = (self.stage.people.clone(), submission(needs, *jobs));
                let answer = self.cut(async move { people.submit_run(&request).await }, moment).await;
                let known: BTreeSet<RunId> = self.model.jobs.values().map(|job| job.run).collect();
                let runs = self.stage.people.runs(None, Some(500)).await.unwrap().runs;
                let new: Vec<RunId> = runs.iter().map(|run| run.id).filter(|id| !known.contains(id)).collect();
                assert!(new.len() <= 1, "one submission, several runs: {new:?}");
                if let Some(acknowledged) = answer {
                    assert_eq!(new, [acknowledged.unwrap().run.id], "an acknowledged submission is lost");
                }
                for run in new {
                    self.submitted(run, needs, *jobs).await;
                }
            }
            Op::Complete(which, conclusion) => {
                let Some(number) = self.pick(which, true) else { return };
                let works = self.works(number);
                let answer = self.cut(self.complete(number, *conclusion), moment).await;
                let job = self.taken[number].assignment.job_id;
                let found = self.stage.people.job(job).await.unwrap();
                match answer {
                    Some(answer) => self.completed(number, *conclusion, answer),
                    None if works && found.status == JobStatus::Completed => self.model.complete(job, *conclusion),
                    None => {}
                }
            }
            Op::Acquire(which) => {
                let Some(number) = self.pick(which, false) else { return };
                let waits = self.holds(number) && !self.works(number);
                let gone = !self.model.runners.contains_key(&self.taken[number].runner);
                let Some(answer) = self.cut(self.acquire(number), moment).await else {
                    let job = self.taken[number].assignment.job_id;
                    let found = self.stage.people.job(job).await.unwrap();
                    if waits && found.status == JobStatus::Running {
                        self.model.restore_acquired(job, self.taken[number].runner);
                    }
                    return;
                };
                // It was answered before the crash, which has made a void offer of one that was not acquired.
                match answer {
                    Ok(lease) => {
                        assert!(!gone);
                        if waits {
                            self.model.restore_acquired(lease.job_id, self.taken[number].runner);
                        }
                        self.taken[number].token = lease.job_token;
                    }
                    Err(error) => assert!(!waits || gone, "{error}"),
                }
            }
            _ => unreachable!("no other call is cut"),
        }
    }

    /// The answer, if there was one before the service crashed.
    async fn cut<T: Send + 'static>(
        &mut self,
        call: impl Future<Output = T> + Send + 'static,
        moment: Duration,
    ) -> Option<T> {
        let task = self.tasks.spawn(call);
        tokio::time::sleep(moment).await;
        let answered = task.is_finished();
        // Nothing of this test runs between here and the snapshot.
        self.crash().await;
        if answered {
            return Some(task.await.unwrap());
        }
        task.abort();
        None
    }

    // What is seen.

    async fn see(&self) -> View {
        let people = &self.stage.people;
        let jobs = people.jobs(None, None, Some(500)).await.unwrap().jobs;
        let runners = people.runners().await.unwrap();
        let runs = people.runs(None, Some(500)).await.unwrap().runs;
        let text = Wire::open(&self.stage.url).await.get("/metrics", "").await.text();
        let wanted = ["startline_jobs{", "startline_runners{", "startline_polls_open "];
        let counts: Counts = text
            .lines()
            .filter(|line| wanted.iter().any(|wanted| line.starts_with(wanted)))
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect();
        let holder = |status: JobStatus| matches!(status, JobStatus::Offered | JobStatus::Running);
        let job = |job: startline_protocol::runs_api::JobView| {
            let runner = job.runner_id.filter(|_| holder(job.status));
            (job.id, (job.run_id, job.status, job.conclusion, job.attempt, runner))
        };
        let runner = |runner: startline_protocol::runs_api::RunnerView| {
            let seen = runner.last_seen_at.map_or(i64::MIN, |at| at.duration_since(self.start).as_secs());
            (runner.id, (runner.name, runner.status, runner.current_jobs, seen))
        };
        View {
            jobs: jobs.into_iter().map(job).collect(),
            runners: runners.into_iter().map(runner).collect(),
            runs: runs.into_iter().map(|run| (run.id, run.conclusion.is_some())).collect(),
            counts,
        }
    }

    /// Takes over what polls have brought.
    async fn hear_polls(&mut self) {
        let ended: Vec<u64> =
            self.polls.iter().filter(|(_, poll)| poll.task.is_finished()).map(|(id, _)| *id).collect();
        for number in ended {
            let Poll { runner, task } = self.polls.remove(&number).unwrap();
            match task.await.unwrap() {
                PollResult::JobAssigned(assignment) => {
                    self.model.assign(runner, number, &assignment);
                    let token = assignment.job_token.clone();
                    self.taken.push(Taken { runner, assignment: *assignment, token });
                }
                PollResult::NoJobs => {
                    assert!(self.model.closing.contains(&number), "poll {number} of {runner} ended without a reason");
                    self.model.forget_poll(number);
                }
                PollResult::RunnerOffline => {
                    assert!(!self.model.runners.contains_key(&runner), "{runner} is there");
                    self.model.forget_poll(number);
                }
                PollResult::ServerError(error) => panic!("poll {number} of {runner}: {error}"),
            }
        }
    }

    /// Waits until the service is at rest where the model says that it comes to rest.
    async fn settle(&mut self) {
        let rest = if FAILED.load(Ordering::Relaxed) { REST_AFTER_FAILURE } else { REST };
        let until = Instant::now() + rest;
        loop {
            self.hear_polls().await;
            let (view, expected, missed) = (self.see().await, self.model.view(), self.model.missed());
            if view == expected && missed.is_empty() && self.model.closing.is_empty() {
                return;
            }
            assert!(
                Instant::now() < until,
                "at {} s the service is not as it must be\nseen {view:#?}\nexpected {expected:#?}\nqueued although \
                 somebody waits {missed:?}\npolls that do not end {:?}",
                self.model.now,
                self.model.closing
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The invariants that the settled view does not show by itself.
    async fn check(&mut self) {
        let people = self.stage.people.clone();
        // Every queued job has a reason with every runner, and the reasons are the true ones. One job a step: over a
        // history that is each of them many times.
        let queued: Vec<JobId> =
            self.model.jobs.iter().filter(|(_, job)| job.state == State::Queued).map(|(id, _)| *id).collect();
        if let Some(id) = queued.get(self.steps % queued.len().max(1)) {
            let explanation = people.explain(*id).await.unwrap();
            let found: BTreeMap<RunnerId, BTreeSet<String>> = explanation
                .candidates
                .into_iter()
                .map(|candidate| (candidate.runner_id, candidate.missing.into_iter().collect()))
                .collect();
            let needs = &self.model.jobs[id].needs;
            let expected: BTreeMap<RunnerId, BTreeSet<String>> =
                self.model.runners.keys().map(|runner| (*runner, self.model.missing(*runner, needs))).collect();
            assert_eq!(found, expected, "why job {id} waits");
            assert!(found.values().all(|missing| !missing.is_empty()));
        }
        // Old epochs are refused, whatever they ask for.
        let old: Vec<usize> = (0..self.taken.len())
            .filter(|number| self.taken[*number].assignment.epoch.0 < self.job_of(*number).epoch)
            .collect();
        if let Some(&number) = old.get(self.steps % old.len().max(1)) {
            let Taken { runner, assignment, token } = &self.taken[number];
            if token.is_some() {
                let holder = self.holder(number);
                refused(holder.renew(&RenewRequest::default()).await, 409, kind::STALE_EPOCH);
                refused(holder.update_job_status(&StatusRequest { steps: vec![] }).await, 409, kind::STALE_EPOCH);
                refused(holder.append_log(0, Bytes::from_static(b"late\n")).await, 409, kind::STALE_EPOCH);
                refused(self.complete(number, Conclusion::Success).await, 409, kind::STALE_EPOCH);
            }
            if self.model.runners.contains_key(runner) {
                assert!(assignment.epoch > Epoch::ZERO);
                refused(self.acquire(number).await, 409, kind::STALE_EPOCH);
            }
        }
        // What was acknowledged of a log is there.
        let logs: Vec<(JobId, u32)> =
            self.model.jobs.iter().flat_map(|(id, job)| job.logs.keys().map(|attempt| (*id, *attempt))).collect();
        if let Some((id, attempt)) = logs.get(self.steps % logs.len().max(1)) {
            let text = people.job_log_text(*id, Some(*attempt)).await.unwrap();
            assert_eq!(text, self.model.jobs[id].logs[attempt], "the log of job {id}, attempt {attempt}");
        }
    }
}

fn submission(needs: &Needs, jobs: usize) -> SubmitRequest {
    let mut labels = needs.labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
    if needs.memory_gb > 0 {
        labels.push(format!("memory_gb>={}", needs.memory_gb));
    }
    let labels = serde_json::to_string(&labels).unwrap();
    let runs_on = match needs.group {
        Some(group) => format!("{{group: {group}, labels: {labels}}}"),
        None => labels,
    };
    let mut workflow = "on: push\njobs:\n".to_owned();
    for number in 0..jobs {
        workflow.push_str(&format!("  j{number}:\n    runs-on: {runs_on}\n    steps: [{{run: 'true'}}]\n"));
    }
    SubmitRequest { workflow, repository: Some(needs.repository.to_owned()), ..SubmitRequest::default() }
}

/// The service must have said no, with this status and this problem.
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, status: u16, kind: &str) {
    match answer {
        Err(error) => assert_eq!((error.status(), error.kind()), (Some(status), Some(kind)), "{error}"),
        Ok(answer) => panic!("not refused with {status} {kind}: {answer:?}"),
    }
}
