use std::os::unix::fs::PermissionsExt;

use super::*;

const JOB: JobId = JobId(1234);

struct Bench {
    directory: tempfile::TempDir,
    logs: Logs,
}

fn bench() -> Bench {
    bench_with(&Options::default())
}

fn bench_with(options: &Options) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::open(&directory.path().join("logs"), options).unwrap();
    Bench { directory, logs }
}

impl Bench {
    async fn text(&self) -> String {
        String::from_utf8(self.logs.read(JOB, 1, 0, usize::MAX).await.unwrap()).unwrap()
    }

    fn open_logs(&self) -> usize {
        self.logs.shared.open().len()
    }
}

#[tokio::test]
async fn appends_in_order_grow_the_log() {
    let bench = bench();
    assert_eq!(bench.logs.append(JOB, 1, 0, b"one ").await, Ok(4));
    assert_eq!(bench.logs.append(JOB, 1, 4, b"two").await, Ok(7));
    assert_eq!(bench.logs.length(JOB, 1).await, Ok(7));
    assert_eq!(bench.text().await, "one two");
}

#[tokio::test]
async fn a_repeated_append_changes_nothing() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"hello").await.unwrap();
    assert_eq!(bench.logs.append(JOB, 1, 0, b"hello").await, Ok(5));
    assert_eq!(bench.logs.append(JOB, 1, 2, b"ll").await, Ok(5));
    assert_eq!(bench.text().await, "hello");
}

#[tokio::test]
async fn an_overlap_adds_only_what_is_new() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"hello").await.unwrap();
    assert_eq!(bench.logs.append(JOB, 1, 3, b"lo, world").await, Ok(12));
    assert_eq!(bench.text().await, "hello, world");
}

#[tokio::test]
async fn a_gap_is_refused_and_names_where_to_go_on() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"hello").await.unwrap();
    assert_eq!(bench.logs.append(JOB, 1, 6, b"x").await, Err(LogError::Gap { wanted: 5 }));
    assert_eq!(bench.logs.append(JOB, 2, 1, b"x").await, Err(LogError::Gap { wanted: 0 }));
    assert_eq!(bench.text().await, "hello");
}

#[tokio::test]
async fn a_log_ends_at_its_limit() {
    let bench = bench_with(&Options { limit: 8, ..Options::default() });
    assert_eq!(bench.logs.append(JOB, 1, 0, b"12345678").await, Ok(8));
    assert_eq!(bench.logs.append(JOB, 1, 8, b"9").await, Err(LogError::TooLarge { limit: 8 }));
    assert_eq!(bench.logs.append(JOB, 1, 4, b"5678").await, Ok(8), "what is there already is not too large");
    assert_eq!(bench.logs.append(JOB, 2, 0, b"123456789").await, Err(LogError::TooLarge { limit: 8 }));
    assert_eq!(bench.logs.length(JOB, 2).await, Ok(0));
}

#[tokio::test]
async fn attempts_and_jobs_have_logs_of_their_own() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"a").await.unwrap();
    bench.logs.append(JOB, 2, 0, b"bb").await.unwrap();
    bench.logs.append(JobId(12345), 1, 0, b"ccc").await.unwrap();
    assert_eq!(bench.logs.length(JOB, 1).await, Ok(1));
    assert_eq!(bench.logs.length(JOB, 2).await, Ok(2));
    assert_eq!(bench.logs.length(JobId(12345), 1).await, Ok(3));
}

#[tokio::test]
async fn a_read_gives_a_window() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"0123456789").await.unwrap();
    assert_eq!(bench.logs.read(JOB, 1, 2, 3).await.unwrap(), b"234");
    assert_eq!(bench.logs.read(JOB, 1, 8, 100).await.unwrap(), b"89");
    assert_eq!(bench.logs.read(JOB, 1, 10, 100).await.unwrap(), b"");
    assert_eq!(bench.logs.read(JOB, 1, 11, 100).await.unwrap(), b"");
    assert_eq!(bench.logs.read(JobId(9), 1, 0, 100).await.unwrap(), b"", "no log yet");
}

#[tokio::test]
async fn a_restart_keeps_what_was_written() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"before ").await.unwrap();
    let again = Logs::open(&bench.directory.path().join("logs"), &Options::default()).unwrap();
    assert_eq!(again.length(JOB, 1).await, Ok(7));
    assert_eq!(again.append(JOB, 1, 0, b"before and after").await, Ok(16));
    assert_eq!(again.read(JOB, 1, 0, 100).await.unwrap(), b"before and after");
}

#[tokio::test]
async fn files_are_for_the_owner_alone() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"x").await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = bench.logs.shared.path((JOB, 1));
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&bench.directory.path().join("logs")), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uploads_of_one_text_yield_it_once() {
    let bench = bench();
    let text: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
    let uploads: Vec<_> = (1..=8)
        .map(|size| {
            let (logs, text) = (bench.logs.clone(), text.clone());
            async move {
                let mut offset = 0;
                while offset < text.len() {
                    let end = text.len().min(offset + size * 1000);
                    logs.append(JOB, 1, offset as u64, &text[offset..end]).await.unwrap();
                    offset = end;
                }
            }
        })
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    uploads.into_iter().for_each(|upload| drop(tasks.spawn(upload)));
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(bench.logs.read(JOB, 1, 0, usize::MAX).await.unwrap(), text);
    assert_eq!(bench.open_logs(), 0);
}

