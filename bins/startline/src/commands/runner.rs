//! `startline runner register|start|remove|service`.

mod wizard;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;

use anstream::{eprintln, println};
use anyhow::Context;
use startline_client::{RunnerClient, Transport};
use startline_daemon::Signals;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::RegistrationTokenRequest;
use startline_protocol::token::{ApiToken, RegistrationToken, TokenKind};
use startline_runner::{Options, Outcome, Overrides, RegisterOptions, Registration, Shutdown};
use startline_worker::input::Connection;

use super::{follow, unit};
use crate::cli::{RegisterArgs, RemoveArgs, RunnerCommand, StartArgs};
use crate::exit::{self, Usage};
use crate::terminal;

pub(super) async fn execute(command: RunnerCommand) -> anyhow::Result<ExitCode> {
    match command {
        RunnerCommand::Register(args) => register(*args).await,
        RunnerCommand::Start(args) => start(args).await,
        RunnerCommand::Remove(args) => remove(args).await,
        RunnerCommand::Service(args) => unit::runner(&args),
    }
}

/// A registration as it will be asked for.
struct Plan {
    url: String,
    token: String,
    name: String,
    labels: Vec<String>,
    parallel: u32,
    ephemeral: bool,
    replace: bool,
}

impl Plan {
    /// Of what the command line and the environment say, with defaults for the rest but the token.
    fn unattended(args: &RegisterArgs) -> anyhow::Result<Self> {
        let token = match (&args.token, &args.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the token file {}", file.display()))?
                .trim()
                .to_owned(),
            (None, None) => {
                return Err(Usage(
                    "no token; set STARTLINE_TOKEN to a registration token (`slr_…`, from `startline token registration`) \
                     or give --token-file; on a terminal and without --yes you are asked for it"
                        .to_owned(),
                )
                .into());
            }
        };
        let labels = if args.labels.is_empty() { startline_runner::default_labels() } else { args.labels.clone() };
        Ok(Self {
            url: args.url.clone().unwrap_or_else(|| wizard::DEFAULT_URL.to_owned()),
            token,
            name: args.name.clone().unwrap_or_else(startline_runner::default_name),
            labels,
            parallel: args.parallel.unwrap_or(1),
            ephemeral: args.ephemeral,
            replace: args.replace,
        })
    }
}

