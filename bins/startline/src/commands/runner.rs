//! `startline runner register|start|remove`.

use std::os::unix::fs::DirBuilderExt as _;
use std::process::ExitCode;

use anstream::{eprintln, println};
use anyhow::Context;
use startline_client::{RunnerClient, Transport};
use startline_daemon::Signals;
use startline_protocol::runner_api::RegistrationTokenRequest;
use startline_protocol::token::{ApiToken, RegistrationToken, TokenKind};
use startline_runner::{Options, Outcome, Overrides, RegisterOptions, Registration, Shutdown};
use startline_worker::input::Connection;

use super::follow;
use crate::cli::{RegisterArgs, RemoveArgs, RunnerCommand, StartArgs};
use crate::exit::Usage;

pub(super) async fn execute(command: RunnerCommand) -> anyhow::Result<ExitCode> {
    match command {
        RunnerCommand::Register(args) => register(*args).await,
        RunnerCommand::Start(args) => start(args).await,
        RunnerCommand::Remove(args) => remove(args).await,
    }
}

async fn register(args: RegisterArgs) -> anyhow::Result<ExitCode> {
    let transport = args.network.transport()?;
    let token = registration_token(&args, &transport).await?;
    let dir = &args.place.dir;
    // It will hold the runner's token and what jobs leave behind.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot create the runner's directory {}", dir.display()))?;
    let mut labels = args.labels.clone();
    if labels.is_empty() {
        labels = startline_runner::default_labels();
    }
    let options = RegisterOptions {
        url: args.url.clone(),
        token,
        name: args.name.clone().unwrap_or_else(startline_runner::default_name),
        labels,
        capabilities: startline_runner::detect(dir, args.parallel, &Overrides::default()),
        ephemeral: args.ephemeral,
        replace: args.replace,
    };
    let registered = startline_runner::register(transport, &options, dir).await?;
    if args.json {
        let shown = serde_json::json!({
            "runner_id": registered.runner_id, "name": registered.name, "labels": registered.labels,
            "runner_group": registered.runner_group, "url": registered.url, "dir": dir,
        });
        println!("{shown}");
    } else {
        println!("runner {} registered as `{}`", registered.runner_id, registered.name);
        eprintln!("labels: {}\nstart it: startline runner start --dir {}", registered.labels.join(", "), dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The token given, or one minted with it.
async fn registration_token(args: &RegisterArgs, transport: &Transport) -> anyhow::Result<RegistrationToken> {
    match TokenKind::of(&args.token) {
        Some(TokenKind::Registration) => Ok(RegistrationToken::parse(args.token.as_str())?),
        Some(TokenKind::Api) => {
            let client = RunnerClient::new(transport.clone(), &args.url)?;
            let request = RegistrationTokenRequest {
                max_uses: Some(1),
                ephemeral: args.ephemeral,
                expires_in_seconds: Some(300),
                ..RegistrationTokenRequest::default()
            };
            let minted = client.request_registration_token(&ApiToken::parse(args.token.as_str())?, &request).await?;
            Ok(minted.token)
        }
        _ => Err(Usage(
            "--token is neither a registration token (`slr_…`) nor an API token (`slp_…`); mint one with `startline \
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
    let options = Options {
        max_parallel_jobs: registration.max_parallel_jobs,
        workspace_from: args.workspace_from.clone(),
        connection: Connection {
            extra_ca: network.extra_ca.clone(),
            http_proxy: network.proxies.http.clone(),
            https_proxy: network.proxies.https.clone(),
            no_proxy: network.proxies.none.clone(),
        },
        ..Options::new(dir)
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
