//! Random steps on SQLite and on the plain model: every answer and every read must be the same.

mod actions;

use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{ClaimState, Conclusion, JobStatus};
use startline_protocol::value_scope::ValueScope;
use startline_store::memory::Memory;
use startline_store::sqlite::{Options, Sqlite, Synchronous};
use startline_store::{
    Answer, AuditFilter, Completion, DueRuns, Error, NewApiToken, NewAudit, NewClaim, NewJob, NewRun, NewRunner, Note,
    PurgePlace, Purged, Store, Taker, Taking,
};

use crate::bench::{
    api_token, at, audit_entry, completion, database, hash, new_claim, new_job, new_run, new_runner, options,
    registration_token, scope, sha256, step, token_until,
};

#[derive(Clone, Debug)]
enum Step {
    ApiToken {
        token: u32,
        life: Option<i64>,
    },
    RegistrationToken {
        token: u32,
        max_uses: Option<u32>,
        label: Option<bool>,
        ephemeral: bool,
        life: i64,
        place: Place,
    },
    RevokeApiToken {
        id: i64,
        now: i64,
    },
    RevokeRegistrationToken {
        id: i64,
        now: i64,
    },
    Purge {
        before: i64,
    },
    PurgeRuns {
        before: i64,
        jobs: Vec<i64>,
        runs: Vec<i64>,
    },
    PurgeRunners {
        before: i64,
        after: i64,
    },
    PurgeAudit {
        before: i64,
        now: i64,
    },
    Register {
        token: u32,
        name: u8,
        label: bool,
        replace: bool,
        ephemeral: bool,
        runner_token: u32,
        life: i64,
        now: i64,
    },
    Touch {
        seen: Vec<(i64, i64)>,
    },
    PutGroup {
        place: Place,
        protects: bool,
    },
    DeleteGroup {
        place: Place,
        now: i64,
    },
    PutSecret {
        scope: u8,
        name: u8,
        value: u8,
        now: i64,
    },
    DeleteSecret {
        scope: u8,
        name: u8,
    },
    PutVariable {
        scope: u8,
        name: u8,
        value: u8,
        now: i64,
    },
    DeleteVariable {
        scope: u8,
        name: u8,
    },
    Audit {
        number: u32,
        scope: u8,
    },
    Renew {
        runner: i64,
        runner_token: u32,
        life: i64,
        now: i64,
    },
    Capabilities {
        runner: i64,
        memory: u32,
    },
    DeleteRunner {
        runner: i64,
    },
    CreateRun {
        path: u8,
        key: Option<u32>,
        trusted: bool,
        now: i64,
        jobs: Vec<NewJob>,
    },
    /// With somebody who acquires its job at once.
    CreateTaken {
        runner: i64,
        key: Option<u32>,
        now: i64,
        jobs: Vec<NewJob>,
    },
    RenameRun {
        run: i64,
        name: u8,
    },
    AddJobs {
        run: i64,
        jobs: Vec<NewJob>,
    },
    Release {
        job: i64,
        now: i64,
    },
    Offer {
        job: i64,
        epoch: i64,
        runner: i64,
    },
    Acquire {
        job: i64,
        epoch: i64,
        runner: i64,
        attempt: u32,
        now: i64,
    },
    Requeue {
        job: i64,
        epoch: i64,
        attempt: u32,
        left: u32,
    },
    Steps {
        job: i64,
        epoch: i64,
        count: u32,
    },
    Complete {
        job: i64,
        epoch: i64,
        success: bool,
        now: i64,
    },
    Conclude {
        job: i64,
        epoch: i64,
        now: i64,
    },
    CancelJob {
        job: i64,
        reason: u8,
    },
    CancelRun {
        run: i64,
    },
    FinishRun {
        run: i64,
        why: Option<u8>,
        now: i64,
    },
    Claim {
        run: i64,
        job: Option<i64>,
        place: u8,
        group: u8,
    },
    SettleClaim {
        claim: i64,
        state: usize,
        why: Option<u8>,
    },
    RemoveClaim {
        claim: i64,
    },
    Actions(actions::Step),
}

/// A scope and a group's name, by number.
type Place = (u8, u8);

