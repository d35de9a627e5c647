//! `startline load registrations`: runners that register, as fast as it goes.

use std::process::ExitCode;

use anstream::eprintln;
use serde_json::json;

use super::report::Report;
use super::scene::{Scene, check_descriptors};
use crate::cli::RegistrationsArgs;

pub(super) async fn execute(args: RegistrationsArgs) -> anyhow::Result<ExitCode> {
    check_descriptors(args.connections, "fewer --connections")?;
    let scene = Scene::open(&args.scene, args.connections, false).await?;
    scene.await_quiet().await?;
    eprintln!("registering {} runners", args.count);
    let (volley, runners) = scene.register_over(&scene.label, args.count, args.connections).await?;
    let mut report = Report::new(
        "registrations",
        json!({
            "count": args.count, "connections": args.connections, "synchronous": args.scene.synchronous(),
        }),
        volley.spent.time,
        volley.count,
    );
    report.latency_us = volley.latency.summary();
    report.spent(&volley.spent, volley.count);
    report.errors.join(volley.errors);
    if report.errors.count == 0 && runners.len() as u64 != u64::from(args.count) {
        report.errors.add(format!("{} of {} runners were registered", runners.len(), args.count));
    }
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}
