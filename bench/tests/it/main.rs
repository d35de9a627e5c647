//! The program from outside: peers that are there work for half a second, and those that are not are skipped.

#![expect(clippy::unwrap_used, reason = "a failed test ends here; the lint sees tests in `#[test]` functions only")]

mod goals;
mod peers;
mod program;
