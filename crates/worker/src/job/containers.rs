//! The containers of a job: its own and those of its services.
//!
//! Order, names and waiting: actions/runner `Runner.Worker/ContainerOperationProvider.cs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use startline_workflow::expression::{Object, Value};
use uuid::Uuid;

use super::Job;
use super::ahead::Post;
use super::asking::Until;
use super::hooks::CONTAINER_HOOKS;
use super::images::Source;
use super::launch::JobContainer;
use super::step::Frame;
use crate::container::arguments::{self, Command, Create};
use crate::container::engine::Engine;
use crate::container::leftovers;
use crate::container::paths::{Mount, NODE, PathMap};
use crate::container::spec::ContainerSpec;
use crate::contexts;
use crate::environment::Environment;

/// How long the engine may take to remove everything when nobody waits any more.
const ABANDONED: Duration = Duration::from_secs(20);

const REQUIRE_CONTAINER: &str = "ACTIONS_RUNNER_REQUIRE_JOB_CONTAINER";

/// What a job asks for, and what there is of it.
#[derive(Default)]
pub(super) struct Containers {
    /// `container`.
    pub(super) wanted: Option<ContainerSpec>,
    /// `services`, in order.
    services: Vec<(String, ContainerSpec)>,
    /// The engine, once it was looked for.
    pub(super) engine: Option<Result<Engine, String>>,
    pub(super) network: Option<String>,
    pub(super) started: Vec<Started>,
    /// The container that steps run in.
    pub(super) job: Option<Arc<JobContainer>>,
    /// Images of actions that are ready.
    pub(super) images: BTreeMap<Source, String>,
}

/// A container of the job.
pub(super) struct Started {
    pub(super) id: String,
    name: String,
    pub(super) image: String,
    pub(super) service: Option<String>,
    /// Its log was shown already.
    pub(super) failed: bool,
}

impl Containers {
    /// Whether the job has containers of its own.
    pub(super) fn any_wanted(&self) -> bool {
        self.wanted.is_some() || !self.services.is_empty()
    }
}

impl Job {
    /// Evaluates `container` and `services`.
    pub(super) fn evaluate_containers(&mut self) -> Result<(), String> {
        let mut view = self.contexts.view(self.status);
        view.set("env", self.environment.to_value());
        let evaluate = |what: &str, token: &Option<_>| {
            token.as_ref().map_or(Ok(Value::Null), |token| view.evaluate(what, &contexts::lower(token)))
        };
        let container = evaluate("container", &self.message.job_container)?;
        self.containers.wanted = ContainerSpec::read("`container` of the job", &container)?;
        match evaluate("services", &self.message.job_service_containers)? {
            Value::Null => {}
            Value::Object(services) => {
                for (name, value) in services.iter() {
                    match ContainerSpec::read(&format!("the service `{name}`"), value)? {
                        Some(spec) => self.containers.services.push((name.to_owned(), spec)),
                        None => self.console.write(&format!(
                            "The service '{name}' will not be started because the container definition has an empty image."
                        )),
                    }
                }
            }
            other => return Err(format!("services must be a mapping, but it is a {}", other.kind())),
        }
        let all = self.containers.wanted.iter().chain(self.containers.services.iter().map(|(_, spec)| spec));
        for credentials in all.filter_map(|spec| spec.credentials.as_ref()) {
            self.console.masker.add(&credentials.password);
        }
        let is_on = |value: &str| value.eq_ignore_ascii_case("true") || value == "1";
        if self.containers.wanted.is_none() && self.host.variable(REQUIRE_CONTAINER).is_some_and(is_on) {
            return Err(
                "Jobs without a job container are forbidden on this runner, please add a 'container:' to your job \
                        or contact your self-hosted runner administrator."
                    .to_owned(),
            );
        }
        match self.host.variable(CONTAINER_HOOKS).filter(|path| !path.is_empty() && self.containers.any_wanted()) {
            Some(_) => Err(format!(
                "the job has containers, and this runner does not run container hooks ({CONTAINER_HOOKS}): take the \
                 variable out of the runner's environment, or give the job to an official runner"
            )),
            None => Ok(()),
        }
    }

