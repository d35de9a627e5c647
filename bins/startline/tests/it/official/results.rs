//! What a worker reports while it runs, as `Runner.Worker` sends it: steps, logs in blocks, summaries. Each test is named
//! after the pitfall that it keeps out.

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};
use startline_crypto::{UrlAccess, UrlKey};
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::runs_api::{JobView, LogEvent};
use startline_protocol::state::{Conclusion, StepStatus};
use startline_protocol::step::AnnotationLevel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::client::{Held, path, send};
use super::{SHORT, demo, listening};
use crate::harness::{DEADLINE, Process, Service, startline};
use crate::http::{Reply, Wire};

const JOB: &str = "on: push\njobs:\n  build:\n    runs-on: [self-hosted, linux]\n    steps:\n      - run: make\n      - run: make test\n      - if: false\n        run: make again\n";

/// Without Azure's SDK the worker gives the request that announces several blocks a second `Content-Type`; .NET throws, and
/// the first block is never sent (`ResultsHttpClient.cs`, `CreateAppendFileAsync`).
const LOST: &str = "or the first of several blocks is lost";
const MARK: &str = "\u{feff}";

/// Ids of a job's steps: the first and the last are the worker's own.
const SETUP: Uuid = Uuid::from_u128(0xb000_0000_0000_4000_8000_0000_0000_0001);
const COMPLETE: Uuid = Uuid::from_u128(0xb000_0000_0000_4000_8000_0000_0000_0009);

/// A line as `Logging.cs` stamps it.
fn line(tick: u32, text: &str) -> String {
    format!("2026-05-01T10:00:00.{tick:07}Z {text}\n")
}

/// A state of `WorkflowStepsUpdate`.
fn state(id: Uuid, number: u32, name: &str, status: u32, conclusion: u32) -> Value {
    let ended = (status == 6).then_some("2026-05-01T10:00:01.480Z");
    json!({ "external_id": id, "number": number, "name": name, "status": status, "conclusion": conclusion,
            "started_at": "2026-05-01T10:00:01.120Z", "completed_at": ended })
}

impl Held {
    fn step(&self, index: usize) -> Uuid {
        self.message["steps"][index]["id"].as_str().unwrap().parse().unwrap()
    }

    fn endpoint(&self) -> &Value {
        &self.message["resources"]["endpoints"][0]
    }

    fn subject(&self) -> Value {
        json!({ "workflow_run_backend_id": self.message["plan"]["planId"],
                "workflow_job_run_backend_id": self.message["jobId"] })
    }

    /// A call of the results service. `method` is resolved relative to the variable, as `ResultsHttpClient.cs` does.
    pub(crate) async fn twirp(&self, service: &Service, method: &str, over: &Value) -> Reply {
        let endpoint = self.message["variables"]["system.github.results_endpoint"]["value"].as_str().unwrap();
        let mut body = self.subject();
        for (member, value) in over.as_object().unwrap() {
            body[member] = value.clone();
        }
        let path = format!("{}twirp/{method}", path(service, endpoint));
        send(service, Method::POST, &path, Some(&format!("Bearer {}", self.token)), Some(&body)).await
    }

    async fn receiver(&self, service: &Service, method: &str, over: &Value) -> Value {
        let reply = self.twirp(service, &format!("results.services.receiver.Receiver/{method}"), over).await;
        assert_eq!(reply.code(), 200, "{method}: {reply:?}");
        reply.json()
    }

    async fn update(&self, service: &Service, order: u32, steps: Value) {
        let method = "github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate";
        let reply = self.twirp(service, method, &json!({ "change_order": order, "steps": steps })).await;
        assert_eq!((reply.code(), reply.json()), (200, json!({ "ok": true })), "or the worker throws");
    }

