use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::state::JobStatus;
use startline_store::Page;

use crate::bench::{Bench, new_job, waiting_job};

/// Adds `count` runs of one job each.
async fn fill(bench: &Bench, count: usize) -> (Vec<RunId>, Vec<JobId>) {
    let (mut runs, mut jobs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (run, added) = bench.run_of(vec![new_job("build")]).await;
        runs.push(run.id);
        jobs.push(added[0].id);
    }
    (runs, jobs)
}

pub(super) async fn what_is_unknown_is_none(bench: Bench) {
    fill(&bench, 1).await;
    assert_eq!(bench.run(RunId(404)).await, Ok(None));
    assert_eq!(bench.job(JobId(404)).await, Ok(None));
    assert_eq!(bench.runner(RunnerId(404)).await, Ok(None));
    assert_eq!(bench.jobs_of_run(RunId(404)).await, Ok(vec![]));
    assert_eq!(bench.job(JobId(-1)).await, Ok(None));
}

pub(super) async fn runs_are_listed_newest_first(bench: Bench) {
    let (mut runs, _) = fill(&bench, 3).await;
    runs.reverse();
    let page = bench.runs(None, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|run| run.id).collect::<Vec<_>>(), runs);
    assert!(!page.more);
}

pub(super) async fn runs_are_listed_in_pages(bench: Bench) {
    let (runs, _) = fill(&bench, 5).await;
    let mut seen = Vec::new();
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = bench.runs(before, 2).await.unwrap();
        before = page.items.last().map(|run| run.id);
        seen.extend(page.items.iter().map(|run| run.id));
        pages.push((page.items.len(), page.more));
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, [(2, true), (2, true), (1, false)]);
    assert!(seen.iter().rev().eq(&runs));
    assert!(!bench.runs(None, 5).await.unwrap().more, "a page that fits has nothing behind it");
}

pub(super) async fn jobs_are_listed_newest_first(bench: Bench) {
    let (_, mut jobs) = fill(&bench, 3).await;
    jobs.reverse();
    let page = bench.jobs(None, None, 3).await.unwrap();
    assert_eq!(page.items.iter().map(|job| job.id).collect::<Vec<_>>(), jobs);
    assert!(!page.more);
    assert_eq!(page.items[0], bench.see(jobs[0]).await);
}

pub(super) async fn jobs_are_listed_in_pages(bench: Bench) {
    let (_, jobs) = fill(&bench, 3).await;
    let first = bench.jobs(None, None, 2).await.unwrap();
    assert_eq!((first.items[1].id, first.more), (jobs[1], true));
    let second = bench.jobs(None, Some(jobs[1]), 2).await.unwrap();
    assert_eq!((second.items.len(), second.items[0].id, second.more), (1, jobs[0], false));
}

pub(super) async fn jobs_are_listed_by_state(bench: Bench) {
    for (status, job) in bench.job_in_each_state().await {
        let page = bench.jobs(Some(status), None, 10).await.unwrap();
        assert_eq!(page, Page { items: vec![bench.see(job).await], more: false }, "{status}");
    }
}

pub(super) async fn jobs_of_one_state_are_listed_in_pages(bench: Bench) {
    let (_, jobs) = fill(&bench, 3).await;
    bench.job_of(waiting_job("build")).await;
    bench.completed().await;
    let one = bench.completed().await;
    let first = bench.jobs(Some(JobStatus::Queued), None, 2).await.unwrap();
    assert_eq!((first.items[0].id, first.items[1].id, first.more), (jobs[2], jobs[1], true));
    let second = bench.jobs(Some(JobStatus::Queued), Some(jobs[1]), 2).await.unwrap();
    assert_eq!((second.items.len(), second.items[0].id, second.more), (1, jobs[0], false));
    let completed = bench.jobs(Some(JobStatus::Completed), None, 1).await.unwrap();
    assert_eq!((completed.items[0].id, completed.more), (one.id, true));
    let before = bench.jobs(Some(JobStatus::Completed), Some(one.id), 1).await.unwrap();
    assert_eq!((before.items.len(), before.more), (1, false));
}

pub(super) async fn an_empty_page_says_whether_there_is_more(bench: Bench) {
    assert!(!bench.runs(None, 0).await.unwrap().more);
    fill(&bench, 1).await;
    assert_eq!(bench.runs(None, 0).await, Ok(Page { items: vec![], more: true }));
    assert_eq!(bench.jobs(None, None, 0).await, Ok(Page { items: vec![], more: true }));
    assert!(!bench.runs(None, u32::MAX).await.unwrap().more);
}

pub(super) async fn the_jobs_of_a_run_are_listed_in_order(bench: Bench) {
    let (run, _) = bench.run_of(vec![new_job("z"), new_job("m")]).await;
    fill(&bench, 1).await;
    bench.add_jobs(run.id, vec![new_job("a")]).await.unwrap();
    let keys: Vec<_> = bench.jobs_of_run(run.id).await.unwrap().into_iter().map(|job| job.key).collect();
    assert_eq!(keys, ["z", "m", "a"]);
}
