//! The runners of a local run: as many as there are kinds of jobs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use startline_client::{RunnerClient, Transport};
use startline_protocol::runner_api::RegistrationTokenRequest;
use startline_protocol::runs_api::RunDetail;
use startline_protocol::state::JobStatus;
use startline_protocol::token::{ApiToken, RegistrationToken};
use startline_runner::{Options, Overrides, RegisterOptions, Shutdown};
use tokio::task::JoinSet;

/// What the runners use of the machine.
pub(super) struct Machine {
    pub workspace_from: PathBuf,
    /// Whether jobs work there, instead of in a copy.
    pub in_place: bool,
    pub parallel: u32,
    pub node: Option<PathBuf>,
    pub container_cli: Option<PathBuf>,
    /// None means one of each runner's own.
    pub tool_cache: Option<PathBuf>,
}

/// Runners of this machine that take whatever the run's jobs ask for by name.
pub(super) struct Fleet {
    transport: Transport,
    url: String,
    token: ApiToken,
    registration: Option<RegistrationToken>,
    home: PathBuf,
    machine: Machine,
    /// Label sets that a runner was registered for, in lower case.
    served: Vec<BTreeSet<String>>,
    shutdown: Shutdown,
    runners: JoinSet<anyhow::Result<()>>,
}

impl Fleet {
    pub(super) fn new(transport: Transport, url: &str, token: ApiToken, home: &Path, machine: Machine) -> Self {
        Self {
            transport,
            url: url.to_owned(),
            token,
            registration: None,
            home: home.to_owned(),
            machine,
            served: Vec::new(),
            shutdown: Shutdown::new(),
            runners: JoinSet::new(),
        }
    }

    /// Registers a runner for every queued job whose labels nobody serves yet. What a job asks of the *machine* (memory,
    /// a GPU) is left to what the machine has.
    pub(super) async fn ensure(&mut self, detail: &RunDetail) -> anyhow::Result<()> {
        if let Some(ended) = self.runners.try_join_next() {
            ended??;
        }
        for job in detail.jobs.iter().filter(|job| job.status == JobStatus::Queued) {
            let names = job.labels.iter().filter(|label| !about_the_machine(label));
            let names: BTreeSet<String> = names.map(|label| label.to_lowercase()).collect();
            if !self.served.iter().any(|served| names.is_subset(served)) {
                self.register(names).await?;
            }
        }
        Ok(())
    }

    async fn register(&mut self, names: BTreeSet<String>) -> anyhow::Result<()> {
        let number = self.served.len() + 1;
        let mut labels: BTreeSet<String> =
            startline_runner::default_labels().iter().map(|label| label.to_lowercase()).collect();
        labels.extend(names);
        let dir = self.dir(number);
        std::fs::create_dir_all(&dir)?;
        let mut name = startline_runner::default_name();
        if number > 1 {
            name = format!("{name}-{number}");
        }
        let registration = match &self.registration {
            Some(token) => token.clone(),
            None => {
                let client = RunnerClient::new(self.transport.clone(), &self.url)?;
                let request = RegistrationTokenRequest { name: Some("startline run".to_owned()), ..Default::default() };
                let minted = client.request_registration_token(&self.token, &request).await?.token;
                self.registration.insert(minted).clone()
            }
        };
        let options = RegisterOptions {
            url: self.url.clone(),
            token: registration,
            name,
            labels: labels.iter().cloned().collect(),
            capabilities: startline_runner::detect(&dir, self.machine.parallel, &Overrides::default()),
            ephemeral: false,
            replace: false,
            durable: false,
        };
        let registered = startline_runner::register(self.transport.clone(), &options, &dir).await?;
        let options = self.options(&dir);
        let (transport, shutdown) = (self.transport.clone(), self.shutdown.clone());
        self.runners.spawn(async move {
            startline_runner::run(options, registered, transport, shutdown).await?;
            Ok(())
        });
        self.served.push(labels);
        Ok(())
    }

    /// How the runner in `dir` runs.
    fn options(&self, dir: &Path) -> Options {
        let Machine { workspace_from, in_place, parallel, node, container_cli, tool_cache } = &self.machine;
        let defaults = Options::new(dir);
        Options {
            max_parallel_jobs: *parallel,
            workspace_from: Some(workspace_from.clone()),
            in_place: *in_place,
            node: node.clone(),
            container_cli: container_cli.clone(),
            tool_cache: tool_cache.clone().unwrap_or(defaults.tool_cache),
            ..defaults
        }
    }

    fn dir(&self, number: usize) -> PathBuf {
        self.home.join(format!("runner-{number}"))
    }

    /// Ends the runners; when the run has not ended in an orderly way, their jobs too.
    pub(super) async fn stop(mut self, orderly: bool) {
        if orderly {
            self.shutdown.drain();
            let all = async { while self.runners.join_next().await.is_some() {} };
            if tokio::time::timeout(Duration::from_secs(5), all).await.is_ok() {
                return;
            }
        }
        // Their workers see the end of their standard input and kill what they started.
        self.runners.shutdown().await;
        // What they had in containers, if they had no time for it.
        for number in 1..=self.served.len() {
            self.options(&self.dir(number)).remove_leftovers().await;
        }
    }
}

/// Labels that the service checks against what a runner measures, not against its labels.
fn about_the_machine(label: &str) -> bool {
    label.contains(">=") || label.starts_with("supports:") || matches!(label, "gpu" | "docker" | "kubernetes")
}