const SCOPES: [&str; 5] =
    ["instance", "organization:acme", "repository:acme/demo", "organization:acme-b", "repository:acme/other"];
const NAMES: [&str; 3] = ["default", "gpu", "GPU"];

fn places(of: &str) -> Vec<ValueScope> {
    scope(of).ancestry().into_iter().map(ValueScope::from).collect()
}

fn scope_of(number: u8) -> Scope {
    scope(SCOPES[usize::from(number)])
}

fn name_of(number: u8) -> String {
    NAMES[usize::from(number)].to_owned()
}

fn job() -> impl Strategy<Value = NewJob> {
    (0..3_u32, 0..2_u32, 0..12_u8).prop_map(|(key, index, kind)| {
        let (status, conclusion) = match kind {
            0 | 1 => (JobStatus::Waiting, None),
            2 => (JobStatus::Completed, Some(Conclusion::Skipped)),
            3 => (JobStatus::Running, None),
            _ => (JobStatus::Queued, None),
        };
        NewJob { index, status, conclusion, ..new_job(&format!("job-{key}")) }
    })
}

fn a_step() -> impl Strategy<Value = Step> {
    use Step::*;
    let (token, runner, run, job_id, epoch, now) = (0..3_u32, 1..5_i64, 1..4_i64, 1..7_i64, 0..4_i64, 0..200_i64);
    let life = 0..400_i64;
    let (a_scope, name, place) = (0..5_u8, 0..3_u8, (0..5_u8, 0..3_u8));
    let jobs = || prop::collection::vec(job(), 0..4);
    prop_oneof![
        1 => (token.clone(), prop::option::of(life.clone())).prop_map(|(token, life)| ApiToken { token, life }),
        3 => (
            token.clone(), prop::option::of(0..4_u32), prop::option::of(any::<bool>()), any::<bool>(), life.clone(),
            place.clone()
        )
            .prop_map(|(token, max_uses, label, ephemeral, life, place)| RegistrationToken {
                token, max_uses, label, ephemeral, life, place
            }),
        1 => (1..4_i64, now.clone()).prop_map(|(id, now)| RevokeApiToken { id, now }),
        1 => (1..6_i64, now.clone()).prop_map(|(id, now)| RevokeRegistrationToken { id, now }),
        1 => (0..500_i64).prop_map(|before| Purge { before }),
        2 => (0..300_i64, prop::collection::vec(job_id.clone(), 0..6), prop::collection::vec(run.clone(), 0..3))
            .prop_map(|(before, jobs, runs)| PurgeRuns { before, jobs, runs }),
        1 => (0..300_i64, 0..3_i64).prop_map(|(before, after)| PurgeRunners { before, after }),
        1 => (0..300_i64, now.clone()).prop_map(|(before, now)| PurgeAudit { before, now }),
        6 => (
            token, 0..4_u8, any::<bool>(), any::<bool>(), prop::bool::weighted(0.3), 0..8_u32, life.clone(), now.clone()
        )
            .prop_map(|(token, name, label, replace, ephemeral, runner_token, life, now)| Register {
                token, name, label, replace, ephemeral, runner_token, life, now
            }),
        1 => prop::collection::vec((runner.clone(), now.clone()), 0..4).prop_map(|seen| Touch { seen }),
        3 => (place.clone(), any::<bool>()).prop_map(|(place, protects)| PutGroup { place, protects }),
        2 => (place, now.clone()).prop_map(|(place, now)| DeleteGroup { place, now }),
        2 => (a_scope.clone(), name.clone(), 0..3_u8, now.clone())
            .prop_map(|(scope, name, value, now)| PutSecret { scope, name, value, now }),
        1 => (a_scope.clone(), name.clone()).prop_map(|(scope, name)| DeleteSecret { scope, name }),
        2 => (a_scope.clone(), name.clone(), 0..3_u8, now.clone())
            .prop_map(|(scope, name, value, now)| PutVariable { scope, name, value, now }),
        1 => (a_scope.clone(), name).prop_map(|(scope, name)| DeleteVariable { scope, name }),
        3 => (0..3_u32, a_scope).prop_map(|(number, scope)| Audit { number, scope }),
        2 => (runner.clone(), 0..8_u32, life, now.clone())
            .prop_map(|(runner, runner_token, life, now)| Renew { runner, runner_token, life, now }),
        1 => (runner.clone(), any::<u32>()).prop_map(|(runner, memory)| Capabilities { runner, memory }),
        1 => runner.clone().prop_map(|runner| DeleteRunner { runner }),
        2 => (0..2_u8, prop::option::of(0..3_u32), any::<bool>(), prop_oneof![now.clone(), 86_400..86_600_i64], jobs())
            .prop_map(|(path, key, trusted, now, jobs)| CreateRun { path, key, trusted, now, jobs }),
        2 => (runner.clone(), prop::option::of(0..3_u32), now.clone(), jobs())
            .prop_map(|(runner, key, now, jobs)| CreateTaken { runner, key, now, jobs }),
        1 => (run.clone(), 0..3_u8).prop_map(|(run, name)| RenameRun { run, name }),
        2 => (run.clone(), jobs()).prop_map(|(run, jobs)| AddJobs { run, jobs }),
        2 => (job_id.clone(), now.clone()).prop_map(|(job, now)| Release { job, now }),
        6 => (job_id.clone(), epoch.clone(), runner.clone())
            .prop_map(|(job, epoch, runner)| Offer { job, epoch, runner }),
        8 => (job_id.clone(), epoch.clone(), runner, 1..3_u32, now.clone())
            .prop_map(|(job, epoch, runner, attempt, now)| Acquire { job, epoch, runner, attempt, now }),
        4 => (job_id.clone(), epoch.clone(), 1..3_u32, 0..2_u32)
            .prop_map(|(job, epoch, attempt, left)| Requeue { job, epoch, attempt, left }),
        3 => (job_id.clone(), epoch.clone(), 0..3_u32).prop_map(|(job, epoch, count)| Steps { job, epoch, count }),
        7 => (job_id.clone(), epoch.clone(), any::<bool>(), now.clone())
            .prop_map(|(job, epoch, success, now)| Complete { job, epoch, success, now }),
        1 => (job_id.clone(), epoch, now.clone()).prop_map(|(job, epoch, now)| Conclude { job, epoch, now }),
        1 => (job_id.clone(), 0..2_u8).prop_map(|(job, reason)| CancelJob { job, reason }),
        1 => run.clone().prop_map(|run| CancelRun { run }),
        1 => (run.clone(), prop::option::of(0..3_u8), now).prop_map(|(run, why, now)| FinishRun { run, why, now }),
        4 => (run, prop::option::of(job_id), 0..4_u8, 0..3_u8)
            .prop_map(|(run, job, place, group)| Claim { run, job, place, group }),
        2 => (1..8_i64, 0..ClaimState::ALL.len(), prop::option::of(0..3_u8))
            .prop_map(|(claim, state, why)| SettleClaim { claim, state, why }),
        1 => (1..8_i64).prop_map(|claim| RemoveClaim { claim }),
    ]
}