    /// An address for a step's log, as it is asked for before every block.
    pub(crate) async fn logs_url(&self, service: &Service, step: Uuid) -> String {
        let answer = self.receiver(service, "GetStepLogsSignedBlobURL", &json!({ "step_backend_id": step })).await;
        let sdk = &self.message["variables"]["system.github.results_upload_with_sdk"]["value"];
        assert_eq!((&answer["blob_storage_type"], sdk), (&json!("BLOB_STORAGE_TYPE_AZURE"), &json!("true")), "{LOST}");
        let url = answer["logs_url"].as_str().unwrap();
        assert!(url.contains('?'), "`&comp=appendblock` is glued on: {url}");
        path(service, url).to_owned()
    }

    /// A step's whole log as Azure's SDK puts it: at once if it is one block, else announced, block by block, and sealed.
    async fn log(&self, service: &Service, step: Uuid, blocks: &[String]) {
        if let [only] = blocks {
            let url = self.logs_url(service, step).await;
            assert_eq!(azure(service, &url, None, Some("BlockBlob"), &format!("{MARK}{only}")).await, 201);
        } else {
            let url = self.logs_url(service, step).await;
            assert_eq!(azure(service, &url, None, Some("AppendBlob"), "").await, 201);
            for block in blocks {
                let url = self.logs_url(service, step).await;
                assert_eq!(azure(service, &url, Some("appendblock"), None, &format!("{MARK}{block}")).await, 201);
            }
            assert_eq!(azure(service, &url, Some("seal"), None, "").await, 200, "the SDK throws for 201");
        }
        let count: usize = blocks.iter().map(|block| block.lines().count()).sum();
        let over = json!({ "step_backend_id": step, "uploaded_at": "2026-05-01T10:00:01.480Z", "line_count": count });
        assert_eq!(self.receiver(service, "CreateStepLogsMetadata", &over).await, json!({ "ok": true }));
    }

    async fn summary(&self, service: &Service, step: Uuid, text: &str) {
        let answer = self.receiver(service, "GetStepSummarySignedBlobURL", &json!({ "step_backend_id": step })).await;
        let limit: u64 = answer["soft_size_limit"].as_str().unwrap().parse().unwrap();
        assert!(limit >= 1 << 20, "or every summary fails");
        put(service, path(service, answer["summary_url"].as_str().unwrap()), text).await;
        let over = json!({ "step_backend_id": step, "uploaded_at": "2026-05-01T10:00:01.480Z", "size": text.len() });
        assert_eq!(self.receiver(service, "CreateStepSummaryMetadata", &over).await, json!({ "ok": true }));
    }
}

async fn try_put(service: &Service, path: &str, body: &[u8]) -> Reply {
    let mut wire = Wire::open(&service.url).await;
    wire.send(Method::PUT, path, None, &[("content-type", "text/plain")], body).await
}

/// A request of Azure's SDK, which puts the operation before the signature. Gives the status.
async fn azure(service: &Service, path: &str, comp: Option<&str>, kind: Option<&str>, body: &str) -> u16 {
    let path = comp.map_or_else(|| path.to_owned(), |comp| path.replacen('?', &format!("?comp={comp}&"), 1));
    let mut headers = vec![
        ("x-ms-version", "2026-02-06"),
        ("accept", "application/xml"),
        ("content-type", "application/octet-stream"),
    ];
    if let Some(kind) = kind {
        headers.extend([("x-ms-blob-type", kind), ("x-ms-blob-content-type", "text/plain"), ("if-none-match", "*")]);
    }
    Wire::open(&service.url).await.send(Method::PUT, &path, None, &headers, body.as_bytes()).await.code()
}

async fn put(service: &Service, path: &str, body: &str) {
    let reply = try_put(service, path, body.as_bytes()).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
}

async fn held(service: &Service) -> (RunId, Held) {
    let runner = listening(service, "build-07").await;
    let run = service.submit_with(demo(JOB)).await;
    (run, runner.take(service).await)
}

async fn view(service: &Service, run: RunId) -> JobView {
    let detail = service.client.run(run, None, std::time::Duration::ZERO).await.unwrap();
    service.client.job(detail.jobs[0].id).await.unwrap()
}

async fn log_of(service: &Service, run: RunId) -> (JobId, String) {
    let job = view(service, run).await.id;
    (job, service.log(job).await)
}

