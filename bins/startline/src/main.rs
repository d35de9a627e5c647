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

/// What a long-lived server allocates and frees is spread over threads and sizes: this one spends a fifth less of the
/// processor on a job and a third less memory on a parked poll than the system's (decision 037).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
