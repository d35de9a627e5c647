//! Measures the service beside the best of its kind: peers, bare servers, goals, and how costs grow.
//!
//! Owns the machine's probe, the peers with their settings, the load on them, and the judgement of goals. Knows the
//! service only from outside: its program, its HTTP API and what `startline load` prints; it uses no room.

mod cli;
mod daemon;
mod figures;
mod generator;
mod goals;
mod growth;
mod link;
mod machine;
mod ours;
mod peer;
mod plots;
mod polls;
mod probe;
mod sample;
mod serve;
mod soak;

use std::process::ExitCode;

use anstream::eprintln;
use clap::Parser as _;

use crate::cli::Cli;

/// Errors of use, as distinct from goals that were missed.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(cli::execute(cli)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