#[tokio::test]
async fn a_whole_job_reads_like_one_of_a_native_worker() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let (make, test, again) = (held.step(0), held.step(1), held.step(2));
    held.update(&service, 1, json!([state(SETUP, 1, "Set up job", 3, 0), state(make, 2, "Run make", 5, 0)])).await;
    held.update(&service, 2, json!([state(SETUP, 1, "Set up job", 6, 2), state(make, 2, "Run make", 3, 0)])).await;
    held.log(&service, SETUP, &[line(1, "Current runner version: '2.336.0'")]).await;
    let running = view(&service, run).await;
    assert_eq!((running.steps[1].status, running.steps[1].log_start), (StepStatus::Running, None));
    held.log(&service, make, &[line(2, "##[group]Run make") + &line(3, "make\nand a second line"), line(4, "made")])
        .await;
    held.summary(&service, make, "# Made").await;
    held.summary(&service, Uuid::from_u128(77), "from a composite action").await;
    // Fast steps appear only when they are over, and not in their order.
    let late = json!([
        state(COMPLETE, 9, "Complete job", 6, 2),
        state(again, 4, "Run make again", 6, 7),
        state(test, 3, "Run make test", 6, 3),
        state(make, 2, "Run make", 6, 2),
    ]);
    held.update(&service, 3, late).await;
    held.log(&service, test, &[line(5, "##[error]Process completed with exit code 2.")]).await;
    held.log(&service, COMPLETE, &[line(6, "Cleaning up orphan processes")]).await;
    let result = json!({"external_id": test, "number": 3, "name": "Run make test", "status": "completed", "conclusion": "failed",
        "annotations": [{"level": "failure", "message": "Process completed with exit code 2.", "startLine": 1}]});
    assert_eq!(held.complete(&service, "failed", json!({ "stepResults": [result] })).await.code(), 204);

    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Failure));
    let job = view(&service, run).await;
    let steps: Vec<_> =
        job.steps.iter().map(|step| (step.number, step.name.as_str(), step.conclusion.unwrap())).collect();
    assert_eq!(
        steps,
        [
            (1, "Set up job", Conclusion::Success),
            (2, "Run make", Conclusion::Success),
            (3, "Run make test", Conclusion::Failure),
            (4, "Run make again", Conclusion::Skipped),
            (9, "Complete job", Conclusion::Success),
        ]
    );
    assert_eq!(job.steps[1].summary.as_deref(), Some("# Made\nfrom a composite action"));
    assert_eq!((job.annotations[0].level, job.annotations[0].step_number), (AnnotationLevel::Failure, Some(3)));
    let log = service.log(job.id).await;
    let lines = |index: usize| {
        let step = &job.steps[index];
        let at = |place: Option<u64>| usize::try_from(place.unwrap()).unwrap();
        log[at(step.log_start)..at(step.log_end)].to_owned()
    };
    assert_eq!(lines(0), line(1, "Current runner version: '2.336.0'"));
    assert_eq!(lines(1), line(2, "##[group]Run make") + &line(3, "make\nand a second line") + &line(4, "made"));
    assert_eq!(lines(2), line(5, "##[error]Process completed with exit code 2."));
    assert_eq!((job.steps[3].log_start, job.steps[3].log_end), (None, None), "a skipped step has no log");
    assert!(log.ends_with(&line(6, "Cleaning up orphan processes")));

    let said = service.says(&["logs", &job.id.to_string(), "--follow"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let places: Vec<usize> = [
        "▸ Set up job",
        "Current runner",
        "▸ Run make",
        "and a second line",
        "made",
        "✓ Run make",
        "▸ Run make test",
        "Error: Process completed with exit code 2.",
        "Run make again (skipped)",
        "▸ Complete job",
    ]
    .iter()
    .map(|text| said.out.find(text).unwrap_or_else(|| panic!("no `{text}` in\n{}", said.out)))
    .collect();
    assert!(places.is_sorted(), "{places:?} in\n{}", said.out);
}

#[tokio::test]
async fn no_byte_order_mark_gets_into_a_log_however_many_blocks_it_has() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let blocks = [line(1, "one"), line(2, "two"), String::new(), line(3, "grün")];
    held.log(&service, SETUP, &blocks).await;
    // A page that ended with its very last line is followed by one that has only the mark.
    let url = format!("{}&comp=appendblock&seal=true", held.logs_url(&service, SETUP).await);
    put(&service, &url, MARK).await;
    let (_, log) = log_of(&service, run).await;
    assert_eq!(log, blocks.concat());
}

