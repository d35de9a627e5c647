//! Words on the wire: what Startline's processes say to each other, and nothing about how they decide.
//!
//! Everything here is data with serde derives. The room knows no clock, no socket and no database, and uses
//! no other room, so that a message can be read, fuzzed and published alone.

pub mod actions;
pub mod admin_api;
pub mod capabilities;
pub mod context;
pub mod event;
pub mod ids;
pub mod job_message;
mod list;
pub mod permission;
pub mod problem;
pub mod runner_api;
pub mod runs_api;
pub mod scope;
pub mod state;
pub mod step;
pub mod template;
pub mod token;
pub mod value_scope;
