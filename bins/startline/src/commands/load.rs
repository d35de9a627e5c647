//! `startline load`.

mod bare_hyper;
mod burst;
mod depth;
mod dispatch;
mod fleet;
mod hammer;
mod leases;
mod ledger;
mod lifecycle;
mod link;
mod logs;
mod mixed;
mod pacing;
mod park;
mod polls;
mod process;
mod registrations;
mod renewals;
mod report;
mod runs;
mod scene;
mod steady;
mod usage;
mod wire;

use std::process::ExitCode;

use anstream::eprintln;
use startline_daemon::Signals;
use tokio_util::task::TaskTracker;

use crate::cli::LoadCommand;

pub(super) async fn execute(command: LoadCommand) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    // On a thread of the runtime's pool, so that what a scenario starts begins at once and on the same thread.
    let mut running = TaskTracker::new().spawn(run(command));
    tokio::select! {
        ended = &mut running => ended?,
        signal = signals.recv() => {
            // The scene goes with its task, and the servers that it has started go with the scene.
            running.abort();
            drop(running.await);
            eprintln!("stopped by {}; nothing is reported", signal.name());
            Ok(ExitCode::from(signal.exit_code()))
        }
    }
}

async fn run(command: LoadCommand) -> anyhow::Result<ExitCode> {
    match command {
        LoadCommand::Polls(args) => polls::execute(args).await,
        LoadCommand::Lifecycle(args) => lifecycle::execute(args).await,
        LoadCommand::Dispatch(args) => dispatch::execute(args).await,
        LoadCommand::Burst(args) => burst::execute(args).await,
        LoadCommand::Renewals(args) => renewals::execute(args).await,
        LoadCommand::Mixed(args) => mixed::execute(args).await,
        LoadCommand::Registrations(args) => registrations::execute(args).await,
        LoadCommand::Logs(args) => logs::execute(args).await,
        LoadCommand::Depth(args) => depth::execute(args).await,
        LoadCommand::Park => park::execute().await,
        LoadCommand::BareHyper(args) => bare_hyper::execute(args).await,
    }
}
