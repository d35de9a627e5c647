//! The service under load: one of its own or one that runs already, and the calls that set the scene.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstream::eprintln;
use anyhow::{Context, bail};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::{RegisterRequest, RegisterResponse, RegistrationTokenResponse};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::fleet::number;
use super::hammer::{Shot, Volley, hammer};
use super::link::{Answer, Call, Link, Target};
use super::process::{READY, ServerProcess};
use super::report::Report;
use super::usage::processor_time;
use crate::cli::SceneArgs;
use crate::descriptors;
use crate::exit::Usage;

/// How many registrations are under way at once: few, so that they leave little behind in the service's memory.
const REGISTRARS: u32 = 32;
/// How long the polls may take to open.
pub(super) const OPEN: Duration = Duration::from_secs(120);
/// How long the service may take to be ready when it has a long queue.
const RESTART: Duration = Duration::from_secs(120);
/// What the service is called when it fails.
const SERVICE: &str = "the service";
/// How often it is looked whether the service does something by itself.
const LOOK: Duration = Duration::from_millis(200);

/// The service, and who administers it.
pub(super) struct Scene {
    pub(super) target: Target,
    pub(super) tasks: TaskTracker,
    pub(super) token: String,
    /// Keeps the runners and jobs of this load apart from all others.
    pub(super) label: String,
    /// The process to measure, when it is known.
    pub(super) pid: Option<u32>,
    /// How long to wait until the service does nothing by itself.
    settle: Duration,
    /// A service of its own, its data, and how it is started.
    own: Option<(ServerProcess, tempfile::TempDir, Vec<String>)>,
}

/// A registered runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
                let arguments = arguments(args, data.path(), connections);
                let mut process = ServerProcess::start(SERVICE, &arguments)?;
                let token = process.line("admin token: ", READY).await?;
                let url = process.line("API: ", READY).await?.trim_end_matches("/api/v1").to_owned();
                (url, token, Some((process, data, arguments)))
            }
        };
        let target = Target::new(&url, http2)?.with_sources(args.sources, connections)?;
        let label = format!("load-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let pid = own.as_ref().map(|(process, ..)| process.pid()).or(args.pid);
        Ok(Self { target, tasks: TaskTracker::new(), token, label, pid, settle: Duration::from_secs(args.settle), own })
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Link> {
        self.target.connect(&self.tasks).await
    }

    /// Registers runners that get the jobs of this scene.
    pub(super) async fn register(&self, count: u32) -> anyhow::Result<Vec<Runner>> {
        eprintln!("registering {count} runners");
        self.register_as(&self.label, count).await
    }

    /// Registers runners for another label.
    pub(super) async fn register_as(&self, label: &str, count: u32) -> anyhow::Result<Vec<Runner>> {
        let (mut volley, runners) = self.register_over(label, count, REGISTRARS).await?;
        match volley.errors.first.pop() {
            Some(error) => bail!("a registration failed: {error}"),
            None => Ok(runners),
        }
    }

    /// Registers runners over so many connections, and measures it.
    pub(super) async fn register_over(
        &self,
        label: &str,
        count: u32,
        connections: u32,
    ) -> anyhow::Result<(Volley, Vec<Runner>)> {
        let request = json!({ "name": label, "labels": [label], "max_uses": count.max(1) });
        let mut link = self.connect().await?;
        let minted =
            link.post("/api/v1/runners/registration-token", &self.token, request.to_string().as_bytes()).await?;
        let minted: RegistrationTokenResponse =
            minted.expect(StatusCode::OK).context("no registration token was minted")?;
        let next = Arc::new(AtomicU32::new(0));
        let links = usize::try_from(connections.min(count))?;
        let guns = self.target.connect_many(&self.tasks, links, 1).await?.into_iter().map(|link| {
            let (next, token, label) = (Arc::clone(&next), minted.token.expose().to_owned(), label.to_owned());
            let gun = move || {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let request = RegisterRequest {
                    name: format!("{label}-{number}"),
                    labels: vec![label.clone()],
                    capabilities: Capabilities::default(),
                    ephemeral: false,
                    replace: false,
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                };
                let shot = Shot {
                    method: "POST",
                    path: "/api/v1/runners".to_owned(),
                    bearer: token.clone(),
                    body: serde_json::to_string(&request).ok()?,
                    expected: StatusCode::CREATED,
                };
                (number < count).then(|| Arc::new(shot))
            };
            (link, gun)
        });
        let registered: Arc<Mutex<Vec<Runner>>> = Arc::default();
        let seen = {
            let registered = Arc::clone(&registered);
            move |answer: &Answer| {
                let answer: RegisterResponse = answer.expect(StatusCode::CREATED)?;
                let runner = Runner { id: answer.runner_id.0, token: answer.runner_token.expose().to_owned() };
                registered.lock().unwrap_or_else(PoisonError::into_inner).push(runner);
                Ok(())
            }
        };
        let (volley, _links) = hammer(guns.collect(), None, self.pid, seen).await?;
        let runners = std::mem::take(&mut *registered.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((volley, runners))
    }

    /// Waits until the service does nothing by itself, so that only the load is measured.
    pub(super) async fn await_quiet(&self) -> anyhow::Result<()> {
        let Some(pid) = self.pid else { return Ok(()) };
        let until = Instant::now() + self.settle;
        let mut before = processor_time(pid)?;
        while !self.settle.is_zero() {
            tokio::time::sleep(LOOK).await;
            let now = processor_time(pid)?;
            if now - before <= LOOK / 20 {
                return Ok(());
            }
            if Instant::now() >= until {
                eprintln!("the service does something by itself; it is measured with that");
                return Ok(());
            }
            before = now;
        }
        Ok(())
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

    /// Whether the service is one of its own.
    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Stops the service of its own and starts it again on its data, and gives the time from its start to its being ready.
    pub(super) async fn restart(&mut self) -> anyhow::Result<Duration> {
        let (process, data, arguments) = self.own.take().context("no service of its own")?;
        process.stop().await?;
        let began = Instant::now();
        let mut process = ServerProcess::start(SERVICE, &arguments)?;
        let url = process.line("API: ", RESTART).await?.trim_end_matches("/api/v1").to_owned();
        self.target = self.target.elsewhere(&url)?;
        self.pid = Some(process.pid());
        let is_ready = async {
            let mut link = self.connect().await?;
            while link.get("/readyz", "").await?.status != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(())
        };
        let is_ready = tokio::time::timeout_at(began + RESTART, is_ready).await;
        is_ready.with_context(|| format!("the service was not ready {} s after its start", RESTART.as_secs()))??;
        let ready = began.elapsed();
        self.own = Some((process, data, arguments));
        Ok(ready)
    }

    /// Ends what the scene began, and tells what went wrong at that.
    pub(super) async fn end(self, runners: &[Runner], report: &mut Report) {
        if let Err(error) = self.close(runners).await {
            report.errors.add(format!("{error:#}"));
        }
    }

    /// Stops a service of its own, and takes the registrations out of another.
    async fn close(self, runners: &[Runner]) -> anyhow::Result<()> {
        if let Some((process, _data, _)) = self.own {
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

/// Submits one job and gives its id.
pub(super) async fn submit(link: &mut Link, token: &str, body: &str) -> anyhow::Result<i64> {
    let answer = link.post("/api/v1/jobs", token, body.as_bytes()).await?;
    answer.require(StatusCode::CREATED)?;
    number(&answer.body, "id").context("a job was taken without an id")
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
