//! `startline run FILE`: the service, its runners and one run, in one command.
//!
//! Nothing here is special: it is the service that `startline server` starts, on a free loopback port and with a data
//! directory of its own, and the runners that `startline runner` starts, registered over HTTP.

mod fleet;
mod look;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anstream::{eprintln, print};
use anyhow::{Context, anyhow};
use startline_client::{ApiClient, Options, Transport};
use startline_daemon::Signals;
use startline_daemon::config::Period;
use startline_protocol::runs_api::RunDetail;
use startline_server::{ActionsArgs, Running, ServerConfig, Synchronous};
use tempfile::TempDir;

use self::fleet::{Fleet, Machine};
use super::follow::{self, Follower, Form};
use super::submission;
use crate::cli::RunArgs;
use crate::exit::{self, Usage};
use crate::render::style::{BOLD, DIM, RESET, YELLOW, harmless};
use crate::render::summary;

/// From the first Ctrl-C to the end of everything: a cancelled step has 10 s to end.
const CANCEL_LIMIT: Duration = Duration::from_millis(11_500);

pub(super) async fn execute(args: RunArgs) -> anyhow::Result<ExitCode> {
    let Some(prepared) = submission::prepare(&args.submission)? else {
        return Ok(ExitCode::from(exit::USAGE));
    };
    if let Some(what) = look::What::asked(&args) {
        return look::show(what, prepared.request, args.json);
    }
    #[expect(clippy::disallowed_methods, reason = "a diagnostic switch, not a setting of this command")]
    let filter = std::env::var("STARTLINE_LOG").unwrap_or_else(|_| "error".to_owned());
    startline_daemon::logs::init(startline_daemon::LogFormat::Text, &filter)?;
    let mut signals = Signals::listen()?;
    let home = tempfile::Builder::new().prefix("startline-").tempdir().context("cannot make a temporary directory")?;
    let running = start(home.path(), args.actions).await?;
    let token = running.admin_token().cloned().ok_or_else(|| anyhow!("the new service has no admin token"))?;
    let transport = Transport::new(&Options::default())?;
    let client = ApiClient::new(transport.clone(), running.url(), token.clone())?;

    let machine = Machine {
        workspace_from: prepared.root.clone(),
        parallel: args.parallel.unwrap_or_else(cores),
        node: args.node,
        container_cli: args.container_cli,
        tool_cache: super::tool_cache(args.tool_cache).or_else(|| cache().map(|cache| cache.join("tools"))),
    };
    let mut fleet = Fleet::new(transport, running.url(), token, home.path(), machine);
    let detail = submission::submit(&client, &prepared.request).await?;
    let run = detail.run.id;
    let form = if args.json { Form::Json } else { Form::Text };
    if form == Form::Text {
        eprintln!(
            "{BOLD}{}{RESET} {DIM}{} on {}{RESET}",
            harmless(&detail.run.name),
            detail.run.path,
            detail.run.event_name
        );
    }

    let mut follower = Follower::new(client.clone(), form);
    let mut interrupted = false;
    let ended = {
        let follow = follower.follow(detail, async |detail| fleet.ensure(detail).await);
        let mut follow = std::pin::pin!(follow);
        let limit = tokio::time::sleep(Duration::MAX);
        let mut limit = std::pin::pin!(limit);
        loop {
            tokio::select! {
                biased;
                ended = &mut follow => break Some(ended?),
                _ = signals.recv() => {
                    if interrupted {
                        break None;
                    }
                    interrupted = true;
                    limit.as_mut().reset(tokio::time::Instant::now() + CANCEL_LIMIT);
                    eprintln!("{YELLOW}cancelling{RESET}; again to stop at once");
                    client.cancel_run(run).await?;
                }
                () = &mut limit => {
                    eprintln!("{YELLOW}warning{RESET}: the run did not end in time after the cancel; stopping it");
                    break None;
                }
            }
        }
    };
    if let Some(detail) = &ended
        && form == Form::Text
    {
        print!("{}", summary::text(detail));
    }
    fleet.stop(ended.is_some()).await;
    stop(running, home, args.keep).await;
    Ok(ExitCode::from(code(ended.as_ref(), interrupted)))
}

fn code(ended: Option<&RunDetail>, interrupted: bool) -> u8 {
    match ended {
        Some(detail) if !interrupted || follow::code(detail) == 0 => follow::code(detail),
        _ => exit::INTERRUPTED,
    }
}

async fn start(home: &Path, actions: ActionsArgs) -> anyhow::Result<Running> {
    let config = actions.apply(ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: home.join("data"),
        // Nothing of it outlives the command, so it need not outlive a loss of power.
        synchronous: Synchronous::Normal,
        drain_timeout: Period::from_secs(3),
        // A name that GitHub's artifact client does not take for an Enterprise Server, which it would refuse.
        git_url: Some("https://github.com".to_owned()),
        actions_cache_dir: cache().map(|cache| cache.join("actions")),
        ..ServerConfig::defaults()
    });
    config.check().map_err(|error| Usage(error.to_string()))?;
    startline_server::start(config, false).await
}

async fn stop(running: Running, home: TempDir, keep: bool) {
    running.stop().await;
    if keep {
        let path: PathBuf = home.keep();
        eprintln!("kept in {}", path.display());
    }
}

/// Where this user keeps what later runs can use again; none without a home.
fn cache() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let root = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")))?;
    Some(root.join("startline"))
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1).min(64))
}
