//! How the program is started here.

use std::process::{Command, Output};

/// The program with these arguments.
pub(crate) fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_startline-bench"));
    command.args(arguments);
    command
}

/// What it printed, when it ended well.
pub(crate) fn said(output: &Output) -> String {
    let (words, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{words}\n{errors}", output.status);
    words.trim().to_owned()
}
