//! Durable state as domain transactions, over SQLite and memory.
