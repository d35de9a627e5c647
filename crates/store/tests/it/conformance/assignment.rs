use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};
use startline_store::Error;

use crate::bench::{Bench, at, completion, new_job, stale, step};

pub(super) async fn an_offer_holds_a_job_for_a_runner(bench: Bench) {
    let job = bench.queued().await;
    let runner = bench.runner_named("one").await;
    let offered = bench.record_offer(job, Epoch(5), runner.id).await.unwrap();
    assert_eq!(Some(offered), bench.job(job).await.unwrap(), "the answer is the job as it is kept");
    let offered = bench.see(job).await;
    assert_eq!((offered.status, offered.epoch), (JobStatus::Offered, Epoch(5)));
    assert_eq!((offered.runner_id, offered.runner_name.as_deref()), (Some(runner.id), Some("one")));
    assert_eq!((offered.started_at, offered.attempt), (None, 1));
    assert_eq!(bench.run(offered.run_id).await.unwrap().unwrap().status, RunStatus::Queued);
}

pub(super) async fn an_offer_needs_a_higher_epoch(bench: Bench) {
    let (job, runner) = bench.offered().await;
    bench.requeue(job, Epoch(5), 1, 2, "declined".to_owned(), at(25)).await.unwrap();
    let before = bench.see(job).await;
    for epoch in [0, 4, 5] {
        assert_eq!(bench.record_offer(job, Epoch(epoch), runner).await, stale(job, epoch, 5));
    }
    assert_eq!(bench.see(job).await, before);
    assert!(bench.record_offer(job, Epoch(6), runner).await.is_ok());
}

pub(super) async fn only_queued_jobs_are_offered(bench: Bench) {
    let runner = bench.some_runner().await;
    for (status, job) in bench.job_in_each_state().await {
        let before = bench.see(job).await;
        let offer = bench.record_offer(job, Epoch(9), runner).await;
        if status == JobStatus::Queued {
            assert!(offer.is_ok());
        } else {
            assert_eq!(offer, stale(job, 9, before.epoch.0), "{status}");
            assert_eq!(bench.see(job).await, before);
        }
    }
}

pub(super) async fn an_unknown_job_is_named_by_every_step(bench: Bench) {
    let (job, epoch, runner) = (JobId(404), Epoch(1), bench.some_runner().await);
    let gone = Error::NoJob(job);
    assert_eq!(bench.record_offer(job, epoch, runner).await, Err(gone.clone()));
    assert_eq!(bench.acquire(job, epoch, runner, 1, at(20)).await, Err(gone.clone()));
    assert_eq!(bench.requeue(job, epoch, 1, 1, String::new(), at(25)).await, Err(gone.clone()));
    assert_eq!(bench.update_steps(job, epoch, vec![]).await, Err(gone.clone()));
    assert_eq!(bench.complete(job, epoch, completion(Conclusion::Success), at(30)).await, Err(gone.clone()));
    assert_eq!(bench.conclude(job, epoch, Conclusion::Failure, String::new(), at(30)).await, Err(gone));
}

pub(super) async fn a_job_is_not_offered_to_a_runner_that_is_gone(bench: Bench) {
    let job = bench.queued().await;
    let runner = bench.some_runner().await;
    bench.delete_runner(runner, at(2)).await.unwrap();
    let before = bench.see(job).await;
    for gone in [runner, RunnerId(404)] {
        assert_eq!(bench.record_offer(job, Epoch(5), gone).await, Err(Error::RunnerGone(gone)));
    }
    assert_eq!(bench.see(job).await, before);
}

pub(super) async fn an_offered_job_is_acquired(bench: Bench) {
    let (job, runner) = bench.offered().await;
    let (run, acquired) = bench.acquire(job, Epoch(5), runner, 1, at(20)).await.unwrap();
    assert_eq!((acquired.status, acquired.epoch, acquired.attempt), (JobStatus::Running, Epoch(5), 1));
    assert_eq!((acquired.runner_id, acquired.started_at), (Some(runner), Some(at(20))));
    assert_eq!((run.id, run.status), (acquired.run_id, RunStatus::Running));
    assert_eq!(bench.see(job).await, acquired);
    assert_eq!(bench.run(run.id).await, Ok(Some(run)));
}