#[tokio::test]
async fn each_block_has_an_address_of_its_own_and_all_lead_to_one_log() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let (first, second) = (held.logs_url(&service, SETUP).await, held.logs_url(&service, SETUP).await);
    let target = |url: &str| url.split_once("&se=").unwrap().0.to_owned();
    assert_eq!(target(&first), target(&second));
    put(&service, &first, "").await;
    put(&service, &format!("{first}&comp=appendblock"), &format!("{MARK}{}", line(1, "one"))).await;
    put(&service, &format!("{second}&comp=appendblock"), &format!("{MARK}{}", line(2, "two"))).await;
    // Nothing says that an address is for one block alone.
    put(&service, &format!("{first}&comp=appendblock&seal=true"), &format!("{MARK}{}", line(3, "three"))).await;
    let (_, log) = log_of(&service, run).await;
    assert_eq!(log, line(1, "one") + &line(2, "two") + &line(3, "three"));
}

#[tokio::test]
async fn a_log_in_blocks_survives_a_kill_between_them_and_a_repeat_is_not_kept_twice() {
    let mut service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    held.update(&service, 1, json!([state(SETUP, 1, "Set up job", 3, 0)])).await;
    let mut expected = String::new();
    for tick in 0..4 {
        let block = line(tick, "first of the block") + &line(tick + 10, &"x".repeat(5000));
        let url = format!("{}&comp=appendblock", held.logs_url(&service, SETUP).await);
        put(&service, &url, &format!("{MARK}{block}")).await;
        expected.push_str(&block);
        service.process.crash();
        service.restart();
        // The answer was lost with the connection, so the worker sends the block again, to the same address.
        put(&service, &url, &format!("{MARK}{block}")).await;
    }
    let (_, log) = log_of(&service, run).await;
    assert_eq!(log, expected);
    let step = view(&service, run).await.steps.remove(0);
    assert_eq!((step.id, step.name.as_str()), (Some(SETUP), "Set up job"), "found again by its id");
    assert_eq!((step.log_start, step.log_end), (Some(0), Some(expected.len() as u64)));
}

#[tokio::test]
async fn an_address_of_another_job_step_kind_or_time_opens_nothing() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let url = held.logs_url(&service, SETUP).await;
    let guid = held.message["jobId"].as_str().unwrap();
    let mut wrong = vec![
        url.replace(&SETUP.to_string(), &COMPLETE.to_string()),
        url.replace(guid, &Uuid::from_u128(5).to_string()),
        url.replace("step-log", "step-summary"),
        url.split_once('?').unwrap().0.to_owned(),
        url.replace("&sp=w", "&sp=r"),
    ];
    let mut tampered = url.clone();
    let last = if tampered.pop() == Some('A') { 'B' } else { 'A' };
    tampered.insert(url.len() - 8, last);
    wrong.push(tampered);
    // Signed with the service's own key, and over.
    let text = url.split_once("&se=").unwrap().0;
    let key = UrlKey::load_or_create(service.data.path().join("urls.key")).unwrap();
    let old = key.sign(UrlAccess::Write, text, jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1));
    wrong.push(format!("{text}&{old}"));
    for url in wrong {
        let reply = try_put(&service, &url, b"forged\n").await;
        assert_eq!(reply.code(), 403, "{url}: {reply:?}");
    }
    // Another job's bearer gets no address here, and none at all without one.
    let other = json!({ "workflow_job_run_backend_id": Uuid::from_u128(5), "step_backend_id": SETUP });
    let reply = held.twirp(&service, "results.services.receiver.Receiver/GetStepLogsSignedBlobURL", &other).await;
    assert_eq!((reply.code(), &reply.json()["code"]), (404, &json!("not_found")));
    let stranger = Held { message: held.message.clone(), base: String::new(), token: "eyJ.eyJ.x".to_owned() };
    let reply =
        stranger.twirp(&service, "results.services.receiver.Receiver/GetJobLogsSignedBlobURL", &json!({})).await;
    assert_eq!((reply.code(), &reply.json()["code"]), (401, &json!("unauthenticated")));
    assert_eq!(log_of(&service, run).await.1, "");
    // Good until the job ends, and no longer.
    put(&service, &url, &format!("{MARK}{}", line(1, "mine"))).await;
    held.complete(&service, "succeeded", json!({})).await;
    assert_eq!(try_put(&service, &url, b"late\n").await.code(), 409);
    assert_eq!(log_of(&service, run).await.1, line(1, "mine"));
}

