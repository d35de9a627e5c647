use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};
use startline_store::{CreatedRun, Error, JobOutline, JobRecord, NewJob, NewRun, UnfinishedRun};

use crate::bench::{Bench, at, hash, is_engine_error, new_job, new_run, waiting_job};

pub(super) async fn a_run_begins_queued_with_its_jobs(bench: Bench) {
    let (run, jobs) = bench.run_of(vec![new_job("build"), waiting_job("test")]).await;
    assert_eq!((run.number, run.status, run.conclusion), (1, RunStatus::Queued, None));
    assert_eq!((run.started_at, run.completed_at, run.cancel_requested), (None, None, false));
    let (build, test) = (&jobs[0], &jobs[1]);
    assert_eq!((build.run_id, build.repository.as_str(), build.key.as_str()), (run.id, "acme/demo", "build"));
    assert_eq!((build.index, build.name.as_str(), build.status), (0, "job build", JobStatus::Queued));
    assert_eq!((&build.labels, &build.group), (&new_job("").labels, &new_job("").group));
    assert_eq!((build.priority, build.timeout_minutes, build.continue_on_error), (-3, 360, true));
    assert_eq!((build.requeues_left, build.attempt, build.epoch), (2, 1, Epoch::ZERO));
    assert_eq!((build.runner_id, &build.runner_name, &build.cancel_reason), (None, &None, &None));
    assert_eq!((build.queued_at, build.started_at, build.completed_at), (at(11), None, None));
    assert_eq!((build.finished, build.conclusion, &build.reason), (0, None, &None));
    assert!(build.outputs.is_empty() && build.steps.is_empty() && build.annotations.is_empty());
    assert_eq!((test.status, test.reason.as_deref()), (JobStatus::Waiting, Some("max-parallel")));
    assert!(test.id > build.id);
    assert_eq!(bench.run(run.id).await, Ok(Some(run.clone())));
    assert_eq!(bench.jobs_of_run(run.id).await, Ok(jobs));
}

pub(super) async fn a_run_keeps_what_was_submitted(bench: Bench) {
    let new = NewRun { sealed_secrets: None, trusted: false, idempotency: Some(hash(9)), ..new_run("a/b", "x.yml") };
    let (with, _) = bench.run_of(vec![]).await;
    let without = bench.create_run(new.clone(), vec![]).await.unwrap().run;
    assert_eq!(bench.run(with.id).await.unwrap().unwrap().run, new_run("acme/demo", "ci.yml"));
    assert_eq!(bench.run(without.id).await.unwrap().unwrap().run, new);
}

pub(super) async fn runs_are_numbered_by_repository_and_path(bench: Bench) {
    let mut numbers = Vec::new();
    for (repository, path) in [("a/b", "x"), ("a/b", "x"), ("a/b", "y"), ("a/c", "x"), ("a/b", "x"), ("A/B", "x")] {
        numbers.push(bench.create_run(new_run(repository, path), vec![]).await.unwrap().run.number);
    }
    assert_eq!(numbers, [1, 2, 1, 1, 3, 1]);
}

pub(super) async fn a_run_may_begin_without_jobs(bench: Bench) {
    let (run, jobs) = bench.run_of(vec![]).await;
    assert!(jobs.is_empty());
    assert_eq!(bench.unfinished(RunId(0), 10).await, Ok(vec![UnfinishedRun { run, jobs: vec![] }]));
}

fn impossible() -> [NewJob; 4] {
    let job = |status, conclusion| NewJob { status, conclusion, ..new_job("bad") };
    [
        job(JobStatus::Offered, None),
        job(JobStatus::Running, None),
        job(JobStatus::Completed, None),
        job(JobStatus::Queued, Some(Conclusion::Success)),
    ]
}

pub(super) async fn a_job_cannot_begin_in_an_impossible_state(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    for job in impossible() {
        let added = bench.add_jobs(run.id, vec![job]).await;
        assert!(is_engine_error(&added), "{added:?}");
    }
}

pub(super) async fn a_refused_run_leaves_nothing_behind(bench: Bench) {
    for job in impossible() {
        let run = bench.create_run(new_run("acme/demo", "ci.yml"), vec![new_job("good"), job]).await;
        assert!(is_engine_error(&run), "{run:?}");
    }
    assert_eq!(bench.runs(None, 10).await.unwrap().items, []);
    assert_eq!(bench.jobs(None, None, 10).await.unwrap().items, []);
    assert_eq!(bench.run_of(vec![]).await.0.number, 1);
}

