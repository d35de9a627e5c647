//! `startline load`.

mod bare_hyper;
mod link;
mod memory;
mod polls;
mod process;
mod report;
mod service;

use std::process::ExitCode;

use crate::cli::LoadCommand;

pub(super) async fn execute(command: LoadCommand) -> anyhow::Result<ExitCode> {
    match command {
        LoadCommand::Polls(args) => polls::execute(args).await,
        LoadCommand::BareHyper(args) => bare_hyper::execute(args).await,
    }
}
