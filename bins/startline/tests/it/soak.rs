//! The service is killed at random moments under load, again and again, and loses and doubles nothing.
//!
//! `STARTLINE_SOAK_KILLS=1000 cargo test -p startline --test it killed_again -- --nocapture` runs the long form, some
//! minutes (nextest would end it after two).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use startline_client::{Options, Retry, Transport};
use startline_protocol::ids::RunId;
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::Conclusion;
use tokio_util::sync::CancellationToken;

use crate::fake_runner::FakeRunners;
use crate::harness::{Service, eventually};

/// How many runs of one submitter are under way at the same time.
const OPEN_RUNS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test")]
    let kills: u32 = std::env::var("STARTLINE_SOAK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut service = Service::start(&[
        "--lease",
        "2s",
        "--heartbeat-interval",
        "1s",
        "--offline-after",
        "30s",
        "--requeues",
        "1000000",
    ]);
    let transport = Transport::new(&Options::default()).unwrap();
    let fleet = FakeRunners::new(&transport, &service.url, &service.token).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6 {
        let transport = Transport::new(&Options::default()).unwrap();
        tasks.spawn(fleet.clone().run(format!("fake-{number}"), transport));
    }
    let acknowledged: Arc<Mutex<Vec<RunId>>> = Arc::default();
    let enough = CancellationToken::new();
    for _ in 0..2 {
        // One try each: what counts is what was acknowledged, and the next try comes soon.
        let client = service.client.clone().with_retry(Retry::NEVER);
        let (acknowledged, enough) = (Arc::clone(&acknowledged), enough.clone());
        tasks.spawn(async move {
            let workflow = "on: push\njobs:\n  a:\n    runs-on: fake\n    strategy: {matrix: {n: [1, 2, 3]}}\n    \
                 steps: [{run: 'true'}]\n  b:\n    needs: a\n    runs-on: fake\n    steps: [{run: 'true'}]\n";
            let request = SubmitRequest { workflow: workflow.to_owned(), ..SubmitRequest::default() };
            let mut open: VecDeque<RunId> = VecDeque::new();
            while !enough.is_cancelled() {
                // As many as the runners can keep up with: the second job of a run is queued behind the first ones of all
                // runs before it, so that under a growing backlog no run would end.
                if open.len() >= OPEN_RUNS {
                    let oldest = client.run(open[0], None, Duration::ZERO).await;
                    if oldest.is_ok_and(|detail| detail.run.conclusion.is_some()) {
                        open.pop_front();
                    } else {
                        tokio::time::sleep(Duration::from_millis(15)).await;
                    }
                    continue;
                }
                // A submission whose answer is lost may or may not have happened; only acknowledged ones count.
                if let Ok(detail) = client.submit_run(&request).await {
                    acknowledged.lock().unwrap().push(detail.run.id);
                    open.push_back(detail.run.id);
                }
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        });
    }

    // The moments come from a fixed walk through 10 to 290 ms, so that the whole life of a request is hit.
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(u64::from(10 + kill * 37 % 280))).await;
        service.process.crash();
        service.restart();
    }
    // However busy the machine is, there was some load.
    eventually("submissions are acknowledged", async || (acknowledged.lock().unwrap().len() >= 3).then_some(())).await;
    enough.cancel();
    let runs = acknowledged.lock().unwrap().clone();
    for run in &runs {
        let detail = service.ended(*run).await;
        assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
        assert_eq!(detail.jobs.len(), 4, "{detail:#?}");
    }
    fleet.stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task fails");
    }
    let chain = service.client.verify_audit().await.unwrap();
    assert!(chain.valid, "the audit log is broken: {chain:?}");
    let account = fleet.account.lock().unwrap();
    for (job, epochs) in &account.completed {
        assert_eq!(epochs.len(), 1, "job {job} was completed under {epochs:?}");
    }
    println!(
        "{kills} kills, {} runs, {} jobs, {} assignments, {} refused as stale",
        runs.len(),
        account.completed.len(),
        account.received,
        account.stale
    );
}