/// An answer in words. What an engine says of its own failures is its own business; that it fails is not.
async fn words<T: Debug>(answer: Answer<T>) -> String {
    match answer.await {
        Err(Error::Engine { .. }) => "the engine failed".to_owned(),
        other => format!("{other:?}"),
    }
}

/// How long it took is an engine's own business too.
fn timeless(answer: Answer<Purged>) -> Answer<Purged> {
    Box::pin(async move { Ok(Purged { took: Duration::ZERO, ..answer.await? }) })
}

type Words = std::pin::Pin<Box<dyn Future<Output = String>>>;

fn labels(gpu: bool) -> Vec<String> {
    vec![if gpu { "gpu" } else { "linux" }.to_owned()]
}

/// The hashes of runner tokens lie apart from the others.
fn runner_token(number: u32) -> u32 {
    number + 100
}

fn call(store: &dyn Store, step_to_do: Step) -> Words {
    match step_to_do {
        Step::ApiToken { token, life } => {
            let new = NewApiToken { expires_at: life.map(at), ..api_token(token) };
            Box::pin(words(store.create_api_token(new)))
        }
        Step::RegistrationToken { token, max_uses, label, ephemeral, life, place: (of, group) } => {
            let mut new = registration_token(token);
            (new.max_uses, new.labels, new.ephemeral) = (max_uses, label.map(labels), ephemeral);
            (new.scope, new.group, new.expires_at) = (scope_of(of), name_of(group), at(life));
            Box::pin(words(store.create_registration_token(new)))
        }
        Step::RevokeApiToken { id, now } => Box::pin(words(store.revoke_api_token(id, at(now)))),
        Step::RevokeRegistrationToken { id, now } => Box::pin(words(store.revoke_registration_token(id, at(now)))),
        Step::Purge { before } => Box::pin(words(store.purge_tokens(at(before)))),
        Step::PurgeRuns { before, jobs, runs } => {
            let jobs = jobs.into_iter().map(|job| (JobId(job), 1)).collect();
            let due = DueRuns { jobs, runs: runs.into_iter().map(RunId).collect(), next: None };
            Box::pin(words(timeless(store.purge_runs(at(before), due))))
        }
        Step::PurgeRunners { before, after } => {
            Box::pin(words(timeless(store.purge_runners(at(before), RunnerId(after)))))
        }
        Step::PurgeAudit { before, now } => Box::pin(words(timeless(store.purge_audit(at(before), at(now))))),
        Step::Register { token, name, label, replace, ephemeral, runner_token: own, life, now } => {
            let name = ["one", "ONE", "two", "three"][usize::from(name)];
            let new = new_runner(name, runner_token(own));
            let new = NewRunner {
                labels: labels(label),
                replace,
                ephemeral,
                token: token_until(runner_token(own), now + life),
                ..new
            };
            Box::pin(words(store.register_runner(hash(token), new, at(now))))
        }
        Step::Touch { seen } => {
            let seen = seen.into_iter().map(|(runner, second)| (RunnerId(runner), at(second))).collect();
            Box::pin(words(store.touch_runners(seen)))
        }
        Step::PutGroup { place: (of, name), protects } => {
            let protected_labels = if protects { labels(true) } else { Vec::new() };
            let policy = GroupRequest { protected_labels, ..GroupRequest::default() };
            Box::pin(words(store.put_group(scope_of(of), name_of(name), policy)))
        }
        Step::DeleteGroup { place: (of, name), now } => {
            Box::pin(words(store.delete_group(scope_of(of), name_of(name), at(now))))
        }
        Step::PutSecret { scope, name, value, now } => {
            Box::pin(words(store.put_secret(scope_of(scope).into(), name_of(name), vec![value], at(now))))
        }
        Step::DeleteSecret { scope, name } => {
            Box::pin(words(store.delete_secret(scope_of(scope).into(), name_of(name))))
        }
        Step::PutVariable { scope, name, value, now } => {
            Box::pin(words(store.put_variable(scope_of(scope).into(), name_of(name), value.to_string(), at(now))))
        }
        Step::DeleteVariable { scope, name } => {
            Box::pin(words(store.delete_variable(scope_of(scope).into(), name_of(name))))
        }
        Step::Audit { number, scope } => {
            Box::pin(words(store.append_audit(NewAudit { scope: scope_of(scope), ..audit_entry(number) })))
        }
        Step::Renew { runner, runner_token: own, life, now } => Box::pin(words(store.renew_runner_token(
            RunnerId(runner),
            hash(runner_token(own)),
            at(now + life),
            at(now),
        ))),
        Step::Capabilities { runner, memory } => {
            let capabilities = Capabilities { memory_gb: memory, ..Capabilities::default() };
            Box::pin(words(store.update_capabilities(RunnerId(runner), capabilities)))
        }
        Step::DeleteRunner { runner } => Box::pin(words(store.delete_runner(RunnerId(runner), at(0)))),
        Step::CreateRun { path, key, trusted, now, jobs } => {
            let new = new_run("acme/demo", &format!("{path}.yml"));
            let new = NewRun { idempotency: key.map(hash), trusted, created_at: at(now), ..new };
            Box::pin(words(store.create_run(new, jobs)))
        }
        Step::CreateTaken { runner, key, now, jobs } => {
            let new = NewRun { idempotency: key.map(hash), created_at: at(now), ..new_run("acme/demo", "0.yml") };
            let (tell, told) = std::sync::mpsc::channel();
            let taker = Taker::new(move |_| {
                let outcome = Box::new(move |taken| tell.send(taken).unwrap());
                Some(Taking { epoch: Epoch(1), runner: RunnerId(runner), now: at(now), note: Note::none(), outcome })
            });
            let created = store.create_run_taken(new, jobs, Note::none(), taker);
            Box::pin(async move {
                let created = words(created).await;
                let told = told.try_recv().map_or_else(|_| "nobody".to_owned(), |taken| format!("{taken:?}"));
                format!("{told} {created}")
            })
        }
        Step::RenameRun { run, name } => Box::pin(words(store.rename_run(RunId(run), name_of(name)))),
        Step::AddJobs { run, jobs } => Box::pin(words(store.add_jobs(RunId(run), jobs))),
        Step::Release { job, now } => Box::pin(words(store.release_job(JobId(job), at(now)))),
        Step::Offer { job, epoch, runner } => {
            Box::pin(words(store.record_offer(JobId(job), Epoch(epoch), RunnerId(runner))))
        }
        Step::Acquire { job, epoch, runner, attempt, now } => {
            Box::pin(words(store.acquire(JobId(job), Epoch(epoch), RunnerId(runner), attempt, at(now))))
        }
        Step::Requeue { job, epoch, attempt, left } => {
            Box::pin(words(store.requeue(JobId(job), Epoch(epoch), attempt, left, "lost".to_owned(), at(25))))
        }
        Step::Steps { job, epoch, count } => {
            Box::pin(words(store.update_steps(JobId(job), Epoch(epoch), (1..=count).map(step).collect())))
        }
        Step::Complete { job, epoch, success, now } => {
            let conclusion = if success { Conclusion::Success } else { Conclusion::Failure };
            let said = Completion { ends_run: job % 2 == 0, ..completion(conclusion) };
            Box::pin(words(store.complete(JobId(job), Epoch(epoch), said, at(now))))
        }
        Step::Conclude { job, epoch, now } => {
            let reason = "cancelled".to_owned();
            Box::pin(words(store.conclude(JobId(job), Epoch(epoch), Conclusion::Cancelled, reason, at(now))))
        }
        Step::CancelJob { job, reason } => {
            Box::pin(words(store.request_job_cancel(JobId(job), format!("reason {reason}"))))
        }
        Step::CancelRun { run } => Box::pin(words(store.request_run_cancel(RunId(run)))),
        Step::FinishRun { run, why, now } => {
            Box::pin(words(store.finish_run(RunId(run), Conclusion::Success, why.map(name_of), at(now))))
        }
        Step::Claim { run, job, place, group } => {
            let place = ["", "call", "call.", "a[0]"][usize::from(place)];
            let new = new_claim(RunId(run), place, NAMES[usize::from(group)]);
            Box::pin(words(store.add_claim(NewClaim { job: job.map(JobId), ..new })))
        }
        Step::SettleClaim { claim, state, why } => {
            Box::pin(words(store.settle_claim(claim, ClaimState::ALL[state], why.map(name_of))))
        }
        Step::RemoveClaim { claim } => Box::pin(words(store.remove_claim(claim))),
        Step::Actions(step) => actions::call(store, step),
    }
}

