//! `startline load polls`: many parked polls, what they cost, and how soon one of them is answered.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use anyhow::Context as _;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fleet::{POLL, POLL_SECONDS, Style};
use super::ledger::{Ledger, STALL};
use super::link::Target;
use super::pacing::{Alarm, Schedule, open_loop};
use super::park::Park;
use super::process::{READY, ServerProcess};
use super::report::{Latency, Report, millis, round};
use super::scene::{OPEN, Runner, Scene, check_descriptors};
use super::steady::{SENDERS, Sender};
use super::usage::{Kernel, Moment, Resident, Slope, warm};
use crate::cli::PollsArgs;
use crate::exit::Usage;

/// How long memory is left to settle before it is read, at most: what the service has freed while it opened the polls goes
/// back to the kernel within ten seconds (docs/decisions/037-jemalloc.md), and is not what idle ones take.
const SETTLE: Duration = Duration::from_secs(12);
/// How often it is looked how far the jobs are.
const LOOK: Duration = Duration::from_millis(20);
/// How long the measured time may last: longer than any load.
const ALWAYS: Duration = Duration::from_secs(24 * 3600);

/// One service, its runners and the processes that poll for them.
struct Front {
    scene: Scene,
    runners: Vec<Runner>,
    parks: Vec<Park>,
    ledger: Arc<Ledger>,
}

pub(super) async fn execute(args: PollsArgs) -> anyhow::Result<ExitCode> {
    if args.processes > 1 && args.processes < args.servers {
        return Err(Usage("take at least as many --processes as --servers, or one".to_owned()).into());
    }
    let share = |parts: u32| {
        let polls = args.runners.div_ceil(parts);
        if args.http2 { polls.div_ceil(args.streams) } else { polls }
    };
    let sockets = share(args.servers).max(share(args.processes));
    check_descriptors(sockets + SENDERS.min(args.jobs), "fewer --runners, --http2, or more --processes and --servers")?;
    let mut fronts = Vec::new();
    for number in 0..args.servers {
        fronts.push(front(&args, number).await?);
    }
    let pids: Vec<u32> = fronts.iter().filter_map(|front| front.scene.pid).collect();
    let known = pids.len() == fronts.len();

    eprintln!("parking the polls");
    let kernel = Kernel::now();
    let mut opening = open(&mut fronts, |all| warm(u32::try_from(all).unwrap_or(u32::MAX))).await?;
    settle(args.runners).await;
    let at_warm = known.then(|| Resident::of_all(&pids)).transpose()?;
    opening += open(&mut fronts, |all| u32::try_from(all).unwrap_or(u32::MAX)).await?;
    settle(args.runners).await;
    let at_full = known.then(|| Resident::of_all(&pids)).transpose()?;
    let kernel = Kernel::now().since(&kernel);
    let memory = at_warm.zip(at_full).map(|(at_warm, at_full)| {
        let warmed = fronts.iter().map(|front| warm(u32::try_from(front.runners.len()).unwrap_or(u32::MAX))).sum();
        Slope::between((warmed, at_warm), (args.runners, at_full))
    });

    let mut idle = None;
    if args.idle_seconds > 0 {
        eprintln!("leaving them alone for {} s", args.idle_seconds);
        let before = Moment::now(&pids)?;
        tokio::time::sleep(Duration::from_secs(args.idle_seconds)).await;
        idle = before.until(&Moment::now(&pids)?).server(0)?.map(|server| server.cpu_percent);
    }

    let before = Moment::now(&pids)?;
    let mut done = false;
    if args.jobs > 0 {
        eprintln!("handing out {} jobs", args.jobs);
        done = hand_out(&mut fronts, &args).await?;
    }
    let after = Moment::now(&pids)?;
    let mut after_jobs = None;
    if done {
        open(&mut fronts, |all| u32::try_from(all).unwrap_or(u32::MAX)).await?;
        settle(args.runners).await;
        after_jobs = known.then(|| Resident::of_all(&pids)).transpose()?.map(|resident| resident.now);
    }

    let spent = before.until(&after);
    let mut report = Report::new(
        "polls",
        json!({
            "runners": args.runners, "jobs": args.jobs, "http": if args.http2 { "2" } else { "1.1" },
            "streams": args.http2.then_some(args.streams), "rate": args.rate, "servers": args.servers, "processes": args.processes,
            "auto_acquire": args.auto_acquire, "synchronous": args.scene.synchronous(),
        }),
        spent.time,
        0,
    );
    // As long as the processes are there.
    report.spent(&spent, args.jobs.into());
    if let Some(cost) = &mut report.server {
        cost.kernel_kib = Some(kernel.half_kib());
    }
    let mut latency = Latency::default();
    let mut last = None;
    for front in fronts {
        for park in front.parks {
            if let Err(error) = park.end(&front.ledger).await {
                report.errors.add(format!("{error:#}"));
            }
        }
        last = last.max(front.ledger.last());
        let (measured, errors) = front.ledger.close();
        latency.add(&measured.to_offered);
        report.count += measured.completed;
        report.errors.join(errors);
        front.scene.end(&front.runners, &mut report).await;
    }
    let time = last.map_or(spent.time, |last| last - before.at());
    report.timed(time);
    report.latency_us = latency.summary();
    report.tell("load_cpu_us_per_op", spent.own_each(report.count));
    report.tell("open_ms", millis(opening));
    report.tell("memory", memory);
    report.tell("kernel", kernel);
    report.tell("idle_cpu_percent", idle);
    report.tell("after_jobs_kib", after_jobs);

    if args.compare_hyper {
        eprintln!("parking as many on bare hyper");
        let slope = bare_hyper(&args).await?;
        report.tell("bare_hyper", slope);
        report.tell("ratio", memory.map(|own| round(100.0 * own.bytes_per_poll / slope.bytes_per_poll) / 100.0));
    }
    report.close(args.scene.json)
}

