//! The clients against scripted servers on real sockets.

#![expect(clippy::unwrap_used, reason = "a failed test ends here; the lint sees tests in `#[test]` functions only")]

mod admin;
mod api;
mod job;
mod network;
mod runner;
mod script;
