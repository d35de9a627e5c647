//! `startline submit`, `startline rerun` and `startline cancel`.

use std::process::ExitCode;

use anstream::{eprintln, print, println};
use startline_client::ApiClient;
use startline_protocol::runs_api::{RerunRequest, RunDetail};

use super::follow::{self, Follower, Form};
use super::submission::{self, Usual};
use crate::cli::{CancelArgs, RerunArgs, SubmitArgs};
use crate::exit;
use crate::render::summary;

pub(super) async fn execute(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let Some(prepared) = submission::prepare(&args.submission, Usual::Ignored)? else {
        return Ok(ExitCode::from(exit::USAGE));
    };
    let client = args.connect.client()?;
    let detail = submission::submit(&client, &prepared.request).await?;
    show(client, detail, args.follow, args.json).await
}

pub(super) async fn rerun(args: RerunArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.client()?;
    let detail = client.rerun_run(args.run, RerunRequest { failed_only: args.failed }).await?;
    show(client, detail, args.follow, args.json).await
}

/// Names the run, or follows it to its end.
async fn show(client: ApiClient, detail: RunDetail, follow: bool, json: bool) -> anyhow::Result<ExitCode> {
    let form = if json { Form::Json } else { Form::Text };
    if !follow {
        match form {
            Form::Json => println!("{}", serde_json::to_string(&detail)?),
            Form::Text => println!("run {}", detail.run.id),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let detail = Follower::new(client, form).follow(detail, async |_| Ok(())).await?;
    if form == Form::Text {
        print!("{}", summary::text(&detail));
    }
    Ok(ExitCode::from(follow::code(&detail)))
}

pub(super) async fn cancel(args: CancelArgs) -> anyhow::Result<ExitCode> {
    args.connect.client()?.cancel_run(args.run).await?;
    eprintln!("run {} is being cancelled", args.run);
    Ok(ExitCode::SUCCESS)
}
