//! Builds job messages, runs them, and says what came of it.

use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::runner_api::{CompleteRequest, JobAssignment};
use startline_protocol::state::{Conclusion, StepStatus};
use startline_protocol::step::StepRecord;
use startline_protocol::token::JobToken;
use startline_worker::input::{Connection, Control, Exit, JobState, LOG_FILE, STATE_FILE, WorkerInput};
use tokio::task::JoinHandle;

use crate::service::{Heard, Service, Told};

/// Longer than anything takes, and shorter than somebody waits.
const DEADLINE: Duration = Duration::from_secs(60);

/// A `run` step; change members of the answer for more.
pub(crate) fn run(script: &str) -> Value {
    json!({
        "type": "action", "id": uuid::Uuid::new_v4(), "name": "__run", "contextName": "__run", "condition": "success()",
        "reference": { "type": "script" }, "inputs": mapping(&[("script", token(script))]),
    })
}

/// A `run` step with an id.
pub(crate) fn named(id: &str, script: &str) -> Value {
    with(run(script), &[("contextName", json!(id)), ("name", json!(id))])
}

/// A `uses: ./path` step.
pub(crate) fn uses(id: &str, path: &str, inputs: &[(&str, Value)]) -> Value {
    with(
        named(id, ""),
        &[
            ("reference", json!({ "type": "repository", "repositoryType": "self", "path": path })),
            ("inputs", mapping(inputs)),
        ],
    )
}

/// `object` with members set.
pub(crate) fn with(mut object: Value, members: &[(&str, Value)]) -> Value {
    for (name, value) in members {
        object[*name] = value.clone();
    }
    object
}

/// A `run` step with a `shell` or a `workingDirectory`.
pub(crate) fn with_input(mut step: Value, name: &str, value: &str) -> Value {
    step["inputs"]["map"].as_array_mut().unwrap().push(json!({ "Key": name, "Value": token(value) }));
    step
}

/// Text that is one whole `${{ }}` becomes an expression, all else a literal.
pub(crate) fn token(text: &str) -> Value {
    match text.strip_prefix("${{").and_then(|text| text.strip_suffix("}}")) {
        Some(expression) if !expression.contains("}}") => json!({ "type": 3, "expr": expression.trim() }),
        _ => json!(text),
    }
}

pub(crate) fn mapping(entries: &[(&str, Value)]) -> Value {
    let map: Vec<Value> = entries.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    json!({ "type": 2, "map": map })
}

pub(crate) fn env(entries: &[(&str, &str)]) -> Value {
    let entries: Vec<(&str, Value)> = entries.iter().map(|(key, value)| (*key, token(value))).collect();
    mapping(&entries)
}

/// A job to be run.
pub(crate) struct Job {
    pub(crate) message: Value,
    pub(crate) secrets: Vec<(String, String)>,
    pub(crate) timeout_minutes: u32,
    pub(crate) workspace_from: Option<PathBuf>,
    pub(crate) container_cli: Option<PathBuf>,
    pub(crate) in_place: bool,
    pub(crate) service: Service,
    pub(crate) root: tempfile::TempDir,
}

