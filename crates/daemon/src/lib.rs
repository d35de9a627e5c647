//! What every long-running process does, whatever it does besides.
//!
//! The room owns the accept loop and its two-phase drain ([`serve()`]), the health and metrics routes ([`health`]), the
//! registry with what the process uses ([`metrics`]), logs ([`logs`]), signals ([`signals`]), the layers of settings
//! ([`config`]) and the clock ([`Clock`]). It knows no job, no runner and no database, and uses no other room, so
//! that the server, the proxy and the gateway stop, start and report alike.

pub mod config;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod serve;
pub mod signals;

mod clock;

pub use clock::Clock;
pub use health::{Health, Readiness, health_router};
pub use logs::LogFormat;
pub use metrics::{BuildInfo, Metrics};
pub use serve::{BindError, Drain, Listener, Options, Report, serve};
pub use signals::{Signal, Signals};
