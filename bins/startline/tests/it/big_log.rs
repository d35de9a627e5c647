//! Logs of any size: no line is lost, and neither worker nor service holds them in memory.
//!
//! `STARTLINE_LOG_BYTES=1000000000 cargo test -p startline --test it big_log -- --nocapture --test-threads 1` runs the
//! long form; without the variable 64 MiB are printed.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::runs_api::LogEvent;
use startline_protocol::state::{Conclusion, JobStatus};
use tokio::time::Instant;

use crate::harness::{Runner, Service, eventually};

/// Bytes of a numbered line as a step prints it.
const LINE: u64 = 100;
/// What one process may take more for four times the log: far less than the log itself, and more than chance.
const GROWTH: u64 = 24 * 1024;

/// How much is printed in all.
fn bytes() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test")]
    let given = std::env::var("STARTLINE_LOG_BYTES").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(64 * 1024 * 1024)
}

/// How long a run may take that prints so much, on a busy machine without optimization.
fn patience(bytes: u64) -> Duration {
    Duration::from_secs(100 + bytes / 500_000)
}

fn workflow(script: &str) -> String {
    format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          python3 -c {script:?}\n"
    )
}

/// Prints `lines` numbered lines.
fn numbered(lines: u64) -> String {
    workflow(&format!(
        "import sys; [sys.stdout.write(''.join('%09d %s\\n' % (n, 'x' * 89) for n in range(s, min(s + 1000, {lines})))) \
         for s in range(0, {lines}, 1000)]"
    ))
}

/// The only worker of a runner, once there is one.
async fn worker(runner: &mut Runner) -> i32 {
    let parent = runner.process().id().as_raw();
    eventually("a worker starts", async || {
        std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).find_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let after = stat.rsplit_once(')')?.1;
            (after.split_whitespace().nth(1)?.parse() == Ok(parent)).then_some(id)
        })
    })
    .await
}

