//! The room that a database takes: what is purged makes room for what comes.

use rusqlite::Connection;
use startline_protocol::ids::{Epoch, RunnerId};
use startline_protocol::state::Conclusion;
use startline_store::sqlite::Sqlite;
use startline_store::{AuditFilter, Completion, NewJob, NewRun, NewRunner, Store};
use tempfile::TempDir;

use crate::bench::{OPEN, at, audit_entry, completion, database, hash, new_job, new_run, new_runner, open};

/// Runs of one generation: some megabytes.
const RUNS: u32 = 400;

/// A generation of ephemeral runners, their runs, and lines of the audit log; it lives from `start` on.
async fn live(store: &Sqlite, start: i64, names: u32) {
    for number in 0..RUNS {
        let new = NewRun { created_at: at(start), submission: "x".repeat(3000), ..new_run("acme/demo", "ci.yml") };
        let job = NewJob { message: "y".repeat(5000), ..new_job("build") };
        let made = store.create_run(new, vec![job]).await.unwrap();
        let runner = new_runner(&format!("mayfly-{number}"), names + number);
        let runner = NewRunner { ephemeral: true, ..runner };
        let runner = store.register_runner(hash(OPEN), runner, at(start)).await.unwrap().runner.id;
        let (job, said) = (made.jobs[0].id, Completion { ends_run: true, ..completion(Conclusion::Success) });
        store.acquire(job, Epoch(1), runner, 1, at(start)).await.unwrap();
        store.complete(job, Epoch(1), said, at(start)).await.unwrap();
        let entry = startline_store::NewAudit { at: at(start), ..audit_entry(number) };
        store.append_audit(entry).await.unwrap();
    }
}

/// Purges what is older than `before`; how many runs, registrations and lines that were.
async fn purge(store: &Sqlite, before: i64) -> [u32; 3] {
    let (mut counts, mut from) = ([0; 3], None);
    loop {
        let due = store.due_runs(at(before), from).await.unwrap();
        from = due.next;
        counts[0] += store.purge_runs(at(before), due).await.unwrap().count;
        if from.is_none() {
            break;
        }
    }
    let mut after = Some(0);
    while let Some(id) = after {
        let purged = store.purge_runners(at(before), RunnerId(id)).await.unwrap();
        (counts[1], after) = (counts[1] + purged.count, purged.next);
    }
    let mut more = true;
    while more {
        let purged = store.purge_audit(at(before), at(before)).await.unwrap();
        (counts[2], more) = (counts[2] + purged.count, purged.next.is_some());
    }
    counts
}

/// What the file has and, of that, what is free.
fn pages(directory: &TempDir) -> (i64, i64) {
    let connection = Connection::open(database(directory)).unwrap();
    let number = |pragma| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap();
    (number("page_count"), number("freelist_count"))
}

#[tokio::test]
async fn a_database_that_is_purged_grows_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut sizes = Vec::new();
    for generation in 0..6 {
        let store = open(&directory);
        // Known from the first generation on.
        drop(store.create_registration_token(crate::bench::registration_token(OPEN)).await);
        let start = i64::from(generation) * 100;
        live(&store, start, generation * RUNS).await;
        // The generation before this one.
        let counts = purge(&store, start).await;
        if generation > 0 {
            assert_eq!(counts[..2], [RUNS, RUNS]);
            assert!(counts[2] >= RUNS);
        }
        store.close().await.unwrap();
        sizes.push(pages(&directory));
    }
    let (first, last) = (sizes[1].0, sizes[5].0);
    assert!(first > 1000, "two generations take room: {sizes:?}");
    assert!(last <= first + first / 20, "{sizes:?}");
    let store = open(&directory);
    purge(&store, 1000).await;
    assert!(store.verify_audit().await.unwrap().valid);
    assert_eq!(store.audit(0, 10, AuditFilter::default()).await.unwrap().items.len(), 1, "it tells of the purge");
    store.close().await.unwrap();
    let (all, free) = pages(&directory);
    assert!(free > all * 9 / 10, "{free} of {all} pages are free");
}
