//! The decision on one job whose needs have ended.

use std::sync::Arc;

use super::concurrency::{self, Claim, Held};
use super::scope::JobScope;
use super::status::Status;
use super::{
    DEFAULT_CANCEL_TIMEOUT_MINUTES, DEFAULT_TIMEOUT_MINUTES, Deployment, JobInstance, RunContext, RunsOn, Selection,
};
use crate::expression::{Expression, Scope, Value};
use crate::matrix::{self, Strategy, display_name};
use crate::model::{Call, Defaults, FileName, Input, Job, Permissions, Workflow};
use crate::span::narrow;
use crate::template::{self, Kind, Template, article};

/// What becomes of a job.
pub(super) enum Outcome {
    Run(Vec<JobInstance>),
    Call(Vec<Called>),
    Skip(String),
    Fail(String),
}

/// The display name of a job that does not start: `name` if it is literal, else the id.
pub(super) fn static_name(job: &Job) -> String {
    job.name.as_ref().and_then(Template::as_str).filter(|name| !name.is_empty()).unwrap_or(&job.id).to_owned()
}

pub(super) fn decide(context: &RunContext, status: &Status<'_>, job: &Job) -> Outcome {
    decide_or_fail(context, status, job).unwrap_or_else(Outcome::Fail)
}

fn decide_or_fail(context: &RunContext, status: &Status<'_>, job: &Job) -> Result<Outcome, String> {
    let scope = JobScope::new(context, status, job);
    if !condition(&scope, job)? {
        return Ok(Outcome::Skip(skip_reason(context, &scope, job)));
    }
    let strategy = strategy(&scope, job)?;
    let empty = || Outcome::Skip("no combination of the matrix has the selected values".to_owned());
    if let Some(call) = &job.call {
        let calls = called(scope, job, call, &strategy)?;
        return Ok(if calls.is_empty() { empty() } else { Outcome::Call(calls) });
    }
    let jobs = instances(scope, status.workflow(), job, &strategy)?;
    Ok(if jobs.is_empty() { empty() } else { Outcome::Run(jobs) })
}

/// The calls that a job makes that has begun.
pub(super) fn calls(context: &RunContext, status: &Status<'_>, job: &Job) -> Result<Vec<Called>, String> {
    let Some(call) = &job.call else { return Ok(Vec::new()) };
    let scope = JobScope::new(context, status, job);
    let strategy = strategy(&scope, job)?;
    called(scope, job, call, &strategy)
}

fn condition(scope: &JobScope<'_>, job: &Job) -> Result<bool, String> {
    let explain = |error: String| format!("`if` of the job `{}` has no value: {error}", job.id);
    let expression = Expression::parse(&job.condition).map_err(|error| explain(error.message))?;
    Ok(expression.evaluate(scope).map_err(|error| explain(error.to_string()))?.truthy())
}

fn skip_reason(context: &RunContext, scope: &JobScope<'_>, job: &Job) -> String {
    if context.cancelled {
        return "the run was cancelled".to_owned();
    }
    let succeeded = |scope: &JobScope<'_>| scope.call("success", &[]).and_then(Result::ok).is_some_and(|v| v.truthy());
    if !succeeded(scope) && job.condition.starts_with("success()") {
        return "a job that it needs did not succeed".to_owned();
    }
    // The implicit part of the condition holds; what was written does not.
    let written = job.condition.strip_prefix("success() && (").and_then(|rest| rest.strip_suffix(')'));
    format!("its condition is false: {}", written.unwrap_or(&job.condition))
}

/// True if a job's condition holds in a cancelled run, as `always()` does: then it goes on.
pub(super) fn holds_when_cancelled(context: &RunContext, status: &Status<'_>, job: &Job) -> bool {
    condition(&JobScope::new(context, status, job), job).unwrap_or(false)
}

/// `fail-fast` and `max-parallel` of a job that has been expanded before, so that its strategy has a value.
pub(super) fn limits(context: &RunContext, status: &Status<'_>, job: &Job) -> Strategy {
    strategy(&JobScope::new(context, status, job), job).unwrap_or_default()
}

