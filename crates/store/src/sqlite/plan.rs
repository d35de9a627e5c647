//! How SQLite would execute a query, for tests.

use jiff::Timestamp;
use rusqlite::Connection;

use super::migrations;

pub(super) fn plan(sql: &str) -> String {
    let mut database = Connection::open_in_memory().unwrap();
    migrations::migrate(&mut database, Timestamp::UNIX_EPOCH).unwrap();
    let mut explain = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let mut rows = explain.raw_query();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        lines.push(row.get::<_, String>(3).unwrap());
    }
    lines.join("; ")
}