/// A service, its part of the runners, and the processes that poll for them.
async fn front(args: &PollsArgs, number: u32) -> anyhow::Result<Front> {
    let part = |all: u32, parts: u32, number: u32| all / parts + u32::from(number < all % parts);
    let count = part(args.runners, args.servers, number);
    let sockets = if args.http2 { count.div_ceil(args.streams) } else { count };
    let scene = Scene::open(&args.scene, sockets + SENDERS, args.http2).await?;
    let runners = scene.register(count).await?;
    let ledger = Arc::new(Ledger::default());
    let streams = usize::try_from(args.streams)?;
    let mut parks = Vec::new();
    if args.processes == 1 {
        let style = Style { auto_acquire: args.auto_acquire, ..Style::default() };
        parks.push(Park::here(&scene.target, &scene.tasks, streams, runners.clone(), style, &ledger));
    } else {
        let processes = part(args.processes, args.servers, number);
        let mut from = 0;
        for process in 0..processes {
            let to = from + usize::try_from(part(count, processes, process))?;
            let runners = runners[from..to].to_vec();
            parks.push(Park::elsewhere(&scene.target, streams, runners, args.auto_acquire).await?);
            from = to;
        }
    }
    Ok(Front { scene, runners, parks, ledger })
}

/// Opens so many polls of each service as `wanted` says of all that it has, and gives the time that it took.
async fn open(fronts: &mut [Front], wanted: impl Fn(usize) -> u32) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for front in fronts.iter_mut() {
        let mut left = usize::try_from(wanted(front.runners.len()))?;
        let parks = front.parks.len();
        for (number, park) in front.parks.iter_mut().enumerate() {
            // The parts of the processes are equal but for one, and so are these.
            let part = left.div_ceil(parks - number);
            park.open(part).await?;
            left -= part;
        }
    }
    for front in fronts {
        let wanted = wanted(front.runners.len());
        let open = front.scene.await_open(wanted, Instant::now() + OPEN).await;
        open.map_err(|error| front.ledger.explain(error))?;
    }
    Ok(began.elapsed())
}