/// Everything that can be read.
async fn read(store: &dyn Store) -> Vec<String> {
    let mut seen = vec![words(store.has_api_tokens()).await, words(store.runners()).await];
    seen.push(words(store.claimed_groups()).await);
    for group in NAMES {
        seen.push(words(store.claims_on(format!("acme/demo\n{group}"))).await);
    }
    seen.extend([words(store.tokens()).await, words(store.groups()).await, words(store.verify_audit()).await]);
    for before in [0, 50, 100, 201] {
        seen.push(words(store.due_runs(at(before), None)).await);
        let from = PurgePlace { run: RunId(1), job: JobId(2) };
        seen.push(words(store.due_runs(at(before), Some(from))).await);
    }
    for token in 0..3 {
        seen.push(words(store.api_token(hash(token))).await);
        seen.push(words(store.registration_token(hash(token))).await);
    }
    for second in [0, 1, 50, 100, 150, 201] {
        seen.push(words(store.expired_ephemeral_runners(at(second))).await);
        seen.push(words(store.stale_runners(at(second))).await);
    }
    for of in SCOPES {
        for name in NAMES {
            seen.push(words(store.group(scope(of), name.to_owned())).await);
        }
        seen.push(words(store.secrets(scope(of).into())).await);
        seen.push(words(store.sealed_secrets(places(of))).await);
        seen.push(words(store.variables(places(of))).await);
        let filter = AuditFilter { scope: Some(scope(of)), ..AuditFilter::default() };
        seen.push(words(store.audit(1, 3, filter)).await);
    }
    let filter = AuditFilter { actor: Some("runner:1".to_owned()), action: Some("job".to_owned()), scope: None };
    seen.push(words(store.audit(0, 100, filter)).await);
    for token in 0..8 {
        for now in [0, 50, 100, 150, 250, 350, 450, 700] {
            seen.push(words(store.runner_by_token(hash(runner_token(token)), at(now))).await);
        }
    }
    for id in 0..20 {
        seen.push(words(store.runner(RunnerId(id))).await);
        seen.push(words(store.run(RunId(id))).await);
        seen.push(words(store.jobs_of_run(RunId(id))).await);
        seen.push(words(store.job(JobId(id))).await);
        seen.push(words(store.job_message(JobId(id))).await);
        seen.push(words(store.runs(Some(RunId(id)), 2)).await);
        seen.push(words(store.jobs(None, Some(JobId(id)), 3)).await);
    }
    for status in JobStatus::ALL {
        seen.push(words(store.jobs(Some(*status), None, 2)).await);
        seen.push(words(store.jobs(Some(*status), Some(JobId(4)), 100)).await);
    }
    for after in 0..4 {
        seen.push(words(store.unfinished(RunId(after), 2)).await);
    }
    seen.extend(actions::read(store).await);
    seen
}

