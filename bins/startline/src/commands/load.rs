//! `startline load`.

mod bare_hyper;
mod dispatch;
mod fleet;
mod ledger;
mod lifecycle;
mod link;
mod pacing;
mod polls;
mod process;
mod report;
mod scene;
mod usage;
mod wire;

use std::process::ExitCode;

use tokio_util::task::TaskTracker;

use crate::cli::LoadCommand;

pub(super) async fn execute(command: LoadCommand) -> anyhow::Result<ExitCode> {
    // On a thread of the runtime's pool, so that what a scenario starts begins at once and on the same thread.
    TaskTracker::new().spawn(run(command)).await?
}

async fn run(command: LoadCommand) -> anyhow::Result<ExitCode> {
    match command {
        LoadCommand::Polls(args) => polls::execute(args).await,
        LoadCommand::Lifecycle(args) => lifecycle::execute(args).await,
        LoadCommand::Dispatch(args) => dispatch::execute(args).await,
        LoadCommand::BareHyper(args) => bare_hyper::execute(args).await,
    }
}
