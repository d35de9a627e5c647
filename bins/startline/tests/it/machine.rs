//! Random histories over HTTP: runners come, poll, work, fall silent and go, jobs are submitted and cancelled, the clock
//! is turned and the service crashes, and after each step everything that can be seen is what the model says.
//!
//! `STARTLINE_MACHINE_CASES=1000 cargo nextest run -p startline -E 'test(history_over_http)'` runs the long form.

mod model;
mod play;
mod stage;

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use startline_client::{Credentials, PollResult};
use startline_daemon::Clock;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::{HeartbeatRequest, PollRequest, RegisterRequest, RegistrationTokenRequest};
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::{Conclusion, JobStatus, RunnerStatus};
use tokio_util::task::TaskTracker;

use crate::harness::eventually;
use model::{Machine, Needs};

#[derive(Clone, Debug)]
enum Op {
    Register {
        name: u8,
        machine: Machine,
        replace: bool,
    },
    Deregister {
        who: Index,
        force: bool,
        by_admin: bool,
    },
    Submit {
        needs: Needs,
        jobs: usize,
    },
    Poll {
        who: Index,
        auto_acquire: bool,
        /// Held in the background, else asked and answered.
        held: bool,
    },
    AbortPoll(Index),
    /// One of all assignments that were ever given; the latest mostly.
    Acquire(Index),
    Renew(Index),
    Report(Index),
    Append(Index),
    Complete(Index, Conclusion),
    Heartbeat {
        who: Index,
        draining: bool,
    },
    Cancel(Index),
    /// Seconds.
    Turn(i64),
    Crash,
    /// The service crashes while this is under way.
    CrashDuring(Box<Op>),
}

fn repository() -> impl Strategy<Value = &'static str> {
    select(vec!["acme/app", "acme/lib"])
}

fn needs() -> impl Strategy<Value = Needs> {
    let labels = prop_oneof![3 => Just(vec!["linux"]), 1 => Just(vec!["big"]), 1 => Just(vec!["big", "linux"])];
    let memory = prop_oneof![4 => Just(0), 1 => Just(8)];
    let group = prop_oneof![4 => Just(None), 1 => Just(Some("gold"))];
    (labels, memory, group, repository()).prop_map(|(labels, memory_gb, group, repository)| Needs {
        labels,
        memory_gb,
        group,
        repository,
    })
}

fn machine() -> impl Strategy<Value = Machine> {
    let labels = prop_oneof![3 => Just(vec!["big", "linux"]), 1 => subsequence(vec!["big", "linux"], 0..=2)];
    let memory = prop_oneof![2 => Just(16), 1 => Just(4)];
    // With which of the registration tokens: they decide group and scope.
    let token = prop_oneof![
        4 => Just(("default", None)),
        2 => Just(("gold", None)),
        1 => Just(("default", Some("acme/app"))),
    ];
    (labels, memory, token, 1..=2_usize, prop::bool::weighted(0.2)).prop_map(
        |(labels, memory_gb, (group, repository), slots, ephemeral)| Machine {
            labels,
            memory_gb,
            slots: if ephemeral { 1 } else { slots },
            group,
            repository,
            ephemeral,
        },
    )
}

fn register() -> impl Strategy<Value = Op> {
    (0..4_u8, machine(), prop::bool::weighted(0.3)).prop_map(|(name, machine, replace)| Op::Register {
        name,
        machine,
        replace,
    })
}

fn submit() -> impl Strategy<Value = Op> {
    (needs(), 1..=2_usize).prop_map(|(needs, jobs)| Op::Submit { needs, jobs })
}

fn complete() -> impl Strategy<Value = Op> {
    let conclusion = select(vec![Conclusion::Success, Conclusion::Success, Conclusion::Failure, Conclusion::Cancelled]);
    (any::<Index>(), conclusion).prop_map(|(which, conclusion)| Op::Complete(which, conclusion))
}

