//! Integration tests of the workflow room.

mod diagnostics;
mod expression;
mod lowering;
mod plan;
