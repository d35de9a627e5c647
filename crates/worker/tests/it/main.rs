//! Real job messages through the worker's public entry, with a scripted service on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod actions;
mod cancel;
mod commands;
mod containers;
mod harness;
mod masks;
mod outages;
mod service;
mod steps;
mod workspace;
