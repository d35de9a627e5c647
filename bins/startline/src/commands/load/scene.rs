//! The service under load: one of its own or one that runs already, and the calls that set the scene.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use http::StatusCode;
use serde_json::json;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::{RegisterRequest, RegisterResponse, RegistrationTokenResponse};
use startline_protocol::runs_api::{RunDetail, SubmitRequest};
use startline_protocol::state::RunStatus;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::link::{Call, Link, Target};
use super::process::ServerProcess;
use super::report::Report;
use crate::cli::SceneArgs;
use crate::descriptors;
use crate::exit::Usage;

/// How many registrations are under way at once: few, so that they leave little behind in the service's memory.
const REGISTRARS: u32 = 32;
/// How long the polls may take to open.
pub(super) const OPEN: Duration = Duration::from_secs(120);
/// How long a run may take to be concluded after its last job.
const CONCLUDED: Duration = Duration::from_secs(30);

/// The service, and who administers it.
pub(super) struct Scene {
    pub(super) target: Target,
    pub(super) tasks: TaskTracker,
    pub(super) token: String,
    /// Keeps the runners and jobs of this load apart from all others.
    pub(super) label: String,
    /// The process to measure, when it is known.
    pub(super) pid: Option<u32>,
    own: Option<(ServerProcess, tempfile::TempDir)>,
}

/// A registered runner.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) id: i64,
    pub(super) token: String,
}

/// Refuses more connections than this process may open. `remedy` says what the scenario could do with fewer of.
pub(super) fn check_descriptors(sockets: u32, remedy: &str) -> anyhow::Result<()> {
    let limit = descriptors::raise_limit().context("cannot raise the limit of open files")?;
    if u64::from(sockets) + descriptors::RESERVE > limit {
        return Err(Usage(format!(
            "{sockets} connections need more open files than this system allows a process ({limit}, `ulimit -Hn`); \
             take {remedy}"
        ))
        .into());
    }
    Ok(())
}

impl Scene {
    /// Starts a service that takes so many connections, or takes the one that is named.
    pub(super) async fn open(args: &SceneArgs, connections: u32, http2: bool) -> anyhow::Result<Self> {
        let (url, token, own) = match (&args.url, &args.token) {
            (Some(url), Some(token)) => (url.clone(), token.clone(), None),
            _ => {
                let data = tempfile::tempdir().context("cannot make a data directory")?;
                let mut process = ServerProcess::start(&arguments(args, data.path(), connections))?;
                let token = process.line("admin token: ").await?;
                let url = process.line("API: ").await?.trim_end_matches("/api/v1").to_owned();
                (url, token, Some((process, data)))
            }
        };
        let target = Target::new(&url, http2)?.with_sources(args.sources, connections)?;
        let label = format!("load-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let pid = own.as_ref().map(|(process, _)| process.pid()).or(args.pid);
        Ok(Self { target, tasks: TaskTracker::new(), token, label, pid, own })
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Link> {
        self.target.connect(&self.tasks).await
    }

    /// Registers the runners with one token.
    pub(super) async fn register(&self, count: u32) -> anyhow::Result<Vec<Runner>> {
        let request = json!({ "name": self.label, "labels": [self.label], "max_uses": count });
        let mut link = self.connect().await?;
        let minted =
            link.post("/api/v1/runners/registration-token", &self.token, request.to_string().as_bytes()).await?;
        let minted: RegistrationTokenResponse =
            minted.expect(StatusCode::OK).context("no registration token was minted")?;
        let next = Arc::new(AtomicU32::new(0));
        let mut registrars = JoinSet::new();
        for _ in 0..REGISTRARS.min(count) {
            let mut link = self.connect().await?;
            let (next, token, label) = (Arc::clone(&next), minted.token.clone(), self.label.clone());
            registrars.spawn(async move {
                let mut runners = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return anyhow::Ok(runners);
                    }
                    let request = RegisterRequest {
                        name: format!("{label}-{number}"),
                        labels: vec![label.clone()],
                        capabilities: Capabilities::default(),
                        ephemeral: false,
                        replace: false,
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                    };
                    let request = serde_json::to_vec(&request)?;
                    let call = Call {
                        method: "POST",
                        path: "/api/v1/runners",
                        bearer: token.expose(),
                        body: &request,
                        range_from: None,
                    };
                    let answer = link.insist(call).await?;
                    let answer: RegisterResponse = answer.expect(StatusCode::CREATED)?;
                    runners.push(Runner { id: answer.runner_id.0, token: answer.runner_token.expose().to_owned() });
                }
            });
        }
        let mut runners = Vec::new();
        while let Some(registered) = registrars.join_next().await {
            runners.extend(registered?.context("a registration failed")?);
        }
        Ok(runners)
    }

