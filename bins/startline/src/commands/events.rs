//! `startline events`, and `startline openapi`.

use std::process::ExitCode;

use anstream::println;
use anyhow::Context;
use startline_client::EventOptions;
use startline_protocol::event::{Event, EventBody};

use crate::cli::EventsArgs;
use crate::render::style::{DIM, RESET, YELLOW, harmless};

pub(super) async fn execute(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let options = EventOptions { types: args.types, run_id: args.run, repository: args.repository, after: args.after };
    let mut events = args.list.connect.client()?.events(options);
    loop {
        let event = events.next().await.context("the events cannot be followed further")?;
        if args.list.json {
            println!("{}", serde_json::to_string(&event)?);
        } else {
            println!("{DIM}{}{RESET} {}", event.at.strftime("%H:%M:%S%.3f"), line(&event));
        }
    }
}

/// An event in a sentence without a verb.
fn line(event: &Event) -> String {
    match &event.body {
        EventBody::Runner { runner_id, name, status } => {
            let status = status.map_or("removed", |status| status.as_str());
            format!("runner {runner_id} {}: {status}", harmless(name))
        }
        EventBody::Job { job_id, run_id, repository, status, conclusion, reason, attempt } => {
            let state = conclusion.map_or_else(|| status.to_string(), |conclusion| conclusion.to_string());
            let attempt = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            format!(
                "job {job_id} of run {run_id} in {}: {state}{attempt}{}",
                harmless(repository),
                because(reason.as_deref())
            )
        }
        EventBody::Run { run_id, repository, status, conclusion, reason } => {
            let state = conclusion.map_or_else(|| status.to_string(), |conclusion| conclusion.to_string());
            format!("run {run_id} in {}: {state}{}", harmless(repository), because(reason.as_deref()))
        }
        EventBody::Log { job_id, run_id, length, .. } => format!("log of job {job_id} of run {run_id}: {length} bytes"),
        EventBody::Lagged { missed } => {
            let count = missed.map_or_else(|| "some".to_owned(), |missed| missed.to_string());
            format!("{YELLOW}{count} events are missing here{RESET}")
        }
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({})", harmless(reason))).unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "the data of a command")]
#[expect(clippy::unnecessary_wraps, reason = "as every command")]
pub(super) fn openapi() -> anyhow::Result<ExitCode> {
    std::print!("{}", startline_server::openapi());
    Ok(ExitCode::SUCCESS)
}
