//! The service: routes, auth, dispatch, results intake, health.
//!
//! The room turns requests into decisions of the dispatcher and steps of the store, and drives runs by asking the
//! workflow planner what follows. It owns the HTTP surface and the timers; what is decided, stored or compiled belongs to
//! the rooms that it calls.

mod actions;
mod audit;
mod auth;
mod blob_store;
mod called;
mod changes;
mod concurrency;
mod config;
mod console;
mod data_dir;
mod dispatch;
mod endpoint;
mod events;
#[cfg(test)]
mod fixtures;
mod front;
mod groups;
mod housekeeping;
mod intake;
mod keeping;
mod leases;
mod limits;
mod message;
mod metrics;
mod openapi;
mod preview;
mod problem;
mod purge;
mod readiness;
mod restore;
mod routes;
mod runs;
mod sources;
mod submission;
mod to_its_end;
mod token_cache;
mod traces;
mod transport;
mod values;
mod views;
mod workflows;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use startline_crypto::{JobTokenKey, KeyRing};
use startline_daemon::trace::{Collector, Exporter, TraceMetrics, Tracer};
use startline_daemon::{BuildInfo, ClientAddress, Clock, Drain, Health, Listener, Report, health_router, serve_with};
use startline_dispatcher::Dispatcher;
use startline_protocol::permission::Permission;
use startline_protocol::scope::Scope;
use startline_protocol::token::ApiToken;
use startline_store::logs::Logs;
use startline_store::{NewApiToken, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer as _;

use keeping::Keeping;

pub use actions::Door;
pub use config::{ActionsArgs, Args, ScaleSetMode, ServerConfig, ServerLayer, Synchronous};
pub use preview::preview;
pub use sources::Mirrors;

/// What every handler may use.
pub(crate) struct App {
    pub actions: actions::Actions,
    pub store: Arc<dyn Store>,
    pub logs: Logs,
    pub clock: Clock,
    pub config: Settings,
    pub dispatch: Arc<dispatch::Dispatch>,
    pub runs: runs::Runs,
    pub lines: concurrency::Lines,
    pub changes: changes::Changes,
    pub consoles: console::Consoles,
    pub events: Arc<events::Hub>,
    pub streams: routes::Streams,
    pub sources: Arc<sources::Sources>,
    pub repositories: sources::Repositories,
    pub leases: leases::Leases,
    pub workflows: workflows::Workflows,
    pub deadlines: Mutex<dispatch::Deadlines>,
    pub polls_end: front::Ends,
    pub runner_tokens: auth::RunnerTokens,
    pub job_claims: token_cache::TokenCache<startline_crypto::job_token::Claims>,
    pub api_tokens: token_cache::TokenCache<Arc<startline_store::ApiTokenRecord>>,
    pub values: values::Cache,
    pub refusals: audit::Refusals,
    pub limits: limits::Limits,
    pub turns: Arc<limits::Turns>,
    pub job_tokens: JobTokenKey,
    pub sealing: KeyRing,
    pub metrics: Arc<metrics::Metrics>,
    pub tracer: Tracer,
    pub tasks: TaskTracker,
    pub drain: CancellationToken,
}

/// What handlers need of the configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Begins every URL that is sent out; without a slash at its end. Never taken from a request.
    pub url: String,
    /// Where repositories are: `github.server_url` and its like.
    pub forge: submission::Forge,
    pub requeues: u32,
    pub poll_timeout_seconds: u32,
    pub heartbeat_interval_seconds: u32,
    lease_seconds: u32,
    /// How long runs are kept after their end; zero: for ever.
    pub run_retention: startline_daemon::config::Period,
}

