//! Startline: hands CI jobs to runners.

mod cli;
mod commands;
mod connect;
mod descriptors;
mod exit;
mod render;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    startline_crypto::install_provider();
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let outcome = runtime.block_on(commands::execute(cli));
    // What is left are reads of standard input and the like, which nothing can interrupt.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
