//! Executes one job message: contexts, steps, commands, logs.

pub mod input;