impl Settings {
    fn new(config: &ServerConfig, scheme: &str, address: SocketAddr) -> Self {
        let seconds =
            |period: startline_daemon::config::Period| u32::try_from(period.get().as_secs()).unwrap_or(u32::MAX);
        let url = config.url.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
        let url = url.trim_end_matches('/').to_owned();
        Self {
            forge: submission::Forge::at(config.git_url.as_deref().unwrap_or(&url), config.artifact_retention.get()),
            url,
            requeues: config.requeues,
            poll_timeout_seconds: seconds(config.poll_timeout),
            heartbeat_interval_seconds: seconds(config.heartbeat_interval).max(1),
            lease_seconds: seconds(config.lease),
            run_retention: config.run_retention,
        }
    }

    /// A third of the lease, so that two renewals may be lost.
    pub(crate) fn renew_interval_seconds(&self) -> u32 {
        (self.lease_seconds / 3).max(1)
    }
}

/// A service that answers.
#[derive(Debug)]
pub struct Running {
    url: String,
    address: SocketAddr,
    authority: Option<PathBuf>,
    admin_token: Option<ApiToken>,
    drain: Drain,
    task: JoinHandle<Report>,
}

impl Running {
    /// Where the API is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that clients must trust, where the service has made its own authority.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// The admin token, if one was minted by this start.
    #[must_use]
    pub const fn admin_token(&self) -> Option<&ApiToken> {
        self.admin_token.as_ref()
    }

    /// Stops the service: [`Drain::start`] in an orderly way, [`Drain::abort`] at once.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Waits until the service has stopped.
    pub async fn wait(self) -> Report {
        self.task.await.unwrap_or_default()
    }

    /// Stops in an orderly way and waits.
    pub async fn stop(self) -> Report {
        self.drain.start();
        self.wait().await
    }
}

/// The document of the API, OpenAPI 3.1, as it is checked in under `docs`.
#[must_use]
pub fn openapi() -> String {
    let mut text = serde_json::to_string_pretty(&openapi::document()).unwrap_or_default();
    text.push('\n');
    text
}

/// Every route of GitHub's protocol that the service answers.
#[must_use]
pub fn doors() -> Vec<Door> {
    actions::list()
}

/// Starts the service: binds, opens the data directory, takes unfinished runs up again and answers.
///
/// # Errors
/// When the settings, the port or the data directory cannot be used; nothing is left running then. The text names the
/// thing and the remedy.
pub async fn start(config: ServerConfig, new_admin_token: bool) -> anyhow::Result<Running> {
    start_by(Clock::system(), config, new_admin_token).await
}

/// Starts a service that is as passing as its process: records and keys are in memory alone, so that nothing waits for a
/// disk. Logs, artifacts and caches are files in the data directory, as always.
///
/// # Errors
/// As [`start`].
pub async fn start_passing(config: ServerConfig) -> anyhow::Result<Running> {
    start_kept(Clock::system(), config, false, Keeping::InMemory).await
}

/// Starts the service as [`start`] does, by another clock than the system's: offers, leases, signs of life and tokens end
/// by it.
///
/// # Errors
/// As [`start`].
pub async fn start_by(clock: Clock, config: ServerConfig, new_admin_token: bool) -> anyhow::Result<Running> {
    start_kept(clock, config, new_admin_token, Keeping::OnDisk).await
}