impl Job {
    pub(crate) fn new(steps: Vec<Value>) -> Self {
        let plan = "3b7f6b52-5d0c-4b3e-9a54-0f3b1a6d2c11";
        let message = json!({
            "messageType": "RunnerJobRequest",
            "plan": { "planId": plan, "planType": "actions" },
            "timeline": { "id": plan },
            "jobId": "6f0e7c0a-1c58-4b0e-8f0f-6a4d0f7f9a01",
            "jobDisplayName": "build",
            "jobName": "__default",
            "variables": { "system.github.job": { "value": "build" } },
            "contextData": {
                "github": { "t": 2, "d": [
                    { "k": "repository", "v": "acme/demo" },
                    { "k": "ref", "v": "refs/heads/main" },
                    { "k": "ref_protected", "v": true },
                    { "k": "run_id", "v": "41" },
                    { "k": "retention_days", "v": 90 },
                    { "k": "event", "v": { "t": 2, "d": [ { "k": "number", "v": 7 } ] } },
                ] },
                "matrix": { "t": 2, "d": [ { "k": "size", "v": 3 } ] },
                "needs": { "t": 2, "d": [ { "k": "first", "v": { "t": 2, "d": [ { "k": "result", "v": "success" },
                    { "k": "outputs", "v": { "t": 2, "d": [ { "k": "word", "v": "hello" } ] } } ] } } ] },
                "vars": { "t": 2, "d": [ { "k": "COLOUR", "v": "green" } ] },
                "inputs": { "t": 2 },
            },
            "steps": steps,
        });
        Self {
            message,
            secrets: Vec::new(),
            timeout_minutes: 10,
            workspace_from: None,
            container_cli: None,
            in_place: false,
            service: Service::start(),
            root: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a member of the message.
    pub(crate) fn message(mut self, name: &str, value: Value) -> Self {
        self.message[name] = value;
        self
    }

    pub(crate) fn output(self, name: &str, expression: &str) -> Self {
        self.message("jobOutputs", mapping(&[(name, json!({ "type": 3, "expr": expression }))]))
    }

    /// Puts a file into the workspace.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let file = self.workspace().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        self
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.root.path().join("work/demo/demo")
    }

    pub(crate) fn start(self) -> Running {
        let job_dir = self.root.path().join("job");
        std::fs::create_dir_all(&job_dir).unwrap();
        let input = WorkerInput {
            assignment: JobAssignment {
                job_assigned: true,
                job_id: JobId(7),
                workflow_run_id: RunId(3),
                attempt: 1,
                epoch: Epoch(1),
                job_definition: Some(Box::new(serde_json::from_value(self.message.clone()).unwrap())),
                secrets: self.secrets.iter().cloned().collect(),
                timeout_minutes: self.timeout_minutes,
                offer_expires_at: None,
                lease_expires_at: None,
                renew_interval_seconds: 60,
                job_token: Some(JobToken::parse("eyJhbGciOiJub25lIn0.job-token.signature").unwrap()),
                urls: self.service.urls(),
            },
            job_dir,
            work_dir: self.root.path().join("work"),
            runner_name: "tester".to_owned(),
            runner_os: "Linux".to_owned(),
            runner_arch: "X64".to_owned(),
            environment: "self-hosted".to_owned(),
            tool_cache: self.root.path().join("tools"),
            archives: self.root.path().join("archives"),
            node: None,
            container_cli: self.container_cli.clone(),
            workspace_from: self.workspace_from.clone(),
            in_place: self.in_place,
            connection: Connection::default(),
        };
        let (reader, mut stdin) = std::io::pipe().unwrap();
        let mut line = serde_json::to_vec(&input).unwrap();
        line.push(b'\n');
        // The worker reads while this is written: a message may be larger than a pipe.
        let worker = tokio_util::task::TaskTracker::new().spawn(startline_worker::run_process(reader));
        let writer = std::thread::spawn(move || {
            stdin.write_all(&line).unwrap();
            stdin
        });
        Running { worker, stdin: Some(writer.join().unwrap()), service: self.service, root: self.root }
    }

    pub(crate) async fn finish(self) -> Outcome {
        self.start().finish().await
    }
}

/// A job that runs.
pub(crate) struct Running {
    worker: JoinHandle<Exit>,
    stdin: Option<PipeWriter>,
    pub(crate) service: Service,
    pub(crate) root: tempfile::TempDir,
}

impl Running {
    pub(crate) fn cancel(&mut self, reason: &str) {
        let mut line = serde_json::to_vec(&Control::Cancel { reason: reason.to_owned() }).unwrap();
        line.push(b'\n');
        self.stdin.as_mut().unwrap().write_all(&line).unwrap();
    }

    /// The runner dies.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.root.path().join("work/demo/demo")
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.worker.is_finished()
    }

