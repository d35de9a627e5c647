//! What a submission would become, without a service: for command lines that show what would run.

use std::time::Duration;

use startline_protocol::ids::RunId;
use startline_protocol::problem::Problem;
use startline_protocol::runs_api::SubmitRequest;
use startline_workflow::model::Workflow;
use startline_workflow::plan::RunContext;

use crate::problem::ApiResult;
use crate::submission::{self, Forge, RunFacts, Submission};

/// What `github.retention_days` says; a service has a setting for it.
const RETENTION: Duration = Duration::from_hours(90 * 24);

/// The workflow of a submission, and what its planner would see in the first run of a service at `url`. Variables and
/// secrets that a service keeps are not among it. Called files that are missing are left out: a job that calls one
/// cannot be planned.
///
/// # Errors
/// What the service would refuse the submission with.
pub fn preview(request: SubmitRequest, url: &str) -> Result<(Workflow, RunContext), Box<Problem>> {
    compile(request, url).map_err(|error| Box::new(error.problem().clone()))
}

fn compile(request: SubmitRequest, url: &str) -> ApiResult<(Workflow, RunContext)> {
    let path = request.path.clone().unwrap_or_else(|| submission::DEFAULT_PATH.to_owned());
    let (linked, files) = submission::link(&request.workflow, &path, &request.files)?;
    let Some(workflow) = linked.workflow else {
        return Err(submission::refusal(&linked.findings, &request.workflow, &path, &files));
    };
    let trusted = !request.untrusted;
    let submission = Submission::new(request, &workflow)?;
    let run = RunFacts { id: RunId(1), number: 1, trusted, cancelled: false };
    let context = submission.context(&workflow, run, &Forge::at(url, RETENTION));
    Ok((workflow, context))
}
