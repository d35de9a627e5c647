//! Faults in the client's transport seam: requests and answers are cut, delayed, doubled and reordered, and still no
//! job is lost and none is done twice.
//!
//! `STARTLINE_FAULT_SCHEDULES=10000 cargo nextest run -p startline -E 'test(random_faults)'` runs the long form; a
//! schedule is the life of one job under faults drawn from a seed, which a failure prints.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use startline_client::{ApiClient, BoxError, Options, Transport};
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::Conclusion;
use startline_protocol::token::ApiToken;
use startline_server::{ServerConfig, Synchronous};
use tower::{Service, ServiceExt};

use crate::fake_runner::FakeRunners;
use crate::harness::eventually;

/// How many schedules, and of how many the runners' faults are drawn.
fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test")]
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A stream of numbers that is the same for the same seed (`SplitMix64`).
#[derive(Debug)]
struct Chance(AtomicU64);

impl Chance {
    fn draw(&self, below: u64) -> u64 {
        let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// A transport between a client and a service that treats it badly.
#[derive(Clone)]
struct Faulty {
    inner: Transport,
    chance: Arc<Chance>,
}

type Answer = Response<http_body_util::Full<Bytes>>;

impl Service<Request<Bytes>> for Faulty {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (inner, chance) = (self.inner.clone(), Arc::clone(&self.chance));
        Box::pin(async move {
            match chance.draw(12) {
                // Cut before it arrives.
                0 => return Err("cut before the request arrived".into()),
                // Late; others overtake it.
                1 | 2 => tokio::time::sleep(Duration::from_millis(chance.draw(30))).await,
                // Doubled: the same request once more, at the same time, the other answer thrown away. A poll is not
                // repeated by any network that carries HTTP, as it is no idempotent request.
                3 if !request.uri().path().ends_with("/poll") => {
                    let copy = request.clone();
                    let twin = inner.clone();
                    let (first, second) = tokio::join!(send(twin, copy), send(inner, request));
                    drop(first);
                    return second;
                }
                _ => {}
            }
            let poll = request.uri().path().ends_with("/poll");
            let answer = send(inner, request).await?;
            match chance.draw(12) {
                // Cut on the way back: it happened, and nobody was told. A poll's answer is lost with its connection,
                // which the service does not notice once it is written; that job waits for its lease to lapse.
                0 if !poll || chance.draw(8) == 0 => Err("cut before the answer arrived".into()),
                1 | 2 => {
                    tokio::time::sleep(Duration::from_millis(chance.draw(30))).await;
                    Ok(answer)
                }
                _ => Ok(answer),
            }
        })
    }
}

async fn send(transport: Transport, request: Request<Bytes>) -> Result<Answer, BoxError> {
    let (head, body) = transport.oneshot(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, http_body_util::Full::new(body)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_and_double_nothing() {
    let schedules = setting("STARTLINE_FAULT_SCHEDULES", 300);
    let seed = setting("STARTLINE_FAULT_SEED", u64::from(std::process::id()));
    println!("seed {seed}");
    startline_crypto::install_provider();
    let data = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data.path().to_owned(),
        synchronous: Synchronous::Normal,
        lease: "1s".parse().unwrap(),
        heartbeat_interval: "1s".parse().unwrap(),
        offline_after: "30s".parse().unwrap(),
        // A lost answer to a poll costs an attempt; how often that happens to one job is chance.
        requeues: 1000,
        ..ServerConfig::defaults()
    };
    let server = startline_server::start(config, false).await.unwrap();
    let transport = Transport::new(&Options::default()).unwrap();
    let admin = server.admin_token().unwrap().expose().to_owned();
    let client = ApiClient::new(transport.clone(), server.url(), ApiToken::parse(admin.clone()).unwrap()).unwrap();
    let fleet = FakeRunners::new(&transport, server.url(), &admin).await;
    let mut runners = tokio::task::JoinSet::new();
    for number in 0..8 {
        let chance = Arc::new(Chance(AtomicU64::new(seed.wrapping_mul(1000).wrapping_add(number))));
        let faulty = Transport::from_service(Faulty { inner: transport.clone(), chance });
        runners.spawn(fleet.clone().run(format!("fake-{number}"), faulty));
    }

    let mut runs = Vec::new();
    for first in (0..schedules).step_by(50) {
        let numbers: Vec<String> = (first..schedules.min(first + 50)).map(|n| n.to_string()).collect();
        let workflow = format!(
            "on: push\njobs:\n  a:\n    runs-on: fake\n    strategy: {{matrix: {{n: [{}]}}}}\n    steps: [{{run: 'true'}}]\n",
            numbers.join(",")
        );
        let request = SubmitRequest { workflow, ..SubmitRequest::default() };
        runs.push((client.submit_run(&request).await.unwrap().run.id, numbers.len()));
    }
    let mut jobs = 0;
    for (run, wanted) in runs {
        let detail = eventually("a run under faults ends", async || {
            while let Some(ended) = runners.try_join_next() {
                ended.expect("no runner fails");
            }
            let detail = client.run(run, None, Duration::ZERO).await.ok()?;
            detail.run.conclusion.is_some().then_some(detail)
        })
        .await;
        assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "seed {seed}");
        assert_eq!(detail.jobs.len(), wanted, "seed {seed}");
        for job in &detail.jobs {
            let log = client.job_log_text(job.id, None).await.unwrap();
            assert_eq!(log.lines().count(), 1, "seed {seed}, job {}: {log}", job.id);
        }
        jobs += detail.jobs.len();
    }
    fleet.stop.cancel();
    while let Some(ended) = runners.join_next().await {
        ended.expect("no runner fails");
    }
    let account = fleet.account.lock().unwrap();
    assert_eq!(jobs as u64, schedules);
    for (job, epochs) in &account.completed {
        assert_eq!(epochs.len(), 1, "seed {seed}: job {job} was completed under {epochs:?}");
    }
    println!("{jobs} jobs, {} assignments, {} refused as stale", account.received, account.stale);
}
