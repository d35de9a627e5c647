//! Integration tests of the workflow room.

mod calls;
mod diagnostics;
mod expression;
mod lowering;
mod plan;