/// Something to work on, so that the random steps meet more than absence.
fn prelude() -> Vec<Step> {
    let token = |token| Step::RegistrationToken {
        token,
        max_uses: None,
        label: None,
        ephemeral: token == 1,
        life: 400,
        place: (0, 0),
    };
    let runner = |name: u8, runner_token| Step::Register {
        token: 0,
        name,
        label: false,
        replace: false,
        ephemeral: name == 2,
        runner_token,
        life: 300,
        now: 0,
    };
    let waiting = NewJob { status: JobStatus::Waiting, ..new_job("job-2") };
    let run = |path| Step::CreateRun {
        path,
        key: None,
        trusted: true,
        now: 10,
        jobs: vec![new_job("job-0"), new_job("job-1"), waiting.clone()],
    };
    let group = |place| Step::PutGroup { place, protects: false };
    let core = [group((0, 1)), group((1, 1)), token(0), token(1), runner(0, 0), runner(2, 1), run(0), run(0)];
    core.into_iter().chain(actions::prelude().map(Step::Actions)).collect()
}

/// Steps in bursts: those of one burst are called before the first answer is awaited, so that they share commits.
/// Behind each burst the database may be opened anew.
fn bursts() -> impl Strategy<Value = Vec<(Vec<Step>, bool)>> {
    // Among all steps, those of the Actions protocol would seldom meet each other.
    let of_actions = prop_oneof![1 => a_step(), 3 => actions::a_step().prop_map(Step::Actions)];
    prop_oneof![2 => bursts_of(a_step().boxed()), 1 => bursts_of(of_actions.boxed())]
}

