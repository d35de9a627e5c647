//! The product from outside: the binary as a user has it, and the rules of the house.

#![expect(clippy::unwrap_used, reason = "a failed test ends here; the lint sees tests in `#[test]` functions only")]

mod acceptance;
mod actions;
mod admin;
mod administration;
mod again;
mod at_once;
mod attended;
mod bad_input;
mod big_log;
mod called;
mod cast;
mod concurrency;
mod conformance;
mod containers;
mod corpus;
mod deploy;
mod disconnect;
mod environments;
mod events;
mod examples;
mod fake_runner;
mod faults;
mod harness;
mod here;
mod hostile;
mod house;
mod http;
mod load;
mod local;
mod local_run;
mod look;
mod machine;
mod matrix;
mod mixed;
mod network;
mod npm;
#[cfg(feature = "s3")]
#[path = "../../../../crates/store/src/blobs/tests/object_store.rs"]
#[expect(dead_code, reason = "not everything can be told from outside")]
mod object_store;
mod offers;
mod official;
mod operating;
mod policy;
mod polls;
mod registration;
mod retention;
#[path = "../../../../crates/client/examples/runner.rs"]
#[expect(dead_code, reason = "its `main` is for those who start it by itself")]
mod runner_example;
mod scale_sets;
mod service;
mod soak;
mod storage;
mod traces;
mod triggers;
