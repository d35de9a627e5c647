//! `startline runs`, `jobs`, `logs` and `runners`: a table for people, `--json` for programs.

use std::process::ExitCode;

use anstream::{eprintln, print, println};
use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use startline_client::ApiClient;
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::runs_api::{JobView, LogEvent, RunView};
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};

use crate::cli::{JobsArgs, ListArgs, LogsArgs, RunsArgs};
use crate::exit::Usage;
use crate::render::log::{JobLog, elapsed};
use crate::render::style::harmless;
use crate::render::table::{Listing, ago};

pub(super) fn json(value: &impl Serialize) -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string(value)?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(listing: &Listing, empty: &str, next: Option<&str>) -> ExitCode {
    println!("{}", listing.text(empty));
    if let Some(cursor) = next {
        eprintln!("there are more: --cursor {cursor}");
    }
    ExitCode::SUCCESS
}

fn state(status: &str, conclusion: Option<Conclusion>) -> String {
    conclusion.map_or_else(|| status.to_owned(), |conclusion| conclusion.to_string())
}

pub(super) async fn runs(args: RunsArgs) -> anyhow::Result<ExitCode> {
    let client = args.list.connect.client()?;
    match args.run {
        Some(id) => run(&client, id, args.list.json).await,
        None => {
            let page = client.runs(args.cursor.as_deref(), Some(args.limit)).await?;
            if args.list.json {
                return json(&page);
            }
            let mut listing = Listing::new(&["RUN", "STATUS", "NAME", "EVENT", "REPOSITORY", "SUBMITTED", "TOOK"]);
            let now = Timestamp::now();
            for run in page.runs {
                listing.row(cells(run, now));
            }
            Ok(table(
                &listing,
                "there are no runs yet; submit one with `startline submit FILE`",
                page.next_cursor.as_deref(),
            ))
        }
    }
}

/// Where a run stands: one that says why it waits does not only want runners.
fn status(run: &RunView) -> &'static str {
    match run.status {
        RunStatus::Queued if run.reason.is_some() => "waiting",
        status => status.as_str(),
    }
}

fn cells(run: RunView, now: Timestamp) -> [String; 7] {
    [
        run.id.to_string(),
        state(status(&run), run.conclusion),
        run.name,
        run.event_name,
        run.repository,
        ago(run.created_at, now),
        elapsed(Some(run.created_at), run.completed_at).unwrap_or_default(),
    ]
}

async fn run(client: &ApiClient, id: RunId, as_json: bool) -> anyhow::Result<ExitCode> {
    let detail = client.run(id, None, std::time::Duration::ZERO).await?;
    if as_json {
        return json(&detail);
    }
    let run = &detail.run;
    println!("run {}  {}  {}", run.id, state(status(run), run.conclusion), harmless(&run.name));
    if let Some(reason) = &run.reason {
        println!("{}", harmless(reason));
    }
    let mut listing = Listing::new(&["JOB", "STATUS", "NAME", "RUNNER", "TOOK", "REASON"]);
    for job in &detail.jobs {
        listing.row([
            job.id.to_string(),
            state(job.status.as_str(), job.conclusion),
            job.name.clone(),
            job.runner_name.clone().unwrap_or_default(),
            elapsed(job.started_at, job.completed_at).unwrap_or_default(),
            job.reason.clone().unwrap_or_default(),
        ]);
    }
    for key in &detail.pending {
        listing.row([String::new(), "pending".to_owned(), key.clone(), String::new(), String::new(), String::new()]);
    }
    Ok(table(&listing, "it has no jobs", None))
}

pub(super) async fn jobs(args: JobsArgs) -> anyhow::Result<ExitCode> {
    let client = args.list.connect.client()?;
    if let Some(id) = args.job {
        return if args.explain {
            explain(&client, id, args.list.json).await
        } else {
            job(&client, id, args.list.json).await
        };
    }
    let status = args.status.as_deref().map(parse_status).transpose()?;
    let page = client.jobs(status, args.cursor.as_deref(), Some(args.limit)).await?;
    if args.list.json {
        return json(&page);
    }
    let mut listing = Listing::new(&["JOB", "RUN", "STATUS", "NAME", "LABELS", "RUNNER", "QUEUED", "TOOK"]);
    let now = Timestamp::now();
    for job in page.jobs {
        listing.row([
            job.id.to_string(),
            job.run_id.to_string(),
            state(job.status.as_str(), job.conclusion),
            job.name,
            job.labels.join(", "),
            job.runner_name.unwrap_or_default(),
            ago(job.queued_at, now),
            elapsed(job.started_at, job.completed_at).unwrap_or_default(),
        ]);
    }
    Ok(table(&listing, "there are no such jobs", page.next_cursor.as_deref()))
}

