//! Exit codes, one meaning each.

use std::process::ExitCode;

use anstream::eprintln;

use crate::render::style::{BOLD, RED, RESET};

/// The run ended without success.
pub(crate) const FAILED: u8 = 1;
/// The command line or the workflow file is wrong; nothing was started.
pub(crate) const USAGE: u8 = 2;
/// Something outside the run went wrong: a port, a directory, a connection.
pub(crate) const ERROR: u8 = 3;
/// Stopped by a signal, as shells count it.
pub(crate) const INTERRUPTED: u8 = 130;

/// A fault in what the user gave, told apart so that it exits with [`USAGE`].
#[derive(Debug)]
pub(crate) struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Nothing was to be done, and that is no fault.
#[derive(Debug)]
pub(crate) struct Nothing(pub String);

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Nothing {}

/// Prints an error with its causes and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(nothing) = error.downcast_ref::<Nothing>() {
        eprintln!("{nothing}");
        return ExitCode::SUCCESS;
    }
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    eprintln!("{RED}{BOLD}error{RESET}: {text}");
    ExitCode::from(if error.downcast_ref::<Usage>().is_some() { USAGE } else { ERROR })
}