async fn start_kept(
    clock: Clock,
    config: ServerConfig,
    new_admin_token: bool,
    keeping: Keeping,
) -> anyhow::Result<Running> {
    config.check()?;
    // Before anything is touched: a second service on the same port must not open the first one's data.
    let listener = Listener::bind(config.listen).await?;
    let address = listener.local_addr();
    let directory = data_dir::DataDir::open(&config.data_dir)?;
    let transport::Transport { listen, authority } = transport::Transport::new(&config, &directory.tls(), address)?;
    let build =
        BuildInfo { version: env!("CARGO_PKG_VERSION"), commit: option_env!("STARTLINE_COMMIT").unwrap_or("unknown") };
    let mut registry = startline_daemon::Metrics::new(build);
    let metrics = metrics::Metrics::register(registry.registry());

    let kept = match keeping {
        Keeping::OnDisk => keeping::Kept::on_disk(&config, &directory, &metrics)?,
        Keeping::InMemory => keeping::Kept::in_memory(&directory)?,
    };
    let quotas = actions::Quotas {
        artifacts: config.artifact_quota.bytes(),
        caches: config.cache_quota.bytes(),
        artifact_retention: signed(config.artifact_retention.get()),
        cache_retention: signed(config.cache_retention.get()),
    };
    let storage = actions::Storage::new(blob_store::open(&config, &directory).await?, quotas);
    let tasks = TaskTracker::new();
    let git = sources::Git::new();
    let sources = sources::Options {
        directory: config.actions_dir.clone(),
        mirrors: config.actions_mirror.clone(),
        offline: config.actions_offline,
        cache: config.actions_cache_dir.clone().unwrap_or_else(|| directory.actions()),
        cache_limit: config.actions_cache_limit,
        timeout: config.actions_timeout.get(),
    };

    let drain = Drain::new();
    let dispatcher = Dispatcher::new(startline_dispatcher::Config {
        offer_window: signed(config.offer_window.get()),
        lease_duration: signed(config.lease.get()),
        offline_after: signed(config.offline_after.get()),
        ..startline_dispatcher::Config::default()
    });
    let events = events::Hub::new(clock.clone(), config.events_kept);
    let scale_sets = Arc::new(actions::ScaleSets::new(
        clock.clone(),
        config.scale_set_mode,
        signed(config.scale_set_patience.get()),
    ));
    let dispatch = Arc::new(dispatch::Dispatch::new(dispatcher, Arc::clone(&events), Arc::clone(&scale_sets)));
    let turns = Arc::new(limits::Turns::new(&config));
    registry.registry().register_collector(Box::new(metrics::Derived::new(&dispatch, &turns)));
    let connections = startline_daemon::serve::ConnectionMetrics::register(registry.registry());
    let settings = Settings::new(&config, listen.scheme(), address);
    let (tracer, exporter) = traces(&config, build.version, TraceMetrics::register(registry.registry()))?;
    let app = Arc::new(App {
        actions: actions::Actions::new(actions::Given {
            tokens: kept.bearers,
            addresses: kept.addresses,
            keys: kept.runner_keys,
            storage,
            identity: actions::Identity::new(&settings.url, directory.id_token_key(), config.identity_rules()?),
            scale_sets,
            url: settings.url.clone(),
            poll_timeout: config.broker_poll_timeout.get(),
            lease: signed(config.actions_lease.get()),
            apps: actions::Apps::read(config.apps_file.as_deref())?,
        }),
        store: kept.store,
        logs: kept.logs,
        clock: clock.clone(),
        config: settings,
        dispatch,
        runs: runs::Runs::default(),
        lines: concurrency::Lines::default(),
        changes: changes::Changes::new(u64::try_from(clock.now().as_microsecond()).unwrap_or_default()),
        consoles: console::Consoles::default(),
        events,
        streams: routes::Streams::default(),
        sources: Arc::new(sources::Sources::new(sources, git.clone(), clock.clone(), tasks.clone())),
        repositories: sources::Repositories::new(config.repositories_dir.clone(), git, tasks.clone()),
        leases: leases::Leases::default(),
        workflows: workflows::Workflows::default(),
        deadlines: Mutex::default(),
        polls_end: front::Ends::new(),
        runner_tokens: auth::RunnerTokens::default(),
        job_claims: token_cache::TokenCache::signed(),
        api_tokens: token_cache::TokenCache::default(),
        values: values::Cache::default(),
        refusals: audit::Refusals::default(),
        limits: limits::Limits::new(&config),
        turns,
        job_tokens: kept.job_tokens,
        sealing: kept.sealing,
        metrics,
        tracer,
        tasks,
        drain: drain.draining().clone(),
    });
    let admin_token = admin_token(&app, new_admin_token).await?;
    app.restore().await.context("cannot take up the unfinished runs")?;
    app.events.open();
    app.tasks.spawn(Arc::clone(&app).run_timer());
    app.tasks.spawn(Arc::clone(&app).record_offers());
    app.tasks.spawn(Arc::clone(&app).keep_house(housekeeping::Limits {
        every: config.housekeeping_interval.get(),
        ephemeral_idle: signed(config.ephemeral_idle.get()),
        runner_retention: signed(config.runner_retention.get()),
        queue_timeout: config.queue_timeout,
    }));
    app.tasks.spawn(Arc::clone(&app).purge(purge::Limits {
        every: config.housekeeping_interval.get(),
        runs: config.run_retention,
        audit: config.audit_retention,
    }));
    app.tasks.spawn(Arc::clone(&app.events).run(app.drain.clone()));

    let health = Health::new(&drain);
    let database = readiness::Database::new(&app.store, health.component("database"));
    let health = health_router(health, registry.finish());
    let health = health.layer(axum::middleware::from_fn_with_state(database, readiness::ask));
    let router = routes::router(&app).merge(actions::router(&app)).merge(health);
    let clients = ClientAddress::new(config.trusted_proxies.clone(), config.proxy_header);
    let service = clients.layer(limits::Admission::new(&app, front::Front::new(&app, router)));
    let options = startline_daemon::Options {
        header_read_timeout: config.header_timeout.get(),
        max_connections: config.max_connections,
        drain_timeout: config.drain_timeout.get(),
        metrics: connections,
        ..startline_daemon::Options::default()
    };
    let stop_export = CancellationToken::new();
    let export = exporter.map(|exporter| exporter.run(stop_export.clone()));
    let export = TaskTracker::new().spawn(async move {
        if let Some(export) = export {
            export.await;
        }
    });
    let url = app.config.url.clone();
    if config.url.is_none() && address.ip().is_unspecified() {
        tracing::warn!("runners are told to come to {url}, which works on this machine alone; give --public-url");
    }
    let task = TaskTracker::new().spawn({
        let drain = drain.clone();
        async move {
            let report = serve_with(listener, listen, service, options, drain).await;
            app.tasks.close();
            // What is still being written is written; a pass that retries against a broken disk is not waited for.
            drop(tokio::time::timeout(Duration::from_secs(5), app.tasks.wait()).await);
            if let Err(error) = app.store.close().await {
                tracing::warn!(%error, "the store did not close in an orderly way");
            }
            stop_export.cancel();
            // It bounds itself.
            drop(export.await);
            report
        }
    });
    Ok(Running { url, address, authority, admin_token, drain, task })
}

