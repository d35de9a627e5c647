//! Executes one job message: contexts, steps, commands, logs.
//!
//! The room owns what happens between a runner's order to execute a job and the service's acknowledgement of its end:
//! directories, expressions, processes, masks, the log on disk and its way to the service. It must not know how the
//! job was found nor how its lease is kept: it takes [`input::WorkerInput`] from a pipe and reports through a
//! [`startline_client::JobClient`]. One process executes one job.
//!
//! The way of a step's output into the log can be used without a job: [`Lines`] makes lines of bytes, [`parse_command`] tells
//! those that are for the worker, and [`Console`] masks and stamps the others into a [`Spool`].

pub mod input;

mod annotations;
mod archives;
mod board;
mod child;
mod command;
mod console;
mod container;
mod contexts;
mod environment;
mod file_command;
mod hash_files;
mod job;
mod lines;
mod mask;
mod matcher;
mod process;
mod procfs;
mod report;
mod shell;
mod spool;
mod stop;
mod workspace;

pub use command::parse as parse_command;
pub use console::Console;
pub use container::remove_leftovers;
pub use lines::{Line, Lines};
pub use mask::Masker;
pub use process::run_process;
pub use spool::Spool;
