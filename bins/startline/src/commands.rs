//! The commands, one file each.

mod audit;
mod dotenv;
mod events;
mod follow;
mod given;
mod group;
mod listing;
mod load;
mod run;
mod runner;
mod server;
mod submission;
mod submit;
mod token;
mod tree;
mod unit;
mod value;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{Cli, Command, ServerCommand};

/// Executes what the command line asks for.
pub(crate) async fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => Box::pin(run::execute(*args)).await,
        Command::Server(args) => match args.service {
            Some(ServerCommand::Service(service)) => unit::server(&service),
            None => server::execute(args.server).await,
        },
        Command::Runner(command) => runner::execute(command).await,
        Command::Token(command) => token::execute(command).await,
        Command::Group(command) => group::execute(command).await,
        Command::Secret(command) => value::execute(value::Kind::Secret, command).await,
        Command::Variable(command) => value::execute(value::Kind::Variable, command).await,
        Command::Audit(command) => audit::execute(command).await,
        Command::Submit(args) => submit::execute(*args).await,
        Command::Cancel(args) => submit::cancel(args).await,
        Command::Rerun(args) => submit::rerun(args).await,
        Command::Runs(args) => listing::runs(args).await,
        Command::Jobs(args) => listing::jobs(args).await,
        Command::Logs(args) => listing::logs(args).await,
        Command::Runners(args) => listing::runners(args).await,
        Command::Load(command) => load::execute(command).await,
        Command::Events(args) => events::execute(args).await,
        Command::Openapi => events::openapi(),
        Command::Worker => Ok(startline_worker::run_process(std::io::stdin()).await.into()),
    }
}

/// Where tools are, as the command line says it or else the names of older runners (`HostContext.cs` of `actions/runner`).
fn tool_cache(given: Option<PathBuf>) -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    given.or_else(|| named("RUNNER_TOOLSDIRECTORY")).or_else(|| named("AGENT_TOOLSDIRECTORY"))
}
