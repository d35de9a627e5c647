use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus};
use startline_store::{CompleteOutcome, Completion};

use crate::bench::{Bench, at, completion, stale, step};

pub(super) async fn steps_are_replaced(bench: Bench) {
    let (job, _) = bench.running().await;
    bench.update_steps(job, Epoch(5), vec![step(1), step(2)]).await.unwrap();
    let updated = bench.update_steps(job, Epoch(5), vec![step(3)]).await.unwrap();
    assert_eq!((updated.status, &updated.steps), (JobStatus::Running, &vec![step(3)]));
    assert_eq!(bench.see(job).await, updated);
}

pub(super) async fn steps_need_the_current_epoch(bench: Bench) {
    let (job, _) = bench.running().await;
    for epoch in [4, 6] {
        assert_eq!(bench.update_steps(job, Epoch(epoch), vec![step(1)]).await, stale(job, epoch, 5));
    }
    assert_eq!(bench.see(job).await.steps, []);
}

pub(super) async fn only_running_jobs_have_their_steps_updated(bench: Bench) {
    for (status, job) in bench.job_in_each_state().await {
        let before = bench.see(job).await;
        let update = bench.update_steps(job, before.epoch, vec![step(9)]).await;
        if status == JobStatus::Running {
            assert_eq!(update.unwrap().steps, [step(9)]);
        } else {
            assert_eq!(update, stale(job, before.epoch.0, before.epoch.0), "{status}");
            assert_eq!(bench.see(job).await, before);
        }
    }
}

pub(super) async fn a_running_job_is_completed(bench: Bench) {
    let (job, runner) = bench.running().await;
    let said = completion(Conclusion::Failure);
    let outcome = bench.complete(job, Epoch(5), said.clone(), at(30)).await.unwrap();
    let CompleteOutcome::Completed { job: completed, run_ended: false } = outcome else { panic!("{outcome:?}") };
    assert_eq!((completed.status, completed.conclusion), (JobStatus::Completed, Some(Conclusion::Failure)));
    assert_eq!((completed.completed_at, completed.started_at), (Some(at(30)), Some(at(20))));
    assert_eq!((&completed.outputs, &completed.steps), (&said.outputs, &said.steps));
    assert_eq!((&completed.annotations, completed.runner_id), (&said.annotations, Some(runner)));
    assert!(completed.finished > 0);
    assert_eq!(bench.see(job).await, completed);
}

pub(super) async fn a_run_ends_in_the_step_of_its_only_job_unless_somebody_wanted_to_stop_it(bench: Bench) {
    let complete = async |job, conclusion| {
        let said = Completion { ends_run: true, ..completion(conclusion) };
        let outcome = bench.complete(job, Epoch(5), said, at(30)).await.unwrap();
        let CompleteOutcome::Completed { job, run_ended } = outcome else { panic!("{outcome:?}") };
        let run = bench.run(job.run_id).await.unwrap().unwrap();
        assert_eq!(run_ended, run.conclusion.is_some());
        assert_eq!(run.completed_at, run.conclusion.map(|_| at(30)));
        run.conclusion
    };
    for conclusion in [Conclusion::Success, Conclusion::Failure] {
        let (job, _) = bench.running().await;
        assert_eq!(complete(job, conclusion).await, Some(conclusion));
    }
    let (job, _) = bench.running().await;
    assert_eq!(complete(job, Conclusion::Cancelled).await, None);
    let (job, _) = bench.running().await;
    bench.request_job_cancel(job, "enough".to_owned()).await.unwrap();
    assert_eq!(complete(job, Conclusion::Success).await, None);
    let (job, _) = bench.running().await;
    let run = bench.see(job).await.run_id;
    assert!(bench.finish_run(run, Conclusion::Cancelled, None, at(29)).await.unwrap());
    let said = Completion { ends_run: true, ..completion(Conclusion::Success) };
    let outcome = bench.complete(job, Epoch(5), said, at(30)).await.unwrap();
    assert!(matches!(outcome, CompleteOutcome::Completed { run_ended: false, .. }), "{outcome:?}");
    assert_eq!(bench.run(run).await.unwrap().unwrap().conclusion, Some(Conclusion::Cancelled));
}

pub(super) async fn a_repeated_completion_changes_nothing(bench: Bench) {
    let completed = bench.completed().await;
    let repeat = bench.complete(completed.id, Epoch(5), completion(Conclusion::Failure), at(99)).await;
    assert_eq!(repeat, Ok(CompleteOutcome::AlreadyCompleted(completed.clone())));
    assert_eq!(bench.see(completed.id).await, completed);
}

pub(super) async fn completion_needs_the_current_epoch(bench: Bench) {
    for job in [bench.running().await.0, bench.completed().await.id] {
        let before = bench.see(job).await;
        for epoch in [4, 6] {
            let late = bench.complete(job, Epoch(epoch), completion(Conclusion::Failure), at(99)).await;
            assert_eq!(late, stale(job, epoch, 5));
        }
        assert_eq!(bench.see(job).await, before);
    }
}

