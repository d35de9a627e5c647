//! GitHub's own protocol, as its official clients speak it: configuration, broker and run service.
//!
//! Shapes and spellings follow the official runner (actions/runner, cited at each type). Members are written exactly
//! as its clients read them; what they send beyond that is ignored.

pub mod broker;
pub mod configuration;
pub mod launch;
pub mod results;
pub mod run_service;
