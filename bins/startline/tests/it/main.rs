//! The product from outside: the binary as a user has it, and the rules of the house.

mod bad_input;
mod examples;
mod harness;
mod house;
mod local_run;
mod polls;
mod service;
