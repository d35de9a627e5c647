//! Text for people: live logs, summaries, tables. Colour is decided by the terminal stream, never here.

mod live;
pub(crate) mod log;
pub(crate) mod style;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod unit;
