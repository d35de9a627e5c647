//! What SQLite keeps through drops, crashes and bursts.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use startline_protocol::admin_api::AuditView;
use startline_protocol::ids::{Epoch, RunId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};
use startline_store::sqlite::{Options, Sqlite};
use startline_store::{
    AuditFilter, CreatedRun, Error, JobOutline, Note, Store, TakenJob, Taker, Taking, UnfinishedRun,
};
use tempfile::TempDir;

use crate::bench::{
    at, audit_entry, completion, database, hash, is_engine_error, new_job, new_run, new_runner, open, options,
    registration_token,
};

#[tokio::test]
async fn what_was_answered_is_there_after_a_drop_without_close() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let CreatedRun { run, jobs, .. } = store.create_run(new_run("a/b", "x"), vec![new_job("build")]).await.unwrap();
    drop(store);
    let jobs = jobs.iter().map(JobOutline::from).collect();
    assert_eq!(open(&directory).unfinished(RunId(0), 10).await, Ok(vec![UnfinishedRun { run, jobs }]));
}

#[tokio::test]
async fn what_was_called_is_done_when_the_store_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let pending: Vec<_> = (0..300).map(|_| store.create_run(new_run("a/b", "x"), vec![])).collect();
    drop(store);
    for answer in pending {
        assert!(answer.await.is_ok());
    }
    assert_eq!(open(&directory).runs(None, 1000).await.unwrap().items.len(), 300);
}

