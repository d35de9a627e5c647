//! The audit log on the disk: it goes on after a restart, only grows, and shows what was done to it by force.

use rusqlite::Connection;
use startline_protocol::admin_api::AuditVerification;
use startline_store::Store;
use tempfile::TempDir;

use crate::bench::{at, audit_entry, database, open};

/// A closed database with a log of `lines` lines.
async fn log_of(lines: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let answers: Vec<_> = (0..lines).map(|number| store.append_audit(audit_entry(number))).collect();
    for answer in answers {
        answer.await.unwrap();
    }
    store.close().await.unwrap();
    directory
}

fn sql(directory: &TempDir, sql: &str) -> Result<(), rusqlite::Error> {
    Connection::open(database(directory)).unwrap().execute_batch(sql)
}

/// What is found after somebody with access to the file has done `tampering`.
async fn after(tampering: &str) -> AuditVerification {
    let directory = log_of(5).await;
    let unlock = "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_shortened; \
                  DROP TRIGGER audit_has_no_gaps; DROP TRIGGER audit_begins_with_a_line;";
    sql(&directory, &format!("{unlock} {tampering}")).unwrap();
    open(&directory).verify_audit().await.unwrap()
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let directory = log_of(3).await;
    let store = open(&directory);
    assert_eq!(store.append_audit(audit_entry(9)).await.unwrap().sequence, 4);
    let found = store.verify_audit().await.unwrap();
    assert_eq!((found.valid, found.records), (true, 4));
}

#[tokio::test]
async fn lines_cannot_be_changed_removed_or_put_between() {
    let directory = log_of(3).await;
    let line = "actor, at, action, subject, outcome, scope, details, hash";
    for (statement, refusal) in [
        ("UPDATE audit SET actor = 'nobody' WHERE sequence = 2".to_owned(), "append-only"),
        ("DELETE FROM audit WHERE sequence = 3".to_owned(), "append-only"),
        ("DELETE FROM audit".to_owned(), "append-only"),
        (format!("INSERT OR REPLACE INTO audit (sequence, {line}) SELECT 2, {line} FROM audit LIMIT 1"), "must follow"),
        (format!("INSERT INTO audit (sequence, {line}) SELECT 9, {line} FROM audit LIMIT 1"), "must follow"),
        (format!("INSERT INTO audit (sequence, {line}) SELECT 0, {line} FROM audit LIMIT 1"), "must follow"),
    ] {
        let error = sql(&directory, &statement).unwrap_err().to_string();
        assert!(error.contains(refusal), "{statement}: {error}");
    }
    let found = open(&directory).verify_audit().await.unwrap();
    assert_eq!((found.valid, found.records), (true, 3));
}

#[tokio::test]
async fn every_column_is_in_the_chain() {
    for change in [
        "at = at + 1",
        "actor = 'nobody'",
        "action = action || '.'",
        "subject = 'runner:8'",
        "outcome = 'success!'",
        "scope = 'organization:other'",
        "request_id = NULL",
        "request_id = ''",
        "address = '::2'",
        "details = '{}'",
        "details = '{\"number\":\"77\"}'",
        "hash = zeroblob(32)",
    ] {
        let found = after(&format!("UPDATE audit SET {change} WHERE sequence = 3")).await;
        assert_eq!((found.valid, found.records, found.head), (false, 2, None), "{change}");
        assert!(found.broken.unwrap().starts_with("line 3 "), "{change}");
    }
}

#[tokio::test]
async fn a_line_that_is_missing_is_named() {
    let found = after("DELETE FROM audit WHERE sequence = 3").await;
    assert_eq!((found.valid, found.records), (false, 2));
    assert_eq!(found.broken.as_deref(), Some("line 4 stands where line 3 is due"));
    let found = after("DELETE FROM audit WHERE sequence = 1").await;
    assert_eq!((found.records, found.broken.as_deref()), (0, Some("line 2 stands where line 1 is due")));
}

#[tokio::test]
async fn lines_that_moved_up_do_not_fit() {
    let tampering = "DELETE FROM audit WHERE sequence = 3; \
                     UPDATE audit SET sequence = 3 WHERE sequence = 4; UPDATE audit SET sequence = 4 WHERE sequence = 5";
    let found = after(tampering).await;
    assert_eq!((found.valid, found.records), (false, 2));
}

#[tokio::test]
async fn lines_that_changed_places_do_not_fit() {
    let tampering = "UPDATE audit SET sequence = 99 WHERE sequence = 2; \
                     UPDATE audit SET sequence = 2 WHERE sequence = 3; UPDATE audit SET sequence = 3 WHERE sequence = 99";
    assert_eq!(after(tampering).await.records, 1);
}

