//! Integration tests of the workflow room.

mod expression;