#[tokio::test]
async fn a_follower_sees_the_length_now_and_as_it_grows() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"abc").await.unwrap();
    let mut length = bench.logs.subscribe(JOB, 1).unwrap();
    assert_eq!(*length.borrow_and_update(), 3);
    bench.logs.append(JOB, 1, 3, b"de").await.unwrap();
    length.changed().await.unwrap();
    assert_eq!(*length.borrow_and_update(), 5);
    bench.logs.append(JOB, 1, 0, b"abcde").await.unwrap();
    assert!(!length.has_changed().unwrap(), "a repeat is no news");
}

#[tokio::test]
async fn a_follower_may_come_before_the_log() {
    let bench = bench();
    let mut length = bench.logs.subscribe(JOB, 1).unwrap();
    assert_eq!(*length.borrow_and_update(), 0);
    bench.logs.append(JOB, 1, 0, b"x").await.unwrap();
    length.changed().await.unwrap();
    assert_eq!(*length.borrow(), 1);
}

#[tokio::test]
async fn nothing_stays_open_behind_writers_and_followers() {
    let bench = bench();
    for job in 1..=50 {
        bench.logs.append(JobId(job), 1, 0, b"x").await.unwrap();
    }
    assert_eq!(bench.open_logs(), 0);
    let followers: Vec<_> = (1..=50).map(|job| bench.logs.subscribe(JobId(job), 1).unwrap()).collect();
    assert_eq!(bench.open_logs(), 50);
    drop(followers);
    bench.logs.append(JobId(1), 1, 1, b"y").await.unwrap();
    assert_eq!(bench.open_logs(), 49, "a writer cleans up after itself");
    drop(bench.logs.subscribe(JobId(2), 1).unwrap());
    assert!(bench.open_logs() <= 1, "a follower cleans up after all others");
}

#[tokio::test]
async fn removal_ends_followers_and_frees_the_name() {
    let bench = bench();
    bench.logs.append(JOB, 1, 0, b"old").await.unwrap();
    let mut length = bench.logs.subscribe(JOB, 1).unwrap();
    length.borrow_and_update();
    assert_eq!(bench.logs.remove(JOB, 1).await, Ok(true));
    assert!(length.changed().await.is_err());
    assert_eq!(bench.logs.remove(JOB, 1).await, Ok(false));
    assert_eq!(bench.logs.append(JOB, 1, 0, b"new").await, Ok(3));
    assert_eq!(bench.text().await, "new");
    assert_eq!(bench.open_logs(), 0);
}

#[tokio::test]
async fn all_logs_of_jobs_are_removed_with_what_is_empty_then() {
    let bench = bench();
    for (job, attempt) in [(1, 1), (1, 2), (2, 1), (1001, 1)] {
        bench.logs.append(JobId(job), attempt, 0, b"x").await.unwrap();
    }
    let shards = || std::fs::read_dir(bench.directory.path().join("logs")).unwrap().count();
    let before = shards();
    assert_eq!(bench.logs.remove_all(vec![(JobId(1), 2), (JobId(3), 1)]).await, Ok(2));
    assert_eq!((shards(), bench.logs.length(JobId(2), 1).await), (before, Ok(1)));
    assert_eq!(bench.logs.remove_all(vec![(JobId(1), 2), (JobId(2), 1)]).await, Ok(1));
    assert_eq!(shards(), before - 1);
    assert_eq!(bench.logs.append(JobId(2), 1, 0, b"new").await, Ok(3));
    assert_eq!((bench.open_logs(), bench.logs.remove_all(Vec::new()).await), (0, Ok(0)));
}

#[tokio::test]
async fn sync_wants_no_log() {
    let bench = bench();
    assert_eq!(bench.logs.sync(JOB, 1).await, Ok(()));
    bench.logs.append(JOB, 1, 0, b"x").await.unwrap();
    assert_eq!(bench.logs.sync(JOB, 1).await, Ok(()));
    assert_eq!(bench.text().await, "x");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Logs::open(&file.join("logs"), &Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Unusable(text) if text.contains("file/logs")), "{error}");
}

#[tokio::test]
async fn a_failed_write_leaves_a_log_that_can_go_on() {
    let bench = bench();
    let shard = bench.logs.shared.path((JOB, 1)).parent().unwrap().to_owned();
    std::fs::write(&shard, "in the way").unwrap();
    assert!(matches!(bench.logs.append(JOB, 1, 0, b"x").await, Err(LogError::Io { .. })));
    std::fs::remove_file(&shard).unwrap();
    assert_eq!(bench.logs.append(JOB, 1, 0, b"x").await, Ok(1));
    assert_eq!(bench.open_logs(), 0);
}
