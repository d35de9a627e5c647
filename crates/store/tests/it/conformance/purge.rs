use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::state::Conclusion;
use startline_store::{
    AuditFilter, Completion, DueRuns, Error, NewRun, PURGED_JOBS, PURGED_LINES, PURGED_RUNNERS, PURGED_RUNS, RunRecord,
};

use crate::bench::{
    Bench, actions_runner, at, audit_entry, completion, hash, new_claim, new_job, new_run, new_runner, scope,
};

impl Bench {
    /// A run of one job that was submitted at second 10 and ended at `end`.
    async fn ended(&self, path: &str, end: i64) -> (RunRecord, JobId) {
        let made = self.create_run(new_run("acme/demo", path), vec![new_job("build")]).await.unwrap();
        let (job, runner) = (made.jobs[0].id, self.some_runner().await);
        self.acquire(job, Epoch(1), runner, 1, at(20)).await.unwrap();
        let said = Completion { ends_run: true, ..completion(Conclusion::Success) };
        self.complete(job, Epoch(1), said, at(end)).await.unwrap();
        (self.run(made.run.id).await.unwrap().unwrap(), job)
    }

    /// Purges until nothing more is due; how many runs and jobs each step took.
    async fn purge(&self, before: i64) -> Vec<(u32, u32)> {
        let (mut steps, mut from) = (Vec::new(), None);
        loop {
            let due = self.due_runs(at(before), from).await.unwrap();
            from = due.next;
            assert!(due.jobs.len() <= PURGED_JOBS && due.runs.len() <= PURGED_RUNS);
            let purged = self.purge_runs(at(before), due).await.unwrap();
            steps.push((purged.count, purged.jobs));
            if from.is_none() {
                return steps;
            }
        }
    }

    async fn run_ids(&self) -> Vec<i64> {
        self.runs(None, 1000).await.unwrap().items.into_iter().map(|run| run.id.0).collect()
    }

    async fn purge_runners_of(&self, before: i64) -> u32 {
        let (mut count, mut after) = (0, Some(0));
        while let Some(id) = after {
            let purged = self.purge_runners(at(before), RunnerId(id)).await.unwrap();
            count += purged.count;
            after = purged.next;
        }
        count
    }
}

pub(super) async fn runs_that_ended_before_are_purged_with_all_that_is_kept_of_them(bench: Bench) {
    let (old, job) = bench.ended("ci.yml", 100).await;
    let (young, _) = bench.ended("ci.yml", 200).await;
    let due = bench.due_runs(at(101), None).await.unwrap();
    assert_eq!((due.jobs.as_slice(), due.runs.as_slice()), ([(job, 1)].as_slice(), [old.id].as_slice()));
    assert_eq!(bench.due_runs(at(100), None).await.unwrap().runs, [], "it ended then, not before");
    assert_eq!(bench.purge(101).await, [(1, 1)]);
    assert_eq!(bench.run_ids().await, [young.id.0]);
    assert_eq!(bench.run(old.id).await.unwrap(), None);
    assert_eq!(bench.jobs_of_run(old.id).await.unwrap(), []);
    assert_eq!((bench.job(job).await.unwrap(), bench.job_message(job).await.unwrap()), (None, None));
    assert_eq!(bench.rename_run(old.id, "x".to_owned()).await.unwrap(), None);
    assert!(matches!(
        bench.complete(job, Epoch(1), completion(Conclusion::Success), at(300)).await,
        Err(Error::NoJob(_))
    ));
    assert_eq!(bench.purge(101).await, [(0, 0)], "a repeat does nothing");
}

pub(super) async fn runs_that_have_not_ended_are_passed_over(bench: Bench) {
    let open = bench.queued().await;
    let (cancelled, jobs) = bench.run_of(vec![new_job("build")]).await;
    bench.finish_run(cancelled.id, Conclusion::Cancelled, None, at(30)).await.unwrap();
    let (old, _) = bench.ended("other.yml", 30).await;
    let (young, _) = bench.ended("ci.yml", 90).await;
    assert_eq!(bench.purge(50).await, [(1, 1)]);
    assert_eq!(bench.run(old.id).await.unwrap(), None);
    assert!(bench.job(open).await.unwrap().is_some() && bench.run(young.id).await.unwrap().is_some());
    assert!(bench.job(jobs[0].id).await.unwrap().is_some(), "a job that has not ended keeps its run");
    bench.conclude(jobs[0].id, Epoch(0), Conclusion::Cancelled, "late".to_owned(), at(40)).await.unwrap();
    bench.ended("other.yml", 95).await;
    assert_eq!(bench.purge(50).await, [(1, 1)]);
}

