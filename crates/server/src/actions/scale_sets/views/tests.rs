use jiff::Timestamp;
use proptest::prelude::*;
use serde::Deserialize;
use startline_protocol::ids::RunnerId;
use startline_store::NewRun;
use uuid::Uuid;

use super::super::queue::Who;
use super::*;
use crate::fixtures;

/// A message as Go reads it (`actions/scaleset`, `types.go`): numbers must be numbers, times RFC 3339 with a zone or
/// missing, and what it does not know is skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoMessage {
    message_id: i64,
    message_type: String,
    body: String,
    statistics: GoStatistics,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoStatistics {
    total_available_jobs: i64,
    total_acquired_jobs: i64,
    total_assigned_jobs: i64,
    total_running_jobs: i64,
    total_registered_runners: i64,
    total_busy_runners: i64,
    total_idle_runners: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoJob {
    message_type: String,
    runner_request_id: i64,
    repository_name: String,
    owner_name: String,
    job_id: String,
    job_workflow_ref: String,
    job_display_name: String,
    workflow_run_id: i64,
    event_name: String,
    request_labels: Vec<String>,
    #[serde(default)]
    runner_id: i64,
    #[serde(default)]
    runner_name: String,
    #[serde(default)]
    result: String,
    #[serde(default)]
    acquire_job_url: String,
    queue_time: String,
    scale_set_assign_time: Option<String>,
    runner_assign_time: Option<String>,
    finish_time: Option<String>,
}

/// `2006-01-02T15:04:05Z07:00` with any fraction, as `time.Time` reads it.
fn is_go_time(text: &str) -> bool {
    let (date, clock) = text.split_once('T').unwrap_or_default();
    let parts = |text: &str, mark: char, lengths: &[usize]| {
        let parts: Vec<&str> = text.split(mark).collect();
        parts.iter().map(|part| part.len()).eq(lengths.iter().copied())
            && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let Some(clock) = clock.strip_suffix('Z') else { return false };
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    parts(date, '-', &[4, 2, 2]) && parts(seconds, ':', &[2, 2, 2]) && fraction.bytes().all(|it| it.is_ascii_digit())
}

fn time() -> impl Strategy<Value = Timestamp> {
    // From 1970 to 2200, with all fractions.
    (0_i64..7_258_118_400, 0_i32..1_000_000_000).prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
}

fn who() -> impl Strategy<Value = Who> {
    (1_i64..i64::MAX, ".{0,20}").prop_map(|(id, name)| Who { id: RunnerId(id), name })
}

fn what() -> impl Strategy<Value = What> {
    let conclusion = prop_oneof![
        Just(Conclusion::Success),
        Just(Conclusion::Failure),
        Just(Conclusion::Cancelled),
        Just(Conclusion::Skipped)
    ];
    prop_oneof![
        Just(What::Available),
        time().prop_map(|at| What::Assigned { at }),
        (who(), time(), time()).prop_map(|(by, assigned, at)| What::Started { by, assigned, at }),
        (proptest::option::of(who()), time(), proptest::option::of(time()), time(), conclusion)
            .prop_map(|(by, assigned, started, at, result)| What::Completed { by, assigned, started, at, result }),
    ]
}

fn run(path: String, git_ref: String, event_name: String) -> RunRecord {
    let mut run = fixtures::run(RunId(3));
    run.run = NewRun { repository: "acme/app".to_owned(), path, git_ref, event_name, ..run.run };
    run
}

fn job(id: i64, name: String, labels: Vec<String>, queued_at: Timestamp) -> JobRecord {
    JobRecord { repository: "acme/app".to_owned(), name, labels, queued_at, ..fixtures::job(RunId(3), JobId(id)) }
}

proptest! {
    #[test]
    fn every_message_decodes_in_the_shape_that_the_go_client_reads(
        events in proptest::collection::vec((1_i64..i64::MAX, what()), 0..50),
        (name, path, git_ref, event_name) in (".{0,40}", ".{0,20}", ".{0,20}", ".{0,10}"),
        labels in proptest::collection::vec(".{1,10}", 0..4),
        queued in time(),
        counts in proptest::array::uniform7(0_usize..1_000_000),
        id in 1_i64..i64::MAX,
    ) {
        let run = run(path, git_ref, event_name.clone());
        let url = "https://ci.example.com/_runner/_apis/runtime/runnerscalesets/1/acquirejobs";
        let inside: Vec<Value> = events
            .iter()
            .map(|(job_id, what)| {
                let event = Event { job: JobId(*job_id), what: what.clone() };
                inner(url, &event, &job(*job_id, name.clone(), labels.clone(), queued), &run)
            })
            .collect();
        let [available, acquired, assigned, running, registered, busy, idle] = counts;
        let statistics = Statistics {
            total_available_jobs: available,
            total_acquired_jobs: acquired,
            total_assigned_jobs: assigned,
            total_running_jobs: running,
            total_registered_runners: registered,
            total_busy_runners: busy,
            total_idle_runners: idle,
        };
        // Over the wire and back.
        let text = outer(id, inside, statistics).to_string();
        let message: GoMessage = serde_json::from_str(&text).unwrap();
        prop_assert_eq!((message.message_id, message.message_type.as_str()), (id, "RunnerScaleSetJobMessages"));
        let read = message.statistics;
        prop_assert_eq!(
            [read.total_available_jobs, read.total_acquired_jobs, read.total_assigned_jobs, read.total_running_jobs,
             read.total_registered_runners, read.total_busy_runners, read.total_idle_runners],
            counts.map(|count| i64::try_from(count).unwrap())
        );
        let jobs: Vec<GoJob> = serde_json::from_str(&message.body).unwrap();
        prop_assert_eq!(jobs.len(), events.len());
        for (read, (job_id, what)) in jobs.iter().zip(&events) {
            prop_assert_eq!((read.runner_request_id, read.workflow_run_id), (*job_id, 3));
            prop_assert_eq!((read.owner_name.as_str(), read.repository_name.as_str()), ("acme", "app"));
            prop_assert_eq!((&read.job_display_name, &read.event_name), (&name, &event_name));
            prop_assert_eq!(&read.request_labels, &labels);
            prop_assert!(read.job_workflow_ref.starts_with("acme/app/") && read.job_id.parse::<Uuid>().is_ok());
            let times = [&read.scale_set_assign_time, &read.runner_assign_time, &read.finish_time];
            for time in times.into_iter().flatten().chain([&read.queue_time]) {
                prop_assert!(is_go_time(time), "{}", time);
            }
            match what {
                What::Available => prop_assert_eq!((read.message_type.as_str(), read.acquire_job_url.as_str()), ("JobAvailable", url)),
                What::Assigned { .. } => prop_assert_eq!(&read.message_type, "JobAssigned"),
                What::Started { by, .. } => {
                    prop_assert_eq!(&read.message_type, "JobStarted");
                    prop_assert_eq!((read.runner_id, &read.runner_name), (by.id.0, &by.name));
                }
                What::Completed { .. } => {
                    prop_assert_eq!(&read.message_type, "JobCompleted");
                    prop_assert!(["succeeded", "failed", "canceled"].contains(&read.result.as_str()));
                }
            }
        }
    }
}
