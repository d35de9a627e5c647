//! The acceptance cases of the Runner API, one test each, in the order of its page: the real service over a real socket,
//! and the real client.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use startline_client::{
    ApiClient, AppendOutcome, BoxError, Credentials, Error, JobClient, Options, PollResult, Retry, RunnerClient,
    RunnerSession, Transport,
};
use startline_daemon::Clock;
use startline_protocol::admin_api::CreateTokenRequest;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{
    CompleteRequest, HeartbeatRequest, JobAssignment, PollRequest, RegisterRequest, RegistrationTokenRequest,
    RenewRequest, StatusRequest,
};
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus, RunnerStatus, StepStatus};
use startline_protocol::step::StepRecord;
use startline_protocol::token::{ApiToken, RegistrationToken, RunnerToken};
use startline_server::{ServerConfig, Synchronous};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::cast;
use crate::harness::{DEADLINE, Service, eventually};

const JOB: &str = "on: push\njobs:\n  a:\n    runs-on: accepted\n    steps:\n      - run: 'true'\n";

/// A real transport that notes what was asked and what came of it; no status where no answer came.
#[derive(Clone)]
struct Watched {
    inner: Transport,
    seen: Seen,
}

type Seen = Arc<Mutex<Vec<(String, Option<u16>)>>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl tower::Service<Request<Bytes>> for Watched {
    type Response = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Answer<Self::Response>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let Self { inner, seen } = self.clone();
        let asked = format!("{} {}", request.method(), request.uri().path());
        Box::pin(async move {
            let answer = inner.oneshot(request).await;
            let status = answer.as_ref().ok().map(|answer: &Self::Response| answer.status().as_u16());
            seen.lock().unwrap().push((asked, status));
            answer
        })
    }
}

fn watched() -> (Transport, Seen) {
    let seen = Seen::default();
    let inner = Transport::new(&Options::default()).unwrap();
    (Transport::from_service(Watched { inner, seen: Arc::clone(&seen) }), seen)
}

fn transport() -> Transport {
    Transport::new(&Options::default()).unwrap()
}

fn client(service: &Service) -> RunnerClient {
    RunnerClient::new(transport(), &service.url).unwrap()
}

fn admin(service: &Service) -> ApiToken {
    ApiToken::parse(service.token.clone()).unwrap()
}

async fn token(service: &Service, request: RegistrationTokenRequest) -> RegistrationToken {
    client(service).request_registration_token(&admin(service), &request).await.unwrap().token
}

fn registration(name: &str) -> RegisterRequest {
    RegisterRequest {
        name: name.to_owned(),
        labels: vec!["accepted".to_owned()],
        capabilities: Capabilities::default(),
        ephemeral: false,
        replace: false,
        version: String::new(),
    }
}

async fn register(client: &RunnerClient, token: &RegistrationToken, request: &RegisterRequest) -> RunnerSession {
    let registered = client.register(token, request).await.unwrap();
    client.session(Credentials::of(&registered, Timestamp::now()))
}

/// A registered runner of the whole instance.
async fn runner(service: &Service, name: &str) -> RunnerSession {
    let token = token(service, RegistrationTokenRequest::default()).await;
    register(&client(service), &token, &registration(name)).await
}

fn poll(timeout_seconds: u32) -> PollRequest {
    PollRequest { timeout_seconds, capabilities: None, auto_acquire: true }
}

fn offer(timeout_seconds: u32) -> PollRequest {
    PollRequest { auto_acquire: false, ..poll(timeout_seconds) }
}

fn assigned(result: PollResult) -> JobAssignment {
    match result {
        PollResult::JobAssigned(assignment) => *assignment,
        other => panic!("no job: {other:?}"),
    }
}

fn holder(assignment: &JobAssignment) -> JobClient {
    JobClient::new(transport(), assignment.urls.clone(), assignment.job_token.clone().unwrap())
}

fn success() -> CompleteRequest {
    CompleteRequest {
        conclusion: Conclusion::Success,
        outputs: BTreeMap::from([("answer".to_owned(), "42".to_owned())]),
        steps: vec![step(StepStatus::Completed)],
        environment_url: None,
        annotations: vec![],
    }
}