#[tokio::test]
async fn a_job_log_and_a_diagnostic_archive_are_taken_and_not_kept() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    held.log(&service, SETUP, &[line(1, "once")]).await;
    let answer = held.receiver(&service, "GetJobLogsSignedBlobURL", &json!({})).await;
    let url = path(&service, answer["logs_url"].as_str().unwrap()).to_owned();
    put(&service, &url, "").await;
    put(&service, &format!("{url}&comp=appendblock&seal=true"), &format!("{MARK}{}", line(1, "once"))).await;
    let over = json!({ "uploaded_at": "2026-05-01T10:00:01.480Z", "line_count": 1 });
    assert_eq!(held.receiver(&service, "CreateJobLogsMetadata", &over).await, json!({ "ok": true }));
    let answer = held.receiver(&service, "GetJobDiagLogsSignedBlobURL", &json!({})).await;
    put(&service, path(&service, answer["diag_logs_url"].as_str().unwrap()), "PK").await;
    assert_eq!(log_of(&service, run).await.1, line(1, "once"), "the job's log repeats those of its steps");
}

#[tokio::test]
async fn every_call_of_the_results_service_is_answered_ok_and_summaries_may_have_a_mebibyte() {
    let service = Service::start(&SHORT);
    let (_, held) = held(&service).await;
    let at = json!({ "step_backend_id": SETUP, "uploaded_at": "2026-05-01T10:00:01.480Z", "line_count": 1, "size": 1 });
    held.update(&service, 1, json!([state(SETUP, 1, "Set up job", 3, 0)])).await;
    for method in ["CreateStepLogsMetadata", "CreateJobLogsMetadata", "CreateStepSummaryMetadata"] {
        assert_eq!(held.receiver(&service, method, &at).await, json!({ "ok": true }), "{method}");
    }
    let answer = held.receiver(&service, "GetStepSummarySignedBlobURL", &json!({ "step_backend_id": SETUP })).await;
    assert!(answer["soft_size_limit"].as_str().unwrap().parse::<u64>().unwrap() >= 1 << 20, "{answer}");
    held.summary(&service, SETUP, &"x".repeat(1 << 20)).await;
}

#[tokio::test]
async fn states_and_conclusions_of_steps_have_the_numbers_that_workers_send() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let numbers = [
        (3, 0, StepStatus::Running, None),
        (5, 0, StepStatus::Pending, None),
        (6, 2, StepStatus::Completed, Some(Conclusion::Success)),
        (6, 3, StepStatus::Completed, Some(Conclusion::Failure)),
        (6, 4, StepStatus::Completed, Some(Conclusion::Cancelled)),
        (6, 7, StepStatus::Completed, Some(Conclusion::Skipped)),
    ];
    let steps = numbers.iter().enumerate().map(|(index, (status, conclusion, ..))| {
        let number = u32::try_from(index).unwrap() + 1;
        state(Uuid::from_u128(u128::from(number)), number, &format!("step {number}"), *status, *conclusion)
    });
    held.update(&service, 1, steps.collect()).await;
    let shown = view(&service, run).await.steps;
    assert_eq!(shown.len(), numbers.len());
    for (step, (_, _, status, conclusion)) in shown.iter().zip(numbers) {
        assert_eq!((step.status, step.conclusion), (status, conclusion), "{}", step.name);
    }
}

