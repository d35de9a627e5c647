//! Typed clients of the service over one transport seam.
//!
//! The room owns how a call is made: connections, proxies, trusted roots, deadlines, request ids, what an answer means
//! and when an operation is tried again. It must not know what its callers do with the answers, and it starts no
//! process and writes no file. Every client takes a [`Transport`], which is any tower service from requests to
//! responses, so that a test can cut, delay or duplicate any message.

mod api;
mod call;
mod error;
mod events;
mod job;
mod launch;
mod retry;
mod runner;
mod transport;

pub use api::{ApiClient, AuditExport, AuditFilter, LogFollow};
pub use error::Error;
pub use events::{EventFollow, EventOptions};
pub use job::{AppendOutcome, JobClient};
pub use launch::{Download, LaunchClient, Resolved};
pub use retry::{Backoff, Retry};
pub use runner::{Credentials, PollResult, RunnerClient, RunnerSession};
pub use transport::{BoxError, Options, Proxies, ResponseBody, Transport};