pub(super) async fn only_running_jobs_are_completed(bench: Bench) {
    let jobs = bench.job_in_each_state().await;
    for status in [JobStatus::Waiting, JobStatus::Queued, JobStatus::Offered] {
        let before = bench.see(jobs[&status]).await;
        let early = bench.complete(before.id, before.epoch, completion(Conclusion::Success), at(30)).await;
        assert_eq!(early, stale(before.id, before.epoch.0, before.epoch.0), "{status}");
        assert_eq!(bench.see(before.id).await, before);
    }
}

pub(super) async fn of_many_completions_at_once_one_counts(bench: Bench) {
    let (job, _) = bench.running().await;
    let attempts: Vec<_> =
        (0..20).map(|second| bench.complete(job, Epoch(5), completion(Conclusion::Success), at(second))).collect();
    let mut completed = 0;
    for attempt in attempts {
        completed += usize::from(matches!(attempt.await.unwrap(), CompleteOutcome::Completed { .. }));
    }
    assert_eq!(completed, 1);
}

pub(super) async fn jobs_are_numbered_in_order_of_completion(bench: Bench) {
    let (slow, _) = bench.running().await;
    let (lost, _) = bench.running().await;
    let fast = bench.completed().await.finished;
    let lost = bench.conclude(lost, Epoch(5), Conclusion::Failure, "lost".to_owned(), at(31)).await.unwrap().finished;
    bench.complete(slow, Epoch(5), completion(Conclusion::Success), at(32)).await.unwrap();
    let slow = bench.see(slow).await.finished;
    assert_eq!([fast, lost, slow], [1, 2, 3]);
}

pub(super) async fn completion_forgets_why_the_job_was_requeued(bench: Bench) {
    let (job, runner) = bench.running().await;
    bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(25)).await.unwrap();
    bench.acquire(job, Epoch(6), runner, 2, at(40)).await.unwrap();
    bench.complete(job, Epoch(6), completion(Conclusion::Success), at(50)).await.unwrap();
    assert_eq!(bench.see(job).await.reason, None);
}

pub(super) async fn the_service_concludes_a_job_in_any_other_state(bench: Bench) {
    let jobs = bench.job_in_each_state().await;
    for status in [JobStatus::Waiting, JobStatus::Queued, JobStatus::Offered, JobStatus::Running] {
        let before = bench.see(jobs[&status]).await;
        let reason = "the run was cancelled".to_owned();
        let conclusion = bench.conclude(before.id, before.epoch, Conclusion::Cancelled, reason.clone(), at(70)).await;
        let concluded = conclusion.unwrap();
        assert_eq!((concluded.status, concluded.conclusion), (JobStatus::Completed, Some(Conclusion::Cancelled)));
        assert_eq!((concluded.completed_at, concluded.reason.as_ref()), (Some(at(70)), Some(&reason)));
        assert_eq!((concluded.runner_id, concluded.started_at), (before.runner_id, before.started_at));
        assert!(concluded.finished > 0);
        assert_eq!(bench.see(before.id).await, concluded);
    }
}

pub(super) async fn a_concluded_job_keeps_its_steps(bench: Bench) {
    let (job, _) = bench.running().await;
    bench.update_steps(job, Epoch(5), vec![step(1)]).await.unwrap();
    let concluded = bench.conclude(job, Epoch(5), Conclusion::Failure, "lost".to_owned(), at(70)).await.unwrap();
    assert_eq!(concluded.steps, [step(1)]);
}

pub(super) async fn conclusion_by_the_service_needs_the_current_epoch(bench: Bench) {
    for job in [bench.offered().await.0, bench.running().await.0] {
        let before = bench.see(job).await;
        for epoch in [4, 6] {
            let late = bench.conclude(job, Epoch(epoch), Conclusion::Failure, "lost".to_owned(), at(70)).await;
            assert_eq!(late, stale(job, epoch, 5));
        }
        assert_eq!(bench.see(job).await, before);
    }
}

pub(super) async fn a_completed_job_is_not_concluded(bench: Bench) {
    let completed = bench.completed().await;
    let late = bench.conclude(completed.id, Epoch(5), Conclusion::Cancelled, "late".to_owned(), at(70)).await;
    assert_eq!(late, stale(completed.id, 5, 5));
    assert_eq!(bench.see(completed.id).await, completed);
}

pub(super) async fn a_late_completion_of_a_concluded_job_changes_nothing(bench: Bench) {
    let (job, _) = bench.running().await;
    let concluded = bench.conclude(job, Epoch(5), Conclusion::Cancelled, "lost".to_owned(), at(70)).await.unwrap();
    let late = bench.complete(job, Epoch(5), completion(Conclusion::Success), at(71)).await;
    assert_eq!(late, Ok(CompleteOutcome::AlreadyCompleted(concluded.clone())));
    assert_eq!(bench.see(job).await, concluded);
}

pub(super) async fn the_first_reason_to_cancel_is_kept(bench: Bench) {
    let (job, _) = bench.running().await;
    let first = bench.request_job_cancel(job, "by a person".to_owned()).await.unwrap().unwrap();
    assert_eq!((first.status, first.cancel_reason.as_deref()), (JobStatus::Running, Some("by a person")));
    assert_eq!(bench.request_job_cancel(job, "fail-fast".to_owned()).await, Ok(Some(first.clone())));
    assert_eq!(bench.see(job).await, first);
}