#[tokio::test]
async fn the_last_words_of_a_crashed_worker_come_from_its_listener_and_its_steps_and_log_stay() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let make = held.step(0);
    held.update(&service, 1, json!([state(SETUP, 1, "Set up job", 6, 2), state(make, 2, "Run make", 3, 0)])).await;
    held.log(&service, make, &[line(2, "##[error]out of memory")]).await;
    // What a worker has annotated is lost with it; the listener sends what it said last.
    let over = json!({ "annotations": [{ "level": "failure", "message": "Unhandled exception. Out of memory." }] });
    assert_eq!(held.complete(&service, "failed", over).await.code(), 204);
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Failure));
    let job = view(&service, run).await;
    assert_eq!(job.annotations[0].message, "Unhandled exception. Out of memory.");
    let steps: Vec<_> = job.steps.iter().map(|step| (step.name.as_str(), step.conclusion)).collect();
    assert_eq!(steps[0], ("Set up job", Some(Conclusion::Success)));
    assert!(steps[1].1.is_some_and(|conclusion| conclusion != Conclusion::Success), "{steps:?}");
    assert!(service.log(job.id).await.contains("##[error]out of memory"));
}

#[tokio::test]
async fn updates_that_come_late_or_after_a_restart_take_nothing_back() {
    let mut service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let make = held.step(0);
    held.update(&service, 5, json!([state(make, 2, "Run make", 6, 2)])).await;
    held.update(&service, 4, json!([state(make, 2, "make", 3, 0), state(SETUP, 1, "Set up job", 6, 2)])).await;
    service.process.crash();
    service.restart();
    held.update(&service, 3, json!([state(make, 2, "Run make", 3, 0)])).await;
    let steps = view(&service, run).await.steps;
    let found: Vec<_> = steps.iter().map(|step| (step.number, step.name.as_str(), step.conclusion)).collect();
    assert_eq!(found, [(1, "Set up job", Some(Conclusion::Success)), (2, "Run make", Some(Conclusion::Success))]);
}

#[tokio::test]
async fn a_log_that_overtakes_the_news_of_its_step_is_found_under_it() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let make = held.step(0);
    held.log(&service, make, &[line(1, "made")]).await;
    held.update(&service, 1, json!([state(SETUP, 1, "Set up job", 6, 2), state(make, 2, "Run make", 6, 2)])).await;
    let steps = view(&service, run).await.steps;
    assert_eq!((steps[1].name.as_str(), steps[1].log_start), ("Run make", Some(0)));
    assert_eq!(steps.len(), 2, "told twice, kept once");
}

#[tokio::test]
async fn steps_that_never_completed_end_with_their_job() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let states = json!([state(SETUP, 1, "Set up job", 3, 0), state(held.step(0), 2, "Run make", 5, 0)]);
    held.update(&service, 1, states).await;
    held.complete(&service, "canceled", json!({})).await;
    let job = view(&service, run).await;
    let ends: Vec<_> = job.steps.iter().map(|step| (step.status, step.conclusion.unwrap())).collect();
    let over = |conclusion| (StepStatus::Completed, conclusion);
    assert_eq!(ends, [over(Conclusion::Cancelled), over(Conclusion::Skipped)]);
}

#[tokio::test]
async fn blocks_of_two_steps_at_once_are_kept_whole_in_the_order_of_their_arrival() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let steps = [held.step(0), held.step(1)];
    let block = |tick: u32| {
        (0..200).fold(String::new(), |mut all, count| {
            write!(all, "{}", line(tick, &format!("line {count}"))).unwrap();
            all
        })
    };
    let blocks = [block(1), block(2), block(3), block(4)];
    tokio::join!(held.log(&service, steps[0], &blocks[..2]), held.log(&service, steps[1], &blocks[2..]),);
    let (_, log) = log_of(&service, run).await;
    assert_eq!(log.len(), blocks.concat().len());
    for block in &blocks {
        assert!(log.contains(block.as_str()), "a block was torn");
    }
}