pub(super) async fn what_is_looked_at_ends_with_the_first_run_that_was_submitted_later(bench: Bench) {
    let late = NewRun { created_at: at(60), ..new_run("acme/demo", "late.yml") };
    bench.create_run(late, Vec::new()).await.unwrap();
    bench.ended("ci.yml", 30).await;
    assert_eq!(bench.due_runs(at(50), None).await.unwrap(), DueRuns::default());
    assert_eq!(bench.due_runs(at(61), None).await.unwrap().runs, [RunId(2)]);
}

pub(super) async fn numbers_and_ids_are_not_used_twice(bench: Bench) {
    for _ in 0..3 {
        bench.ended("ci.yml", 30).await;
    }
    let (other, last) = bench.ended("other.yml", 30).await;
    let finished = bench.see(last).await.finished;
    assert_eq!(bench.purge(50).await, [(4, 4)]);
    assert!(bench.run_ids().await.is_empty());
    let (run, job) = bench.ended("ci.yml", 60).await;
    assert_eq!((run.number, run.id.0), (4, other.id.0 + 1));
    assert_eq!((job.0, bench.see(job).await.finished), (last.0 + 1, finished + 1));
    assert_eq!(bench.ended("ci.yml", 60).await.0.number, 5);
    assert_eq!(bench.ended("new.yml", 60).await.0.number, 1);
    assert_eq!(bench.purge(70).await, [(3, 3)]);
    assert_eq!(bench.ended("ci.yml", 80).await.0.number, 6);
}

pub(super) async fn the_latest_number_goes_last(bench: Bench) {
    // The first run of the workflow goes on for longer than the second.
    let (first, jobs) = bench.run_of(vec![new_job("build")]).await;
    let runner = bench.some_runner().await;
    bench.acquire(jobs[0].id, Epoch(1), runner, 1, at(20)).await.unwrap();
    let (second, job) = bench.ended("ci.yml", 30).await;
    assert_eq!(second.number, 2);
    assert_eq!(bench.purge(50).await, [(0, 1)]);
    assert!(bench.run(second.id).await.unwrap().is_some() && bench.job(job).await.unwrap().is_none());
    bench.complete(jobs[0].id, Epoch(1), completion(Conclusion::Success), at(60)).await.unwrap();
    bench.finish_run(first.id, Conclusion::Success, None, at(60)).await.unwrap();
    assert_eq!(bench.purge(70).await, [(2, 1)]);
    assert_eq!(bench.ended("ci.yml", 80).await.0.number, 3);
}

pub(super) async fn the_job_that_finished_last_goes_last(bench: Bench) {
    // A run that goes on has a job that has ended.
    let (going, jobs) = bench.run_of(vec![new_job("build"), new_job("test")]).await;
    let runner = bench.some_runner().await;
    bench.acquire(jobs[0].id, Epoch(1), runner, 1, at(20)).await.unwrap();
    bench.complete(jobs[0].id, Epoch(1), completion(Conclusion::Success), at(25)).await.unwrap();
    let (old, job) = bench.ended("other.yml", 30).await;
    assert_eq!(bench.purge(50).await, [(0, 0)]);
    assert!(bench.run(old.id).await.unwrap().is_some() && bench.job(job).await.unwrap().is_some());
    let (_, later) = bench.ended("third.yml", 60).await;
    assert_eq!(bench.see(later).await.finished, 3);
    assert_eq!(bench.purge(50).await, [(1, 1)]);
    assert!(bench.run(going.id).await.unwrap().is_some());
}

pub(super) async fn a_run_of_many_jobs_goes_in_several_steps(bench: Bench) {
    let count = 2 * PURGED_JOBS + 10;
    let skipped = |number: usize| {
        let job = new_job(&format!("job-{number}"));
        startline_store::NewJob {
            status: startline_protocol::state::JobStatus::Completed,
            conclusion: Some(Conclusion::Skipped),
            ..job
        }
    };
    let (run, jobs) = bench.run_of((0..count).map(skipped).collect()).await;
    bench.finish_run(run.id, Conclusion::Success, None, at(30)).await.unwrap();
    bench.ended("after.yml", 90).await;
    let first = bench.due_runs(at(50), None).await.unwrap();
    assert_eq!((first.jobs.len(), first.runs.as_slice()), (PURGED_JOBS, [].as_slice()));
    // The service stops behind the first step; the next purge begins anew.
    bench.purge_runs(at(50), first).await.unwrap();
    assert_eq!(bench.jobs_of_run(run.id).await.unwrap().len(), count - PURGED_JOBS);
    let most = u32::try_from(PURGED_JOBS).unwrap();
    assert_eq!(bench.purge(50).await, [(0, most), (1, 10)]);
    assert_eq!(bench.job(jobs[0].id).await.unwrap(), None);
    assert_eq!(bench.run(run.id).await.unwrap(), None);
}