pub(super) async fn a_completed_job_is_not_cancelled(bench: Bench) {
    let completed = bench.completed().await;
    assert_eq!(bench.request_job_cancel(completed.id, "late".to_owned()).await, Ok(Some(completed)));
}

pub(super) async fn an_unknown_job_cannot_be_cancelled(bench: Bench) {
    assert_eq!(bench.request_job_cancel(JobId(404), "x".to_owned()).await, Ok(None));
}

pub(super) async fn a_cancel_survives_a_requeue(bench: Bench) {
    let (job, _) = bench.running().await;
    bench.request_job_cancel(job, "by a person".to_owned()).await.unwrap();
    let requeued = bench.requeue(job, Epoch(5), 2, 1, "lost".to_owned(), at(25)).await.unwrap();
    assert_eq!(requeued.cancel_reason.as_deref(), Some("by a person"));
}

/// A job of an ephemeral runner under epoch 5, offered or running.
async fn with_mayfly(bench: &Bench, is_acquired: bool) -> (JobId, RunnerId) {
    let (job, runner) = (bench.queued().await, bench.mayfly().await);
    bench.record_offer(job, Epoch(5), runner).await.unwrap();
    if is_acquired {
        bench.acquire(job, Epoch(5), runner, 1, at(20)).await.unwrap();
    }
    (job, runner)
}

pub(super) async fn completion_deletes_an_ephemeral_runner(bench: Bench) {
    let (job, runner) = with_mayfly(&bench, true).await;
    let (_, other) = with_mayfly(&bench, true).await;
    let outcome = bench.complete(job, Epoch(5), completion(Conclusion::Success), at(30)).await.unwrap();
    let CompleteOutcome::Completed { job, .. } = outcome else { panic!("completed before") };
    assert_eq!((job.runner_id, job.runner_name.is_some()), (Some(runner), true), "the job remembers it");
    assert_eq!(bench.runner(runner).await, Ok(None));
    assert!(bench.runner(other).await.unwrap().is_some());
    assert_eq!(bench.delete_runner(runner, at(31)).await, Ok(false));
    let repeat = bench.complete(job.id, Epoch(5), completion(Conclusion::Success), at(32)).await;
    assert_eq!(repeat, Ok(CompleteOutcome::AlreadyCompleted(job)));
}

pub(super) async fn a_refused_completion_deletes_nobody(bench: Bench) {
    let (job, runner) = with_mayfly(&bench, true).await;
    assert!(bench.complete(job, Epoch(4), completion(Conclusion::Success), at(30)).await.is_err());
    assert!(bench.runner(runner).await.unwrap().is_some());
}

pub(super) async fn completion_leaves_other_runners_registered(bench: Bench) {
    let job = bench.completed().await;
    assert!(bench.runner(job.runner_id.unwrap()).await.unwrap().is_some());
}

pub(super) async fn an_attempt_that_counted_deletes_an_ephemeral_runner(bench: Bench) {
    let (job, runner) = with_mayfly(&bench, true).await;
    bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(60)).await.unwrap();
    assert_eq!(bench.runner(runner).await, Ok(None));
    let next = bench.some_runner().await;
    bench.acquire(job, Epoch(6), next, 2, at(70)).await.unwrap();
}

pub(super) async fn an_assignment_given_back_leaves_an_ephemeral_runner(bench: Bench) {
    for is_acquired in [false, true] {
        let (job, runner) = with_mayfly(&bench, is_acquired).await;
        bench.requeue(job, Epoch(5), 1, 2, "not delivered".to_owned(), at(25)).await.unwrap();
        assert!(bench.runner(runner).await.unwrap().is_some());
    }
    let (job, runner) = with_mayfly(&bench, false).await;
    bench.requeue(job, Epoch(5), 2, 2, "an offer is no attempt".to_owned(), at(25)).await.unwrap();
    assert!(bench.runner(runner).await.unwrap().is_some());
}

pub(super) async fn an_attempt_that_counted_leaves_other_runners(bench: Bench) {
    let (job, runner) = bench.running().await;
    bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(60)).await.unwrap();
    assert!(bench.runner(runner).await.unwrap().is_some());
}

pub(super) async fn conclusion_by_the_service_deletes_an_ephemeral_runner_that_had_the_job(bench: Bench) {
    for is_acquired in [true, false] {
        let (job, runner) = with_mayfly(&bench, is_acquired).await;
        bench.conclude(job, Epoch(5), Conclusion::Failure, "lost".to_owned(), at(60)).await.unwrap();
        assert_eq!(bench.runner(runner).await.unwrap().is_none(), is_acquired);
    }
    let (job, runner) = bench.running().await;
    bench.conclude(job, Epoch(5), Conclusion::Failure, "lost".to_owned(), at(60)).await.unwrap();
    assert!(bench.runner(runner).await.unwrap().is_some(), "others stay");
}
