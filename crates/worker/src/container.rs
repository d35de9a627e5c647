//! Containers of a job: what they are to be, where the paths of the host lie in them, and the engine's command line.
//!
//! The engine is a program, `docker` or `podman`, and never its socket: so whatever the operator has set up for that
//! program holds here too. What is asked of it follows actions/runner `Runner.Worker/Container/DockerCommandManager.cs`.

pub(crate) mod arguments;
pub(crate) mod engine;
pub(crate) mod leftovers;
pub(crate) mod paths;
pub(crate) mod spec;

pub use leftovers::remove_leftovers;
