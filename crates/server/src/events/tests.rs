use jiff::Timestamp;
use startline_protocol::ids::Epoch;
use startline_protocol::state::{Conclusion, JobStatus};

use super::*;
use crate::fixtures;

const RUN: RunId = RunId(1);
const BEGIN: u64 = 1_700_000_000_000_000;

fn hub(capacity: usize) -> Arc<Hub> {
    let hub = Hub::new(Clock::fixed(Timestamp::from_second(1_700_000_000).unwrap()), capacity);
    hub.open();
    hub
}

fn job(id: i64, epoch: i64, status: JobStatus) -> JobRecord {
    let held = matches!(status, JobStatus::Offered | JobStatus::Running | JobStatus::Completed);
    JobRecord {
        status,
        conclusion: (status == JobStatus::Completed).then_some(Conclusion::Success),
        epoch: Epoch(epoch),
        runner_id: held.then_some(RunnerId(7)),
        ..fixtures::job(RUN, JobId(id))
    }
}

fn all() -> Filter {
    Filter { viewer: Viewer::Scope(Scope::Instance), types: Types::ALL, run: None, repository: None }
}

/// An event in a few letters.
fn brief(kept: &Kept) -> String {
    match &kept.event.body {
        EventBody::Runner { runner_id, status, .. } => {
            format!("runner {runner_id} {}", status.map_or("gone", |status| status.as_str()))
        }
        EventBody::Job { job_id, status, .. } => format!("job {job_id} {status}"),
        EventBody::Run { status, .. } => format!("run {status}"),
        EventBody::Log { length, .. } => format!("log {length}"),
        EventBody::Lagged { missed } => format!("lagged {missed:?}"),
    }
}

