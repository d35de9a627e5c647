//! The runner against a service that is scripted and workers that are shell scripts.

#![expect(clippy::unwrap_used, reason = "a failed test ends here; the lint sees tests in `#[test]` functions only")]

mod jobs;
mod life;
mod service;
mod stage;