pub(super) async fn many_runs_go_in_several_steps(bench: Bench) {
    for number in 0..PURGED_RUNS + 5 {
        let run = bench.create_run(new_run("acme/demo", &format!("{number}.yml")), Vec::new()).await.unwrap().run.id;
        bench.finish_run(run, Conclusion::Failure, None, at(30)).await.unwrap();
    }
    let most = u32::try_from(PURGED_RUNS).unwrap();
    assert_eq!(bench.purge(50).await, [(most, 0), (5, 0)]);
    assert!(bench.run_ids().await.is_empty());
}

pub(super) async fn a_step_takes_what_is_due_and_nothing_else(bench: Bench) {
    let (old, job) = bench.ended("ci.yml", 30).await;
    let (young, other) = bench.ended("ci.yml", 90).await;
    let open = bench.queued().await;
    let due = DueRuns {
        jobs: [job, other, open, JobId(99)].map(|job| (job, 1)).into(),
        runs: vec![young.id, old.id, bench.see(open).await.run_id, RunId(99)],
        next: None,
    };
    let purged = bench.purge_runs(at(50), due).await.unwrap();
    assert_eq!((purged.count, purged.jobs), (1, 1));
    assert!(bench.job(other).await.unwrap().is_some() && bench.job(open).await.unwrap().is_some());
}

pub(super) async fn claims_and_keys_for_repeats_go_with_their_run(bench: Bench) {
    let new = || NewRun { idempotency: Some(hash(5)), ..new_run("acme/demo", "ci.yml") };
    let run = bench.create_run(new(), vec![new_job("build")]).await.unwrap().run;
    bench.add_claim(new_claim(run.id, "", "deploy")).await.unwrap();
    let job = bench.jobs_of_run(run.id).await.unwrap()[0].id;
    bench.conclude(job, Epoch(0), Conclusion::Cancelled, "enough".to_owned(), at(20)).await.unwrap();
    bench.finish_run(run.id, Conclusion::Cancelled, None, at(30)).await.unwrap();
    assert_eq!(bench.purge(50).await, [(1, 1)]);
    assert!(bench.claimed_groups().await.unwrap().is_empty());
    let again = bench.create_run(new(), Vec::new()).await.unwrap();
    assert!(!again.is_repeat && again.run.number == 2);
}

pub(super) async fn what_is_left_of_deleted_registrations_is_purged(bench: Bench) {
    let (one, two) = (bench.some_runner().await, bench.some_runner().await);
    let group = "default".to_owned();
    let official = bench.create_runner(scope("instance"), group, actions_runner("three", 7), at(1)).await.unwrap();
    bench.register_runner(hash(crate::bench::OPEN), new_runner("four", 77), at(1)).await.unwrap();
    bench.delete_runner(one, at(100)).await.unwrap();
    bench.delete_runner(official.runner.id, at(100)).await.unwrap();
    assert_eq!(bench.purge_runners_of(100).await, 0, "they were deleted then, not before");
    assert_eq!(bench.purge_runners_of(101).await, 2);
    assert!(bench.runner(two).await.unwrap().is_some());
    let client = uuid::Uuid::from_u128(7);
    assert_eq!(bench.runner_by_client(client).await.unwrap(), None);
    assert!(bench.runner_by_token(hash(77), at(2)).await.unwrap().is_some());
    bench.delete_runner(official.runner.id, at(100)).await.unwrap();
    let next = bench.some_runner().await;
    assert_eq!(next.0, 5, "no id is used twice");
}

pub(super) async fn a_job_keeps_the_name_of_a_runner_that_is_purged(bench: Bench) {
    let (job, runner) = bench.running().await;
    let name = bench.see(job).await.runner_name;
    bench.delete_runner(runner, at(30)).await.unwrap();
    assert_eq!(bench.purge_runners_of(31).await, 1);
    assert_eq!((bench.see(job).await.runner_id, bench.see(job).await.runner_name), (Some(runner), name));
    assert!(bench.complete(job, Epoch(5), completion(Conclusion::Success), at(40)).await.is_ok());
}

