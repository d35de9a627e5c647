//! What every long-running process does, whatever it does besides.
//!
//! The room owns the accept loop and its two-phase drain ([`serve()`]), the health and metrics routes ([`health`]), the
//! registry with what the process uses ([`metrics`]), logs ([`logs`]), signals ([`signals`]), the layers of settings
//! ([`mod@config`]) and the clock ([`Clock`]). It knows no job, no runner and no database, and uses no other room, so
//! that the server, the proxy and the gateway stop, start and report alike.
//!
//! ```no_run
//! use startline_daemon::{
//!     BuildInfo, Drain, Health, Listener, LogFormat, Metrics, Options, Signals, health_router, logs, serve,
//! };
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! logs::init(LogFormat::Text, "info")?;
//! let drain = Drain::new();
//! let health = Health::new(&drain);
//! let mut metrics = Metrics::new(BuildInfo { version: env!("CARGO_PKG_VERSION"), commit: "unknown" });
//! let connections = startline_daemon::serve::ConnectionMetrics::register(metrics.registry());
//! let store = health.component("store");
//!
//! let listener = Listener::bind(([127, 0, 0, 1], 8080).into()).await?;
//! let router = axum::Router::new().merge(health_router(health, metrics.finish()));
//! store.ready();
//!
//! let options = Options { metrics: connections, ..Options::default() };
//! let signals = Signals::listen()?.drive(drain.clone());
//! tokio::select! {
//!     report = serve(listener, router, options, drain) => tracing::info!(?report, "done"),
//!     // The second signal.
//!     signal = signals => std::process::exit(signal.exit_code().into()),
//! }
//! # Ok(())
//! # }
//! ```

pub mod client_address;
pub mod config;
pub mod health;
pub mod limits;
pub mod logs;
pub mod metrics;
pub mod serve;
pub mod signals;
pub mod tls;

mod clock;

pub use client_address::{ClientAddress, ClientIp, ProxyHeader};
pub use clock::Clock;
pub use health::{Health, Readiness, health_router};
pub use logs::LogFormat;
pub use metrics::{BuildInfo, Metrics};
pub use serve::{BindError, Drain, Listener, Options, Report, serve};
pub use signals::{Signal, Signals};
pub use tls::{Listen, Tls};