/// The tracer, and what exports for it where there is a collector.
fn traces(
    config: &ServerConfig,
    version: &'static str,
    metrics: TraceMetrics,
) -> anyhow::Result<(Tracer, Option<Exporter>)> {
    let Some(endpoint) = config.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
        return Ok((Tracer::off(), None));
    };
    let service = config.otlp_service_name.clone();
    let collector = Collector::new(endpoint, config.otlp_headers.clone(), service, version)
        .context("--otlp-endpoint cannot be used")?;
    let (tracer, exporter) = Tracer::new(collector, config.otlp_sample_ratio, metrics);
    Ok((tracer, Some(exporter)))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

async fn admin_token(app: &Arc<App>, another: bool) -> anyhow::Result<Option<ApiToken>> {
    if !another && app.store.has_api_tokens().await? {
        return Ok(None);
    }
    let token = startline_crypto::new_api_token();
    let created = app
        .store
        .create_api_token(NewApiToken {
            name: "admin".to_owned(),
            hash: startline_crypto::token::hash(token.expose()).0,
            scope: Scope::Instance,
            permissions: Permission::ALL.to_vec(),
            created_at: app.clock.now(),
            expires_at: None,
        })
        .await?;
    app.audit_own("token.create", format_args!("api_token:{} (admin)", created.id), Scope::Instance, &[]);
    Ok(Some(token))
}