pub(super) async fn registrations_that_were_made_later_are_not_looked_at(bench: Bench) {
    let runner = bench.some_runner().await;
    bench.delete_runner(runner, at(0)).await.unwrap();
    assert_eq!(bench.purge_runners_of(1).await, 0);
    assert_eq!(bench.purge_runners_of(2).await, 1);
}

pub(super) async fn many_registrations_go_in_several_steps(bench: Bench) {
    for _ in 0..PURGED_RUNNERS + 5 {
        let runner = bench.some_runner().await;
        bench.delete_runner(runner, at(10)).await.unwrap();
    }
    let first = bench.purge_runners(at(20), RunnerId(0)).await.unwrap();
    assert_eq!((first.count, first.next), (PURGED_RUNNERS, Some(i64::from(PURGED_RUNNERS))));
    assert_eq!(bench.purge_runners_of(20).await, 5);
}

pub(super) async fn the_first_lines_of_the_audit_log_are_purged_and_a_line_tells(bench: Bench) {
    let mut lines = Vec::new();
    for number in 0..6 {
        lines.push(bench.append_audit(audit_entry(number)).await.unwrap());
    }
    assert_eq!(bench.purge_audit(at(0), at(50)).await.unwrap().count, 0);
    assert_eq!(bench.verify_audit().await.unwrap().records, 6, "nothing was purged, and nothing tells of it");
    let purged = bench.purge_audit(at(4), at(50)).await.unwrap();
    assert_eq!((purged.count, purged.next), (4, None));
    let left = bench.audit(0, 10, AuditFilter::default()).await.unwrap().items;
    assert_eq!(left[..2], lines[4..]);
    let (told, last) = (&left[2].entry, startline_protocol::admin_api::AuditView::from(lines[3].clone()));
    assert_eq!((left[2].sequence, told.action.as_str(), told.at), (7, "audit.purge", at(50)));
    let facts = [("at", last.at.to_string()), ("hash", last.hash.clone()), ("lines", "4".to_owned())];
    let facts = facts.into_iter().chain([("sequence", "4".to_owned())]);
    assert_eq!(told.details, facts.map(|(name, fact)| (name.to_owned(), fact)).collect());
    let found = bench.verify_audit().await.unwrap();
    assert_eq!((found.valid, found.records, found.broken), (true, 3, None));
    let begin = found.begin.unwrap();
    assert_eq!((begin.sequence, begin.at, begin.hash), (4, last.at, last.hash));
}

pub(super) async fn the_chain_goes_on_when_all_lines_are_purged(bench: Bench) {
    for number in 0..3 {
        bench.append_audit(audit_entry(number)).await.unwrap();
    }
    for (round, now) in [(3, 100), (1, 200), (1, 300)] {
        assert_eq!(bench.purge_audit(at(now), at(now)).await.unwrap().count, round);
        let found = bench.verify_audit().await.unwrap();
        assert_eq!((found.valid, found.records), (true, 1), "the line that tells of it");
    }
    assert_eq!(bench.append_audit(audit_entry(9)).await.unwrap().sequence, 7);
    assert!(bench.verify_audit().await.unwrap().valid);
}

pub(super) async fn lines_behind_one_that_is_too_young_stay(bench: Bench) {
    for number in [1, 9, 2] {
        bench.append_audit(audit_entry(number)).await.unwrap();
    }
    assert_eq!(bench.purge_audit(at(5), at(50)).await.unwrap().count, 1);
    assert_eq!(bench.purge_audit(at(5), at(50)).await.unwrap().count, 0);
}

pub(super) async fn many_lines_go_in_several_steps(bench: Bench) {
    let most = u32::try_from(PURGED_LINES).unwrap();
    let answers: Vec<_> = (0..most + 5).map(|_| bench.append_audit(audit_entry(1))).collect();
    for answer in answers {
        answer.await.unwrap();
    }
    let first = bench.purge_audit(at(5), at(50)).await.unwrap();
    assert_eq!((first.count, first.next.is_some()), (most, true));
    assert!(bench.verify_audit().await.unwrap().valid);
    let second = bench.purge_audit(at(5), at(50)).await.unwrap();
    assert_eq!((second.count, second.next), (5, None));
    let found = bench.verify_audit().await.unwrap();
    assert_eq!((found.valid, found.records), (true, 2), "two lines that tell of two purges");
}