/// Lets what the service does in the wake of opening polls come to its end.
async fn settle(polls: u32) {
    tokio::time::sleep(SETTLE.min(Duration::from_millis(100) + Duration::from_millis(2) * polls)).await;
}

/// Sends all jobs on their schedule, to the services in turn, waits until they are done, and says whether they are.
///
/// What goes wrong after the first is sent stands in the ledgers.
async fn hand_out(fronts: &mut [Front], args: &PollsArgs) -> anyhow::Result<bool> {
    let mut senders = Vec::new();
    for front in fronts.iter() {
        senders.push(Sender::new(&front.scene, &front.ledger, args.payload).await?);
    }
    let schedule = Schedule { start: Instant::now(), per_second: args.rate };
    for front in fronts.iter() {
        front.ledger.measure(schedule.start, schedule.start + ALWAYS);
    }
    let mut turns = senders.iter().cycle();
    let send = |_, intended| turns.next().into_iter().for_each(|sender: &Sender| sender.send(intended));
    let mut alarm = Alarm::new()?;
    tokio::select! {
        sent = open_loop(schedule, args.jobs.into(), &mut alarm, send) => sent?,
        () = failure(fronts) => {}
    }
    let (mut before, mut moved) = (0, Instant::now());
    loop {
        let (mut submitted, mut completed, mut failed) = (0, 0, false);
        for front in fronts.iter_mut() {
            submitted += front.ledger.submissions();
            completed += front.ledger.completions();
            for park in &mut front.parks {
                match park.progress().await {
                    Ok((more, broken)) => {
                        completed += more;
                        failed |= broken;
                    }
                    Err(error) => front.ledger.failed(format!("{error:#}")),
                }
            }
            failed |= front.ledger.has_failed();
        }
        // A job may be completed before its acknowledgement is read.
        let done = submitted.min(completed);
        if failed || done >= args.jobs.into() {
            return Ok(!failed);
        }
        if submitted + completed > before {
            (before, moved) = (submitted + completed, Instant::now());
        }
        if moved.elapsed() >= STALL {
            let (seconds, jobs) = (STALL.as_secs(), args.jobs);
            let stalled = format!("nothing happened for {seconds} s, and {done} of {jobs} jobs were done");
            if let Some(front) = fronts.first() {
                front.ledger.failed(stalled);
            }
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until something has failed in this process.
async fn failure(fronts: &[Front]) {
    while !fronts.iter().any(|front| front.ledger.has_failed()) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Parks as many requests on bare hyper and measures them in the same way.
async fn bare_hyper(args: &PollsArgs) -> anyhow::Result<Slope> {
    let mut arguments = vec!["load".to_owned(), "bare-hyper".to_owned()];
    arguments.extend(args.http2.then(|| "--http2".to_owned()));
    let mut process = ServerProcess::start("bare hyper", &arguments)?;
    let address = process.line("listening: ", READY).await?;
    let target = Target::new(&format!("http://{address}"), args.http2)?;
    let tasks = TaskTracker::new();
    let streams = usize::try_from(args.streams)?;
    let mut asking = target.connect(&tasks).await?;
    let body = json!({ "timeout_seconds": POLL_SECONDS }).to_string();
    // As long as the real one.
    let token = format!("slt_{}", "0".repeat(49));
    let mut polls = JoinSet::new();
    let mut points = Vec::new();
    for (from, to) in [(0, warm(args.runners)), (warm(args.runners), args.runners)] {
        for mut link in target.connect_many(&tasks, usize::try_from(to - from)?, streams).await? {
            let (token, body) = (token.clone(), body.clone());
            polls.spawn(async move { link.post(POLL, &token, body.as_bytes()).await.map(|_| link) });
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
