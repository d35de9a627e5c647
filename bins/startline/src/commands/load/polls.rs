//! `startline load polls`: the scene, the load, the account.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anstream::{eprintln, print, println};
use anyhow::Context;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use startline_protocol::runs_api::RunDetail;
use startline_protocol::state::Conclusion;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::link::{Link, Target};
use super::memory::{Resident, Slope, warm};
use super::process::ServerProcess;
use super::report::{Quantiles, Report};
use super::service::{Runner, Service, Taken};
use crate::cli::PollsArgs;
use crate::descriptors;
use crate::exit::{self, Usage};

const POLL: &str = "/api/v1/runners/jobs/poll";
/// How long a poll is held. Shorter than the time after which a silent runner counts as offline.
const POLL_SECONDS: u32 = 50;
/// How long the polls may take to open.
const OPEN: Duration = Duration::from_secs(120);
/// How long nothing may happen while jobs are left.
const STALL: Duration = Duration::from_secs(60);
/// How long memory is left to settle before it is read, at most.
const SETTLE: Duration = Duration::from_secs(2);
/// Connections that are being opened at once.
const CONNECTING: usize = 128;

pub(super) async fn execute(args: PollsArgs) -> anyhow::Result<ExitCode> {
    let limit = descriptors::raise_limit().context("cannot raise the limit of open files")?;
    let sockets = if args.http2 { args.runners.div_ceil(args.streams) } else { args.runners };
    if u64::from(sockets) + descriptors::RESERVE > limit {
        return Err(Usage(format!(
            "{sockets} connections need more open files than this system allows a process ({limit}, `ulimit -Hn`); \
             take fewer --runners, or --http2"
        ))
        .into());
    }
    let service = Service::open(&args).await?;
    eprintln!("registering {} runners", args.runners);
    let runners = service.register(args.runners).await?;
    let load = Arc::new(Load::default());
    let mut report = Report {
        runners: args.runners,
        jobs: args.jobs,
        http: if args.http2 { "2" } else { "1.1" },
        ..Report::default()
    };

    let mut workers = JoinSet::new();
    let first = usize::try_from(warm(args.runners))?;
    let mut open = async |from: usize, to: usize| -> anyhow::Result<Option<Resident>> {
        let began = Instant::now();
        let links = connect(&service.target, &service.tasks, to - from, &args).await?;
        for (runner, link) in runners[from..to].iter().zip(links) {
            workers.spawn(work(Arc::clone(&load), runner.clone(), link));
        }
        service.await_open(u32::try_from(to)?, Instant::now() + OPEN).await.map_err(|error| load.explain(error))?;
        report.open_ms += began.elapsed().as_secs_f64() * 1000.0;
        let Some(pid) = service.pid() else { return Ok(None) };
        settle(args.runners).await;
        Resident::of(pid).map(Some)
    };
    eprintln!("parking the polls");
    let warm_memory = open(0, first).await?;
    let full_memory = open(first, runners.len()).await?;
    if let (Some(at_warm), Some(at_full)) = (warm_memory, full_memory) {
        report.memory = Some(Slope::between((warm(args.runners), at_warm), (args.runners, at_full)));
    }

    if args.jobs > 0 {
        eprintln!("handing out {} jobs", args.jobs);
        let began = Instant::now();
        let runs = submit(&service, &load, &args).await?;
        finish(&load, args.jobs).await;
        let ended = load.lock().last.unwrap_or(began);
        report.jobs_per_second = Some(f64::from(args.jobs) / ended.duration_since(began).as_secs_f64().max(0.001));
        account(&service, &load, runs, &mut report).await?;
        if let Some(pid) = service.pid() {
            service.await_open(args.runners, Instant::now() + OPEN).await.map_err(|error| load.explain(error))?;
            settle(args.runners).await;
            report.after_jobs_kib = Some(Resident::of(pid)?.now);
        }
    }
    report.errors = std::mem::take(&mut load.lock().errors);
    workers.shutdown().await;
    if let Err(error) = service.close(&runners).await {
        report.errors.add(format!("{error:#}"));
    }

    if args.compare_hyper {
        eprintln!("parking as many on bare hyper");
        let slope = bare_hyper(&args).await?;
        report.bare_hyper = Some(slope);
        report.ratio = report.memory.map(|own| own.bytes_per_poll / slope.bytes_per_poll);
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// Lets what the service does in the wake of opening polls come to its end.
async fn settle(polls: u32) {
    tokio::time::sleep(SETTLE.min(Duration::from_millis(100) + Duration::from_millis(2) * polls)).await;
}

/// Opens the connections for so many polls and gives each its link.
async fn connect(target: &Target, tasks: &TaskTracker, polls: usize, args: &PollsArgs) -> anyhow::Result<Vec<Link>> {
    let shares = if args.http2 { usize::try_from(args.streams)? } else { 1 };
    let mut connecting = JoinSet::new();
    let mut links = Vec::with_capacity(polls);
    let mut left = polls.div_ceil(shares);
    while left > 0 || !connecting.is_empty() {
        while left > 0 && connecting.len() < CONNECTING {
            left -= 1;
            let (target, tasks) = (target.clone(), tasks.clone());
            connecting.spawn(async move { target.connect(&tasks).await });
        }
        if let Some(link) = connecting.join_next().await {
            let link = link??;
            while links.len() + 1 < polls
                && (links.len() + 1) % shares != 0
                && let Some(share) = link.share()
            {
                links.push(share);
            }
            links.push(link);
        }
    }
    Ok(links)
}

/// What all workers share.
#[derive(Default)]
struct Load {
    tally: Mutex<Tally>,
    /// A job was completed, or something went wrong.
    progress: Notify,
}

#[derive(Default)]
struct Tally {
    /// When the answer of a poll brought a job, and how often one did.
    assigned: HashMap<i64, Vec<Timestamp>>,
    completed: BTreeMap<i64, u32>,
    last: Option<Instant>,
    errors: super::report::Errors,
}

impl Load {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self, job: i64) {
        self.lock().assigned.entry(job).or_default().push(Timestamp::now());
    }

    fn completed(&self, job: i64) {
        let mut tally = self.lock();
        *tally.completed.entry(job).or_default() += 1;
        tally.last = Some(Instant::now());
        drop(tally);
        self.progress.notify_one();
    }

    fn failed(&self, error: String) {
        self.lock().errors.add(error);
        self.progress.notify_one();
    }

    /// Adds what the workers know to an error of the scene.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match self.lock().errors.first.first() {
            Some(first) => error.context(format!("a runner failed: {first}")),
            None => error,
        }
    }
}

