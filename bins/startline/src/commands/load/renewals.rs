//! `startline load renewals`: signs of life and lease renewals, beside the cheapest thing that the same service does.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use serde_json::json;

use super::hammer::{Shot, Volley, hammer};
use super::leases::{complete, hold};
use super::link::Link;
use super::report::Report;
use super::scene::{Scene, check_descriptors};
use crate::cli::RenewalsArgs;

/// Each kind has so many turns, so that a mood of the machine does not fall on one kind alone.
const TURNS: u32 = 2;

pub(super) async fn execute(args: RenewalsArgs) -> anyhow::Result<ExitCode> {
    check_descriptors(args.connections, "fewer --connections")?;
    let scene = Scene::open(&args.scene, args.connections, false).await?;
    let runners = scene.register(args.connections).await?;
    eprintln!("taking {} jobs", runners.len());
    let held = hold(&scene, &scene.label, &runners).await?;
    scene.await_quiet().await?;
    let mut links = scene.target.connect_many(&scene.tasks, runners.len(), 1).await?;

    eprintln!("measuring for {} s", args.seconds);
    let turn = Duration::from_secs(args.seconds) / (3 * TURNS);
    let heartbeats =
        runners.iter().map(|runner| Shot::post("/api/v1/runners/heartbeat", &runner.token, r#"{"status":"busy"}"#));
    let heartbeats: Vec<_> = heartbeats.collect();
    let renewals: Vec<_> = held.iter().map(|held| Shot::post(&held.path("renew"), &held.token, "{}")).collect();
    let nothing = Shot { method: "GET", ..(*Shot::post("/healthz", "", "")).clone() };
    let nothing = Arc::new(nothing);
    let healthz = vec![nothing; links.len()];
    let kinds = [("healthz", healthz), ("heartbeats", heartbeats), ("renewals", renewals)];
    let mut volleys: [Option<Volley>; 3] = [None, None, None];
    for _ in 0..TURNS {
        for ((_, shots), volley) in kinds.iter().zip(&mut volleys) {
            let one;
            (one, links) = fire(&scene, links, shots, turn).await?;
            match volley {
                Some(volley) => volley.join(one),
                None => *volley = Some(one),
            }
        }
    }
    let [Some(healthz), Some(heartbeats), Some(renewals)] = volleys else { anyhow::bail!("each kind had its turns") };

    let mut report = Report::new(
        "renewals",
        json!({
            "connections": args.connections, "seconds": args.seconds, "synchronous": args.scene.synchronous(),
        }),
        renewals.spent.time,
        renewals.count,
    );
    report.latency_us = renewals.latency.summary();
    report.spent(&renewals.spent, renewals.count);
    report.tell("heartbeats_to_healthz", share(&heartbeats, &healthz));
    report.tell("renewals_to_healthz", share(&renewals, &healthz));
    for (name, volley) in [("healthz", healthz), ("heartbeats", heartbeats), ("renewals", renewals)] {
        report.tell(name, volley.told());
        report.errors.join(volley.errors.of(name));
    }
    if report.errors.count == 0
        && let Err(error) = complete(&scene, &held).await
    {
        report.errors.add(format!("{error:#}"));
    }
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}

/// How many there are of the one for each of the other.
fn share(one: &Volley, other: &Volley) -> f64 {
    (100.0 * one.per_second() / other.per_second().max(0.1)).round() / 100.0
}

async fn fire(
    scene: &Scene,
    links: Vec<Link>,
    shots: &[Arc<Shot>],
    time: Duration,
) -> anyhow::Result<(Volley, Vec<Link>)> {
    let guns = links.into_iter().zip(shots).map(|(link, shot)| {
        let shot = Arc::clone(shot);
        (link, move || Some(Arc::clone(&shot)))
    });
    hammer(guns.collect(), Some(time), scene.pid, |_| Ok(())).await
}
