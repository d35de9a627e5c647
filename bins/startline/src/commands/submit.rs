//! `startline submit` and `startline cancel`.

use std::process::ExitCode;

use anstream::{eprintln, print, println};

use super::follow::{self, Follower, Form};
use super::submission;
use crate::cli::{CancelArgs, SubmitArgs};
use crate::exit;
use crate::render::summary;

pub(super) async fn execute(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let Some(prepared) = submission::prepare(&args.submission)? else {
        return Ok(ExitCode::from(exit::USAGE));
    };
    let client = args.connect.client()?;
    let detail = submission::submit(&client, &prepared.request).await?;
    let form = if args.json { Form::Json } else { Form::Text };
    if !args.follow {
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