/// A runner: polls, takes, completes, polls again, until it is stopped or fails.
async fn work(load: Arc<Load>, runner: Runner, mut link: Link) {
    let poll = json!({ "timeout_seconds": POLL_SECONDS }).to_string();
    loop {
        if let Err(error) = one_poll(&load, &runner, &mut link, &poll).await {
            return load.failed(format!("runner {}: {error:#}", runner.id));
        }
    }
}

async fn one_poll(load: &Load, runner: &Runner, link: &mut Link, poll: &str) -> anyhow::Result<()> {
    let answer = link.post(POLL, &runner.token, poll.to_owned()).await.context("a poll failed")?;
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(());
    }
    let offer: Taken = answer.expect(StatusCode::OK).context("a poll failed")?;
    load.assigned(offer.job_id);
    let path = format!("/api/v1/runners/jobs/{}/acquire", offer.job_id);
    let lease = link.post(&path, &runner.token, json!({ "epoch": offer.epoch }).to_string()).await?;
    let lease: Taken =
        lease.expect(StatusCode::OK).with_context(|| format!("job {} was not acquired", offer.job_id))?;
    if lease.attempt != 1 {
        load.failed(format!("job {} came as attempt {}", lease.job_id, lease.attempt));
    }
    let token = lease.job_token.context("a lease without a job token")?;
    let path = format!("/api/v1/runners/jobs/{}/complete", lease.job_id);
    let answer = link.post(&path, &token, r#"{"conclusion":"success"}"#).await?;
    answer.require(StatusCode::OK).with_context(|| format!("job {} was not completed", lease.job_id))?;
    load.completed(lease.job_id);
    Ok(())
}

