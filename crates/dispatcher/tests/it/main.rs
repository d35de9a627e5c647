//! The dispatcher through its public face: claims one by one, and a model test of all of them together.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod at_once;
mod claims;
mod expiry;
mod given;
mod limits;
mod machine;
mod naive;
mod prospects;
