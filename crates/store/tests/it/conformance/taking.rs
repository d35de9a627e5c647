//! Jobs that are acquired in the step that makes them.

use std::sync::mpsc::{Receiver, channel};

use startline_protocol::ids::{Epoch, RunnerId};
use startline_protocol::state::{JobStatus, RunStatus};
use startline_store::{AuditFilter, CreatedRun, Error, NewAudit, NewJob, NewRun, Note, TakenJob, Taker, Taking};

use crate::bench::{Bench, at, audit_entry, hash, new_job, new_run, waiting_job};

/// What a taker was told.
type Told = Receiver<Result<TakenJob, Error>>;

/// A taker for `runner`, who acquires at second 20.
fn taker(runner: RunnerId) -> (Taker, Told) {
    let (tell, told) = channel();
    let taker = Taker::new(move |job| {
        assert_eq!((job.status, job.epoch), (JobStatus::Queued, Epoch::ZERO));
        let outcome = Box::new(move |taken| tell.send(taken).unwrap());
        Some(Taking { epoch: Epoch(1), runner, now: at(20), note: Note::none(), outcome })
    });
    (taker, told)
}

fn some_run() -> NewRun {
    new_run("acme/demo", "ci.yml")
}

pub(super) async fn a_new_job_is_acquired_in_the_step_that_makes_it(bench: Bench) {
    let runner = bench.runner_named("one").await;
    let (taker, told) = taker(runner.id);
    let created = bench.create_run_taken(some_run(), vec![new_job("build")], Note::none(), taker).await.unwrap();
    // Told before the step is answered.
    let taken = told.try_recv().unwrap().unwrap();
    assert_eq!(
        (created.run.status, created.jobs[0].status),
        (RunStatus::Queued, JobStatus::Queued),
        "as it was before"
    );
    assert_eq!((taken.job.id, taken.job.status, taken.job.epoch), (created.jobs[0].id, JobStatus::Running, Epoch(1)));
    assert_eq!((taken.job.runner_id, taken.job.runner_name.as_deref()), (Some(runner.id), Some("one")));
    assert_eq!((taken.job.attempt, taken.job.started_at), (1, Some(at(20))));
    assert_eq!(bench.see(taken.job.id).await, taken.job);
    assert_eq!(bench.run(created.run.id).await.unwrap().unwrap(), taken.run);
    assert_eq!(bench.job_message(taken.job.id).await.unwrap(), Some(taken.message.clone()));

    // It is what an acquisition afterwards would have made of it.
    let (run, jobs) = bench.run_of(vec![new_job("build")]).await;
    let later = bench.acquire_noted(jobs[0].id, Epoch(1), runner.id, 1, at(20), Note::none()).await.unwrap();
    let mut same = later.clone();
    (same.run.id, same.run.number) = (taken.run.id, taken.run.number);
    (same.job.id, same.job.run_id) = (taken.job.id, taken.job.run_id);
    assert_ne!(later.run.id, created.run.id);
    assert_eq!(later.run.id, run.id);
    assert_eq!(same, taken);
}

pub(super) async fn a_taker_may_leave_a_job(bench: Bench) {
    let (ask, asked) = channel();
    let taker = Taker::new(move |job| {
        ask.send(job.clone()).unwrap();
        None
    });
    let created = bench.create_run_taken(some_run(), vec![new_job("build")], Note::none(), taker).await.unwrap();
    assert_eq!(asked.try_recv().unwrap(), created.jobs[0]);
    assert_eq!(bench.see(created.jobs[0].id).await, created.jobs[0]);
    assert_eq!(bench.run(created.run.id).await.unwrap().unwrap(), created.run);
}

pub(super) async fn a_taker_is_asked_of_a_new_job_that_is_alone_and_queued(bench: Bench) {
    let runner = bench.some_runner().await;
    let skipped = NewJob { status: JobStatus::Completed, ..waiting_job("build") };
    let skipped = NewJob { conclusion: Some(startline_protocol::state::Conclusion::Skipped), ..skipped };
    for jobs in [vec![], vec![waiting_job("build")], vec![skipped], vec![new_job("a"), new_job("b")]] {
        let (taker, told) = taker(runner);
        let created = bench.create_run_taken(some_run(), jobs.clone(), Note::none(), taker).await.unwrap();
        assert!(told.try_recv().is_err(), "asked of {jobs:?}");
        assert_eq!(bench.jobs_of_run(created.run.id).await.unwrap(), created.jobs);
    }
    let keyed = || NewRun { idempotency: Some(hash(1)), ..some_run() };
    let first = bench.create_run(keyed(), vec![new_job("build")]).await.unwrap();
    let (taker, told) = taker(runner);
    let second = bench.create_run_taken(keyed(), vec![new_job("build")], Note::none(), taker).await.unwrap();
    assert!(second.is_repeat && told.try_recv().is_err());
    assert_eq!(bench.see(first.jobs[0].id).await, first.jobs[0]);
}

pub(super) async fn a_job_whose_taker_is_gone_stays_queued(bench: Bench) {
    let runner = bench.some_runner().await;
    bench.delete_runner(runner, at(2)).await.unwrap();
    for gone in [runner, RunnerId(404)] {
        let (taker, told) = taker(gone);
        let created = bench.create_run_taken(some_run(), vec![new_job("build")], Note::none(), taker).await.unwrap();
        assert_eq!(told.try_recv().unwrap(), Err(Error::RunnerGone(gone)));
        assert_eq!(bench.see(created.jobs[0].id).await, created.jobs[0]);
        assert_eq!(bench.run(created.run.id).await.unwrap().unwrap(), created.run);
    }
}

pub(super) async fn a_job_that_is_taken_at_once_has_the_lines_of_both(bench: Bench) {
    let line = |number: u32, subject: String| NewAudit { subject, ..audit_entry(number) };
    let gone = RunnerId(404);
    let runner = bench.some_runner().await;
    for runner in [runner, gone] {
        let created = Note::new(move |created: &CreatedRun| Some(line(1, format!("run:{}", created.run.id))));
        let taker = Taker::new(move |_| {
            let note = Note::new(move |taken: &TakenJob| Some(line(2, format!("{} {}", taken.job.id, taken.message))));
            Some(Taking { epoch: Epoch(1), runner, now: at(20), note, outcome: Box::new(drop) })
        });
        bench.create_run_taken(some_run(), vec![new_job("build")], created, taker).await.unwrap();
    }
    let lines = bench.audit(0, 10, AuditFilter::default()).await.unwrap().items;
    let job = r#"1 {"key":"build"}"#.to_owned();
    // What was refused has no line.
    let wanted = [line(1, "run:1".to_owned()), line(2, job), line(1, "run:2".to_owned())];
    assert_eq!(lines.into_iter().map(|line| line.entry).collect::<Vec<_>>(), wanted);
    assert!(bench.verify_audit().await.unwrap().valid);
}
