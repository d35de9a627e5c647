//! `startline run FILE`: the service, its runners and one run, in one command.
//!
//! Nothing here is special: it is the service that `startline server` starts, on a free loopback port and with a data
//! directory of its own, and the runners that `startline runner` starts, registered over HTTP. Only what nobody comes back
//! to is not written to the disk (`docs/decisions/032-local-runs-keep-nothing.md`).

mod fleet;
mod look;
mod place;
mod watch;

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
use super::given;
use super::submission::{self, Prepared, Usual};
use crate::cli::RunArgs;
use crate::exit::{self, Usage};
use crate::render::style::{BOLD, DIM, RESET, YELLOW, harmless};
use crate::render::summary;

/// From the first Ctrl-C to the end of everything: a cancelled step has 10 s to end.
const CANCEL_LIMIT: Duration = Duration::from_millis(11_500);

pub(super) async fn execute(mut args: RunArgs) -> anyhow::Result<ExitCode> {
    if let Some(what) = look::What::asked(&args) {
        let Some(prepared) = prepare(&args)? else { return Ok(ExitCode::from(exit::USAGE)) };
        return look::show(what, prepared.request, args.json);
    }
    #[expect(clippy::disallowed_methods, reason = "a diagnostic switch, not a setting of this command")]
    let filter = std::env::var("STARTLINE_LOG").unwrap_or_else(|_| "error".to_owned());
    startline_daemon::logs::init(startline_daemon::LogFormat::Text, &filter)?;
    let mut signals = Signals::listen()?;
    if args.watch {
        given::complete_secrets(&mut args.submission)?;
        return Box::pin(watch::execute(&args, &mut signals)).await;
    }
    let Some(prepared) = prepare(&args)? else { return Ok(ExitCode::from(exit::USAGE)) };
    let ended = Box::pin(once(&args, prepared, &mut signals, std::future::pending())).await?;
    Ok(ExitCode::from(ended.code()))
}

/// Everything that can be checked before anything is started.
fn prepare(args: &RunArgs) -> anyhow::Result<Option<Prepared>> {
    submission::prepare(&args.submission, Usual::Read)
}

/// How a run was left.
struct Ended {
    /// What it came to, unless it did not end in time.
    detail: Option<RunDetail>,
    /// Somebody asked for its end.
    interrupted: bool,
    /// What it would have come to counts for nothing any more.
    overtaken: bool,
}

impl Ended {
    fn code(&self) -> u8 {
        match &self.detail {
            Some(detail) if !self.interrupted || follow::code(detail) == 0 => follow::code(detail),
            _ => exit::INTERRUPTED,
        }
    }
}

/// Runs what was prepared, to its end or until it is cancelled: by Ctrl-C, or because it is `overtaken`, which says why.
async fn once(
    args: &RunArgs,
    prepared: Prepared,
    signals: &mut Signals,
    overtaken: impl Future<Output = String>,
) -> anyhow::Result<Ended> {
    if args.in_place && !args.allow_dirty {
        place::check(&prepared.tree)?;
    }
    let home = tempfile::Builder::new().prefix("startline-").tempdir().context("cannot make a temporary directory")?;
    let running = start(home.path(), args.actions.clone(), args.keep).await?;
    let token = running.admin_token().cloned().ok_or_else(|| anyhow!("the new service has no admin token"))?;
    let transport = Transport::new(&Options::default())?;
    let client = ApiClient::new(transport.clone(), running.url(), token.clone())?;

    let machine = Machine {
        workspace_from: prepared.tree.root.clone(),
        in_place: args.in_place,
        parallel: args.parallel.unwrap_or_else(|| if args.in_place { 1 } else { cores() }),
        node: args.node.clone(),
        container_cli: args.container_cli.clone(),
        tool_cache: super::tool_cache(args.tool_cache.clone()).or_else(|| cache().map(|cache| cache.join("tools"))),
    };
    let mut fleet = Fleet::new(transport, running.url(), token, home.path(), machine);
    let detail = submission::submit(&client, &prepared.request).await?;
    let run = detail.run.id;
    let form = if args.json { Form::Json } else { Form::Text };
    let mut follower = Follower::new(client.clone(), form);
    begin(&mut follower, form, &detail, &prepared, args.in_place);

    let (mut interrupted, mut stale) = (false, false);
    let ended = {
        let follow = follower.follow(detail, async |detail| fleet.ensure(detail).await);
        let mut follow = std::pin::pin!(follow);
        let limit = tokio::time::sleep(Duration::MAX);
        let mut limit = std::pin::pin!(limit);
        let mut overtaken = std::pin::pin!(overtaken);
        let mut cancelling = false;
        loop {
            let why = tokio::select! {
                biased;
                ended = &mut follow => break Some(ended?),
                _ = signals.recv() => {
                    if interrupted {
                        break None;
                    }
                    interrupted = true;
                    "; again to stop at once".to_owned()
                }
                why = &mut overtaken, if !cancelling => {
                    stale = true;
                    format!(": {why}")
                }
                () = &mut limit => {
                    eprintln!("{YELLOW}warning{RESET}: the run did not end in time after the cancel; stopping it");
                    break None;
                }
            };
            eprintln!("{YELLOW}cancelling{RESET}{why}");
            if !std::mem::replace(&mut cancelling, true) {
                limit.as_mut().reset(tokio::time::Instant::now() + CANCEL_LIMIT);
                client.cancel_run(run).await?;
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
    Ok(Ended { detail: ended, interrupted, overtaken: stale })
}

/// Says what runs, where, and with which values.
fn begin(follower: &mut Follower, form: Form, detail: &RunDetail, prepared: &Prepared, in_place: bool) {
    let root = &prepared.tree.root;
    let files = prepared.files.iter().map(|file| (submission::shown(&file.path), file.gave.as_str()));
    let files: Vec<(String, &str)> = files.collect();
    if form == Form::Json {
        follower.begin(root, in_place, files.iter().map(|(path, _)| path.as_str()).collect());
        return;
    }
    let run = &detail.run;
    eprintln!("{BOLD}{}{RESET} {DIM}{} on {}{RESET}", harmless(&run.name), run.path, run.event_name);
    let place = match in_place {
        true => format!("in {} itself, which its jobs may change", root.display()),
        false => format!("in a copy of {}", root.display()),
    };
    let values = files.iter().map(|(path, gave)| format!("; {gave} from {path}")).collect::<String>();
    eprintln!("{DIM}{place}{values}{RESET}");
}

/// Starts the service. One whose data directory is kept has everything in it; otherwise nobody could come back to it.
async fn start(home: &Path, actions: ActionsArgs, keep: bool) -> anyhow::Result<Running> {
    let config = actions.apply(ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: home.join("data"),
        synchronous: Synchronous::Normal,
        drain_timeout: Period::from_secs(3),
        // A name that GitHub's artifact client does not take for an Enterprise Server, which it would refuse.
        git_url: Some("https://github.com".to_owned()),
        actions_cache_dir: cache().map(|cache| cache.join("actions")),
        ..ServerConfig::defaults()
    });
    config.check().map_err(|error| Usage(error.to_string()))?;
    if keep { startline_server::start(config, false).await } else { startline_server::start_passing(config).await }
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