fn parse_status(text: &str) -> Result<JobStatus, Usage> {
    JobStatus::parse(text).ok_or_else(|| {
        let known: Vec<&str> = JobStatus::ALL.iter().map(|status| status.as_str()).collect();
        Usage(format!("--status `{text}` is no job status; one of {}", known.join(", ")))
    })
}

async fn job(client: &ApiClient, id: JobId, as_json: bool) -> anyhow::Result<ExitCode> {
    let job: JobView = client.job(id).await?;
    if as_json {
        return json(&job);
    }
    println!(
        "job {} of run {}  {}  {}  attempt {}",
        job.id,
        job.run_id,
        state(job.status.as_str(), job.conclusion),
        harmless(&job.name),
        job.attempt
    );
    if let Some(reason) = &job.reason {
        println!("{}", harmless(reason));
    }
    let mut listing = Listing::new(&["STEP", "STATUS", "NAME", "TOOK"]);
    for step in &job.steps {
        listing.row([
            step.number.to_string(),
            state(step.status.as_str(), step.conclusion),
            step.name.clone(),
            elapsed(step.started_at, step.completed_at).unwrap_or_default(),
        ]);
    }
    for (name, value) in &job.outputs {
        println!("output {}={}", harmless(name), harmless(value));
    }
    Ok(table(&listing, "no step has begun", None))
}

async fn explain(client: &ApiClient, id: JobId, as_json: bool) -> anyhow::Result<ExitCode> {
    let found = client.explain(id).await?;
    if as_json {
        return json(&found);
    }
    println!("job {id} is {}: {}", found.status, harmless(&found.summary));
    let mut listing = Listing::new(&["RUNNER", "NAME", "LACKS"]);
    for candidate in found.candidates {
        let lacks = if candidate.missing.is_empty() { "nothing".to_owned() } else { candidate.missing.join(", ") };
        listing.row([candidate.runner_id.to_string(), candidate.runner_name, lacks]);
    }
    Ok(table(&listing, "", None))
}

pub(super) async fn logs(args: LogsArgs) -> anyhow::Result<ExitCode> {
    let client = args.list.connect.client()?;
    if !args.follow && args.raw {
        print!("{}", client.job_log_text(args.job, args.attempt).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let job = client.job(args.job).await?;
    if !args.follow && job.status != JobStatus::Completed {
        // What is there now; a followed stream would wait for the rest.
        let text = client.job_log_text(args.job, args.attempt).await?;
        let mut view = JobLog::new(String::new());
        let attempt = args.attempt.unwrap_or(job.attempt);
        for event in [LogEvent::Job { job: Box::new(job) }, LogEvent::Log { offset: 0, attempt, text }] {
            for line in view.lines(event) {
                println!("{line}");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut log = client.follow_job_log(args.job, 0, args.attempt);
    let mut view = JobLog::new(String::new());
    while let Some(event) = log.next().await.context("the log cannot be read further")? {
        if args.list.json {
            println!("{}", serde_json::to_string(&event)?);
        } else if args.raw {
            if let LogEvent::Log { text, .. } = &event {
                print!("{text}");
            }
        } else {
            for line in view.lines(event) {
                println!("{line}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn runners(args: ListArgs) -> anyhow::Result<ExitCode> {
    let runners = args.connect.client()?.runners().await?;
    if args.json {
        return json(&runners);
    }
    let mut listing = Listing::new(&["RUNNER", "STATUS", "NAME", "LABELS", "JOBS", "SEEN", "VERSION"]);
    let now = Timestamp::now();
    for runner in runners {
        let jobs: Vec<String> = runner.current_jobs.iter().map(ToString::to_string).collect();
        listing.row([
            runner.id.to_string(),
            runner.status.to_string(),
            if runner.ephemeral { format!("{} (ephemeral)", runner.name) } else { runner.name },
            runner.labels.join(", "),
            jobs.join(", "),
            runner.last_seen_at.map(|at| ago(at, now)).unwrap_or_default(),
            runner.version,
        ]);
    }
    Ok(table(&listing, "no runner is registered; `startline runner register` registers this machine", None))
}
