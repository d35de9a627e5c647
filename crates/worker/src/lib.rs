//! Executes one job message: contexts, steps, commands, logs.

pub mod input;

mod child;
mod command;
mod file_command;
mod hash_files;
mod lines;
mod mask;
mod procfs;
mod shell;
mod spool;
