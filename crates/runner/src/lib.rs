//! The runner daemon: register, poll, one worker process per job, renew, cancel, complete.
//!
//! The room owns a registration on disk, the slots that jobs run in, the lease of every job in them and the worker
//! processes that execute them. It must not know how a job is executed: a worker is a command that keeps the contract
//! of [`startline_worker::input`]. It installs no signal handler; whoever does turns signals into [`Shutdown`].

mod capabilities;
mod daemon;
mod error;
mod heartbeat;
mod job;
mod orders;
mod registration;
mod shutdown;

pub use capabilities::{Overrides, default_labels, default_name, detect};
pub use daemon::{Options, Outcome, run};
pub use error::Error;
pub use registration::{RegisterOptions, Registration, register, remove};
pub use shutdown::Shutdown;
