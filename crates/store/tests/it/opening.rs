//! What may go wrong when a database is opened, and how it lies on the disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use startline_store::sqlite::Sqlite;
use startline_store::{CreatedRun, Error, Store};
use tempfile::TempDir;

use crate::bench::{api_token, database, new_job, new_run, open, options};

fn refusal(path: &Path) -> String {
    match Sqlite::open(path, &options()) {
        Err(Error::Unusable(text)) => text,
        other => panic!("expected a refusal: {other:?}"),
    }
}

/// Opens, closes and then changes a database by `sql`.
async fn doctored(sql: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).close().await.unwrap();
    Connection::open(database(&directory)).unwrap().execute_batch(sql).unwrap();
    directory
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_versions() {
    let directory = doctored("INSERT INTO schema_migrations VALUES (10, 'future', 'abc', 0)").await;
    let text = refusal(&database(&directory));
    assert!(text.contains("version 10") && text.contains("up to 9") && text.contains("newer program"), "{text}");
    assert!(text.contains("startline.db"), "{text}");
}

#[tokio::test]
async fn a_refused_database_is_not_changed() {
    let directory = doctored("INSERT INTO schema_migrations VALUES (10, 'future', 'abc', 0)").await;
    let before = std::fs::read(database(&directory)).unwrap();
    refusal(&database(&directory));
    assert!(std::fs::read(database(&directory)).unwrap() == before);
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let directory = doctored("UPDATE schema_migrations SET checksum = 'abc' WHERE version = 1").await;
    let text = refusal(&database(&directory));
    assert!(text.contains("version 1 was made by other statements"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("startline.db");
    std::fs::write(&path, "dear diary, ".repeat(500)).unwrap();
    let text = refusal(&path);
    assert!(text.contains("startline.db") && text.contains("not a database"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary, ".repeat(500));
}

#[test]
fn a_database_of_another_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("startline.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    let text = refusal(&path);
    assert!(text.contains("another program"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let text = refusal(&directory.path().join("file/data/startline.db"));
    assert!(text.contains("file/data") && text.contains("choose"), "{text}");
}

#[test]
fn a_directory_in_the_place_of_the_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("startline.db")).unwrap();
    let text = refusal(&directory.path().join("startline.db"));
    assert!(text.contains("startline.db") && text.contains("directory"), "{text}");
}

#[tokio::test]
async fn a_second_server_is_refused_and_told_who_the_first_is() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(&directory);
    let text = refusal(&database(&directory));
    assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
    first.close().await.unwrap();
    open(&directory);
}

#[tokio::test]
async fn a_refused_opening_leaves_the_database_free() {
    let directory = doctored("UPDATE schema_migrations SET checksum = 'abc' || checksum").await;
    refusal(&database(&directory));
    let sql = "UPDATE schema_migrations SET checksum = substr(checksum, 4)";
    Connection::open(database(&directory)).unwrap().execute_batch(sql).unwrap();
    open(&directory);
}

#[tokio::test]
async fn all_files_are_for_the_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.create_run(new_run("a/b", "x"), vec![new_job("build")]).await.unwrap();
    let data = directory.path().join("data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["startline.db", "startline.db-shm", "startline.db-wal", "startline.db.lock"]);
}

#[tokio::test]
async fn a_database_that_others_could_read_is_closed_to_them() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).close().await.unwrap();
    let path = database(&directory);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _store = open(&directory);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn closing_moves_everything_into_the_database_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let CreatedRun { run, .. } = store.create_run(new_run("a/b", "x"), vec![new_job("build")]).await.unwrap();
    store.close().await.unwrap();
    let path = database(&directory);
    assert!(!path.with_file_name("startline.db-wal").exists());
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let copied = Sqlite::open(&copy, &options()).unwrap();
    assert_eq!(copied.run(run.id).await, Ok(Some(run)));
}

#[tokio::test]
async fn the_schema_passes_sqlites_own_checks() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.create_run(new_run("a/b", "x"), vec![new_job("build")]).await.unwrap();
    store.close().await.unwrap();
    let database = Connection::open(database(&directory)).unwrap();
    let integrity: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    let loose = "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT strict \
                 AND name NOT LIKE 'sqlite_%'";
    assert_eq!(database.query_row(loose, [], |row| row.get::<_, i64>(0)), Ok(0));
}

#[tokio::test]
async fn no_text_of_a_token_is_needed_or_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.create_api_token(api_token(1)).await.unwrap();
    store.close().await.unwrap();
    let database = Connection::open(database(&directory)).unwrap();
    let (kind, length): (String, i64) = database
        .query_row("SELECT typeof(hash), length(hash) FROM api_tokens", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((kind.as_str(), length), ("blob", 32));
}