pub(super) async fn a_job_that_is_listed_twice_is_added_once(bench: Bench) {
    let (run, jobs) = bench.run_of(vec![new_job("build"), waiting_job("build")]).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].status, JobStatus::Queued);
    assert_eq!(bench.jobs_of_run(run.id).await, Ok(jobs));
}

pub(super) async fn jobs_can_be_added_to_a_run(bench: Bench) {
    let (run, first) = bench.run_of(vec![new_job("build")]).await;
    let added = bench.add_jobs(run.id, vec![new_job("test")]).await.unwrap();
    assert_eq!((added.len(), added[0].repository.as_str()), (1, "acme/demo"));
    assert_eq!(bench.jobs_of_run(run.id).await, Ok([first, added].concat()));
}

pub(super) async fn a_job_that_exists_is_left_alone(bench: Bench) {
    let (run, jobs) = bench.run_of(vec![new_job("build")]).await;
    let other = NewJob { name: "other".to_owned(), message: "{}".to_owned(), ..waiting_job("build") };
    let added = bench.add_jobs(run.id, vec![other, new_job("test")]).await.unwrap();
    assert_eq!(added.iter().map(|job| job.key.as_str()).collect::<Vec<_>>(), ["test"]);
    assert_eq!(bench.see(jobs[0].id).await, jobs[0]);
    assert_eq!(bench.job_message(jobs[0].id).await, Ok(Some(r#"{"key":"build"}"#.to_owned())));
}

pub(super) async fn indices_of_a_matrix_are_different_jobs(bench: Bench) {
    let matrix = |index| NewJob { index, ..new_job("build") };
    let (_, jobs) = bench.run_of(vec![matrix(0), matrix(1), matrix(2)]).await;
    assert_eq!(jobs.iter().map(|job| job.index).collect::<Vec<_>>(), [0, 1, 2]);
}

pub(super) async fn jobs_of_different_runs_may_share_a_key(bench: Bench) {
    let (one, _) = bench.run_of(vec![new_job("build")]).await;
    let (two, jobs) = bench.run_of(vec![new_job("build")]).await;
    assert_ne!(one.id, two.id);
    assert_eq!(bench.jobs_of_run(two.id).await, Ok(jobs));
}

pub(super) async fn jobs_cannot_be_added_to_an_unknown_run(bench: Bench) {
    assert_eq!(bench.add_jobs(RunId(404), vec![new_job("x")]).await, Err(Error::NoRun(RunId(404))));
    assert_eq!(bench.add_jobs(RunId(404), vec![]).await, Err(Error::NoRun(RunId(404))));
}

pub(super) async fn a_refused_job_takes_its_siblings_with_it(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    for job in impossible() {
        assert!(bench.add_jobs(run.id, vec![new_job("good"), job]).await.is_err());
    }
    assert_eq!(bench.jobs_of_run(run.id).await, Ok(vec![]));
}

pub(super) async fn a_job_may_begin_completed(bench: Bench) {
    let skipped = NewJob {
        status: JobStatus::Completed,
        conclusion: Some(Conclusion::Skipped),
        reason: Some("its condition was false".to_owned()),
        message: String::new(),
        outputs: [("version".to_owned(), "7".to_owned())].into(),
        ..new_job("deploy")
    };
    let job = bench.job_of(skipped).await;
    assert_eq!(job.outputs["version"], "7");
    assert_eq!((job.status, job.conclusion), (JobStatus::Completed, Some(Conclusion::Skipped)));
    assert_eq!((job.completed_at, job.started_at), (Some(at(11)), None));
    assert!(job.finished > 0);
    assert_eq!(bench.job_message(job.id).await, Ok(Some(String::new())));
    assert_eq!(bench.see(job.id).await, job);
    assert!(bench.completed().await.finished > job.finished);
}

pub(super) async fn a_waiting_job_is_released(bench: Bench) {
    let waiting = bench.job_of(waiting_job("build")).await;
    let released = bench.release_job(waiting.id, at(50)).await.unwrap().unwrap();
    assert_eq!((released.status, released.queued_at, &released.reason), (JobStatus::Queued, at(50), &None));
    assert_eq!(bench.see(waiting.id).await, released);
}

pub(super) async fn only_waiting_jobs_are_released(bench: Bench) {
    for (status, job) in bench.job_in_each_state().await {
        let before = bench.see(job).await;
        let released = bench.release_job(job, at(50)).await.unwrap();
        assert_eq!(released.is_some(), status == JobStatus::Waiting, "{status}");
        assert_eq!(bench.see(job).await == before, status != JobStatus::Waiting, "{status}");
    }
    assert_eq!(bench.release_job(JobId(404), at(50)).await, Ok(None));
}

pub(super) async fn a_job_keeps_its_message(bench: Bench) {
    let message = format!("{{\"text\":\"{}\"}}", "ü\u{1f600}".repeat(50_000));
    let job = bench.job_of(NewJob { message: message.clone(), ..new_job("build") }).await;
    assert_eq!(bench.job_message(job.id).await, Ok(Some(message)));
    assert_eq!(bench.job_message(JobId(404)).await, Ok(None));
}

pub(super) async fn a_run_can_be_cancelled(bench: Bench) {
    let (run, _) = bench.run_of(vec![new_job("build")]).await;
    let cancelled = bench.request_run_cancel(run.id).await.unwrap().unwrap();
    assert!(cancelled.cancel_requested);
    assert_eq!(bench.request_run_cancel(run.id).await, Ok(Some(cancelled.clone())));
    assert_eq!(bench.run(run.id).await, Ok(Some(cancelled)));
}

pub(super) async fn a_completed_run_is_not_cancelled(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    bench.finish_run(run.id, Conclusion::Success, None, at(40)).await.unwrap();
    assert!(!bench.request_run_cancel(run.id).await.unwrap().unwrap().cancel_requested);
}

pub(super) async fn an_unknown_run_cannot_be_cancelled(bench: Bench) {
    assert_eq!(bench.request_run_cancel(RunId(404)).await, Ok(None));
}

pub(super) async fn a_run_is_finished_once(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    assert_eq!(bench.finish_run(run.id, Conclusion::Failure, None, at(40)).await, Ok(true));
    assert_eq!(bench.finish_run(run.id, Conclusion::Success, None, at(50)).await, Ok(false));
    let run = bench.run(run.id).await.unwrap().unwrap();
    assert_eq!((run.status, run.conclusion), (RunStatus::Completed, Some(Conclusion::Failure)));
    assert_eq!(run.completed_at, Some(at(40)));
}

pub(super) async fn an_unknown_run_cannot_be_finished(bench: Bench) {
    let finish = bench.finish_run(RunId(404), Conclusion::Success, None, at(40)).await;
    assert_eq!(finish, Err(Error::NoRun(RunId(404))));
}

pub(super) async fn unfinished_runs_come_with_all_their_jobs(bench: Bench) {
    let (finished, _) = bench.run_of(vec![new_job("build")]).await;
    bench.finish_run(finished.id, Conclusion::Success, None, at(40)).await.unwrap();
    let completed = bench.completed().await;
    bench.add_jobs(completed.run_id, vec![waiting_job("test")]).await.unwrap();
    let (last, last_jobs) = bench.run_of(vec![new_job("build"), new_job("test")]).await;
    let unfinished = bench.unfinished(RunId(0), 10).await.unwrap();
    assert_eq!(unfinished.iter().map(|found| found.run.id).collect::<Vec<_>>(), [completed.run_id, last.id]);
    assert_eq!(unfinished[0].run.status, RunStatus::Running);
    assert_eq!(unfinished[0].jobs, outlines(&bench.jobs_of_run(completed.run_id).await.unwrap()));
    assert_eq!(unfinished[0].jobs[0], JobOutline::from(&completed));
    assert_eq!(unfinished[1].jobs, outlines(&last_jobs));
    assert_eq!(bench.unfinished(RunId(0), 1).await, Ok(unfinished[..1].to_vec()));
    assert_eq!(bench.unfinished(completed.run_id, 1).await, Ok(unfinished[1..].to_vec()));
    assert_eq!(bench.unfinished(last.id, 1).await, Ok(vec![]));
}

fn outlines(jobs: &[JobRecord]) -> Vec<JobOutline> {
    jobs.iter().map(JobOutline::from).collect()
}

pub(super) async fn jobs_that_ask_for_different_runners_are_told_apart(bench: Bench) {
    let labelled = |key: &str, labels: &[&str], group: Option<&str>, trusted| NewJob {
        labels: labels.iter().map(ToString::to_string).collect(),
        group: group.map(str::to_owned),
        trusted,
        ..new_job(key)
    };
    let (_, jobs) = bench
        .run_of(vec![
            labelled("z", &["linux"], None, true),
            labelled("y", &["linux"], None, true),
            labelled("x", &["linux", "big"], None, true),
            labelled("w", &["linux"], Some("gpu"), true),
            labelled("v", &["linux"], None, false),
        ])
        .await;
    let unfinished = bench.unfinished(RunId(0), 10).await.unwrap();
    assert_eq!(unfinished[0].jobs, outlines(&jobs));
}

pub(super) async fn a_job_keeps_whether_it_is_trusted(bench: Bench) {
    let (run, jobs) = bench.run_of(vec![NewJob { trusted: false, ..new_job("build") }, new_job("test")]).await;
    assert_eq!(jobs.iter().map(|job| job.trusted).collect::<Vec<_>>(), [false, true]);
    assert_eq!(bench.jobs_of_run(run.id).await, Ok(jobs));
}

fn submission(key: u32, second: i64) -> NewRun {
    NewRun { idempotency: Some(hash(key)), created_at: at(second), ..new_run("acme/demo", "ci.yml") }
}

const DAY: i64 = 24 * 3600;

pub(super) async fn a_repeated_submission_answers_the_same_run(bench: Bench) {
    let first = bench.create_run(submission(1, 10), vec![new_job("build")]).await.unwrap();
    assert!(!first.is_repeat);
    let other = NewRun { name: "other".to_owned(), ..submission(1, 9 + DAY) };
    let second = bench.create_run(other, vec![new_job("test")]).await.unwrap();
    assert_eq!(second, CreatedRun { is_repeat: true, ..first });
    assert_eq!(bench.runs(None, 10).await.unwrap().items.len(), 1);
    assert_eq!(bench.jobs(None, None, 10).await.unwrap().items.len(), 1);
}

pub(super) async fn a_repeated_submission_sees_how_far_the_run_is(bench: Bench) {
    let first = bench.create_run(submission(1, 10), vec![new_job("build")]).await.unwrap();
    bench.add_jobs(first.run.id, vec![new_job("test")]).await.unwrap();
    bench.finish_run(first.run.id, Conclusion::Failure, None, at(40)).await.unwrap();
    let second = bench.create_run(submission(1, 50), vec![]).await.unwrap();
    assert_eq!((second.run.conclusion, second.jobs.len()), (Some(Conclusion::Failure), 2));
}

pub(super) async fn after_a_day_a_repeat_is_a_new_run(bench: Bench) {
    let first = bench.create_run(submission(1, 10), vec![]).await.unwrap();
    let second = bench.create_run(submission(1, 10 + DAY), vec![]).await.unwrap();
    assert!(!second.is_repeat && second.run.id > first.run.id);
    let third = bench.create_run(submission(1, 11 + DAY), vec![]).await.unwrap();
    assert_eq!((third.is_repeat, third.run.id), (true, second.run.id), "the last one counts");
}

pub(super) async fn submissions_without_or_with_other_keys_are_no_repeats(bench: Bench) {
    bench.create_run(submission(1, 10), vec![]).await.unwrap();
    assert!(!bench.create_run(submission(2, 10), vec![]).await.unwrap().is_repeat);
    for _ in 0..2 {
        let run = NewRun { idempotency: None, ..submission(1, 10) };
        assert!(!bench.create_run(run, vec![]).await.unwrap().is_repeat);
    }
}

pub(super) async fn of_many_equal_submissions_at_once_one_makes_a_run(bench: Bench) {
    let answers: Vec<_> = (0..20).map(|_| bench.create_run(submission(1, 10), vec![new_job("build")])).collect();
    let mut repeats = 0;
    for answer in answers {
        repeats += u32::from(answer.await.unwrap().is_repeat);
    }
    assert_eq!((repeats, bench.runs(None, 100).await.unwrap().items.len()), (19, 1));
}

pub(super) async fn a_refused_submission_can_be_repeated(bench: Bench) {
    let [bad, ..] = impossible();
    assert!(bench.create_run(submission(1, 10), vec![bad]).await.is_err());
    assert!(!bench.create_run(submission(1, 11), vec![new_job("build")]).await.unwrap().is_repeat);
}

pub(super) async fn a_run_is_renamed(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    let renamed = bench.rename_run(run.id, "deploy \u{1f680}".to_owned()).await.unwrap().unwrap();
    assert_eq!(renamed.run.name, "deploy \u{1f680}");
    assert_eq!(bench.run(run.id).await, Ok(Some(renamed)));
    assert_eq!(bench.rename_run(RunId(404), "x".to_owned()).await, Ok(None));
}