pub(super) async fn a_queued_job_is_acquired_under_a_higher_epoch(bench: Bench) {
    let job = bench.queued().await;
    let runner = bench.runner_named("one").await;
    let (_, acquired) = bench.acquire(job, Epoch(1), runner.id, 3, at(20)).await.unwrap();
    assert_eq!((acquired.status, acquired.epoch, acquired.attempt), (JobStatus::Running, Epoch(1), 3));
    assert_eq!((acquired.runner_id, acquired.runner_name.as_deref()), (Some(runner.id), Some("one")));
    assert_eq!(bench.see(job).await, acquired);
}

pub(super) async fn a_queued_job_is_not_acquired_under_its_own_epoch(bench: Bench) {
    let (job, runner) = bench.offered().await;
    bench.requeue(job, Epoch(5), 1, 2, "declined".to_owned(), at(25)).await.unwrap();
    for epoch in [4, 5] {
        assert_eq!(bench.acquire(job, Epoch(epoch), runner, 1, at(20)).await, stale(job, epoch, 5));
    }
    assert_eq!(bench.see(job).await.status, JobStatus::Queued);
}

pub(super) async fn an_offer_is_acquired_under_its_epoch_alone(bench: Bench) {
    let (job, runner) = bench.offered().await;
    for epoch in [4, 6] {
        assert_eq!(bench.acquire(job, Epoch(epoch), runner, 1, at(20)).await, stale(job, epoch, 5));
    }
    assert_eq!(bench.see(job).await.status, JobStatus::Offered);
}

pub(super) async fn an_offer_is_acquired_by_its_runner_alone(bench: Bench) {
    let (job, _) = bench.offered().await;
    let other = bench.some_runner().await;
    assert_eq!(bench.acquire(job, Epoch(5), other, 1, at(20)).await, stale(job, 5, 5));
    assert_eq!(bench.see(job).await.status, JobStatus::Offered);
}

pub(super) async fn only_queued_and_offered_jobs_are_acquired(bench: Bench) {
    let other = bench.some_runner().await;
    let jobs = bench.job_in_each_state().await;
    for status in [JobStatus::Waiting, JobStatus::Running, JobStatus::Completed] {
        let before = bench.see(jobs[&status]).await;
        for runner in [other, before.runner_id.unwrap_or(other)] {
            let acquisition = bench.acquire(before.id, Epoch(9), runner, 1, at(20)).await;
            assert_eq!(acquisition, stale(before.id, 9, before.epoch.0), "{status}");
        }
        assert_eq!(bench.see(before.id).await, before);
    }
}

pub(super) async fn a_repeated_acquisition_answers_the_same(bench: Bench) {
    let (job, runner) = bench.offered().await;
    let first = bench.acquire(job, Epoch(5), runner, 1, at(20)).await.unwrap();
    assert_eq!(bench.acquire(job, Epoch(5), runner, 1, at(25)).await, Ok(first.clone()));
    assert_eq!(bench.see(job).await, first.1);
}

pub(super) async fn a_repeated_acquisition_that_differs_is_stale(bench: Bench) {
    let (job, runner) = bench.running().await;
    let other = bench.some_runner().await;
    let before = bench.see(job).await;
    assert_eq!(bench.acquire(job, Epoch(5), runner, 2, at(25)).await, stale(job, 5, 5));
    assert_eq!(bench.acquire(job, Epoch(5), other, 1, at(25)).await, stale(job, 5, 5));
    assert_eq!(bench.acquire(job, Epoch(6), runner, 1, at(25)).await, stale(job, 6, 5));
    assert_eq!(bench.see(job).await, before);
}

pub(super) async fn a_repeated_acquisition_of_a_runner_that_is_gone_answers_the_same(bench: Bench) {
    let (job, runner) = bench.running().await;
    let before = bench.see(job).await;
    bench.delete_runner(runner, at(21)).await.unwrap();
    assert_eq!(bench.acquire(job, Epoch(5), runner, 1, at(25)).await.unwrap().1, before);
}

