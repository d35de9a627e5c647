//! `startline group`.

use std::process::ExitCode;

use anstream::eprintln;
use startline_protocol::admin_api::{GroupRequest, GroupView};
use startline_protocol::scope::Scope;

use super::listing::{json, table};
use crate::cli::{DeleteGroupArgs, GroupCommand, ListArgs, SetGroupArgs};
use crate::exit::Usage;
use crate::render::table::Listing;

pub(super) async fn execute(command: GroupCommand) -> anyhow::Result<ExitCode> {
    match command {
        GroupCommand::List(args) => list(args).await,
        GroupCommand::Set(args) => set(args).await,
        GroupCommand::Delete(args) => delete(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let groups = args.connect.client()?.groups().await?;
    if args.json {
        return json(&groups);
    }
    let mut listing = Listing::new(&["GROUP", "SCOPE", "RUNNERS", "REPOSITORIES", "UNTRUSTED", "PROTECTED", "LIMITS"]);
    for GroupView { name, scope, policy, runners } in groups {
        let mut limits = Vec::new();
        limits.extend(policy.max_running_jobs.map(|most| format!("{most} jobs")));
        limits.extend(policy.max_running_jobs_per_repository.map(|most| format!("{most} a repository")));
        listing.row([
            name,
            scope.to_string(),
            runners.to_string(),
            policy.repositories.map_or_else(|| "all".to_owned(), |names| names.join(", ")),
            if policy.accepts_untrusted { "yes" } else { "no" }.to_owned(),
            policy.protected_labels.join(", "),
            limits.join(", "),
        ]);
    }
    Ok(table(&listing, "there are no groups in your token's scope", None))
}

async fn set(args: SetGroupArgs) -> anyhow::Result<ExitCode> {
    for repository in &args.repositories {
        Scope::repository(repository)
            .map_err(|_| Usage(format!("--repository `{repository}` is not OWNER/NAME, such as acme/shop")))?;
    }
    let group = GroupRequest {
        repositories: (!args.repositories.is_empty()).then_some(args.repositories),
        accepts_untrusted: args.accepts_untrusted,
        protected_labels: args.protected_labels,
        max_running_jobs: args.max_running_jobs,
        max_running_jobs_per_repository: args.max_running_jobs_per_repository,
    };
    args.connect.client()?.put_group(&args.name, args.organization.as_deref(), &group).await?;
    eprintln!(
        "group `{}` is set; runners join it through `startline token registration --group {}`",
        args.name, args.name
    );
    Ok(ExitCode::SUCCESS)
}

async fn delete(args: DeleteGroupArgs) -> anyhow::Result<ExitCode> {
    args.connect.client()?.delete_group(&args.name, args.organization.as_deref()).await?;
    eprintln!("group `{}` is deleted", args.name);
    Ok(ExitCode::SUCCESS)
}