#[tokio::test]
async fn a_line_that_is_none_is_named() {
    for tampering in ["details = 'x'", "scope = 'x'"] {
        let found = after(&format!("UPDATE audit SET {tampering} WHERE sequence = 3")).await;
        assert_eq!((found.valid, found.records), (false, 2), "{tampering}");
        assert!(found.broken.unwrap().starts_with("line 3 cannot be read: "), "{tampering}");
    }
}

#[tokio::test]
async fn an_end_that_was_cut_off_shows_in_the_head() {
    let directory = log_of(5).await;
    let head = open(&directory).verify_audit().await.unwrap().head;
    let found = after("DELETE FROM audit WHERE sequence = 5").await;
    assert_eq!((found.valid, found.records), (true, 4));
    assert_ne!(found.head, head);
}

/// A closed database of whose 5 lines, and the one that tells of it, the first 3 were purged.
async fn purged_log() -> TempDir {
    let directory = log_of(5).await;
    let store = open(&directory);
    assert_eq!(store.purge_audit(at(3), at(50)).await.unwrap().count, 3);
    store.close().await.unwrap();
    directory
}

#[tokio::test]
async fn a_purged_log_verifies_from_where_it_begins_and_goes_on_after_a_restart() {
    let directory = purged_log().await;
    let store = open(&directory);
    assert_eq!(store.append_audit(audit_entry(9)).await.unwrap().sequence, 7);
    let found = store.verify_audit().await.unwrap();
    assert_eq!((found.valid, found.records, found.begin.unwrap().sequence), (true, 4, 3));
}

#[tokio::test]
async fn only_what_the_beginning_has_passed_can_be_deleted() {
    let directory = purged_log().await;
    let line = "actor, at, action, subject, outcome, scope, details, hash";
    for (statement, refusal) in [
        ("DELETE FROM audit WHERE sequence = 4".to_owned(), "append-only"),
        ("UPDATE audit_begin SET sequence = 4".to_owned(), "behind one of its lines"),
        ("UPDATE audit_begin SET sequence = 2".to_owned(), "behind one of its lines"),
        ("UPDATE audit_begin SET sequence = 0".to_owned(), "behind one of its lines"),
        ("DELETE FROM audit_begin".to_owned(), "one beginning"),
        ("INSERT INTO audit_begin VALUES (2, 9, 0, zeroblob(32))".to_owned(), "one beginning"),
        ("INSERT OR REPLACE INTO audit_begin VALUES (1, 9, 0, zeroblob(32))".to_owned(), "one beginning"),
        (format!("INSERT INTO audit (sequence, {line}) SELECT 3, {line} FROM audit LIMIT 1"), "must follow"),
    ] {
        let error = sql(&directory, &statement).unwrap_err().to_string();
        assert!(error.contains(refusal), "{statement}: {error}");
    }
    assert!(open(&directory).verify_audit().await.unwrap().valid);
}

#[tokio::test]
async fn a_beginning_that_was_moved_by_hand_does_not_fit_the_lines() {
    let unlock = "DROP TRIGGER audit_is_not_shortened; DROP TRIGGER audit_begins_with_a_line; \
                  DROP TRIGGER audit_begins_somewhere;";
    for (tampering, complaint) in [
        ("DELETE FROM audit WHERE sequence = 4", "line 5 stands where line 4 is due"),
        // As the service itself would do it, but for the line that tells.
        (
            "UPDATE audit_begin SET (sequence, at, hash) = (SELECT sequence, at, hash FROM audit WHERE sequence = 4); \
             DELETE FROM audit WHERE sequence = 4",
            "the log begins behind line 4, but its lines tell of a purge up to line 3",
        ),
        (
            "UPDATE audit_begin SET (sequence, at, hash) = (SELECT sequence, at, hash FROM audit WHERE sequence = 6); \
             DELETE FROM audit",
            "the log begins behind line 6, but no line tells of a purge",
        ),
        (
            "UPDATE audit_begin SET at = at - 1",
            "the log begins behind line 3, but its lines tell of a purge up to line 3",
        ),
        ("UPDATE audit_begin SET hash = zeroblob(32)", "line 4 or the one before it was changed"),
        ("UPDATE audit_begin SET sequence = 0", "line 4 stands where line 1 is due"),
        ("DELETE FROM audit_begin", "line 4 stands where line 1 is due"),
    ] {
        let directory = purged_log().await;
        sql(&directory, &format!("{unlock} {tampering}")).unwrap();
        let found = open(&directory).verify_audit().await.unwrap();
        assert!(!found.valid && found.head.is_none(), "{tampering}");
        assert!(found.broken.as_ref().is_some_and(|text| text.starts_with(complaint)), "{tampering}: {found:?}");
    }
    let found = after(
        "UPDATE audit_begin SET (sequence, at, hash) = (SELECT sequence, at, hash FROM audit WHERE sequence = 2); \
         DELETE FROM audit WHERE sequence <= 2",
    )
    .await;
    assert_eq!(found.broken.as_deref(), Some("the log begins behind line 2, but no line tells of a purge"));
}