/// The most memory that a process has had, in KiB; none when it is gone.
fn peak(process: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

async fn job(service: &Service, run: RunId) -> JobId {
    service.job(run, "the job runs", |job| job.status != JobStatus::Waiting && job.status != JobStatus::Queued).await.id
}

/// Waits until a run has ended; the most memory that a worker has had meanwhile.
async fn ended(service: &Service, run: RunId, worker: i32, limit: Duration) -> (Option<Conclusion>, u64) {
    let until = Instant::now() + limit;
    let mut most = 0;
    loop {
        most = peak(worker).unwrap_or_default().max(most);
        let detail = service.client.run(run, None, Duration::ZERO).await.unwrap();
        if detail.run.conclusion.is_some() {
            return (detail.run.conclusion, most);
        }
        assert!(Instant::now() < until, "the run has not ended in {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads a log as it comes and hands out each line without its stamp.
async fn read(service: &Service, job: JobId, mut line: impl FnMut(&str)) {
    let mut follow = service.client.follow_job_log(job, 0, None);
    let mut rest = String::new();
    while let Some(event) = follow.next().await.unwrap() {
        let LogEvent::Log { text, .. } = event else { continue };
        rest.push_str(&text);
        let end = rest.rfind('\n').map_or(0, |end| end + 1);
        for stamped in rest[..end].lines() {
            let (stamp, text) = stamped.split_once(' ').unwrap_or_else(|| panic!("no stamp: {stamped:.100?}"));
            assert!(stamp.len() == 28 && stamp.ends_with('Z'), "no stamp: {stamped:.100?}");
            line(text);
        }
        rest.drain(..end);
    }
    assert_eq!(rest, "", "a log ends with a whole line");
}

/// Asserts that a log has all numbered lines, each once and in order.
async fn all_lines_are_there(service: &Service, job: JobId, lines: u64) {
    let mut next = 0;
    let x = "x".repeat(89);
    read(service, job, |line| {
        if let Some((number, rest)) = line.split_once(' ').filter(|(number, _)| number.len() == 9)
            && let Ok(number) = number.parse::<u64>()
        {
            assert_eq!((number, rest), (next, x.as_str()), "lines are lost, doubled or out of order");
            next += 1;
        }
    })
    .await;
    assert_eq!(next, lines, "the log is not complete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_four_times_as_large_takes_no_more_memory_and_has_every_line() {
    let service = Service::start(&[]);
    let mut runner = service.runner("printer", &[]);
    let mut before: Option<(u64, u64)> = None;
    for bytes in [bytes() / 4, bytes()] {
        let lines = bytes / LINE;
        let start = Instant::now();
        let run = service.submit(&numbered(lines)).await;
        let worker = worker(&mut runner).await;
        let job = job(&service, run).await;
        let (conclusion, most) = ended(&service, run, worker, patience(bytes)).await;
        assert_eq!(conclusion, Some(Conclusion::Success));
        let took = start.elapsed();
        let read = Instant::now();
        all_lines_are_there(&service, job, lines).await;
        let read = read.elapsed();
        let server = peak(service.process.id().as_raw()).unwrap();
        println!(
            "{bytes} bytes: run {took:.1?} ({:.1} MB/s), read {read:.1?}; most memory: worker {most} KiB, service {server} KiB",
            bytes as f64 / 1e6 / took.as_secs_f64()
        );
        assert!(most > 0, "the worker was seen");
        if let Some((worker_before, server_before)) = before.replace((most, server)) {
            assert!(most < worker_before + GROWTH, "the worker took {worker_before} KiB, then {most} KiB");
            assert!(server < server_before + GROWTH, "the service took {server_before} KiB, then {server} KiB");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_prints_without_end_is_cancelled_at_once() {
    let service = Service::start(&[]);
    let mut runner = service.runner("printer", &[]);
    let run = service.submit(&numbered(1_000_000_000)).await;
    let worker = worker(&mut runner).await;
    let job = job(&service, run).await;
    // In the middle: some megabytes have come through.
    let mut follow = service.client.follow_job_log(job, 0, None);
    let mut seen = 0;
    while seen < 4 * 1024 * 1024 {
        if let LogEvent::Log { text, .. } = follow.next().await.unwrap().expect("the job runs") {
            seen += text.len();
        }
    }
    service.client.cancel_run(run).await.unwrap();
    let start = Instant::now();
    let (conclusion, _) = ended(&service, run, worker, Duration::from_secs(60)).await;
    println!("cancelled in {:.1?}", start.elapsed());
    assert_eq!(conclusion, Some(Conclusion::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_end_comes_in_pieces_that_make_it_up() {
    let characters = bytes() / 10 / 2;
    let service = Service::start(&[]);
    let mut runner = service.runner("printer", &[]);
    // Two bytes each, and one first, so that pieces do not end between characters by chance.
    let script = format!(
        "import sys; sys.stdout.write('a'); [sys.stdout.write('é' * 1000) for _ in range({characters} // 1000)]"
    );
    let start = Instant::now();
    let run = service.submit(&workflow(&script)).await;
    let worker = worker(&mut runner).await;
    let job = job(&service, run).await;
    let (conclusion, most) = ended(&service, run, worker, patience(characters * 2)).await;
    assert_eq!(conclusion, Some(Conclusion::Success));
    println!("{} bytes in one line: {:.1?}; most memory: worker {most} KiB", characters * 2, start.elapsed());
    assert!(most < 100 * 1024, "the worker took {most} KiB");
    let (mut found, mut pieces) = (0, 0);
    read(&service, job, |line| {
        if pieces > 0 || line.starts_with("aé") {
            let text = if pieces == 0 { &line[1..] } else { line };
            if text.starts_with('é') {
                assert!(text.chars().all(|character| character == 'é'), "a character is broken: {text:.40?}");
                found += text.chars().count() as u64;
                pieces += 1;
            }
        }
    })
    .await;
    assert_eq!(found, characters / 1000 * 1000);
    assert!(pieces as u64 >= characters * 2 / (64 * 1024));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_not_grow_while_the_service_stands_still() {
    let lines = bytes() / 2 / LINE;
    let service = Service::start(&[]);
    let mut runner = service.runner("printer", &[]);
    let directory = tempfile::tempdir().unwrap();
    let (ready, printed) = (directory.path().join("ready"), directory.path().join("printed"));
    // Waits for the word to go on, prints, and says that all of it was taken.
    let script = format!(
        "import os, sys, time; open({ready:?}, 'w'); [time.sleep(0.01) for _ in iter(lambda: os.path.exists({ready:?}), False)]; \
         [print('%09d %s' % (n, 'x' * 89)) for n in range({lines})]; sys.stdout.flush(); open({printed:?}, 'w')",
    );
    let run = service.submit(&workflow(&script.replace('"', "'"))).await;
    let worker = worker(&mut runner).await;
    let job = job(&service, run).await;
    eventually("the step waits", async || ready.exists().then_some(())).await;
    let before = peak(worker).unwrap();
    service.process.signal(Signal::SIGSTOP);
    std::fs::remove_file(&ready).unwrap();
    until_exists(&printed, patience(lines * LINE)).await;
    let after = peak(worker).unwrap();
    service.process.signal(Signal::SIGCONT);
    assert!(after < before + GROWTH, "the worker took {before} KiB, then {after} KiB");
    let (conclusion, _) = ended(&service, run, worker, patience(lines * LINE)).await;
    assert_eq!(conclusion, Some(Conclusion::Success));
    all_lines_are_there(&service, job, lines).await;
}

async fn until_exists(path: &Path, limit: Duration) {
    let until = Instant::now() + limit;
    while !path.exists() {
        assert!(Instant::now() < until, "the step has not printed everything in {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