    /// "Initialize containers".
    pub(super) async fn initialize_containers(&mut self, frame: &Frame) -> Result<(), String> {
        self.register(Post::Containers, "Stop containers".to_owned());
        let asks = match (&self.containers.wanted, self.containers.services.first()) {
            (Some(wanted), _) => format!("`container: {}` of the job", wanted.image),
            (None, Some((name, _))) => format!("the service `{name}` of the job"),
            (None, None) => "the job".to_owned(),
        };
        self.console.write("##[group]Checking docker version");
        let engine = self.engine().await;
        let until = Until::Cancelled(frame.deadline);
        if let Ok(engine) = &engine {
            self.must(engine, Command::new(&["version"]), until, "Docker version").await?;
        }
        self.console.write("##[endgroup]");
        let engine = engine.map_err(|error| format!("{asks} needs containers, and {error}"))?;
        self.console.write("##[group]Create local container network");
        let network = format!("github_network_{}", Uuid::new_v4().simple());
        let create = Command::new(&["network", "create", "--label", &engine.label, &network]);
        self.must(&engine, create, until, "Docker network create").await?;
        self.containers.network = Some(network.clone());
        self.show_container(None, &network);
        self.console.write("##[endgroup]");
        if let Some(spec) = self.containers.wanted.clone() {
            self.start_container(frame, &engine, None, &spec, &network).await?;
        }
        let services = self.containers.services.clone();
        for (name, spec) in &services {
            self.start_container(frame, &engine, Some(name), spec, &network).await?;
        }
        self.await_services(frame, &engine).await
    }

    fn show_container(&mut self, id: Option<&str>, network: &str) {
        let entries = [("id", id), ("network", Some(network))];
        let entries = entries.into_iter().filter_map(|(name, value)| Some((name, Value::string(value?))));
        self.contexts.set_job("container", Value::object(entries));
    }

