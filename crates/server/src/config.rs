//! The service's configuration: flags ⊃ environment ⊃ TOML file ⊃ defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::sources::Mirrors;
use anyhow::bail;
use serde::{Deserialize, Serialize};
use startline_daemon::client_address::Networks;
use startline_daemon::config::{self, Period, Resolved, Size};
use startline_daemon::trace::CollectorHeaders;
use startline_daemon::{LogFormat, ProxyHeader};

/// How durable a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// On disk before it is acknowledged; survives a loss of power.
    Full,
    /// Survives a crash of the process; a loss of power may take the last moments.
    Normal,
}

impl FromStr for Synchronous {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "normal" => Ok(Self::Normal),
            _ => Err(format!("`{text}` is not one of full, normal")),
        }
    }
}

/// Who decides that a job becomes a scale set's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleSetMode {
    /// The service assigns it.
    Assign,
    /// The service announces it, and the first listener that acquires it has it.
    Acquire,
}

impl FromStr for ScaleSetMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "assign" => Ok(Self::Assign),
            "acquire" => Ok(Self::Acquire),
            _ => Err(format!("`{text}` is not one of assign, acquire")),
        }
    }
}

startline_daemon::config! {
    /// Settings of the service.
    pub struct ServerConfig, layer ServerLayer {
        /// Address to listen on; port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7070)), env "STARTLINE_LISTEN", arg(value_name = "ADDRESS");
        /// Address under which runners reach the service; all URLs sent to them begin with it. Else that of --listen.
        url: String, env "STARTLINE_PUBLIC_URL", arg(id = "public_url", long = "public-url", value_name = "URL");
        /// Directory for everything that the service keeps; created with mode 0700.
        data_dir: PathBuf = PathBuf::from("startline-data"), env "STARTLINE_DATA_DIR", arg(value_name = "DIR");
        /// File with the keys that seal secrets, made at the first start. Else secrets.key in the data directory.
        secrets_key_file: PathBuf, env "STARTLINE_SECRETS_KEY_FILE", arg(value_name = "FILE");
        /// PEM file with the service's certificate, then those between it and the root; read again when it changes.
        tls_cert: PathBuf, env "STARTLINE_TLS_CERT", arg(value_name = "FILE");
        /// PEM file with the certificate's private key.
        tls_key: PathBuf, env "STARTLINE_TLS_KEY", arg(value_name = "FILE");
        /// Speak TLS with a certificate of the service's own authority, which is made in the data directory.
        tls_self_signed: bool = false, env "STARTLINE_TLS_SELF_SIGNED", arg(num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false");
        /// Networks of proxies that are believed when they say whom they forward for, such as `10.0.0.0/8,192.0.2.1`.
        trusted_proxies: Networks = Networks::default(), env "STARTLINE_TRUSTED_PROXIES", arg(value_name = "CIDR,…");
        /// Header in which the trusted proxies say so.
        proxy_header: ProxyHeader = ProxyHeader::XForwardedFor, env "STARTLINE_PROXY_HEADER";
        /// Allow plain HTTP on other addresses than loopback, as behind a proxy that speaks TLS.
        allow_plain_http: bool = false, env "STARTLINE_ALLOW_PLAIN_HTTP", arg(num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false");
        /// When a commit counts as durable: `full` (survives a loss of power) or `normal`.
        synchronous: Synchronous = Synchronous::Full, env "STARTLINE_SYNCHRONOUS", arg(value_name = "full|normal");
        /// How long a runner keeps a job without renewing its lease.
        lease: Period = Period::from_secs(90), env "STARTLINE_LEASE", arg(value_name = "DURATION");
        /// How long an offered job waits to be acquired.
        offer_window: Period = Period::from_secs(120), env "STARTLINE_OFFER_WINDOW", arg(value_name = "DURATION");
        /// How long a runner may be silent before it counts as offline.
        offline_after: Period = Period::from_secs(60), env "STARTLINE_OFFLINE_AFTER", arg(value_name = "DURATION");
        /// How often runners are told to send a heartbeat.
        heartbeat_interval: Period = Period::from_secs(15), env "STARTLINE_HEARTBEAT_INTERVAL", arg(value_name = "DURATION");
        /// How long a job waits for a runner before it fails.
        queue_timeout: Period = Period::from_secs(24 * 60 * 60), env "STARTLINE_QUEUE_TIMEOUT", arg(value_name = "DURATION");
        /// How long runners are told to hold a poll; at most 60s.
        poll_timeout: Period = Period::from_secs(30), env "STARTLINE_POLL_TIMEOUT", arg(value_name = "DURATION");
        /// How long an official GitHub runner's poll is held; at most 55s.
        broker_poll_timeout: Period = Period::from_secs(50), env "STARTLINE_BROKER_POLL_TIMEOUT", arg(value_name = "DURATION");
        /// How long an official GitHub runner keeps a job without renewing its lock, which it does each minute.
        actions_lease: Period = Period::from_secs(300), env "STARTLINE_ACTIONS_LEASE", arg(value_name = "DURATION");
        /// How scale sets of GitHub's listener get jobs: `assign` (the service decides) or `acquire` (the listener takes them).
        scale_set_mode: ScaleSetMode = ScaleSetMode::Assign, env "STARTLINE_SCALE_SET_MODE", arg(value_name = "assign|acquire");
        /// How long a job that is assigned to a scale set waits for one of its runners before it is assigned anew.
        scale_set_patience: Period = Period::from_secs(300), env "STARTLINE_SCALE_SET_PATIENCE", arg(value_name = "DURATION");
        /// TOML file with the Apps that controllers may sign in as, each with the path of its public key.
        apps_file: PathBuf, env "STARTLINE_APPS_FILE", arg(value_name = "FILE");
        /// Directory with actions: `owner/repo` as git repositories, `owner/repo@ref` as directories or tarballs.
        actions_dir: PathBuf, env "STARTLINE_ACTIONS_DIR", arg(value_name = "DIR");
        /// Mirrors that actions are taken from, such as `https://git.example.com/{owner}/{repo}` or, with `{ref}`, tarballs.
        actions_mirror: Mirrors = Mirrors::default(), env "STARTLINE_ACTIONS_MIRROR", arg(value_name = "URL,…");
        /// Take no action from github.com.
        actions_offline: bool = false, env "STARTLINE_ACTIONS_OFFLINE", arg(num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false");
        /// Directory of archives of actions, which services may share. Else actions in the data directory.
        actions_cache_dir: PathBuf, env "STARTLINE_ACTIONS_CACHE_DIR", arg(value_name = "DIR");
        /// Most bytes of archives of actions that are kept.
        actions_cache_limit: u64 = 10 * 1024 * 1024 * 1024, env "STARTLINE_ACTIONS_CACHE_LIMIT", arg(value_name = "BYTES");
        /// How long one step of taking an action from a source may last.
        actions_timeout: Period = Period::from_secs(60), env "STARTLINE_ACTIONS_TIMEOUT", arg(value_name = "DURATION");
        /// Address of the forge that jobs check repositories out from. Else the service itself.
        git_url: String, env "STARTLINE_GIT_URL", arg(value_name = "URL");
        /// Directory with git repositories, `owner/name` or `owner/name.git`, that the service serves to their jobs for reading.
        repositories_dir: PathBuf, env "STARTLINE_REPOSITORIES_DIR", arg(value_name = "DIR");
        /// How often a job is queued again after its runner was lost.
        requeues: u32 = 1, env "STARTLINE_REQUEUES", arg(value_name = "N");
        /// Object store for the content of artifacts and caches, `s3://bucket/prefix`. Else the data directory.
        blobs: String, env "STARTLINE_BLOBS", arg(value_name = "s3://BUCKET/PREFIX");
        /// URL of the object store. Else that of AWS in the region.
        s3_endpoint: String, env "AWS_ENDPOINT_URL", arg(value_name = "URL");
        /// Region that requests to the object store are signed for.
        s3_region: String = "us-east-1".to_owned(), env "AWS_REGION", arg(value_name = "REGION");
        /// File with the object store's credentials, as AWS's tools write it. Else AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
        s3_credentials_file: PathBuf, env "AWS_SHARED_CREDENTIALS_FILE", arg(value_name = "FILE");
        /// How much the artifacts of one repository may take together.
        artifact_quota: Size = Size::from_bytes(50 << 30), env "STARTLINE_ARTIFACT_QUOTA", arg(value_name = "SIZE");
        /// The longest that an artifact is kept; a job may ask for less.
        artifact_retention: Period = Period::from_secs(90 * 86_400), env "STARTLINE_ARTIFACT_RETENTION", arg(value_name = "DURATION");
        /// How much the caches of one repository may take together; those that were not used for longest give way.
        cache_quota: Size = Size::from_bytes(10 << 30), env "STARTLINE_CACHE_QUOTA", arg(value_name = "SIZE");
        /// How long a cache entry is kept that no job uses.
        cache_retention: Period = Period::from_secs(7 * 86_400), env "STARTLINE_CACHE_RETENTION", arg(value_name = "DURATION");
        /// Claims of jobs' id tokens: further ones and, as `sub`, another subject, such as `tier=gold,sub=repo:{repository}`.
        id_token_claims: String = String::new(), env "STARTLINE_ID_TOKEN_CLAIMS", arg(value_name = "NAME=VALUE,…");
        /// How long an ephemeral runner without a job may be silent before its registration is removed.
        ephemeral_idle: Period = Period::from_secs(600), env "STARTLINE_EPHEMERAL_IDLE", arg(value_name = "DURATION");
        /// How long any other runner may be silent before its registration is removed.
        runner_retention: Period = Period::from_secs(14 * 86_400), env "STARTLINE_RUNNER_RETENTION", arg(value_name = "DURATION");
        /// How long a run is kept after its end, with its jobs and logs. 0s: for ever.
        run_retention: Period = Period::from_secs(90 * 86_400), env "STARTLINE_RUN_RETENTION", arg(value_name = "DURATION");
        /// How long lines of the audit log are kept. 0s: for ever.
        audit_retention: Period = Period::from_secs(400 * 86_400), env "STARTLINE_AUDIT_RETENTION", arg(value_name = "DURATION");
        /// How often it is looked for what is to be removed or purged.
        housekeeping_interval: Period = Period::from_secs(60), env "STARTLINE_HOUSEKEEPING_INTERVAL", arg(value_name = "DURATION");
        /// How many live events are kept for readers that are slow or come back.
        events_kept: usize = 8192, env "STARTLINE_EVENTS_KEPT", arg(value_name = "N");
        /// Most connections at once; further ones wait.
        max_connections: usize = 10_000, env "STARTLINE_MAX_CONNECTIONS", arg(value_name = "N");
        /// Requests a second of one address that show no bearer, or a new one; ten times as many at once. 0: no limit.
        address_rate: u32 = 200, env "STARTLINE_ADDRESS_RATE", arg(value_name = "N");
        /// Bearers a second that one address may have refused; ten times as many at once. 0: no limit.
        failed_auth_rate: u32 = 20, env "STARTLINE_FAILED_AUTH_RATE", arg(value_name = "N");
        /// Requests a second of one bearer; ten times as many at once. 0: no limit.
        bearer_rate: u32 = 500, env "STARTLINE_BEARER_RATE", arg(value_name = "N");
        /// Most requests at once of those that cost much (submissions, logs, ends of jobs, listings). 0: no limit.
        concurrency: usize = 64, env "STARTLINE_CONCURRENCY", arg(value_name = "N");
        /// Most such requests of one organization that wait for their turn.
        tenant_queue: usize = 4096, env "STARTLINE_TENANT_QUEUE", arg(value_name = "N");
        /// How long a client may take to send the head of a request.
        header_timeout: Period = Period::from_secs(10), env "STARTLINE_HEADER_TIMEOUT", arg(value_name = "DURATION");
        /// How long open requests may take to end after a signal to stop.
        drain_timeout: Period = Period::from_secs(30), env "STARTLINE_DRAIN_TIMEOUT", arg(value_name = "DURATION");
        /// Collector that traces are sent to over OTLP (HTTP, protobuf); `/v1/traces` is added.
        otlp_endpoint: String, env "OTEL_EXPORTER_OTLP_ENDPOINT", arg(value_name = "URL");
        /// Headers that the collector wants, such as `api-key=…`; better given by environment or file than as a flag.
        otlp_headers: CollectorHeaders = CollectorHeaders::default(), env "OTEL_EXPORTER_OTLP_HEADERS", arg(value_name = "NAME=VALUE,…");
        /// Name of the service in its traces.
        otlp_service_name: String = "startline".to_owned(), env "OTEL_SERVICE_NAME", arg(value_name = "NAME");
        /// How many of the traces that begin here are sampled, 0 to 1; callers decide for those that they begin.
        otlp_sample_ratio: f64 = 1.0, env "OTEL_TRACES_SAMPLER_ARG", arg(value_name = "RATIO");
        /// Form of the service's own log: `text` or `json`.
        log_format: LogFormat = LogFormat::Text, env "STARTLINE_LOG_FORMAT", arg(value_name = "text|json");
        /// Filter of the service's own log, such as `info` or `startline_server=debug`.
        log: String = "info".to_owned(), env "STARTLINE_LOG", arg(value_name = "FILTER");
    }
}

/// The command line of `startline server`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// TOML file with settings; flags and environment win over it
    #[arg(long, env = "STARTLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings as they come out of flags, environment, file and defaults, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Mint another admin token and print it, for when the first one is lost
    #[arg(long)]
    pub new_admin_token: bool,
    /// The settings.
    #[command(flatten)]
    pub settings: ServerLayer,
}

/// Where actions come from, for a command that starts a service of its own; spelled as for `startline server`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ActionsArgs {
    /// Directory with actions: `owner/repo` as git repositories, `owner/repo@ref` as directories or tarballs
    #[arg(long, env = "STARTLINE_ACTIONS_DIR", value_name = "DIR")]
    pub actions_dir: Option<PathBuf>,
    /// Mirrors that actions are taken from, such as `https://git.example.com/{owner}/{repo}` or, with `{ref}`, tarballs
    #[arg(long, env = "STARTLINE_ACTIONS_MIRROR", value_name = "URL,…")]
    pub actions_mirror: Option<Mirrors>,
    /// Take no action from github.com
    #[arg(long, env = "STARTLINE_ACTIONS_OFFLINE", num_args = 0..=1, default_value = "false",
          default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub actions_offline: bool,
}

impl ActionsArgs {
    /// A service's settings with these in them.
    #[must_use]
    pub fn apply(self, config: ServerConfig) -> ServerConfig {
        ServerConfig {
            actions_dir: self.actions_dir.or(config.actions_dir),
            actions_mirror: self.actions_mirror.unwrap_or(config.actions_mirror),
            actions_offline: self.actions_offline || config.actions_offline,
            ..config
        }
    }
}

impl Args {
    /// Merges the layers.
    ///
    /// # Errors
    /// When the file cannot be read or has a setting that does not exist.
    pub fn resolve(self) -> Result<Resolved<ServerConfig>, config::ConfigError> {
        let file = self.config.map(config::read).transpose()?;
        Ok(ServerConfig::resolve(self.settings, file))
    }
}

impl ServerConfig {
    /// The defaults.
    #[must_use]
    pub fn defaults() -> Self {
        Self::resolve(ServerLayer::default(), None).config
    }

    /// What `--id-token-claims` says.
    pub(crate) fn identity_rules(&self) -> anyhow::Result<crate::actions::IdentityRules> {
        self.id_token_claims.parse().map_err(|error: String| anyhow::anyhow!("--id-token-claims: {error}"))
    }

    /// Refuses settings that cannot be meant.
    ///
    /// # Errors
    /// Names the setting and the remedy.
    pub fn check(&self) -> anyhow::Result<()> {
        crate::transport::check(self)?;
        if let Some(url) = &self.url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            bail!("--public-url `{url}` is not a URL; write it like https://ci.example.com");
        }
        if !(0.0..=1.0).contains(&self.otlp_sample_ratio) {
            bail!("--otlp-sample-ratio is {}; it must be 0 to 1", self.otlp_sample_ratio);
        }
        self.identity_rules()?;
        crate::blob_store::check(self)?;
        if let Some(url) = &self.git_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            bail!("--git-url `{url}` is not a URL; write it like https://github.com");
        }
        for (name, directory) in [("actions-dir", &self.actions_dir), ("repositories-dir", &self.repositories_dir)] {
            if let Some(directory) = directory.as_ref().filter(|directory| !directory.is_dir()) {
                bail!("--{name} {} is not a directory", directory.display());
            }
        }
        let poll = self.poll_timeout.get().as_secs();
        if !(1..=60).contains(&poll) {
            bail!("--poll-timeout is {}; it must be 1s to 60s", self.poll_timeout);
        }
        let held = self.broker_poll_timeout.get();
        if held.as_secs() == 0 || held > crate::actions::LONGEST_POLL {
            bail!("--broker-poll-timeout is {}; it must be 1s to 55s", self.broker_poll_timeout);
        }
        for (name, period) in [
            ("actions-lease", self.actions_lease),
            ("scale-set-patience", self.scale_set_patience),
            ("artifact-retention", self.artifact_retention),
            ("cache-retention", self.cache_retention),
            ("actions-timeout", self.actions_timeout),
            ("lease", self.lease),
            ("offer-window", self.offer_window),
            ("offline-after", self.offline_after),
            ("queue-timeout", self.queue_timeout),
            ("heartbeat-interval", self.heartbeat_interval),
            ("housekeeping-interval", self.housekeeping_interval),
        ] {
            if period.get().as_secs() == 0 {
                bail!("--{name} is {period}; it must be at least 1s");
            }
        }
        for (name, period) in [("run-retention", self.run_retention), ("audit-retention", self.audit_retention)] {
            if (1..120).contains(&period.get().as_millis().div_ceil(1000)) {
                bail!("--{name} is {period}; it must be at least 2m, or 0s to keep all for ever");
            }
        }
        if self.heartbeat_interval >= self.offline_after {
            bail!(
                "--heartbeat-interval ({}) must be shorter than --offline-after ({}), or every runner goes offline \
                 between two heartbeats",
                self.heartbeat_interval,
                self.offline_after
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        ServerConfig::defaults().check().unwrap();
    }

    #[test]
    fn plain_http_beyond_loopback_must_be_asked_for() {
        let mut config = ServerConfig { listen: "0.0.0.0:7070".parse().unwrap(), ..ServerConfig::defaults() };
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:7070") && error.contains("--allow-plain-http"), "{error}");
        config.allow_plain_http = true;
        config.check().unwrap();
    }

    #[test]
    fn claims_of_id_tokens_that_cannot_be_set_are_refused_at_the_start() {
        let config = ServerConfig { id_token_claims: "aud=x".to_owned(), ..ServerConfig::defaults() };
        assert!(config.check().unwrap_err().to_string().contains("--id-token-claims"));
    }

    #[test]
    fn what_ended_a_moment_ago_is_not_purged() {
        let with = |run_retention, audit_retention| {
            ServerConfig { run_retention, audit_retention, ..ServerConfig::defaults() }
                .check()
                .map_err(|error| error.to_string())
        };
        let (never, shortest) = (Period::default(), Period::from_secs(120));
        with(never, shortest).unwrap();
        with(shortest, never).unwrap();
        let short = Period::from_secs(119);
        assert!(with(short, never).unwrap_err().contains("--run-retention is 1m59s; it must be at least 2m"));
        assert!(with(never, short).unwrap_err().contains("--audit-retention"));
    }

    #[test]
    fn a_heartbeat_slower_than_the_offline_limit_is_refused() {
        let config = ServerConfig { heartbeat_interval: Period::from_secs(60), ..ServerConfig::defaults() };
        assert!(config.check().unwrap_err().to_string().contains("--heartbeat-interval"));
    }
}