/// All that the reader can see now.
async fn read(reader: &mut Reader) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(events) = tokio::time::timeout(Duration::from_millis(1), reader.next()).await {
        seen.extend(events.iter().map(|kept| brief(kept)));
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn each_state_is_told_once_and_none_after_a_newer_one() {
    let hub = hub(100);
    let mut reader = hub.reader(None, all());
    hub.begin(&fixtures::run(RUN), &[]);
    let states = [(0, JobStatus::Queued), (1, JobStatus::Offered), (1, JobStatus::Running), (1, JobStatus::Queued)];
    for (epoch, status) in states {
        hub.job(&job(1, epoch, status));
        hub.job(&job(1, epoch, status));
    }
    hub.job(&job(1, 2, JobStatus::Running));
    // The answers of two steps of the store may be noticed in the other order.
    hub.job(&job(1, 1, JobStatus::Queued));
    hub.finish(RUN, Conclusion::Success, None, &[job(1, 2, JobStatus::Completed)]);
    hub.job(&job(1, 2, JobStatus::Completed));
    let told = [
        "run queued",
        "job 1 queued",
        "job 1 offered",
        "run running",
        "job 1 running",
        "job 1 queued",
        "job 1 running",
        "job 1 completed",
        "run completed",
    ];
    assert_eq!(read(&mut reader).await, told);
}

#[tokio::test(start_paused = true)]
async fn a_reader_resumes_behind_the_last_that_it_saw() {
    let hub = hub(100);
    hub.begin(&fixtures::run(RUN), &[]);
    let mut first = hub.reader(Some(BEGIN - 1), all());
    assert_eq!(read(&mut first).await, ["run queued"]);
    assert_eq!(first.position(), BEGIN);
    hub.job(&job(1, 0, JobStatus::Queued));
    let mut second = hub.reader(Some(first.position()), all());
    assert_eq!(read(&mut second).await, ["job 1 queued"]);
    assert_eq!(read(&mut first).await, ["job 1 queued"]);
    assert_eq!(read(&mut hub.reader(None, all())).await, Vec::<String>::new(), "from now on");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_how_much_it_missed_and_goes_on_with_the_oldest() {
    let hub = hub(3);
    let mut reader = hub.reader(None, all());
    let mut filtered = hub.reader(None, Filter { run: Some(RUN), ..all() });
    hub.begin(&fixtures::run(RUN), &[]);
    for id in 1..=5 {
        hub.job(&job(id, 0, JobStatus::Queued));
    }
    assert_eq!(read(&mut reader).await, ["lagged Some(3)", "job 3 queued", "job 4 queued", "job 5 queued"]);
    assert_eq!(read(&mut filtered).await[0], "lagged None", "how many of its own were lost is not known");
    assert_eq!(read(&mut hub.reader(Some(BEGIN), all())).await[0], "lagged Some(2)");
    assert_eq!(read(&mut hub.reader(Some(BEGIN + 2), all())).await[0], "job 3 queued", "nothing is missing");
    for another_process in [0, 17, BEGIN - 2, BEGIN + 100, u64::MAX] {
        let told = read(&mut hub.reader(Some(another_process), all())).await;
        assert_eq!(told[..2], ["lagged None", "job 3 queued"], "{another_process}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_growth_of_a_log_is_told_at_most_once_in_a_tenth_of_a_second() {
    let hub = hub(1000);
    let drain = CancellationToken::new();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(Arc::clone(&hub).run(drain.clone()));
    hub.begin(&fixtures::run(RUN), &[]);
    hub.job(&job(1, 1, JobStatus::Running));
    let mut reader = hub.reader(None, all());
    for length in 1..=1000 {
        hub.log(RUN, JobId(1), 1, length);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The last growth is told before the end of the job.
    hub.log(RUN, JobId(1), 1, 1001);
    hub.job(&job(1, 1, JobStatus::Completed));
    let told = read(&mut reader).await;
    assert!((8..=12).contains(&told.len()), "{told:?}");
    assert_eq!(told[0], "log 1");
    assert_eq!(told[told.len() - 2..], ["log 1001", "job 1 completed"]);
    drain.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_stops_growing_is_told_to_its_end() {
    let hub = hub(100);
    let drain = CancellationToken::new();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(Arc::clone(&hub).run(drain.clone()));
    hub.begin(&fixtures::run(RUN), &[job(1, 1, JobStatus::Running)]);
    let mut reader = hub.reader(None, all());
    hub.log(RUN, JobId(1), 1, 1);
    hub.log(RUN, JobId(1), 1, 2);
    assert_eq!(read(&mut reader).await, ["log 1"]);
    tokio::time::sleep(2 * LOG_INTERVAL).await;
    assert_eq!(read(&mut reader).await, ["log 2"]);
    drain.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn everybody_sees_what_is_theirs_and_what_they_ask_for() {
    let hub = hub(100);
    let scope = |text: &str| Filter { viewer: Viewer::Scope(text.parse().unwrap()), ..all() };
    let only = |names: &[&str]| {
        let mut types = Types::NONE;
        names.iter().for_each(|name| assert!(types.add(name)));
        Filter { types, ..all() }
    };
    let mut readers = [
        (all(), 6),
        (scope("organization:acme"), 5),
        (scope("repository:acme/other"), 1),
        (Filter { viewer: Viewer::Runner(RunnerId(7)), ..all() }, 2),
        (Filter { viewer: Viewer::Runner(RunnerId(8)), ..all() }, 1),
        (only(&["run"]), 2),
        (only(&["runner", "job"]), 4),
        (Filter { run: Some(RUN), ..all() }, 4),
        (Filter { run: Some(RunId(2)), ..all() }, 0),
        (Filter { repository: Some(Scope::repository("ACME/demo").unwrap()), ..all() }, 4),
    ]
    .map(|(filter, count)| (hub.reader(None, filter), count));
    hub.change(|inner| {
        for id in [7, 8] {
            let now = Some(Runner {
                name: String::new(),
                scope: if id == 7 { Scope::Instance } else { "repository:acme/other".parse().unwrap() },
                status: startline_protocol::state::RunnerStatus::Online,
            });
            inner.see_runner(&hub.clock, RunnerId(id), now.clone());
            inner.see_runner(&hub.clock, RunnerId(id), now);
        }
    });
    hub.begin(&fixtures::run(RUN), &[]);
    hub.job(&job(1, 0, JobStatus::Queued));
    hub.job(&job(1, 1, JobStatus::Running));
    for (index, (reader, count)) in readers.iter_mut().enumerate() {
        let seen = read(reader).await;
        assert_eq!(seen.len(), *count, "{index}: {seen:?}");
    }
}
