//! Many just-in-time runners at once, while others listen.
//!
//! `STARTLINE_JIT_BURST=500 cargo nextest run -p startline -E 'test(a_burst_of_jit_runners)'` runs the long form.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use startline_protocol::state::Conclusion;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::client::{Held, Official};
use super::{demo, rest};
use crate::harness::{DEADLINE, Service};

const JOB: &str = "on: push\njobs:\n  build:\n    runs-on: listens\n    steps: [{run: 'true'}]\n";
/// How many ask at the same time.
const AT_ONCE: usize = 8;

async fn jit(service: &Service, name: &str, label: &str) -> Value {
    let body = json!({ "name": name, "runner_group_id": 1, "labels": [label] });
    let path = "/api/v3/repos/acme/demo/actions/runners/generate-jitconfig";
    let reply = rest(service, Method::POST, path, Some(&body)).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    reply.json()["encoded_jit_config"].clone()
}

/// Memory of the service's process, in KiB.
fn memory(service: &Service) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What came of the burst.
struct Burst {
    /// Times of single requests.
    times: Vec<Duration>,
    took: Duration,
}

/// Asks for so many configurations, some at once; `made` counts them.
async fn burst(service: &Arc<Service>, count: usize, made: &Arc<AtomicUsize>) -> Burst {
    let (next, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let tracker = TaskTracker::new();
    let asking: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (service, next, made) = (Arc::clone(service), Arc::clone(&next), Arc::clone(made));
            tracker.spawn(async move {
                let mut times = Vec::new();
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    if at >= count {
                        return times;
                    }
                    let asked = Instant::now();
                    jit(&service, &format!("burst-{at}"), "elsewhere").await;
                    times.push(asked.elapsed());
                    made.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in asking {
        times.extend(task.await.unwrap());
    }
    times.sort();
    Burst { times, took: begun.elapsed() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_jit_runners_stalls_no_poll_and_a_job_is_delivered_in_the_middle_of_it() {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test")]
    let long: Option<usize> = std::env::var("STARTLINE_JIT_BURST").ok().map(|text| text.parse().unwrap());
    let (count, sessions) = long.map_or((24, 6), |count| (count, 50));
    let service = Arc::new(Service::start(&["--broker-poll-timeout", "5s"]));
    let tracker = TaskTracker::new();
    let (found, mut offers) = mpsc::unbounded_channel::<(usize, Value)>();
    let mut runners = Vec::new();
    let mut polling = Vec::new();
    for at in 0..sessions {
        let encoded = jit(&service, &format!("listens-{at}"), "listens").await;
        let mut runner = Official::unpack(encoded.as_str().unwrap());
        runner.listen(&*service).await;
        let runner = Arc::new(runner);
        runners.push(Arc::clone(&runner));
        let (service, found) = (Arc::clone(&service), found.clone());
        polling.push(tracker.spawn(async move {
            loop {
                let reply = runner.poll(&*service, "Online").await;
                match reply.code() {
                    202 => {}
                    200 => {
                        let body = serde_json::from_str(reply.json()["body"].as_str().unwrap()).unwrap();
                        found.send((at, body)).unwrap();
                        return;
                    }
                    _ => panic!("a poll failed: {reply:?}"),
                }
            }
        }));
    }
    let before = memory(&service);
    let made = Arc::<AtomicUsize>::default();
    let delivering = async {
        let until = Instant::now() + DEADLINE * 5;
        while made.load(Ordering::SeqCst) < count / 3 {
            assert!(Instant::now() < until, "the burst does not go on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let submitted = Instant::now();
        let run = service.submit_with(demo(JOB)).await;
        let (at, offer) = offers.recv().await.unwrap();
        (submitted.elapsed(), made.load(Ordering::SeqCst), run, at, offer)
    };
    let (burst, (latency, by_then, run, at, offer)) = tokio::join!(burst(&service, count, &made), delivering);
    assert!(by_then < count, "the job was delivered while the burst was under way");
    let grown = memory(&service).saturating_sub(before);
    println!(
        "{count} configurations in {:?} (median {:?}, longest {:?}); a job to one of {sessions} listening runners in \
         {latency:?}; {grown} KiB more",
        burst.took,
        burst.times[count / 2],
        burst.times[count - 1],
    );
    assert!(grown < 128 * 1024, "{grown} KiB");
    let acquired = runners[at].acquire(&*service, &offer).await;
    assert_eq!(acquired.code(), 200, "{acquired:?}");
    let held = Held::new(&*service, acquired.json());
    assert_eq!(held.complete(&*service, "succeeded", json!({})).await.code(), 204);
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    for (index, task) in polling.into_iter().enumerate() {
        // One that has failed would have panicked.
        assert_eq!(task.is_finished(), index == at, "the poll of {index}");
        task.abort();
    }
}
