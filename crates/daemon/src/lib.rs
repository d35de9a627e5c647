//! What every long-running process does, whatever it does besides.
//!
//! The room owns the accept loop with its time-outs and its two-phase drain ([`serve()`]), TLS ([`tls`]), the address
//! of clients behind proxies ([`client_address`]), rates and turns ([`limits`]), the health and metrics routes
//! ([`health`]), the registry with what the process uses ([`metrics`]), logs ([`logs`]), signals ([`signals`]), the
//! layers of settings ([`mod@config`]) and the clock ([`Clock`]). It knows no job, no runner and no database, and uses
//! no other room, so that the server, the proxy and the gateway stop, start and report alike. What a limit is for, and
//! what its keys are, is for the rooms that use it to say.
//!
//! ```no_run
//! use startline_daemon::{
//!     BuildInfo, ClientAddress, Drain, Health, Listen, Listener, LogFormat, Metrics, Options, ProxyHeader, Signals, Tls,
//!     health_router, logs, serve_with,
//! };
//!
//! # async fn run(use_tls: bool) -> Result<(), Box<dyn std::error::Error>> {
//! logs::init(LogFormat::Text, "info")?;
//! let drain = Drain::new();
//! let health = Health::new(&drain);
//! let mut metrics = Metrics::new(BuildInfo { version: env!("CARGO_PKG_VERSION"), commit: "unknown" });
//! let connections = startline_daemon::serve::ConnectionMetrics::register(metrics.registry());
//! let store = health.component("store");
//!
//! let listener = Listener::bind(([127, 0, 0, 1], 8080).into()).await?;
//! let tls = if use_tls { Some(Tls::from_files("cert.pem", "key.pem")?) } else { None };
//! let clients = ClientAddress::new(["10.0.0.0/8".parse()?], ProxyHeader::XForwardedFor);
//! let router = axum::Router::new().merge(health_router(health, metrics.finish())).layer(clients);
//! store.ready();
//!
//! let options = Options { metrics: connections, ..Options::default() };
//! let signals = Signals::listen()?.drive(drain.clone());
//! tokio::select! {
//!     report = serve_with(listener, Listen::from(tls), router, options, drain) => tracing::info!(?report, "done"),
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
pub mod trace;

mod clock;

pub use client_address::{ClientAddress, ClientIp, ProxyHeader};
pub use clock::{Clock, Hand};
pub use health::{Health, Readiness, health_router};
pub use logs::LogFormat;
pub use metrics::{BuildInfo, Metrics};
pub use serve::{BindError, Drain, Listener, Options, Report, serve, serve_with};
pub use signals::{Signal, Signals};
pub use tls::{Listen, Tls};
