//! Listings as tables.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Timestamp;

use super::style;

/// A table whose cells are plain text, made harmless for a terminal.
pub(crate) struct Listing {
    table: Table,
}

impl Listing {
    pub(crate) fn new(head: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(head.to_vec());
        Self { table }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().map(|cell| style::harmless(&cell)).collect::<Vec<_>>());
    }

    /// The table's text, or what to say when it is empty.
    pub(crate) fn text(&self, empty: &str) -> String {
        if self.table.row_count() == 0 {
            return empty.to_owned();
        }
        // No blank at the end of a line: it would be in the way of whoever cuts columns.
        self.table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

/// `12s ago`, `5m ago`, `3h ago`, `2d ago`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(at, now))
}

/// `in 12s`, `in 5m`, `in 3h`, `in 2d`.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> String {
    format!("in {}", span(now, at))
}

fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
