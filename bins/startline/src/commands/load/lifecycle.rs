//! `startline load lifecycle`: whole lives of jobs, as fast as they go.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstream::eprintln;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fleet::{Fleet, Style};
use super::ledger::Ledger;
use super::link::Link;
use super::report::Report;
use super::scene::{Scene, check_descriptors, job_request, submit};
use super::steady::WARM_UP;
use super::usage::Moment;
use crate::cli::LifecycleArgs;

pub(super) async fn execute(args: LifecycleArgs) -> anyhow::Result<ExitCode> {
    let connections = args.producers + args.runners;
    check_descriptors(connections, "fewer --producers and --runners")?;
    let scene = Scene::open(&args.scene, connections, false).await?;
    let runners = scene.register(args.runners).await?;
    let queue = Arc::new(Semaphore::new(usize::try_from(args.queue)?));
    let style = Style {
        auto_acquire: args.measured.auto_acquire,
        renew: args.renew,
        queue: Some(Arc::clone(&queue)),
        ..Style::default()
    };
    let requests = style.requests();
    let ledger = Arc::new(Ledger::default());
    let mut fleet = Fleet::new(style, &ledger);
    fleet.start(&runners, scene.target.connect_many(&scene.tasks, runners.len(), 1).await?);
    scene.await_quiet().await?;

    eprintln!("measuring for {} s", args.measured.seconds);
    let producer = Arc::new(Producer {
        token: scene.token.clone(),
        body: job_request(&scene.label, args.measured.payload),
        ledger: Arc::clone(&ledger),
        queue,
        stopped: AtomicBool::new(false),
    });
    let mut producers = JoinSet::new();
    for link in scene.target.connect_many(&scene.tasks, usize::try_from(args.producers)?, 1).await? {
        producers.spawn(Arc::clone(&producer).produce(link));
    }
    ledger.watch_until(Instant::now() + WARM_UP).await;
    let time = Duration::from_secs(args.measured.seconds);
    let before = Moment::now(&scene.pid)?;
    ledger.measure(before.at(), before.at() + time);
    let ended = ledger.watch_until(before.at() + time).await;
    let after = Moment::now(&scene.pid);
    producer.stop();
    while producers.join_next().await.is_some() {}
    ledger.until_settled(ledger.submissions()).await;
    fleet.stop().await;

    let (measured, errors) = ledger.close();
    let mut report = Report::new(
        "lifecycle",
        json!({
            "producers": args.producers, "runners": args.runners, "queue": args.queue, "payload_bytes": args.measured.payload,
            "auto_acquire": args.measured.auto_acquire, "renew": args.renew, "synchronous": args.scene.synchronous(),
        }),
        ended - before.at(),
        measured.completed,
    );
    report.errors = errors;
    report.latency_us = measured.to_held.summary();
    report.tell("completed_latency_us", measured.to_completed.summary());
    report.tell("requests_per_second", report.per_second * f64::from(requests));
    report.cost(&before, after, report.count);
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}

/// Who submits jobs one after the other.
struct Producer {
    token: String,
    body: String,
    ledger: Arc<Ledger>,
    /// A permit for each further job that may wait for a runner.
    queue: Arc<Semaphore>,
    stopped: AtomicBool,
}

impl Producer {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.queue.close();
    }

    async fn produce(self: Arc<Self>, mut link: Link) {
        while !self.stopped.load(Ordering::Relaxed)
            && let Ok(permit) = self.queue.acquire().await
        {
            permit.forget();
            let sent = Instant::now();
            match submit(&mut link, &self.token, &self.body).await {
                Ok(job) => self.ledger.submitted(job, sent),
                Err(error) => return self.ledger.failed(format!("a job was not taken: {error:#}")),
            }
        }
    }
}