    /// Waits until the service was told enough.
    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&Told) -> bool) {
        poll(what, || enough(&self.service.told())).await;
    }

    pub(crate) async fn until_log(&self, text: &str) {
        self.until(text, |told| told.text().contains(text)).await;
    }

    pub(crate) async fn exit(&mut self) -> Exit {
        tokio::time::timeout(DEADLINE, &mut self.worker).await.expect("the worker ends in time").unwrap()
    }

    pub(crate) async fn finish(mut self) -> Outcome {
        let exit = self.exit().await;
        let job_dir = self.root.path().join("job");
        let spool = std::fs::read(job_dir.join(LOG_FILE)).unwrap();
        let state: JobState = serde_json::from_slice(&std::fs::read(job_dir.join(STATE_FILE)).unwrap()).unwrap();
        let told = self.service.told();
        assert_eq!(told.violations, Vec::<String>::new());
        check_order(&told.heard);
        let text = told.text();
        for line in text.lines() {
            let (stamp, _) = line.split_once(' ').unwrap_or_else(|| panic!("no stamp: {line:?}"));
            assert!(stamp.len() == 28 && stamp.ends_with('Z') && stamp.parse::<jiff::Timestamp>().is_ok(), "{line:?}");
        }
        let completion = told.completion.clone();
        drop(told);
        Outcome { exit, text, spool, state, completion, root: self.root }
    }
}

/// A step is reported as running before any byte behind its beginning is sent, and nothing comes after the end.
fn check_order(heard: &[Heard]) {
    let mut steps = heard.iter().filter_map(|heard| if let Heard::Steps(steps) = heard { Some(steps) } else { None });
    let Some(all) = steps.next_back() else { return };
    for step in all.iter().filter(|step| step.log_start.is_some()) {
        let start = step.log_start.unwrap();
        let reported = heard.iter().position(|heard| {
            matches!(heard, Heard::Steps(steps) if steps.iter().any(|s| s.number == step.number && s.log_start.is_some()))
        });
        let sent = heard.iter().position(|heard| matches!(heard, Heard::Log(length) if *length > start));
        if let Some(sent) = sent {
            assert!(reported.unwrap() < sent, "lines of step {} came before its report", step.number);
        }
    }
    if let Some(end) = heard.iter().position(|heard| matches!(heard, Heard::Completed)) {
        assert_eq!(end, heard.len() - 1, "something came after the completion");
    }
}

/// What came of a job.
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    /// The log as the service holds it.
    pub(crate) text: String,
    pub(crate) spool: Vec<u8>,
    pub(crate) state: JobState,
    pub(crate) completion: Option<CompleteRequest>,
    pub(crate) root: tempfile::TempDir,
}

impl Outcome {
    pub(crate) fn completion(&self) -> &CompleteRequest {
        assert_eq!(self.exit, Exit::Reported, "{}", self.text);
        assert_eq!(self.text.as_bytes(), self.spool, "the service holds the whole log");
        assert!(self.state.completed && self.state.uploaded == self.spool.len() as u64);
        self.completion.as_ref().unwrap()
    }

    pub(crate) fn conclusion(&self) -> Conclusion {
        self.completion().conclusion
    }

    /// Asserts success, showing the log otherwise.
    pub(crate) fn green(self) -> Self {
        assert_eq!(self.conclusion(), Conclusion::Success, "{}", self.text);
        self
    }

    /// The record of a step, from 1 for the first one of the job.
    pub(crate) fn step(&self, number: usize) -> &StepRecord {
        &self.completion().steps[number]
    }

    /// Conclusions of all steps of the job, without set-up and completion.
    pub(crate) fn conclusions(&self) -> Vec<Conclusion> {
        let steps = &self.completion().steps;
        assert!(steps.iter().all(|step| step.status == StepStatus::Completed));
        steps[1..steps.len() - 1].iter().map(|step| step.conclusion.unwrap()).collect()
    }

    /// Lines without stamps.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.text.lines().map(|line| line.split_once(' ').unwrap().1).collect()
    }

    /// Lines of a step without stamps and without its preamble.
    pub(crate) fn step_lines(&self, number: usize) -> Vec<&str> {
        let record = self.step(number);
        let range =
            usize::try_from(record.log_start.unwrap()).unwrap()..usize::try_from(record.log_end.unwrap()).unwrap();
        let lines = self.text[range].lines().map(|line| line.split_once(' ').unwrap().1);
        let lines: Vec<&str> = lines.collect();
        let start = lines.iter().position(|line| *line == "##[endgroup]").map_or(0, |end| end + 1);
        lines[start..].to_vec()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.path().join("work/demo/demo").join(path)).unwrap()
    }
}

/// Looks again and again until something holds.
pub(crate) async fn poll(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "this never came: {what}");
}

/// Whether a process that wrote its id to `file` still runs.
pub(crate) fn runs(file: &Path) -> bool {
    let id = std::fs::read_to_string(file).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim()));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with(['Z', 'X']))
}
