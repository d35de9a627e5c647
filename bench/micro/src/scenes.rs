//! The scenes: what is prepared, and what is counted in it.

mod crypto;
mod dispatch;
mod expression;
mod log;
mod message;
mod workflow;

use crate::meter::Meter;

/// Something prepared, with its counts.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The first part of the counts' names.
    pub name: &'static str,
    /// How large it is, where that matters.
    pub size: u32,
    /// Prepares it at a size, and counts. It panics when a work does not do what it should.
    pub play: fn(&mut Meter, u32),
}

/// All of them.
pub const SCENES: &[Scene] = &[
    scene("queued-1e3", 1_000, dispatch::queued),
    scene("queued-1e4", 10_000, dispatch::queued),
    scene("queued-1e5", 100_000, dispatch::queued),
    scene("queued-1e6", 1_000_000, dispatch::queued),
    scene("waiting-1e1", 10, dispatch::waiting),
    scene("waiting-1e3", 1_000, dispatch::waiting),
    scene("waiting-1e5", 100_000, dispatch::waiting),
    scene("message", 0, message::play),
    scene("log-short-lines", 0, log::short),
    scene("log-long-lines", 0, log::long),
    scene("expression", 0, expression::play),
    scene("workflow", 0, workflow::compile),
    scene("plan", 0, workflow::plan),
    scene("crypto", 0, crypto::play),
];

const fn scene(name: &'static str, size: u32, play: fn(&mut Meter, u32)) -> Scene {
    Scene { name, size, play }
}
