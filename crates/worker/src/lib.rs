//! Executes one job message: contexts, steps, commands, logs.

pub mod input;

mod command;
mod file_command;
mod lines;
mod mask;
mod shell;
mod spool;