fn strategy(scope: &JobScope<'_>, job: &Job) -> Result<Strategy, String> {
    let Some(template) = &job.strategy else { return Ok(Strategy::default()) };
    let explain = |error: String| format!("`strategy` of the job `{}`: {error}", job.id);
    let value = template::evaluate(template, scope).map_err(|error| explain(error.message))?;
    matrix::expand(&value)
        .map_err(|problems| explain(problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")))
}

/// One combination of a job that is going to be made.
struct Place<'a> {
    index: usize,
    total: usize,
    labels: &'a [String],
    held: bool,
    has_matrix: bool,
}

/// Does something for each selected combination of a job, in whose scope `matrix` and `strategy` are set.
fn for_each<T>(
    mut scope: JobScope<'_>,
    job: &Job,
    strategy: &Strategy,
    make: impl Fn(&JobScope<'_>, &Place<'_>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let has_matrix = !strategy.combinations.is_empty();
    let combinations: Vec<(Value, &[String])> = if has_matrix {
        strategy.combinations.iter().map(|c| (c.values.clone(), c.labels.as_slice())).collect()
    } else {
        vec![(Value::Null, &[])]
    };
    let values: Vec<Value> = combinations.iter().map(|(values, _)| values.clone()).collect();
    let selected = scope.run.selection.combinations(&values);
    let total = combinations.len();
    let limit = match strategy.max_parallel {
        Some(limit) if has_matrix => limit as usize,
        _ => total,
    };
    let mut made = Vec::new();
    for (index, ((matrix, labels), _)) in
        combinations.into_iter().zip(&selected).enumerate().filter(|(_, (_, on))| **on)
    {
        scope.matrix = matrix;
        scope.strategy = Value::object([
            ("fail-fast", Value::Bool(strategy.fail_fast)),
            ("job-index", number(index)),
            ("job-total", number(total)),
            ("max-parallel", number(limit)),
        ]);
        let place = Place { index, total, labels, held: made.len() >= limit, has_matrix };
        made.push(
            make(&scope, &place)
                .map_err(|error| format!("the job `{}` cannot start: {error}", display_name(&job.id, labels)))?,
        );
    }
    Ok(made)
}

fn instances(
    scope: JobScope<'_>,
    workflow: &Workflow,
    job: &Job,
    strategy: &Strategy,
) -> Result<Vec<JobInstance>, String> {
    let env: Arc<[Template]> = workflow.env.iter().chain(&job.env).cloned().collect();
    for_each(scope, job, strategy, |scope, place| {
        Ok(JobInstance {
            key: job.id.clone(),
            id: job.id.clone(),
            file: scope.run.file.clone(),
            inputs: scope.run.inputs.clone(),
            index: narrow(place.index),
            total: narrow(place.total),
            name: name(scope, job, place.labels)?,
            held: place.held,
            claim: claim(scope, job, &scope.run.held)?,
            runs_on: runs_on(scope, &job.runs_on)?,
            timeout_minutes: minutes(scope, job.timeout_minutes.as_ref(), "`timeout-minutes`")?
                .unwrap_or(DEFAULT_TIMEOUT_MINUTES),
            cancel_timeout_minutes: minutes(scope, job.cancel_timeout_minutes.as_ref(), "`cancel-timeout-minutes`")?
                .unwrap_or(DEFAULT_CANCEL_TIMEOUT_MINUTES),
            continue_on_error: continue_on_error(scope, job)?,
            environment: environment(scope, job)?,
            permissions: permissions(scope.run, workflow, job),
            matrix: scope.matrix.clone(),
            strategy: scope.strategy.clone(),
            needs: scope.needs.clone(),
            env: Arc::clone(&env),
            defaults: defaults(&workflow.defaults, &job.defaults),
            outputs: job.outputs.clone(),
            container: job.container.clone(),
            services: job.services.clone(),
            steps: Arc::clone(&job.steps),
        })
    })
}

/// What the token of a job may do: what it or its workflow asks for, as far as its caller may.
fn permissions(run: &RunContext, workflow: &Workflow, job: &Job) -> Option<Permissions> {
    match (job.permissions.as_ref().or(workflow.permissions.as_ref()), &run.permissions) {
        (Some(own), Some(most)) => Some(own.within(most)),
        (own, most) => own.or(most.as_ref()).cloned(),
    }
}

/// A call of a workflow by one combination of a job.
pub(super) struct Called {
    pub(super) index: u32,
    /// What the keys of its jobs begin with.
    pub(super) prefix: String,
    pub(super) name: String,
    pub(super) held: bool,
    /// The run of the workflow that is called, as that workflow sees it.
    pub(super) context: RunContext,
    /// The groups that it must have before it begins, in this order, with the places of its claims.
    pub(super) gates: Vec<(String, Claim)>,
    /// Contexts that the caller's secrets are evaluated with.
    pub(super) matrix: Value,
    pub(super) strategy: Value,
}

fn called(scope: JobScope<'_>, job: &Job, call: &Call, strategy: &Strategy) -> Result<Vec<Called>, String> {
    let workflow = call.workflow.as_ref().ok_or_else(|| format!("the workflow `{}` is not there", call.file))?;
    let run = scope.run;
    let caller = scope.status.workflow();
    for_each(scope, job, strategy, |scope, place| {
        let index = narrow(place.index);
        let prefix = if place.has_matrix { format!("{}[{index}]", job.id) } else { job.id.clone() };
        let within = format!("{prefix}.");
        let (mut gates, mut held) = (Vec::new(), run.held.clone());
        if let Some(claim) = claim(scope, job, &held)? {
            held.push(Held::new(&claim, format!("the job `{}` that calls it", job.id)));
            gates.push((prefix.clone(), claim));
        }
        let claims = run.claims.iter().filter_map(|(place, state)| {
            let place = place.strip_prefix(&within).filter(|place| !place.is_empty())?;
            Some((place.to_owned(), state.clone()))
        });
        let mut context = RunContext {
            github: run.github.clone(),
            inputs: inputs(scope, call, workflow)?,
            vars: run.vars.clone(),
            cancelled: false,
            cancel_reason: None,
            file: Some(call.file.clone()),
            claims: claims.collect(),
            held,
            permissions: permissions(run, caller, job),
            selection: Selection::default(),
        };
        if let Some(claim) =
            concurrency::claim_of_run(workflow, &context).map_err(|e| format!("`{}`: {e}", call.file))?
        {
            context.held.push(Held::new(&claim, format!("the workflow `{}`", call.file)));
            gates.push((within, claim));
        }
        Ok(Called {
            index,
            prefix,
            name: name(scope, job, place.labels)?,
            held: place.held,
            context,
            gates,
            matrix: scope.matrix.clone(),
            strategy: scope.strategy.clone(),
        })
    })
}

/// The group that a job must have before it begins.
fn claim(scope: &JobScope<'_>, job: &Job, held: &[Held]) -> Result<Option<Claim>, String> {
    job.concurrency.as_ref().map(|concurrency| concurrency::claim(concurrency, scope, held)).transpose()
}

/// The `inputs` context of a workflow that is called.
fn inputs(scope: &JobScope<'_>, call: &Call, workflow: &Workflow) -> Result<Value, String> {
    let given = call.with.as_ref().map(|with| evaluate(scope, with, "`with`")).transpose()?.unwrap_or(Value::Null);
    let declared = workflow.on.get("workflow_call").map(|trigger| trigger.inputs.as_slice()).unwrap_or_default();
    if let Value::Object(entries) = &given
        && let Some((name, _)) =
            entries.iter().find(|(name, _)| !declared.iter().any(|input| input.name.eq_ignore_ascii_case(name)))
    {
        return Err(format!("`{}` has no input `{name}`", call.file));
    }
    let mut values = Vec::with_capacity(declared.len());
    for input in declared {
        let value = match (given.get(&input.name), &input.default) {
            (Some(value), _) if !matches!(value, Value::Null) => input
                .accept(&value.clone())
                .map_err(|reason| format!("the input `{}` of `{}`: {reason}", input.name, call.file))?,
            (_, Some(default)) => default.clone(),
            (_, None) if input.computed.is_some() => default(scope, input, &call.file)?,
            (None, None) if input.required => {
                return Err(format!("the call of `{}` lacks the input `{}`", call.file, input.name));
            }
            (_, None) => input.empty(),
        };
        values.push((input.name.clone(), value));
    }
    Ok(Value::object(values))
}

/// The value of a default that is an expression; it sees the caller's run.
fn default(scope: &JobScope<'_>, input: &Input, file: &FileName) -> Result<Value, String> {
    let Some(template) = &input.computed else { return Ok(Value::Null) };
    let what = format!("the default of the input `{}` of `{file}`", input.name);
    match evaluate(scope, template, &what)? {
        Value::Null => Ok(input.empty()),
        value => input.accept(&value).map_err(|reason| format!("{what}: {reason}")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs are small")]
fn number(count: usize) -> Value {
    Value::Number(count as f64)
}

fn evaluate(scope: &JobScope<'_>, template: &Template, what: &str) -> Result<Value, String> {
    template::evaluate(template, scope).map_err(|error| format!("{what}: {}", error.message))
}

/// A literal name shows the matrix too; one with an expression stands alone unless it is empty.
fn name(scope: &JobScope<'_>, job: &Job, labels: &[String]) -> Result<String, String> {
    match job.name.as_ref().map(|name| (name, &name.kind)) {
        Some((template, Kind::Expression(_))) => {
            let value = evaluate(scope, template, "`name`")?;
            let text = value.to_text();
            Ok(if text.trim().is_empty() { display_name(&job.id, labels) } else { text.into_owned() })
        }
        Some((template, _)) => {
            let value = evaluate(scope, template, "`name`")?;
            let text = value.to_text();
            Ok(display_name(if text.is_empty() { &job.id } else { &text }, labels))
        }
        None => Ok(display_name(&job.id, labels)),
    }
}

fn runs_on(scope: &JobScope<'_>, template: &Template) -> Result<RunsOn, String> {
    let value = evaluate(scope, template, "`runs-on`")?;
    let mut runs_on = RunsOn::default();
    match &value {
        Value::Object(object) => {
            for (key, value) in object.iter() {
                match key {
                    "group" => runs_on.group = Some(label(value, "the group of `runs-on`", template)?),
                    "labels" => runs_on.labels = labels(value, template)?,
                    _ => return Err(format!("unknown key `{key}` in `runs-on`")),
                }
            }
        }
        other => runs_on.labels = labels(other, template)?,
    }
    if runs_on.labels.is_empty() && runs_on.group.is_none() {
        return Err(format!("`runs-on` names no label{}", source(template)));
    }
    Ok(runs_on)
}

fn labels(value: &Value, template: &Template) -> Result<Vec<String>, String> {
    let items = value.as_array().unwrap_or_else(|| std::slice::from_ref(value));
    let mut labels: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let label = label(item, "a label of `runs-on`", template)?;
        if !labels.iter().any(|known| known.eq_ignore_ascii_case(&label)) {
            labels.push(label);
        }
    }
    Ok(labels)
}

fn label(value: &Value, what: &str, template: &Template) -> Result<String, String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Value::String(_) | Value::Null => Err(format!("{what} is empty{}", source(template))),
        other => Err(format!("{what} must be text, not {}{}", article(other), source(template))),
    }
}

/// The expression that gave a value, for messages.
fn source(template: &Template) -> String {
    match &template.kind {
        Kind::Expression(text) => format!(" (it is `${{{{ {text} }}}}`)"),
        _ => String::new(),
    }
}

fn minutes(scope: &JobScope<'_>, template: Option<&Template>, what: &str) -> Result<Option<u32>, String> {
    let Some(template) = template else { return Ok(None) };
    match evaluate(scope, template, what)? {
        Value::Number(minutes) if minutes > 0.0 => {
            // A fraction of a minute is a whole one.
            matrix::whole(minutes.ceil()).map(Some).ok_or_else(|| format!("{what} is too large"))
        }
        Value::Number(_) => Err(format!("{what} must be more than 0{}", source(template))),
        other => Err(format!("{what} must be a number, not {}{}", article(&other), source(template))),
    }
}

/// Most characters of an environment's name, as on GitHub.
const LONGEST_ENVIRONMENT: usize = 255;

fn environment(scope: &JobScope<'_>, job: &Job) -> Result<Option<Deployment>, String> {
    let Some(environment) = &job.environment else { return Ok(None) };
    let value = evaluate(scope, &environment.name, "`environment`")?;
    if !value.is_primitive() {
        return Err(format!("`environment` must be text, not {}{}", article(&value), source(&environment.name)));
    }
    let name = value.to_text().trim().to_owned();
    if name.chars().count() > LONGEST_ENVIRONMENT || name.chars().any(char::is_control) {
        return Err(format!(
            "`environment` must be at most {LONGEST_ENVIRONMENT} characters on one line{}",
            source(&environment.name)
        ));
    }
    Ok((!name.is_empty()).then(|| Deployment { name, url: environment.url.clone() }))
}

fn continue_on_error(scope: &JobScope<'_>, job: &Job) -> Result<bool, String> {
    let Some(template) = &job.continue_on_error else { return Ok(false) };
    match evaluate(scope, template, "`continue-on-error`")? {
        Value::Bool(value) => Ok(value),
        other => Err(format!("`continue-on-error` must be a boolean, not {}{}", article(&other), source(template))),
    }
}

/// The worker takes the first mapping it is sent, so workflow and job are merged key by key here.
fn defaults(workflow: &Defaults, job: &Defaults) -> Option<Template> {
    let shell = job.shell.as_ref().or(workflow.shell.as_ref());
    let directory = job.working_directory.as_ref().or(workflow.working_directory.as_ref());
    let entries: Vec<(Template, Template)> = [("shell", shell), ("working-directory", directory)]
        .into_iter()
        .filter_map(|(key, value)| Some((Template::string(key), value?.clone())))
        .collect();
    (!entries.is_empty()).then(|| Template::mapping(vec![(Template::string("run"), Template::mapping(entries))]))
}
