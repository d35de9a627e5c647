//! Instruction counts of what the service and the worker do most often.
//!
//! The crate owns the [`scenes`]: each prepares something, and then does a small work again and again within
//! [`Meter::count`]. Natively that only checks that the work is done; under callgrind `bench/instructions` reads what it
//! costs, and compares it with `baseline.json`. It knows any room and is known by none.

mod meter;
mod sample;
mod scenes;

pub use meter::Meter;
pub use scenes::{SCENES, Scene};