pub(super) async fn a_runner_that_is_gone_acquires_nothing(bench: Bench) {
    let (job, runner) = bench.offered().await;
    bench.delete_runner(runner, at(2)).await.unwrap();
    let before = bench.see(job).await;
    assert_eq!(bench.acquire(job, Epoch(5), runner, 1, at(20)).await, Err(Error::RunnerGone(runner)));
    assert_eq!(bench.see(job).await, before);
    let queued = bench.queued().await;
    assert_eq!(bench.acquire(queued, Epoch(5), runner, 1, at(20)).await, Err(Error::RunnerGone(runner)));
    assert_eq!(bench.see(queued).await.status, JobStatus::Queued);
}

pub(super) async fn of_many_that_acquire_at_once_one_succeeds(bench: Bench) {
    let job = bench.queued().await;
    let mut runners = Vec::new();
    for _ in 0..20 {
        runners.push(bench.some_runner().await);
    }
    let attempts: Vec<_> = runners.iter().map(|runner| bench.acquire(job, Epoch(1), *runner, 1, at(20))).collect();
    let mut winners = Vec::new();
    for (runner, attempt) in runners.iter().zip(attempts) {
        match attempt.await {
            Ok(_) => winners.push(*runner),
            Err(error) => assert_eq!(Err::<(), _>(error), stale(job, 1, 1)),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(bench.see(job).await.runner_id, Some(winners[0]));
}

pub(super) async fn the_first_acquisition_starts_the_run(bench: Bench) {
    let (run, jobs) = bench.run_of(vec![new_job("build"), new_job("test")]).await;
    let runner = bench.some_runner().await;
    let (started, _) = bench.acquire(jobs[0].id, Epoch(1), runner, 1, at(20)).await.unwrap();
    assert_eq!((started.status, started.started_at), (RunStatus::Running, Some(at(20))));
    let (again, _) = bench.acquire(jobs[1].id, Epoch(1), runner, 1, at(25)).await.unwrap();
    assert_eq!(again, started);
    assert_eq!(bench.run(run.id).await, Ok(Some(started)));
}

pub(super) async fn acquisition_clears_the_steps_of_an_earlier_attempt(bench: Bench) {
    let (job, runner) = bench.running().await;
    bench.update_steps(job, Epoch(5), vec![step(1)]).await.unwrap();
    let requeued = bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(25)).await.unwrap();
    assert_eq!(requeued.steps, [step(1)], "until then they tell what happened");
    let (_, acquired) = bench.acquire(job, Epoch(6), runner, 2, at(60)).await.unwrap();
    assert_eq!((acquired.steps.len(), acquired.attempt, acquired.started_at), (0, 2, Some(at(60))));
    assert_eq!(acquired.reason.as_deref(), Some("runner lost"));
    assert_eq!(bench.see(job).await, acquired);
}

pub(super) async fn an_offered_job_is_requeued(bench: Bench) {
    let (job, runner) = bench.offered().await;
    let requeued = bench.requeue(job, Epoch(5), 1, 2, "not taken".to_owned(), at(25)).await.unwrap();
    assert_eq!((requeued.status, requeued.epoch), (JobStatus::Queued, Epoch(5)));
    assert_eq!((requeued.attempt, requeued.requeues_left), (1, 2));
    assert_eq!((requeued.reason.as_deref(), requeued.runner_id), (Some("not taken"), Some(runner)));
    assert_eq!(bench.see(job).await, requeued);
}

pub(super) async fn a_running_job_is_requeued(bench: Bench) {
    let (job, _) = bench.running().await;
    let requeued = bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(25)).await.unwrap();
    assert_eq!((requeued.status, requeued.attempt, requeued.requeues_left), (JobStatus::Queued, 2, 1));
    assert_eq!(requeued.started_at, None);
    assert_eq!(bench.see(job).await, requeued);
}

pub(super) async fn a_repeated_requeue_answers_the_same(bench: Bench) {
    let (job, _) = bench.running().await;
    let first = bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(25)).await.unwrap();
    assert_eq!(bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(25)).await, Ok(first));
}

pub(super) async fn a_repeated_requeue_that_differs_is_stale(bench: Bench) {
    let (job, _) = bench.running().await;
    let first = bench.requeue(job, Epoch(5), 2, 1, "runner lost".to_owned(), at(25)).await.unwrap();
    assert_eq!(bench.requeue(job, Epoch(5), 3, 1, "runner lost".to_owned(), at(25)).await, stale(job, 5, 5));
    assert_eq!(bench.requeue(job, Epoch(5), 2, 0, "runner lost".to_owned(), at(25)).await, stale(job, 5, 5));
    assert_eq!(bench.requeue(job, Epoch(5), 2, 1, "other".to_owned(), at(25)).await, stale(job, 5, 5));
    assert_eq!(bench.see(job).await, first);
}