#[tokio::test]
async fn a_block_without_a_length_is_taken_and_one_that_is_too_large_is_not() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let url = held.logs_url(&service, SETUP).await;
    let text = format!("{MARK}{}", line(1, "in chunks"));
    let mut socket = TcpStream::connect(service.url.trim_start_matches("http://")).await.unwrap();
    let head = format!("PUT {url} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    for piece in text.as_bytes().chunks(7) {
        socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        socket.write_all(piece).await.unwrap();
        socket.write_all(b"\r\n").await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let large = vec![b'x'; (16 << 20) + 1];
    assert_eq!(try_put(&service, &url, &large).await.code(), 413);
    assert_eq!(log_of(&service, run).await.1, line(1, "in chunks"));
}

#[tokio::test]
async fn a_method_that_is_not_there_is_refused_in_json() {
    let service = Service::start(&[]);
    let reply = send(&service, Method::POST, "/twirp/some.Service/Method", None, Some(&json!({}))).await;
    assert_eq!((reply.code(), &reply.json()["code"]), (404, &json!("not_found")));
    assert!(reply.json()["msg"].is_string() && reply.headers.contains_key("x-github-request-id"));
}

/// The live console's WebSocket, as .NET writes it: masked, in fragments of 1024 bytes.
struct Feed {
    socket: TcpStream,
}

impl Feed {
    /// Asks for it; the head of the answer where it is refused.
    async fn try_open(service: &Service, url: &str, token: &str) -> Result<Self, String> {
        let target = url.strip_prefix("ws").and_then(|rest| rest.split_once(&service.url[4..])).expect("a `ws` URL").1;
        let mut socket = TcpStream::connect(service.url.trim_start_matches("http://")).await.unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        if head.starts_with("HTTP/1.1 101") { Ok(Self { socket }) } else { Err(head) }
    }

    async fn open(service: &Service, held: &Held) -> Self {
        let url = held.endpoint()["data"]["FeedStreamUrl"].as_str().unwrap().to_owned();
        Self::try_open(service, &url, &held.token).await.ok().unwrap()
    }

