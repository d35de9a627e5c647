//! The commands, one file each.

mod follow;
mod listing;
mod run;
mod runner;
mod server;
mod submission;
mod submit;
mod token;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Executes what the command line asks for.
pub(crate) async fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run::execute(*args).await,
        Command::Server(args) => server::execute(*args).await,
        Command::Runner(command) => runner::execute(command).await,
        Command::Token(command) => token::execute(command).await,
        Command::Submit(args) => submit::execute(*args).await,
        Command::Cancel(args) => submit::cancel(args).await,
        Command::Runs(args) => listing::runs(args).await,
        Command::Jobs(args) => listing::jobs(args).await,
        Command::Logs(args) => listing::logs(args).await,
        Command::Runners(args) => listing::runners(args).await,
        Command::Worker => Ok(startline_worker::run_process(std::io::stdin()).await.into()),
    }
}
