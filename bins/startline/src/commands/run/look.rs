//! `startline run --list`, `--graph` and `--dry-run`: what is in a workflow file, without running anything.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anstream::println;
use serde_json::{Value, json};
use startline_protocol::runs_api::SubmitRequest;
use startline_workflow::model::{CompiledStep, Job, Reference, Workflow};
use startline_workflow::plan::{
    self, ClaimState, Conclusion, Decision, Instance, InstanceState, JobInstance, RunContext,
};
use startline_workflow::template::{Kind, Template};

use crate::cli::RunArgs;
use crate::exit::{Nothing, Usage};
use crate::render::style::{BOLD, DIM, GREEN, RED, RESET, YELLOW, harmless};
use crate::render::table::Listing;

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    List,
    Graph,
    DryRun,
}

impl What {
    pub(super) fn asked(args: &RunArgs) -> Option<Self> {
        match args {
            RunArgs { list: true, .. } => Some(Self::List),
            RunArgs { graph: true, .. } => Some(Self::Graph),
            RunArgs { dry_run: true, .. } => Some(Self::DryRun),
            _ => None,
        }
    }
}

/// Where a service of this command would be; nothing that is shown depends on it.
const URL: &str = "http://127.0.0.1";

pub(super) fn show(what: What, request: SubmitRequest, as_json: bool) -> anyhow::Result<ExitCode> {
    let (workflow, context) = startline_server::preview(request, URL).map_err(|problem| {
        let detail = problem.detail.as_deref().map(|detail| format!("; {detail}")).unwrap_or_default();
        if problem.kind == startline_protocol::problem::kind::NOT_TRIGGERED {
            return anyhow::Error::from(Nothing(problem.title));
        }
        Usage(format!("{}{detail}", problem.title)).into()
    })?;
    match what {
        What::List if as_json => println!("{}", json!({"jobs": workflow.jobs.iter().map(listed).collect::<Vec<_>>()})),
        What::List => list(&workflow),
        What::Graph if as_json => println!("{}", json!({"stages": stages(&workflow)})),
        What::Graph => graph(&workflow),
        What::DryRun => {
            let found = foresee(&workflow, &context);
            if as_json {
                println!("{}", json!({"jobs": found.iter().map(Foreseen::to_json).collect::<Vec<_>>()}));
            } else {
                found.iter().for_each(Foreseen::print);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(job: &Job) -> Value {
    json!({
        "id": job.id,
        "name": job.name.as_ref().map(text),
        "needs": job.needs,
        "if": (job.condition != "success()").then_some(&job.condition),
        "runs_on": job.call.is_none().then(|| text(&job.runs_on)),
        "uses": job.call.as_ref().map(|call| call.file.to_string()),
        "matrix": job.strategy.as_ref().and_then(|strategy| strategy.get("matrix")).map(text),
        "steps": job.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn list(workflow: &Workflow) {
    let mut listing = Listing::new(&["JOB", "NAME", "NEEDS", "RUNS ON", "MATRIX", "STEPS"]);
    for job in &workflow.jobs {
        let matrix = job.strategy.as_ref().and_then(|strategy| strategy.get("matrix"));
        let (place, steps) = match &job.call {
            Some(call) => (format!("calls {}", call.file), String::new()),
            None => (text(&job.runs_on), job.steps.len().to_string()),
        };
        listing.row([
            job.id.clone(),
            job.name.as_ref().map(text).unwrap_or_default(),
            job.needs.join(", "),
            place,
            matrix.map(text).unwrap_or_default(),
            steps,
        ]);
    }
    println!("{}", listing.text("no jobs"));
}

/// Ids of the jobs by the length of the longest chain of needs before them.
fn stages(workflow: &Workflow) -> Vec<Vec<&str>> {
    let mut depth: BTreeMap<&str, usize> = BTreeMap::new();
    while depth.len() < workflow.jobs.len() {
        let before = depth.len();
        for job in &workflow.jobs {
            let of_needs: Option<Vec<usize>> = job.needs.iter().map(|need| depth.get(need.as_str()).copied()).collect();
            if let Some(of_needs) = of_needs {
                depth.insert(&job.id, of_needs.into_iter().max().map_or(0, |deepest| deepest + 1));
            }
        }
        if depth.len() == before {
            break;
        }
    }
    let last = depth.values().max().map_or(0, |last| last + 1);
    let at =
        |stage| workflow.jobs.iter().map(|job| job.id.as_str()).filter(|id| depth.get(id) == Some(&stage)).collect();
    (0..last).map(at).collect()
}

fn graph(workflow: &Workflow) {
    let width = workflow.jobs.iter().map(|job| job.id.chars().count()).max().unwrap_or_default();
    for (number, stage) in stages(workflow).into_iter().enumerate() {
        for (line, id) in stage.into_iter().enumerate() {
            let Some(job) = workflow.job(id) else { continue };
            let head = if line == 0 { (number + 1).to_string() } else { String::new() };
            let needs = if job.needs.is_empty() { String::new() } else { format!(" ← {}", job.needs.join(", ")) };
            let calls = job.call.as_ref().map(|call| format!("  (calls {})", call.file)).unwrap_or_default();
            let rest = format!("{needs}{calls}");
            let width = if rest.is_empty() { 0 } else { width };
            println!("{head:>3}  {id:width$}{DIM}{rest}{RESET}");
        }
    }
}

/// What would become of a job.
enum Foreseen {
    Runs(Box<JobInstance>),
    Skipped {
        name: String,
        reason: String,
    },
    /// It has no value before other jobs have run, or never.
    Unknown {
        name: String,
        message: String,
    },
}

impl Foreseen {
    fn print(&self) {
        match self {
            Self::Runs(job) => {
                let held = if job.held { "  after others (max-parallel)" } else { "" };
                let place = match (&job.runs_on.group, job.runs_on.labels.join(", ")) {
                    (Some(group), labels) if labels.is_empty() => format!("group {group}"),
                    (Some(group), labels) => format!("{labels} of group {group}"),
                    (None, labels) => labels,
                };
                println!(
                    "{GREEN}run{RESET}   {BOLD}{}{RESET}  {DIM}on {}{held}{RESET}",
                    harmless(&job.name),
                    harmless(&place)
                );
                for step_of in job.steps.iter() {
                    let condition = match step_of.condition.as_str() {
                        "success()" => String::new(),
                        written => format!("  {DIM}if {}{RESET}", harmless(written)),
                    };
                    println!("        {}{condition}", harmless(&step(step_of)));
                }
            }
            Self::Skipped { name, reason } => {
                println!("{YELLOW}skip{RESET}  {BOLD}{}{RESET}  {DIM}{}{RESET}", harmless(name), harmless(reason));
            }
            Self::Unknown { name, message } => {
                println!("{RED}?{RESET}     {BOLD}{}{RESET}  {DIM}{}{RESET}", harmless(name), harmless(message));
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Runs(job) => json!({
                "verdict": "run", "key": job.key, "name": job.name, "labels": job.runs_on.labels, "group": job.runs_on.group,
                "held": job.held, "timeout_minutes": job.timeout_minutes, "matrix": job.matrix.to_json(),
                "steps": job.steps.iter().map(step).collect::<Vec<_>>(),
            }),
            Self::Skipped { name, reason } => json!({"verdict": "skip", "name": name, "reason": reason}),
            Self::Unknown { name, message } => json!({"verdict": "unknown", "name": name, "reason": message}),
        }
    }
}

/// Plays the planner through a run in which every job succeeds without outputs.
fn foresee(workflow: &Workflow, context: &RunContext) -> Vec<Foreseen> {
    let (mut context, mut instances) = (context.clone(), Vec::<Instance>::new());
    let mut found = Vec::new();
    let ended = |key: String, index, conclusion| Instance::new(key, index, InstanceState::Done(conclusion));
    loop {
        let decisions = plan::advance(workflow, &context, &instances);
        if decisions.is_empty() {
            return found;
        }
        for decision in decisions {
            match decision {
                Decision::Expand { jobs, .. } => {
                    for job in jobs {
                        instances.push(ended(job.key.clone(), job.index, Conclusion::Success));
                        found.push(Foreseen::Runs(Box::new(job)));
                    }
                }
                Decision::Skip { key, name, reason } => {
                    instances.push(ended(key, 0, Conclusion::Skipped));
                    found.push(Foreseen::Skipped { name, reason });
                }
                Decision::Fail { key, name, message } => {
                    // With what the jobs before it leave it may well have a value, so what follows is shown as if it had:
                    // the planner is asked anew.
                    instances.push(ended(key, 0, Conclusion::Success));
                    let message = format!("{message} (outputs of other jobs are not known before they have run)");
                    found.push(Foreseen::Unknown { name, message });
                    break;
                }
                Decision::Claim { place, .. } => {
                    context.claims.insert(place, ClaimState::Granted);
                }
                Decision::Leave { place } => {
                    context.claims.remove(&place);
                }
                // All jobs have succeeded, so none is held, dropped or cancelled.
                Decision::Release { .. } | Decision::Drop { .. } | Decision::Cancel { .. } => {}
            }
        }
    }
}

/// A step in a line.
fn step(step: &CompiledStep) -> String {
    if let Some(name) = &step.name {
        return text(name);
    }
    match &step.reference {
        Reference::Script => {
            let script = step.inputs.get("script").map(text).unwrap_or_default();
            format!("Run {}", script.trim_start().lines().next().unwrap_or_default())
        }
        Reference::Local { path } => format!("Run {path}"),
        Reference::Repository { name, git_ref, path } => {
            let path = path.as_ref().map(|path| format!("/{path}")).unwrap_or_default();
            format!("Run {name}{path}@{git_ref}")
        }
        Reference::Docker { image } => format!("Run docker://{image}"),
    }
}

/// A value of the file, on one line.
fn text(template: &Template) -> String {
    match &template.kind {
        Kind::String(text) => text.clone(),
        Kind::Expression(expression) => format!("${{{{ {expression} }}}}"),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(value) => value.to_string(),
        Kind::Null => String::new(),
        Kind::Insert => "${{ insert }}".to_owned(),
        Kind::Sequence(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Kind::Mapping(entries) => {
            let entry = |(key, value): &(Template, Template)| match &value.kind {
                Kind::Sequence(_) | Kind::Mapping(_) => format!("{}: [{}]", text(key), text(value)),
                _ => format!("{}: {}", text(key), text(value)),
            };
            entries.iter().map(entry).collect::<Vec<_>>().join(", ")
        }
    }
}