fn step(status: StepStatus) -> StepRecord {
    StepRecord {
        number: 1,
        id: None,
        name: "only".to_owned(),
        status,
        conclusion: (status == StepStatus::Completed).then_some(Conclusion::Success),
        outcome: None,
        started_at: None,
        completed_at: None,
        log_start: Some(0),
        log_end: None,
        summary: None,
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    let error = result.unwrap_err();
    (error.status().unwrap_or_default(), error.kind().unwrap_or_default().to_owned())
}

async fn open_polls(url: &str, wanted: usize) {
    let mut wire = crate::http::Wire::open(url).await;
    eventually(&format!("{wanted} polls are open"), async || {
        let text = wire.get("/metrics", "").await.text();
        let open = text.lines().find_map(|line| line.strip_prefix("startline_polls_open "))?;
        (open.parse() == Ok(wanted)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_registration_token_is_requested_and_lies_in_the_future() {
    let service = Service::start(&[]);
    let (transport, seen) = watched();
    let client = RunnerClient::new(transport, &service.url).unwrap();
    let before = Timestamp::now().as_second();
    let answer = client.request_registration_token(&admin(&service), &RegistrationTokenRequest::default()).await;
    let answer = answer.unwrap();
    assert_eq!(*seen.lock().unwrap(), [("POST /api/v1/runners/registration-token".to_owned(), Some(200))]);
    assert!(answer.token.expose().len() > "slr_".len() && answer.token.expose().starts_with("slr_"));
    assert!((before + 3600..=Timestamp::now().as_second() + 3600).contains(&answer.expires_at), "{answer:?}");
}

#[tokio::test]
async fn a_runner_is_registered_with_it() {
    let service = Service::start(&[]);
    let token = token(&service, RegistrationTokenRequest::default()).await;
    let (transport, seen) = watched();
    let client = RunnerClient::new(transport, &service.url).unwrap();
    let first = client.register(&token, &registration("one")).await.unwrap();
    let second = client.register(&token, &registration("two")).await.unwrap();
    let created = ("POST /api/v1/runners".to_owned(), Some(201));
    assert_eq!(*seen.lock().unwrap(), [created.clone(), created]);
    assert!(first.runner_id.0 > 0 && second.runner_id.0 > first.runner_id.0, "{first:?} {second:?}");
    assert!(first.runner_token.expose().starts_with("slt_") && first.runner_token != second.runner_token);
    assert_eq!((first.labels, first.runner_group.as_str()), (vec!["accepted".to_owned()], "default"));
    assert!(first.expires_at > Timestamp::now().as_second());
    let names: Vec<_> = service.client.runners().await.unwrap().into_iter().map(|runner| runner.name).collect();
    assert_eq!(names, ["one", "two"]);
}

#[tokio::test]
async fn a_registration_token_is_refused_when_it_is_used_up_expired_or_of_another_scope() {
    let service = Service::start(&[]);
    let client = client(&service);
    let once = token(&service, RegistrationTokenRequest { max_uses: Some(1), ..Default::default() }).await;
    client.register(&once, &registration("a")).await.unwrap();
    assert_eq!(refused(client.register(&once, &registration("b")).await), (403, kind::TOKEN_EXHAUSTED.to_owned()));

    let old = token(&service, RegistrationTokenRequest::default()).await;
    cast::expire(service.data.path(), "registration_tokens", old.expose());
    assert_eq!(refused(client.register(&old, &registration("b")).await), (401, kind::UNAUTHENTICATED.to_owned()));

    let request = CreateTokenRequest {
        name: "acme".to_owned(),
        scope: Some(Scope::organization("acme").unwrap()),
        permissions: vec![Permission::RunnersRegister],
        expires_in_seconds: None,
    };
    let acme = service.client.create_token(&request).await.unwrap().token;
    for (scope, wanted) in [("organization:other", Some(404)), ("instance", Some(404)), ("repository:acme/a", None)] {
        let request = RegistrationTokenRequest { scope: Some(scope.parse().unwrap()), ..Default::default() };
        let answer = client.request_registration_token(&acme, &request).await;
        assert_eq!(answer.err().and_then(|error| error.status()), wanted, "{scope}");
    }
    let names: Vec<_> = service.client.runners().await.unwrap().into_iter().map(|runner| runner.name).collect();
    assert_eq!(names, ["a"]);
}

#[tokio::test]
async fn a_poll_returns_a_queued_job() {
    let service = Service::start(&[]);
    let session = runner(&service, "one").await;
    let run = service.submit(JOB).await;
    let job = service.job(run, "the job is queued", |job| job.status == JobStatus::Queued).await;
    let taken = assigned(session.poll_for_job(&poll(30)).await);
    assert_eq!((taken.job_id, taken.workflow_run_id, taken.attempt), (job.id, run, 1));
    assert!(taken.job_definition.is_some() && taken.job_token.is_some() && taken.timeout_minutes > 0, "{taken:?}");
    assert!(taken.lease_expires_at.unwrap() > Timestamp::now().as_second());
    holder(&taken).complete_job(&success()).await.unwrap();
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
}

#[tokio::test]
async fn a_poll_of_one_second_returns_204_after_one_to_two_seconds() {
    let service = Service::start(&[]);
    let (transport, seen) = watched();
    let registration_token = token(&service, RegistrationTokenRequest::default()).await;
    let client = RunnerClient::new(transport, &service.url).unwrap();
    let session = register(&client, &registration_token, &registration("one")).await;
    seen.lock().unwrap().clear();
    let began = Instant::now();
    let result = session.poll_for_job(&poll(1)).await;
    let took = began.elapsed();
    assert!(matches!(result, PollResult::NoJobs), "{result:?}");
    assert_eq!(*seen.lock().unwrap(), [("POST /api/v1/runners/jobs/poll".to_owned(), Some(204))]);
    assert!((1.0..2.0).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test]
async fn a_client_completes_the_registration_flow() {
    let service = Service::start(&[]);
    let client = client(&service);
    let minted = client.request_registration_token(&admin(&service), &RegistrationTokenRequest::default()).await;
    let session = register(&client, &minted.unwrap().token, &registration("one")).await;
    let beat = HeartbeatRequest { status: RunnerStatus::Online, current_jobs: vec![], system_info: None };
    assert!(session.send_heartbeat(&beat).await.unwrap().commands.is_empty());
    session.update_capabilities(&Capabilities { memory_gb: 64, ..Capabilities::default() }).await.unwrap();
    let before = session.credentials().token;
    session.renew_token().await.unwrap();
    assert_ne!(session.credentials().token, before);
    assert!(matches!(session.poll_for_job(&poll(0)).await, PollResult::NoJobs));
    let view = service.client.runner(session.id()).await.unwrap();
    assert_eq!((view.name.as_str(), view.status, view.capabilities.memory_gb), ("one", RunnerStatus::Online, 64));
    session.deregister(false).await.unwrap();
    assert!(matches!(session.poll_for_job(&poll(0)).await, PollResult::RunnerOffline));
    assert!(service.client.runners().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_client_rides_out_a_server_that_is_down_for_three_attempts() {
    let mut service = Service::start(&[]);
    let token = token(&service, RegistrationTokenRequest::default()).await;
    service.process.crash();
    let (transport, seen) = watched();
    let client = RunnerClient::new(transport, &service.url).unwrap();
    let request = registration("one");
    let registering = client.register(&token, &request);
    let back = async {
        eventually("three attempts have failed", async || (seen.lock().unwrap().len() >= 3).then_some(())).await;
        service.restart();
    };
    let (registered, ()) = tokio::join!(registering, back);
    let id = registered.unwrap().runner_id;
    let statuses: Vec<_> = seen.lock().unwrap().iter().map(|(_, status)| *status).collect();
    let (last, failed) = statuses.split_last().unwrap();
    assert_eq!(*last, Some(201), "{statuses:?}");
    assert!(failed.len() >= 3 && failed.iter().all(Option::is_none), "{statuses:?}");
    let ids: Vec<_> = service.client.runners().await.unwrap().into_iter().map(|runner| runner.id).collect();
    assert_eq!(ids, [id], "it is registered once");
}

#[tokio::test]
async fn a_heartbeat_updates_status_and_last_seen() {
    let service = Service::start(&[]);
    let session = runner(&service, "one").await;
    let mut seen = service.client.runner(session.id()).await.unwrap().last_seen_at.unwrap();
    for (says, wanted) in [
        (RunnerStatus::Online, RunnerStatus::Online),
        (RunnerStatus::Draining, RunnerStatus::Draining),
        (RunnerStatus::Online, RunnerStatus::Online),
    ] {
        let beat = HeartbeatRequest { status: says, current_jobs: vec![], system_info: None };
        session.send_heartbeat(&beat).await.unwrap();
        let view = service.client.runner(session.id()).await.unwrap();
        assert_eq!(view.status, wanted);
        assert!(view.last_seen_at.unwrap() > seen, "{view:?}");
        seen = view.last_seen_at.unwrap();
    }
}

#[tokio::test]
async fn a_runner_unseen_for_120_s_with_a_timeout_of_60_s_is_marked_offline() {
    startline_crypto::install_provider();
    let data = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data.path().to_owned(),
        offline_after: "60s".parse().unwrap(),
        synchronous: Synchronous::Normal,
        ..ServerConfig::defaults()
    };
    let (clock, hand) = Clock::by_hand(Timestamp::now());
    let service = startline_server::start_by(clock, config, false).await.unwrap();
    let admin = service.admin_token().unwrap().clone();
    let people = ApiClient::new(transport(), service.url(), admin.clone()).unwrap();
    let client = RunnerClient::new(transport(), service.url()).unwrap();
    let token = client.request_registration_token(&admin, &RegistrationTokenRequest::default()).await.unwrap().token;
    let silent = register(&client, &token, &registration("silent")).await;
    let alive = register(&client, &token, &registration("alive")).await;
    let beat = HeartbeatRequest { status: RunnerStatus::Online, current_jobs: vec![], system_info: None };
    let status = async |of: &RunnerSession| people.runner(of.id()).await.unwrap().status;
    for _ in 0..3 {
        assert_eq!((status(&silent).await, status(&alive).await), (RunnerStatus::Online, RunnerStatus::Online));
        // Not yet: within its 60 s it counts as online however often one looks.
        hand.turn(Duration::from_secs(19));
        alive.send_heartbeat(&beat).await.unwrap();
    }
    assert_eq!(status(&silent).await, RunnerStatus::Online, "unseen for 57 s");
    hand.turn(Duration::from_secs(30));
    alive.send_heartbeat(&beat).await.unwrap();
    hand.turn(Duration::from_secs(33));
    eventually("the runner is marked offline", async || (status(&silent).await == RunnerStatus::Offline).then_some(()))
        .await;
    assert_eq!(status(&alive).await, RunnerStatus::Online);
    silent.send_heartbeat(&beat).await.unwrap();
    assert_eq!(status(&silent).await, RunnerStatus::Online, "one that speaks again is online again");
    service.stop().await;
}

#[tokio::test]
async fn an_invalid_token_is_refused_with_401() {
    let service = Service::start(&[]);
    let client = client(&service).with_retry(Retry::NEVER);
    let unauthenticated = (401, kind::UNAUTHENTICATED.to_owned());

    let api = startline_crypto::new_api_token();
    let minted = client.request_registration_token(&api, &RegistrationTokenRequest::default()).await;
    assert_eq!(refused(minted), unauthenticated);
    let registration_token = startline_crypto::token::new_registration_token();
    assert_eq!(refused(client.register(&registration_token, &registration("one")).await), unauthenticated);

    let now = Timestamp::now().as_second();
    let runner_id = runner(&service, "one").await.id();
    let token = RunnerToken::parse(startline_crypto::token::new_runner_token().expose().to_owned()).unwrap();
    let stranger = client.session(Credentials { runner_id, token, issued_at: now, expires_at: now + 3600 });
    match stranger.poll_for_job(&poll(0)).await {
        PollResult::ServerError(error) => assert_eq!(refused::<()>(Err(error)), unauthenticated),
        other => panic!("{other:?}"),
    }
    let beat = HeartbeatRequest { status: RunnerStatus::Online, current_jobs: vec![], system_info: None };
    assert_eq!(refused(stranger.send_heartbeat(&beat).await), unauthenticated);
    assert_eq!(refused(stranger.deregister(false).await), unauthenticated);
    assert_eq!(service.client.runners().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_runner_of_one_repository_never_gets_a_job_of_another() {
    let service = Service::start(&[]);
    let client = client(&service);
    for (scope, expected) in [
        ("repository:acme/123", &["ACME/123"][..]),
        ("organization:acme", &["ACME/123", "acme/456"]),
        ("instance", &["ACME/123", "acme/456", "other/123"]),
    ] {
        let request = RegistrationTokenRequest { scope: Some(scope.parse().unwrap()), ..Default::default() };
        let token = token(&service, request).await;
        // All jobs and all runners carry the same label, and the runner has room for all of them.
        let capabilities = Capabilities { max_parallel_jobs: 20, ..Capabilities::default() };
        let request = RegisterRequest { capabilities, ..registration(&scope.replace([':', '/'], "-")) };
        let session = register(&client, &token, &request).await;
        for repository in ["other/123", "acme/456", "ACME/123"] {
            let request = SubmitRequest {
                workflow: JOB.to_owned(),
                repository: Some(repository.to_owned()),
                ..Default::default()
            };
            service.submit_with(request).await;
        }
        let mut repositories = BTreeSet::new();
        while let PollResult::JobAssigned(taken) = session.poll_for_job(&poll(1)).await {
            let detail = service.client.run(taken.workflow_run_id, None, Duration::ZERO).await.unwrap();
            repositories.insert(detail.run.repository);
        }
        assert_eq!(repositories.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_registrations_a_thousand_polls_and_a_hundred_jobs_give_each_job_exactly_once() {
    // More sockets than some systems allow unasked; the service inherits the limit.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let service = Service::start(&[]);
    let token = token(&service, RegistrationTokenRequest::default()).await;
    let client = client(&service);
    let mut registering = JoinSet::new();
    for number in 0..100 {
        let (client, token) = (client.clone(), token.clone());
        registering.spawn(async move {
            let capabilities = Capabilities { max_parallel_jobs: 10, ..Capabilities::default() };
            register(&client, &token, &RegisterRequest { capabilities, ..registration(&format!("r-{number}")) }).await
        });
    }
    let sessions = registering.join_all().await;
    let ids: BTreeSet<_> = sessions.iter().map(RunnerSession::id).collect();
    assert_eq!(ids.len(), 100);

    let mut polls = JoinSet::new();
    for session in &sessions {
        for _ in 0..10 {
            let session = session.clone();
            polls.spawn(async move { assigned(session.poll_for_job(&poll(60)).await) });
        }
    }
    open_polls(&service.url, 1000).await;
    let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let run = service
        .submit(&format!(
            "on: push\njobs:\n  a:\n    runs-on: accepted\n    strategy: {{matrix: {{n: [{}]}}}}\n    steps:\n      - run: 'true'\n",
            numbers.join(",")
        ))
        .await;
    let mut jobs = BTreeSet::new();
    while jobs.len() < 100 {
        let taken = tokio::time::timeout(DEADLINE, polls.join_next()).await.unwrap().unwrap().unwrap();
        assert!(jobs.insert(taken.job_id), "{} was handed out twice", taken.job_id);
        assert_eq!((taken.workflow_run_id, taken.attempt), (run, 1), "{taken:?}");
        holder(&taken).complete_job(&success()).await.unwrap();
    }
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success));
    assert_eq!(detail.jobs.iter().map(|job| job.id).collect::<BTreeSet<_>>(), jobs);
    // Nobody else got anything: the other polls are still open, and end without a job when they are dropped.
    open_polls(&service.url, 900).await;
    assert!(polls.try_join_next().is_none());
    polls.shutdown().await;
    open_polls(&service.url, 0).await;
}

#[tokio::test]
async fn a_job_for_a_poll_that_its_client_aborts_goes_to_the_next_runner_within_a_second() {
    let service = Service::start(&[]);
    let (first, second) = (runner(&service, "first").await, runner(&service, "second").await);
    let mut polls = JoinSet::new();
    let aborted = polls.spawn(async move { first.poll_for_job(&poll(60)).await });
    open_polls(&service.url, 1).await;
    polls.spawn(async move { second.poll_for_job(&poll(60)).await });
    open_polls(&service.url, 2).await;
    aborted.abort();
    assert!(polls.join_next().await.unwrap().unwrap_err().is_cancelled());
    // At once, whether or not the service has noticed by now.
    let began = Instant::now();
    let run = service.submit(JOB).await;
    let taken = assigned(polls.join_next().await.unwrap().unwrap());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    holder(&taken).complete_job(&success()).await.unwrap();
    let job = &service.ended(run).await.jobs[0];
    assert_eq!((job.runner_name.as_deref(), job.attempt), (Some("second"), 1));
}

/// What a runner does with a job, in order; the service may be killed before each of them but the first.
const STEPS: [&str; 7] = ["register", "poll", "acquire", "renew", "status", "logs", "complete"];

#[tokio::test]
async fn a_server_killed_between_any_two_steps_and_restarted_loses_and_doubles_nothing() {
    for killed_before in 1..=STEPS.len() {
        let what =
            STEPS.get(killed_before).map_or_else(|| "after the last step".to_owned(), |step| format!("before {step}"));
        let mut service = Service::start(&[]);
        let run = service.submit(JOB).await;
        let kill = async |service: &mut Service, next: usize| {
            if next == killed_before {
                service.process.crash();
                service.restart();
            }
        };
        let session = runner(&service, "one").await;
        kill(&mut service, 1).await;
        let mut taken = offered(&session, &what).await;
        kill(&mut service, 2).await;
        let lease = match session.acquire(&taken).await {
            Ok(lease) => lease,
            // An offer that was open is void after a restart: the job is offered again, under the next epoch unless the
            // first offer was never written.
            Err(error) => {
                assert!(killed_before == 2 && error.kind() == Some(kind::STALE_EPOCH), "{what}: {error}");
                let void = std::mem::replace(&mut taken, offered(&session, &what).await);
                assert!(taken.epoch >= void.epoch && taken.job_id == void.job_id, "{what}: {taken:?}");
                session.acquire(&taken).await.unwrap()
            }
        };
        assert_eq!((lease.epoch, lease.attempt), (taken.epoch, 1), "{what}");
        let job = holder(&lease);
        kill(&mut service, 3).await;
        assert!(!job.renew(&RenewRequest::default()).await.unwrap().cancel_requested, "{what}");
        kill(&mut service, 4).await;
        job.update_job_status(&StatusRequest { steps: vec![step(StepStatus::Running)] }).await.unwrap();
        kill(&mut service, 5).await;
        let line = Bytes::from_static(b"2026-01-01T00:00:00.0000000Z a line\n");
        let stored = job.append_log(0, line.clone()).await.unwrap();
        assert_eq!(stored, AppendOutcome::Stored { offset: line.len() as u64 }, "{what}");
        kill(&mut service, 6).await;
        job.complete_job(&success()).await.unwrap();
        kill(&mut service, 7).await;

        // Nothing is lost.
        let detail = service.ended(run).await;
        assert_eq!((detail.run.conclusion, detail.jobs.len()), (Some(Conclusion::Success), 1), "{what}");
        let view = service.client.job(lease.job_id).await.unwrap();
        assert_eq!((view.conclusion, view.attempt), (Some(Conclusion::Success), 1), "{what}");
        assert_eq!(view.runner_id, Some(session.id()), "{what}");
        assert_eq!((view.steps, view.outputs), (success().steps, success().outputs), "{what}");
        assert_eq!(service.log(view.id).await.as_bytes(), line, "{what}");
        // Nothing is doubled: neither by repeats, nor is there anything left for anybody.
        job.complete_job(&success()).await.unwrap();
        job.append_log(0, line.clone()).await.unwrap_err();
        assert!(matches!(session.poll_for_job(&poll(0)).await, PollResult::NoJobs), "{what}");
        assert_eq!(service.client.job(view.id).await.unwrap().completed_at, view.completed_at, "{what}");
        let names: Vec<_> = service.client.runners().await.unwrap().into_iter().map(|runner| runner.name).collect();
        assert_eq!(names, ["one"], "{what}");
        assert!(service.client.verify_audit().await.unwrap().valid, "{what}");
    }
}

/// The offer of the only job, for a runner that asks until there is an answer.
async fn offered(session: &RunnerSession, what: &str) -> JobAssignment {
    eventually(&format!("{what}: the job is offered"), async || match session.poll_for_job(&offer(5)).await {
        PollResult::JobAssigned(taken) => Some(*taken),
        PollResult::ServerError(error) if error.is_transient() => None,
        other => panic!("{what}: {other:?}"),
    })
    .await
}