#[tokio::test]
async fn a_dropped_future_takes_effect_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    drop(store.create_run(new_run("a/b", "x"), vec![]));
    store.close().await.unwrap();
    assert!(open(&directory).run(RunId(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn the_order_of_completion_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for expected in 1..4 {
        let store = open(&directory);
        let CreatedRun { jobs, .. } = store.create_run(new_run("a/b", "x"), vec![new_job("build")]).await.unwrap();
        let reason = "cancelled".to_owned();
        let job = store.conclude(jobs[0].id, Epoch::ZERO, Conclusion::Cancelled, reason, at(1)).await.unwrap();
        assert_eq!(job.finished, expected);
        store.close().await.unwrap();
    }
}

/// A store whose writer can be held behind its first commit, so that what is called meanwhile is one batch.
struct Held {
    store: Sqlite,
    directory: TempDir,
    is_held: Receiver<()>,
    release: Sender<()>,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Held {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (holds, is_held) = channel();
        let (release, released) = channel();
        let released = Mutex::new(released);
        let batches = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&batches);
        let observer = move |_, size| {
            let mut seen = seen.lock().unwrap();
            seen.push(size);
            if seen.len() == 1 {
                holds.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
        };
        let options = Options { observer: Some(Arc::new(observer)), ..options() };
        let store = Sqlite::open(&database(&directory), &options).unwrap();
        Self { store, directory, is_held, release, batches }
    }

    fn hold(&self) {
        drop(self.store.delete_runner(RunnerId(404), at(0)));
        self.is_held.recv().unwrap();
    }

    fn release(&self) {
        self.release.send(()).unwrap();
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn what_comes_during_a_commit_shares_the_next_one() {
    let held = Held::new();
    held.hold();
    let answers: Vec<_> = (0..1500).map(|_| held.store.create_run(new_run("a/b", "x"), vec![])).collect();
    held.release();
    for answer in answers {
        answer.await.unwrap();
    }
    assert_eq!(held.batches(), [1, 1024, 476]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let batches = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&batches);
    let observer = move |_, size| seen.lock().unwrap().push(size);
    let options = Options { observer: Some(Arc::new(observer)), ..options() };
    let store = Arc::new(Sqlite::open(&database(&directory), &options).unwrap());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            for _ in 0..10 {
                store.create_run(new_run("a/b", "x"), vec![new_job("build")]).await.unwrap();
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let batches = batches.lock().unwrap();
    assert_eq!(batches.iter().sum::<usize>(), 640);
    assert!(batches.len() < 320, "{} commits", batches.len());
}

#[tokio::test]
async fn a_step_that_fails_does_not_undo_its_neighbours() {
    let held = Held::new();
    held.hold();
    let store = &held.store;
    let first = store.create_run(new_run("a/b", "x"), vec![new_job("build")]);
    let unknown = store.register_runner(hash(1), new_runner("one", 2), at(1));
    let half_done = {
        let running = startline_store::NewJob { status: JobStatus::Running, ..new_job("bad") };
        store.create_run(new_run("a/b", "x"), vec![new_job("good"), running])
    };
    let token = store.create_registration_token(registration_token(1));
    let duplicate = store.create_registration_token(registration_token(1));
    let registered = store.register_runner(hash(1), new_runner("one", 2), at(1));
    let last = store.create_run(new_run("a/b", "x"), vec![]);
    held.release();
    assert!(first.await.is_ok());
    assert_eq!(unknown.await, Err(Error::TokenUnknown));
    assert!(is_engine_error(&half_done.await));
    assert!(token.await.is_ok());
    assert!(is_engine_error(&duplicate.await));
    assert!(registered.await.is_ok());
    assert_eq!(last.await.unwrap().run.number, 2);
    assert_eq!(held.batches(), [1, 7]);
    let Held { store, directory, .. } = held;
    drop(store);
    let store = open(&directory);
    assert_eq!(store.runs(None, 10).await.unwrap().items.len(), 2);
    assert_eq!(store.jobs(None, None, 10).await.unwrap().items.len(), 1);
    assert_eq!(store.runners().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_acquisition_that_fails_undoes_the_submission_and_is_told_before_the_next_step() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let sql = |sql: &str| rusqlite::Connection::open(database(&directory)).unwrap().execute_batch(sql).unwrap();
    store.create_registration_token(registration_token(1)).await.unwrap();
    let runner = store.register_runner(hash(1), new_runner("one", 2), at(1)).await.unwrap().runner.id;
    sql("CREATE TRIGGER broken BEFORE INSERT ON job_messages BEGIN SELECT RAISE(ABORT, 'broken'); END");
    let (tell, told) = channel();
    let submit = |store: &Sqlite| {
        let (asks, tells) = (tell.clone(), tell.clone());
        let taker = Taker::new(move |job| {
            asks.send(format!("job {}", job.id)).unwrap();
            let outcome = Box::new(move |taken: Result<TakenJob, Error>| {
                tells.send(taken.map_or_else(|error| error.to_string(), |taken| taken.job.status.to_string())).unwrap();
            });
            Some(Taking { epoch: Epoch(1), runner, now: at(20), note: Note::none(), outcome })
        });
        store.create_run_taken(new_run("a/b", "x"), vec![new_job("build")], Note::none(), taker)
    };
    let failed = submit(&store).await;
    assert!(is_engine_error(&failed), "{failed:?}");
    assert_eq!(store.runs(None, 10).await.unwrap().items, []);
    sql("DROP TRIGGER broken");
    // The id is free again.
    let CreatedRun { run, jobs, .. } = submit(&store).await.unwrap();
    let told: Vec<String> = told.try_iter().collect();
    let undone = Error::Engine { operation: "acquire a new job", message: "its step was undone".to_owned() };
    assert_eq!(told, ["job 1", &undone.to_string(), "job 1", "running"]);
    drop(store);
    // Both are durable.
    let store = open(&directory);
    assert_eq!(store.job(jobs[0].id).await.unwrap().unwrap().status, JobStatus::Running);
    assert_eq!(store.run(run.id).await.unwrap().unwrap().status, RunStatus::Running);
}

#[tokio::test]
async fn a_full_queue_is_an_answer_and_not_a_wait() {
    let held = Held::new();
    held.hold();
    let mut accepted = Vec::new();
    let refusal = loop {
        let mut answer = held.store.delete_runner(RunnerId(404), at(0));
        // What was refused is ready at once; what was accepted cannot be before the release.
        match answered_now(&mut answer) {
            Some(refusal) => break refusal,
            None => accepted.push(answer),
        }
        assert!(accepted.len() < 100_000);
    };
    let Err(error) = refusal else { panic!("answered without a commit") };
    assert!(error.is_transient() && error.to_string().contains("overloaded"), "{error}");
    held.release();
    for answer in accepted {
        assert_eq!(answer.await, Ok(false));
    }
    assert_eq!(held.store.delete_runner(RunnerId(404), at(0)).await, Ok(false));
}

fn answered_now<T>(answer: &mut startline_store::Answer<T>) -> Option<Result<T, Error>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match answer.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => Some(result),
        std::task::Poll::Pending => None,
    }
}

/// Names the database that the child of [`what_was_answered_survives_sigkill`] writes to.
const CHILD: &str = "STARTLINE_TEST_STORE_CHILD";

/// Writes until it is killed, and says on stdout what was answered.
fn write_until_killed(path: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Sqlite::open(path, &options()).unwrap());
        // The name is taken from the second round on.
        drop(store.create_registration_token(registration_token(1)).await);
        let new = startline_store::NewRunner { replace: true, ..new_runner("one", std::process::id() + 100) };
        let runner = store.register_runner(hash(1), new, at(1)).await.unwrap().runner.id;
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = Arc::clone(&store);
            // An end, should nobody kill it.
            writers.spawn(async move {
                for _ in 0..10_000 {
                    let CreatedRun { jobs, .. } =
                        store.create_run(new_run("a/b", "x"), vec![new_job("build")]).await.unwrap();
                    let job = jobs[0].id;
                    writeln!(std::io::stdout(), "\nqueued {job}").unwrap();
                    store.acquire(job, Epoch(1), runner, 1, at(2)).await.unwrap();
                    store.complete(job, Epoch(1), completion(Conclusion::Success), at(3)).await.unwrap();
                    writeln!(std::io::stdout(), "\ncompleted {job}").unwrap();
                    let line = store.append_audit(audit_entry(1)).await.unwrap();
                    let hash = AuditView::from(line.clone()).hash;
                    writeln!(std::io::stdout(), "\naudited {} {hash}", line.sequence).unwrap();
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
    });
}

#[test]
fn what_was_answered_survives_sigkill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = database(&directory);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut queued, mut completed, mut audited) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::what_was_answered_survives_sigkill", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((state, job)) = line.split_once(' ') else { continue };
            match state {
                "queued" => queued.insert(job.parse().unwrap()),
                "completed" => completed.insert(job.parse().unwrap()),
                "audited" => audited.insert(job.to_owned()),
                _ => continue,
            };
            seen += 1;
            if seen == 100 * round {
                // While it lives, nobody else gets in.
                let refusal = Sqlite::open(&path, &options()).unwrap_err();
                assert!(refusal.to_string().contains(&format!("in use by process {}", child.id())), "{refusal}");
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success(), "it was killed");
        assert!(seen >= 100 * round);

        let store = Sqlite::open(&path, &options()).unwrap();
        let jobs = runtime.block_on(store.jobs(None, None, u32::MAX)).unwrap().items;
        let there = |status: Option<JobStatus>| {
            let jobs = jobs.iter().filter(move |job| status.is_none_or(|status| job.status == status));
            jobs.map(|job| job.id.0).collect::<BTreeSet<i64>>()
        };
        assert_eq!(queued.difference(&there(None)).count(), 0);
        assert_eq!(completed.difference(&there(Some(JobStatus::Completed))).count(), 0);
        let chain = runtime.block_on(store.verify_audit()).unwrap();
        assert!(chain.valid, "{chain:?}");
        let lines = runtime.block_on(store.audit(0, u32::MAX, AuditFilter::default())).unwrap().items;
        let lines = lines.into_iter().map(AuditView::from);
        let there: BTreeSet<String> = lines.map(|line| format!("{} {}", line.sequence, line.hash)).collect();
        assert!(!audited.is_empty() && audited.is_subset(&there));
        for job in jobs.iter().filter(|job| job.status == JobStatus::Completed) {
            assert_eq!((&job.steps, job.finished > 0), (&completion(Conclusion::Success).steps, true));
        }
    }
}