async fn register(args: RegisterArgs) -> anyhow::Result<ExitCode> {
    let transport = args.network.transport()?;
    let has_token = args.token.is_some() || args.token_file.is_some();
    let attended = !args.yes && !args.json && !has_token && terminal::is_attended();
    let mut plan = if attended {
        let Some(plan) = wizard::ask(&args, &transport).await? else {
            eprintln!("nothing was registered");
            return Ok(ExitCode::from(exit::FAILED));
        };
        plan
    } else {
        Plan::unattended(&args)?
    };
    let dir = &args.place.dir;
    let registered = loop {
        match attempt(&plan, &transport, dir).await {
            Err(error) if attended && !plan.replace && is_name_taken(&error) && wizard::take_over(&plan.name)? => {
                plan.replace = true;
            }
            outcome => break outcome?,
        }
    };
    if args.json {
        let shown = serde_json::json!({
            "runner_id": registered.runner_id, "name": registered.name, "labels": registered.labels,
            "runner_group": registered.runner_group, "url": registered.url, "dir": dir,
        });
        println!("{shown}");
    } else {
        println!("runner {} registered as `{}`", registered.runner_id, registered.name);
        eprintln!(
            "labels: {}\nstart it: startline runner start --dir {dir}\nor with the machine: startline runner service --dir {dir}",
            registered.labels.join(", "),
            dir = dir.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn is_name_taken(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<startline_runner::Error>();
    matches!(error, Some(startline_runner::Error::Service(error)) if error.kind() == Some(kind::NAME_TAKEN))
}

async fn attempt(plan: &Plan, transport: &Transport, dir: &Path) -> anyhow::Result<Registration> {
    let token = registration_token(plan, transport).await?;
    // It will hold the runner's token and what jobs leave behind.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot create the runner's directory {}", dir.display()))?;
    let options = RegisterOptions {
        url: plan.url.clone(),
        token,
        name: plan.name.clone(),
        labels: plan.labels.clone(),
        capabilities: startline_runner::detect(dir, plan.parallel, &Overrides::default()),
        ephemeral: plan.ephemeral,
        replace: plan.replace,
        durable: true,
    };
    Ok(startline_runner::register(transport.clone(), &options, dir).await?)
}

/// The token given, or one minted with it.
async fn registration_token(plan: &Plan, transport: &Transport) -> anyhow::Result<RegistrationToken> {
    match TokenKind::of(&plan.token) {
        Some(TokenKind::Registration) => Ok(RegistrationToken::parse(plan.token.as_str())?),
        Some(TokenKind::Api) => {
            let client = RunnerClient::new(transport.clone(), &plan.url)?;
            let request = RegistrationTokenRequest {
                max_uses: Some(1),
                ephemeral: plan.ephemeral,
                expires_in_seconds: Some(300),
                ..RegistrationTokenRequest::default()
            };
            let minted = client.request_registration_token(&ApiToken::parse(plan.token.as_str())?, &request).await?;
            Ok(minted.token)
        }
        _ => Err(Usage(
            "the token is neither a registration token (`slr_…`) nor an API token (`slp_…`); mint one with `startline \
             token registration`"
                .to_owned(),
        )
        .into()),
    }
}

async fn start(args: StartArgs) -> anyhow::Result<ExitCode> {
    startline_daemon::logs::init(args.log_format, &args.log)?;
    let dir = &args.place.dir;
    let registration = Registration::load(dir)?;
    let mut signals = Signals::listen()?;
    let network = args.network.options();
    let defaults = Options::new(dir);
    let options = Options {
        max_parallel_jobs: registration.max_parallel_jobs,
        tool_cache: super::tool_cache(args.tool_cache.clone()).unwrap_or(defaults.tool_cache),
        workspace_from: args.workspace_from.clone(),
        node: args.node.clone(),
        container_cli: args.container_cli.clone(),
        connection: Connection {
            extra_ca: network.extra_ca.clone(),
            http_proxy: network.proxies.http.clone(),
            https_proxy: network.proxies.https.clone(),
            no_proxy: network.proxies.none.clone(),
        },
        ..defaults
    };
    eprintln!("runner `{}` takes jobs from {}; Ctrl-C to stop", registration.name, registration.url);
    let shutdown = Shutdown::new();
    let running = startline_runner::run(options, registration, Transport::new(&network)?, shutdown.clone());
    let mut running = std::pin::pin!(running);
    let mut asked = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome?,
            _ = signals.recv() => {
                if asked {
                    eprintln!("cancelling the jobs that run");
                } else {
                    eprintln!("stopping; jobs that run are finished first. Again to cancel them.");
                }
                asked = true;
                shutdown.escalate();
            }
        }
    };
    Ok(ExitCode::from(match outcome {
        Outcome::JobEnded { job_id, conclusion } => {
            let word = conclusion.map_or("was taken away", |conclusion| conclusion.as_str());
            eprintln!("job {job_id}: {word}");
            follow::conclusion_code(conclusion)
        }
        Outcome::Removed => {
            eprintln!("the service has removed this ephemeral runner");
            0
        }
        Outcome::Stopped | Outcome::Idle => 0,
    }))
}

async fn remove(args: RemoveArgs) -> anyhow::Result<ExitCode> {
    match args.runner {
        Some(id) => {
            args.connect.client()?.delete_runner(id, args.force).await?;
            eprintln!("runner {id} removed");
        }
        None => {
            let dir = &args.place.dir;
            let name = Registration::load(dir)?.name;
            startline_runner::remove(args.connect.network.transport()?, dir, args.force).await?;
            eprintln!("runner `{name}` removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}