fn bursts_of(step: BoxedStrategy<Step>) -> impl Strategy<Value = Vec<(Vec<Step>, bool)>> {
    let burst = (prop::collection::vec(step, 1..25), prop::bool::weighted(0.1));
    prop::collection::vec(burst, 1..8).prop_map(|mut bursts| {
        bursts.insert(0, (prelude(), false));
        bursts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_model_does(bursts in bursts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let options = Options { synchronous: Synchronous::Normal, readers: 1, ..options() };
        let open = || Sqlite::open(&database(&directory), &options).unwrap();
        let (model, mut sqlite) = (Memory::new(sha256), open());
        runtime.block_on(async {
            for (burst, reopen) in bursts {
                let answers: Vec<_> = burst
                    .into_iter()
                    .map(|step| (step.clone(), call(&model, step.clone()), call(&sqlite, step)))
                    .collect();
                for (step, expected, answer) in answers {
                    prop_assert_eq!(answer.await, expected.await, "{:?}", step);
                }
                if reopen {
                    drop(sqlite);
                    sqlite = open();
                }
            }
            for (answer, expected) in read(&sqlite).await.into_iter().zip(read(&model).await) {
                prop_assert_eq!(answer, expected);
            }
            Ok(())
        })?;
    }
}

/// The comparison above is worth something only if the steps that it draws get somewhere.
#[test]
fn random_steps_reach_every_state() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..320 {
        let bursts = bursts().new_tree(&mut runner).unwrap().current();
        let model = Memory::new(sha256);
        runtime.block_on(async {
            for step in bursts.into_iter().flat_map(|(burst, _)| burst) {
                let name = format!("{step:?}");
                let name = name.strip_prefix("Actions(").unwrap_or(&name);
                let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
                let answer = call(&model, step).await;
                let outcome = answer.split(|c: char| !c.is_alphanumeric()).take(2).collect::<Vec<_>>().join(" ");
                *seen.entry(format!("{name} {outcome}")).or_default() += 1;
            }
        });
    }
    for outcome in [
        "Register Ok Registered",
        "Register Err TokenExpired",
        "Register Err TokenRevoked",
        "Register Err LabelProtected",
        "RegistrationToken Err NoGroup",
        "RevokeApiToken Ok true",
        "RevokeRegistrationToken Ok true",
        "Purge Ok 1",
        "PurgeRuns Ok Purged",
        "PurgeRunners Ok Purged",
        "PurgeAudit Ok Purged",
        "DeleteGroup Ok true",
        "DeleteGroup Err GroupInUse",
        "DeleteGroup Err DefaultGroup",
        "DeleteSecret Ok true",
        "DeleteVariable Ok true",
        "Audit Ok AuditRecord",
        "CreateRun Ok CreatedRun",
        "CreateTaken Ok TakenJob",
        "CreateTaken Err RunnerGone",
        "CreateTaken nobody Ok",
        "RenameRun Ok Some",
        "Register Err TokenExhausted",
        "Register Err NameTaken",
        "Register Err LabelNotAllowed",
        "Register the engine",
        "Renew Ok ",
        "Offer Ok JobRecord",
        "Offer Err StaleEpoch",
        "Offer Err RunnerGone",
        "Acquire Ok ",
        "Acquire Err StaleEpoch",
        "Acquire Err RunnerGone",
        "Requeue Ok JobRecord",
        "Steps Ok JobRecord",
        "Complete Ok Completed",
        "Complete Ok AlreadyCompleted",
        "Conclude Ok JobRecord",
        "CancelJob Ok Some",
        "Release Ok Some",
        "FinishRun Ok true",
        "FinishRun Ok false",
        "CreateRun the engine",
        "CreateRunner Ok Registered",
        "CreateRunner Err NameTaken",
        "CreateRunner Err NoScaleSet",
        "CreateRunner the engine",
        "Labels Ok RunnerRecord",
        "Version Ok ",
        "CreateSet Ok ScaleSetRecord",
        "CreateSet Err ScaleSetExists",
        "UpdateSet Ok Some",
        "DeleteSet Ok Some",
        "NextMessage Ok 1",
        "CreateArtifact Ok CreatedArtifact",
        "FinalizeArtifact Ok Some",
        "FinalizeArtifact Err ArtifactExists",
        "DeleteArtifact Ok Some",
        "DeleteArtifactId Ok Some",
        "ReserveCache Ok Some",
        "ReserveCache Ok None",
        "CommitCache Ok Some",
        "FindCache Ok Some",
        "EvictCaches Ok ",
        "DeleteCache Ok Some",
    ] {
        assert!(seen.get(outcome).is_some_and(|count| *count > 2), "{outcome} is too rare in {seen:#?}");
    }
}