    async fn say(&mut self, step: Uuid, first: u64, lines: &[&str]) {
        let message = json!({ "count": lines.len(), "value": lines, "stepId": step, "startLine": first });
        let message = serde_json::to_string_pretty(&message).unwrap();
        let pieces: Vec<&[u8]> = message.as_bytes().chunks(1024).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let code = u8::from(index == 0) | if index + 1 == pieces.len() { 0x80 } else { 0 };
            let length = u16::try_from(piece.len()).unwrap();
            let mut frame = vec![code];
            if length < 126 {
                frame.push(0x80 | u8::try_from(length).unwrap());
            } else {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
            let mask = [7, 8, 9, 10];
            frame.extend(mask);
            frame.extend(piece.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            self.socket.write_all(&frame).await.unwrap();
        }
    }
}

#[tokio::test]
async fn live_lines_are_seen_before_the_log_and_change_nothing_of_it() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let (make, job) = (held.step(0), view(&service, run).await.id);
    held.update(&service, 1, json!([state(make, 1, "Run make", 3, 0)])).await;
    let mut console = Feed::open(&service, &held).await;
    let long = "x".repeat(5000);
    console.say(make, 1, &["##[group]Run make", "several\r\nlines", &long]).await;
    let mut follow = service.client.follow_job_log(job, 0, None);
    let mut next = async || timeout(DEADLINE, follow.next()).await.expect("no event").unwrap().unwrap();
    // Who comes late sees what is kept.
    let seen = loop {
        match next().await {
            LogEvent::Console { step_id, first_line, lines, .. } => break (step_id, first_line, lines),
            LogEvent::Job { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    let lines = ["##[group]Run make", "several", "lines", &long].map(str::to_owned);
    assert_eq!(seen, (Some(make), Some(1), lines.to_vec()));
    assert_eq!(service.log(job).await, "", "nothing of it is stored");
    let block = line(1, "##[group]Run make") + &line(2, "several\nlines");
    held.log(&service, make, std::slice::from_ref(&block)).await;
    held.complete(&service, "succeeded", json!({})).await;
    let mut text = String::new();
    loop {
        match next().await {
            LogEvent::Log { offset, text: more, .. } => {
                assert_eq!(offset, text.len() as u64);
                text.push_str(&more);
            }
            LogEvent::End => break,
            LogEvent::Job { .. } => {}
            LogEvent::Console { .. } => panic!("told twice"),
        }
    }
    assert_eq!(text, block);
    // Without asking for them, nobody is told.
    let mut wire = Wire::open(&service.url).await;
    let plain = wire.get(&format!("/api/v1/jobs/{job}/logs?follow=true&console=true"), &service.token).await;
    assert_eq!(plain.text(), block);
}

#[tokio::test]
async fn a_terminal_shows_each_line_once_live_or_from_the_log() {
    let service = Service::start(&SHORT);
    let (run, held) = held(&service).await;
    let (make, job) = (held.step(0), view(&service, run).await.id);
    held.update(&service, 1, json!([state(make, 1, "Run make", 3, 0)])).await;
    let mut command = startline();
    command.args(["logs", &job.to_string(), "--follow"]);
    command.env("STARTLINE_URL", &service.url).env("STARTLINE_TOKEN", &service.token);
    let mut terminal = Process::spawn(&mut command);
    let mut console = Feed::open(&service, &held).await;
    console.say(make, 1, &["line one", "line two"]).await;
    assert_eq!(terminal.line_with("line"), "  line one", "live");
    assert_eq!(terminal.line_with("line"), "  line two");
    // The third was lost on the way, so the fourth waits for the log.
    console.say(make, 4, &["line four"]).await;
    let block = line(1, "line one") + &line(2, "line two") + &line(3, "line three") + &line(4, "line four");
    held.log(&service, make, &[block]).await;
    held.update(&service, 2, json!([state(make, 1, "Run make", 6, 2)])).await;
    held.complete(&service, "succeeded", json!({})).await;
    assert_eq!(terminal.line_with("line"), "  line three");
    assert_eq!(terminal.line_with("line"), "  line four");
    assert!(terminal.line_with("✓").contains("Run make"));
    assert!(terminal.ended(DEADLINE).await.success());
}

#[tokio::test]
async fn the_live_console_takes_its_own_jobs_bearer_alone_and_ends_with_a_drain() {
    let mut service = Service::start(&SHORT);
    let (_, held) = held(&service).await;
    let url = held.endpoint()["data"]["FeedStreamUrl"].as_str().unwrap().to_owned();
    let guid = held.message["jobId"].as_str().unwrap();
    assert!(Feed::try_open(&service, &url, "eyJ.eyJ.x").await.err().unwrap().contains(" 401 "));
    assert!(Feed::try_open(&service, &url, &service.token).await.err().unwrap().contains(" 401 "));
    let other = url.replace(guid, &Uuid::from_u128(5).to_string());
    assert!(Feed::try_open(&service, &other, &held.token).await.err().unwrap().contains(" 404 "));
    let mut open = Feed::open(&service, &held).await;
    service.process.signal(nix::sys::signal::Signal::SIGTERM);
    let mut close = [0; 4];
    timeout(DEADLINE, open.socket.read_exact(&mut close)).await.unwrap().unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1001));
    drop(open);
    service.process.ended(DEADLINE).await;
    service.restart();
    held.complete(&service, "succeeded", json!({})).await;
    assert!(Feed::try_open(&service, &url, &held.token).await.err().unwrap().contains(" 409 "), "the job is over");
}
