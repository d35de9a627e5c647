//! Executes one job message: contexts, steps, commands, logs.

pub mod input;

mod annotations;
mod child;
mod command;
mod file_command;
mod hash_files;
mod lines;
mod mask;
mod matcher;
mod procfs;
mod report;
mod shell;
mod spool;