fn op() -> impl Strategy<Value = Op> {
    let poll = (any::<Index>(), any::<bool>(), prop::bool::weighted(0.7));
    // Past nothing, the offer window, a lease, the time after which a silent runner is offline.
    let turn = select(vec![1_i64, 7, 20, 25, 40, 61]);
    let cut = prop_oneof![2 => submit(), 3 => complete(), 2 => any::<Index>().prop_map(Op::Acquire)];
    prop_oneof![
        4 => register(),
        1 => (any::<Index>(), any::<bool>(), any::<bool>())
            .prop_map(|(who, force, by_admin)| Op::Deregister { who, force, by_admin }),
        6 => submit(),
        12 => poll.prop_map(|(who, auto_acquire, held)| Op::Poll { who, auto_acquire, held }),
        2 => any::<Index>().prop_map(Op::AbortPoll),
        5 => any::<Index>().prop_map(Op::Acquire),
        3 => any::<Index>().prop_map(Op::Renew),
        1 => any::<Index>().prop_map(Op::Report),
        2 => any::<Index>().prop_map(Op::Append),
        6 => complete(),
        3 => (any::<Index>(), prop::bool::weighted(0.3)).prop_map(|(who, draining)| Op::Heartbeat { who, draining }),
        1 => any::<Index>().prop_map(Op::Cancel),
        4 => turn.prop_map(Op::Turn),
        1 => Just(Op::Crash),
        2 => cut.prop_map(|op| Op::CrashDuring(Box::new(op))),
    ]
}

fn cases() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test")]
    std::env::var("STARTLINE_MACHINE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_time: 300_000, ..ProptestConfig::default() })]

    #[test]
    fn every_history_over_http_keeps_the_invariants(
        first in (register(), register(), submit()),
        // From none, so that a history that fails can be shrunk to what it takes.
        ops in proptest::collection::vec(op(), 0..=54),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = play::Play::open().await;
            for op in [&first.0, &first.1, &first.2].into_iter().chain(&ops) {
                play.step(op).await;
            }
            play.close();
        });
    }
}

#[tokio::test]
async fn a_runner_that_comes_back_to_drain_gets_no_job() {
    let (clock, hand) = Clock::by_hand(Timestamp::now());
    let stage = stage::Stage::open(clock, play::TIMES).await;
    let minted = stage.registry().request_registration_token(stage.admin(), &RegistrationTokenRequest::default()).await;
    let request = RegisterRequest {
        name: "one".to_owned(),
        labels: vec!["linux".to_owned()],
        capabilities: Capabilities::default(),
        ephemeral: false,
        replace: false,
        version: String::new(),
    };
    let registered = stage.registry().register(&minted.unwrap().token, &request).await.unwrap();
    let session = stage.session(&Credentials::of(&registered, Timestamp::now()));
    let polling = TaskTracker::new().spawn({
        let session = session.clone();
        async move {
            session.poll_for_job(&PollRequest { timeout_seconds: 60, capabilities: None, auto_acquire: true }).await
        }
    });
    let status = async || stage.people.runner(session.id()).await.unwrap().status;
    eventually("the poll is open", async || {
        let text = crate::http::Wire::open(&stage.url).await.get("/metrics", "").await.text();
        text.contains("startline_polls_open 1").then_some(())
    })
    .await;
    hand.turn(Duration::from_secs(61));
    eventually("it is offline", async || (status().await == RunnerStatus::Offline).then_some(())).await;
    let workflow = "on: push\njobs:\n  a:\n    runs-on: linux\n    steps: [{run: 'true'}]\n".to_owned();
    let run = stage.people.submit_run(&SubmitRequest { workflow, ..SubmitRequest::default() }).await.unwrap().run.id;
    let queued = async || {
        let detail = stage.people.run(run, None, Duration::ZERO).await.unwrap();
        detail.jobs.first().is_some_and(|job| job.status == JobStatus::Queued)
    };
    eventually("the job is queued", async || queued().await.then_some(())).await;

    let beat = |status| HeartbeatRequest { status, current_jobs: vec![], system_info: None };
    session.send_heartbeat(&beat(RunnerStatus::Draining)).await.unwrap();
    assert_eq!(status().await, RunnerStatus::Draining);
    assert!(queued().await && !polling.is_finished(), "the poll that it left open got a job");
    session.send_heartbeat(&beat(RunnerStatus::Online)).await.unwrap();
    assert!(matches!(polling.await.unwrap(), PollResult::JobAssigned(_)));
    stage.close();
}