    /// Waits until at least so many polls are parked.
    pub(super) async fn await_open(&self, wanted: u32, until: Instant) -> anyhow::Result<()> {
        let mut link = self.connect().await?;
        loop {
            let answer = link.get("/metrics", &self.token).await?;
            answer.require(StatusCode::OK).context("the metrics cannot be read")?;
            let text = String::from_utf8_lossy(&answer.body);
            let open = text.lines().find_map(|line| line.strip_prefix("startline_polls_open "));
            let open: u32 = open.and_then(|value| value.parse().ok()).context("no startline_polls_open in /metrics")?;
            if open >= wanted {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!("only {open} of {wanted} polls were open in time");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Submits a run of so many jobs.
    pub(super) async fn submit(&self, link: &mut Link, jobs: u32) -> anyhow::Result<RunDetail> {
        let numbers = (0..jobs).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let workflow = format!(
            "on: push\njobs:\n  load:\n    runs-on: {}\n    strategy:\n      matrix:\n        number: [{numbers}]\n    \
             steps:\n      - run: 'true'\n",
            self.label
        );
        let request = SubmitRequest { workflow, path: Some("load.yml".to_owned()), ..SubmitRequest::default() };
        let answer = link.post("/api/v1/runs", &self.token, &serde_json::to_vec(&request)?).await?;
        answer.expect(StatusCode::CREATED).context("a run was not taken")
    }

    /// The run once it is concluded.
    pub(super) async fn concluded(&self, link: &mut Link, run: i64) -> anyhow::Result<RunDetail> {
        let until = Instant::now() + CONCLUDED;
        loop {
            let answer = link.get(&format!("/api/v1/runs/{run}"), &self.token).await?;
            let detail: RunDetail = answer.expect(StatusCode::OK)?;
            if detail.run.status == RunStatus::Completed || Instant::now() >= until {
                return Ok(detail);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends what the scene began, and tells what went wrong at that.
    pub(super) async fn end(self, runners: &[Runner], report: &mut Report) {
        if let Err(error) = self.close(runners).await {
            report.errors.add(format!("{error:#}"));
        }
    }

    /// Stops a service of its own, and takes the registrations out of another.
    async fn close(self, runners: &[Runner]) -> anyhow::Result<()> {
        if let Some((process, _data)) = self.own {
            return process.stop().await;
        }
        let mut link = self.connect().await?;
        for runner in runners {
            let path = format!("/api/v1/runners/{}?force=true", runner.id);
            let call = Call { method: "DELETE", path: &path, bearer: &self.token, ..Call::default() };
            let answer = link.insist(call).await?;
            answer.require(StatusCode::NO_CONTENT).context("a runner could not be removed")?;
        }
        Ok(())
    }
}

/// How the service is started.
fn arguments(args: &SceneArgs, data: &Path, connections: u32) -> Vec<String> {
    let connections = u64::from(connections) + descriptors::RESERVE;
    let mut arguments: Vec<String> = [
        "server",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "warn",
        // All of the load comes from one address, and all jobs are submitted with one bearer.
        "--address-rate",
        "0",
        "--failed-auth-rate",
        "0",
        "--bearer-rate",
        "0",
        "--synchronous",
        args.synchronous(),
        "--data-dir",
        &data.join("data").display().to_string(),
        "--max-connections",
        &connections.to_string(),
    ]
    .map(str::to_owned)
    .into();
    arguments.extend_from_slice(&args.server_args);
    arguments
}

/// A definition whose script has so many bytes, for jobs of this label.
pub(super) fn job_request(label: &str, payload: u32) -> String {
    let script = "x".repeat(usize::try_from(payload).unwrap_or(usize::MAX));
    json!({
        "name": "load",
        "requirements": { "labels": [label] },
        "job_definition": { "steps": [{
            "type": "action",
            "id": uuid::Uuid::new_v4(),
            "condition": "success()",
            "reference": { "type": "script" },
            "inputs": { "type": 2, "map": [{ "Key": "script", "Value": script }] },
        }] },
    })
    .to_string()
}
