//! The few cryptographic operations that Startline needs.
