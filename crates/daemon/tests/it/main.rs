//! The daemon's parts together, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod drain;
mod harness;
mod heads;
mod health;
mod leaks;
mod limits;
mod serve;
mod signals;
mod slow;
mod tls;