    async fn start_container(
        &mut self,
        frame: &Frame,
        engine: &Engine,
        service: Option<&String>,
        spec: &ContainerSpec,
        network: &str,
    ) -> Result<(), String> {
        let until = Until::Cancelled(frame.deadline);
        self.console.write(&match service {
            None => "##[group]Starting job container".to_owned(),
            Some(name) => format!("##[group]Starting {name} service container"),
        });
        for volume in spec.volumes.iter().filter(|volume| volume.starts_with("/:")) {
            let message = format!(
                "Volume mount {volume} is going to mount '/' into the container which may cause file ownership change in \
                 the entire file system and cause the runner to lose permission to access the disk."
            );
            self.warning(frame.record, &message);
        }
        self.pull(engine, &spec.image, spec.credentials.as_ref(), until, frame.record).await?;
        let name = arguments::name(&spec.image, &Uuid::new_v4().simple().to_string()[..6]);
        let paths = PathMap::of_job(&self.directories, &self.host.tool_cache);
        let node = if service.is_none() { self.host_node() } else { None };
        let mut environment = Environment::default();
        self.add_proxies(&mut environment);
        environment.extend(spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let (mut mounts, mut directory) = (Vec::new(), None);
        if service.is_none() {
            let tools = &self.host.tool_cache;
            std::fs::create_dir_all(tools).map_err(|error| format!("cannot create `{}`: {error}", tools.display()))?;
            environment.set("HOME", paths.to_container(&self.directories.home().to_string_lossy()));
            mounts = paths.mounts(true);
            mounts.extend(node.as_ref().map(|node| Mount {
                host: node.to_string_lossy().into_owned(),
                container: NODE.to_owned(),
                read_only: true,
            }));
            directory = Some(paths.to_container(&self.directories.workspace.to_string_lossy()));
        }
        let idle = ["-f".to_owned(), "/dev/null".to_owned()];
        let create = arguments::create(&Create {
            spec,
            name: &name,
            label: &engine.label,
            network,
            alias: service.map(String::as_str),
            directory: directory.as_deref(),
            mounts: &mounts,
            environment: &environment,
            entrypoint: if service.is_none() { Some("tail") } else { spec.entrypoint.as_deref() },
            command: if service.is_none() { &idle } else { &spec.command },
        });
        let made = self.must(engine, create, until, "Docker create").await?;
        // Warnings may stand before it.
        let id = made.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
        let id = id.ok_or("the engine does not say which container it has made")?.to_owned();
        self.containers.started.push(Started {
            id: id.clone(),
            name,
            image: spec.image.clone(),
            service: service.cloned(),
            failed: false,
        });
        self.must(engine, Command::new(&["start", &id]), until, "Docker start").await?;
        self.look_after_start(frame, engine, &id).await?;
        match service {
            Some(service) => self.show_service(engine, service, &id, network, until).await?,
            None => {
                let format = "{{range .Config.Env}}{{println .}}{{end}}";
                let inspect = Command::new(&["inspect", "--format", format, &id]);
                let said = self.must(engine, inspect, until, "Docker inspect").await?;
                let search_path = said.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
                self.containers.job = Some(Arc::new(JobContainer {
                    id: id.clone(),
                    image: spec.image.clone(),
                    engine: engine.clone(),
                    paths,
                    search_path: search_path.to_owned(),
                    has_node: node.is_some(),
                }));
                self.show_container(Some(&id), network);
            }
        }
        self.console.write("##[endgroup]");
        Ok(())
    }

    /// Says what a container has said that does not run any more.
    async fn look_after_start(&mut self, frame: &Frame, engine: &Engine, id: &str) -> Result<(), String> {
        let until = Until::Cancelled(frame.deadline);
        let filter = format!("id={id}");
        let format = "{{.ID}} {{.Status}}";
        let running =
            ["ps", "--all", "--filter", &filter, "--filter", "status=running", "--no-trunc", "--format", format];
        let answer = self.ask(engine, Command::new(&running), until).await?;
        if answer.lines.iter().any(|line| line.starts_with(id)) {
            return Ok(());
        }
        let any = ["ps", "--all", "--filter", &filter, "--no-trunc", "--format", format];
        self.ask(engine, Command::new(&any), until).await?;
        self.ask(engine, Command::new(&["logs", id]), until).await?;
        self.warning(frame.record, &format!("Docker container {id} is not in running state."));
        Ok(())
    }

    async fn show_service(
        &mut self,
        engine: &Engine,
        service: &str,
        id: &str,
        network: &str,
        until: Until,
    ) -> Result<(), String> {
        let answer = self.ask(engine, Command::new(&["port", id]), until).await?;
        let mut ports = Object::new();
        for (inside, outside) in arguments::ports(&answer.lines) {
            ports.insert(inside, Value::string(outside));
        }
        let entry =
            Value::object([("id", Value::string(id)), ("ports", ports.into()), ("network", Value::string(network))]);
        self.contexts.set_service(service, entry);
        Ok(())
    }

    /// "Stop containers".
    pub(super) async fn stop_containers(&mut self, frame: &Frame) {
        let Some(Ok(engine)) = self.containers.engine.clone() else { return };
        self.containers.job = None;
        for started in std::mem::take(&mut self.containers.started) {
            if started.service.is_some() && !started.failed && !self.stop.borrow().is_final() {
                self.console.write(&format!("Print service container logs: {}", started.name));
                self.clean(frame, &engine, Command::new(&["logs", &started.id]), "Docker logs").await;
            }
            self.console.write(&format!("Stop and remove container: {}", started.name));
            self.clean(frame, &engine, engine.remove(&[&started.id]), "Docker rm").await;
        }
        if let Some(network) = self.containers.network.take() {
            self.console.write(&format!("Remove container network: {network}"));
            self.clean(frame, &engine, Command::new(&["network", "rm", &network]), "Docker network rm").await;
        }
    }

    async fn clean(&mut self, frame: &Frame, engine: &Engine, command: Command, what: &str) {
        if let Err(error) = self.must(engine, command, Until::Done, what).await {
            self.warning(frame.record, &error);
        }
    }

    /// Removes whatever there is, without a word: nobody listens any more.
    pub(super) async fn abandon_containers(&mut self) {
        let Some(Ok(engine)) = &self.containers.engine else { return };
        if let Ok(Ok(_)) = tokio::time::timeout(ABANDONED, engine.sweep()).await {
            leftovers::forget(&self.directories.work);
        }
    }

    /// The proxies of the runner, under both spellings (actions/runner `ContainerInfo.cs`, `UpdateWebProxyEnv`).
    pub(super) fn add_proxies(&self, environment: &mut Environment) {
        for name in ["http_proxy", "https_proxy", "no_proxy"] {
            let upper = name.to_ascii_uppercase();
            let value = self.host.variable(name).or_else(|| self.host.variable(&upper));
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                environment.set(upper, value);
                environment.set(name, value);
            }
        }
    }
}