/// Submits all jobs at the pace that was asked for.
async fn submit(service: &Service, load: &Load, args: &PollsArgs) -> anyhow::Result<Vec<RunDetail>> {
    let mut link = service.connect().await?;
    let began = Instant::now();
    let mut runs = Vec::new();
    let mut submitted = 0;
    while submitted < args.jobs {
        if let Some(rate) = args.rate {
            tokio::time::sleep_until(began + Duration::from_secs(submitted.into()) / rate).await;
        }
        let jobs = args.batch.min(args.jobs - submitted);
        runs.push(service.submit(&mut link, jobs).await.map_err(|error| load.explain(error))?);
        submitted += jobs;
    }
    Ok(runs)
}

/// Waits until all jobs are completed, or nothing moves any more.
async fn finish(load: &Load, jobs: u32) {
    loop {
        if load.lock().completed.len() >= usize::try_from(jobs).unwrap_or(usize::MAX) {
            return;
        }
        if tokio::time::timeout(STALL, load.progress.notified()).await.is_err() {
            return load.failed(format!("nothing happened for {} s", STALL.as_secs()));
        }
    }
}

/// Compares what the runners saw with what the service says.
async fn account(service: &Service, load: &Load, runs: Vec<RunDetail>, report: &mut Report) -> anyhow::Result<()> {
    let mut link = service.connect().await?;
    let mut waits = Vec::new();
    let mut known = 0_u32;
    for run in runs {
        let detail = service.concluded(&mut link, run.run.id.0).await?;
        let mut tally = load.lock();
        if detail.run.conclusion != Some(Conclusion::Success) {
            tally.errors.add(format!("run {} ended as {:?}", detail.run.id, detail.run.conclusion));
        }
        for job in detail.jobs {
            known += 1;
            let assigned = tally.assigned.remove(&job.id.0).unwrap_or_default();
            let completed = tally.completed.remove(&job.id.0).unwrap_or_default();
            if let ([at], 1, 1, Some(Conclusion::Success)) = (&assigned[..], completed, job.attempt, job.conclusion) {
                report.completed += 1;
                waits.push(at.duration_since(job.queued_at).as_secs_f64() * 1000.0);
            } else {
                tally.errors.add(format!(
                    "job {} was handed out {} times, completed {completed} times, and ended as {:?} in attempt {}",
                    job.id,
                    assigned.len(),
                    job.conclusion,
                    job.attempt
                ));
            }
        }
    }
    let mut tally = load.lock();
    if known != report.jobs {
        tally.errors.add(format!("{} jobs were submitted and {known} exist", report.jobs));
    }
    let foreign: Vec<i64> = tally.assigned.keys().chain(tally.completed.keys()).copied().collect();
    for job in foreign {
        tally.errors.add(format!("job {job} was handed out and belongs to no run of this load"));
    }
    report.dispatch_ms = Quantiles::of(waits);
    Ok(())
}

/// Parks as many requests on bare hyper and measures them in the same way.
async fn bare_hyper(args: &PollsArgs) -> anyhow::Result<Slope> {
    let mut arguments = vec!["load".to_owned(), "bare-hyper".to_owned()];
    arguments.extend(args.http2.then(|| "--http2".to_owned()));
    let mut process = ServerProcess::start(&arguments)?;
    let address = process.line("listening: ").await?;
    let target = Target::new(&format!("http://{address}"), args.http2)?;
    let tasks = TaskTracker::new();
    let mut asking = target.connect(&tasks).await?;
    let body = json!({ "timeout_seconds": POLL_SECONDS }).to_string();
    // As long as the real one.
    let token = format!("slt_{}", "0".repeat(49));
    let mut polls = JoinSet::new();
    let mut points = Vec::new();
    for (from, to) in [(0, warm(args.runners)), (warm(args.runners), args.runners)] {
        for mut link in connect(&target, &tasks, usize::try_from(to - from)?, args).await? {
            let (token, body) = (token.clone(), body.clone());
            polls.spawn(async move { link.post(POLL, &token, body).await.map(|_| link) });
        }
        let until = Instant::now() + OPEN;
        loop {
            let open = asking.get("/open", &token).await?;
            let open: u32 = String::from_utf8_lossy(&open.body).parse().context("bare hyper does not count")?;
            if open >= to {
                break;
            }
            anyhow::ensure!(Instant::now() < until, "bare hyper parked only {open} of {to} requests in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        settle(args.runners).await;
        points.push((to, Resident::of(process.pid())?));
    }
    polls.shutdown().await;
    let [at_warm, at_full] = points[..] else { anyhow::bail!("two measurements were made") };
    Ok(Slope::between(at_warm, at_full))
}