pub(super) async fn a_requeue_needs_the_current_epoch(bench: Bench) {
    for job in [bench.offered().await.0, bench.running().await.0] {
        let before = bench.see(job).await;
        for epoch in [4, 6] {
            assert_eq!(bench.requeue(job, Epoch(epoch), 2, 1, "lost".to_owned(), at(25)).await, stale(job, epoch, 5));
        }
        assert_eq!(bench.see(job).await, before);
    }
}

pub(super) async fn only_held_jobs_are_requeued(bench: Bench) {
    let jobs = bench.job_in_each_state().await;
    for status in [JobStatus::Waiting, JobStatus::Queued, JobStatus::Completed] {
        let before = bench.see(jobs[&status]).await;
        let requeue = bench.requeue(before.id, before.epoch, 2, 1, "lost".to_owned(), at(25)).await;
        assert_eq!(requeue, stale(before.id, before.epoch.0, before.epoch.0), "{status}");
        assert_eq!(bench.see(before.id).await, before);
    }
}

pub(super) async fn a_requeued_job_keeps_its_place(bench: Bench) {
    let (job, _) = bench.running().await;
    let before = bench.see(job).await;
    let after = bench.requeue(job, Epoch(5), 2, 1, "lost".to_owned(), at(25)).await.unwrap();
    assert_eq!((after.id, after.queued_at, after.priority), (before.id, before.queued_at, before.priority));
}

pub(super) async fn after_a_requeue_the_old_holder_is_refused(bench: Bench) {
    let (job, runner) = bench.running().await;
    bench.requeue(job, Epoch(5), 2, 1, "lost".to_owned(), at(25)).await.unwrap();
    let before = bench.see(job).await;
    assert_eq!(bench.update_steps(job, Epoch(5), vec![step(1)]).await, stale(job, 5, 5));
    assert_eq!(bench.complete(job, Epoch(5), completion(Conclusion::Success), at(30)).await, stale(job, 5, 5));
    assert_eq!(bench.acquire(job, Epoch(5), runner, 1, at(30)).await, stale(job, 5, 5));
    assert_eq!(bench.see(job).await, before);

    let second = bench.some_runner().await;
    bench.acquire(job, Epoch(6), second, 2, at(40)).await.unwrap();
    let before = bench.see(job).await;
    assert_eq!(bench.update_steps(job, Epoch(5), vec![step(1)]).await, stale(job, 5, 6));
    assert_eq!(bench.complete(job, Epoch(5), completion(Conclusion::Success), at(50)).await, stale(job, 5, 6));
    assert_eq!(bench.requeue(job, Epoch(5), 2, 1, "lost".to_owned(), at(25)).await, stale(job, 5, 6));
    assert_eq!(bench.see(job).await, before);
}

pub(super) async fn after_a_requeue_the_next_offer_needs_a_higher_epoch(bench: Bench) {
    let (job, _) = bench.running().await;
    bench.requeue(job, Epoch(5), 2, 1, "lost".to_owned(), at(25)).await.unwrap();
    let second = bench.some_runner().await;
    assert_eq!(bench.record_offer(job, Epoch(5), second).await, stale(job, 5, 5));
    assert!(bench.record_offer(job, Epoch(6), second).await.is_ok());
    assert_eq!(bench.see(job).await.attempt, 2);
}

pub(super) async fn a_job_remembers_its_runners_name(bench: Bench) {
    let job = bench.queued().await;
    let runner = bench.runner_named("Mayfly").await;
    bench.acquire(job, Epoch(1), runner.id, 1, at(20)).await.unwrap();
    bench.complete(job, Epoch(1), completion(Conclusion::Success), at(30)).await.unwrap();
    bench.delete_runner(runner.id, at(31)).await.unwrap();
    let job = bench.see(job).await;
    assert_eq!((job.runner_id, job.runner_name.as_deref()), (Some(runner.id), Some("Mayfly")));
}
