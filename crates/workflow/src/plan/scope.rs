//! What expressions see that the planner evaluates.

use super::status::Status;
use super::{Conclusion, RunContext};
use crate::expression::{EvalError, Scope, Value};
use crate::model::Job;

/// Contexts of a run before any of its jobs.
pub(super) struct RunScope<'a>(pub(super) &'a RunContext);

impl Scope for RunScope<'_> {
    fn context(&self, name: &str) -> Option<Value> {
        Some(match name {
            "github" => self.0.github.clone(),
            "inputs" => self.0.inputs.clone(),
            "vars" => self.0.vars.clone(),
            _ => return None,
        })
    }

    fn call(&self, _name: &str, _arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        None
    }
}

/// Contexts of a job, and the status functions of its `if`.
pub(super) struct JobScope<'a> {
    pub(super) run: &'a RunContext,
    pub(super) status: &'a Status<'a>,
    pub(super) job: &'a Job,
    pub(super) needs: Value,
    pub(super) matrix: Value,
    pub(super) strategy: Value,
}

impl<'a> JobScope<'a> {
    pub(super) fn new(run: &'a RunContext, status: &'a Status<'a>, job: &'a Job) -> Self {
        let needs = status.needs(job);
        Self { run, status, job, needs, matrix: Value::Null, strategy: Value::Null }
    }

    /// Results of the jobs named, or of all ancestors: on GitHub a job's status functions look at the whole graph
    /// before it, not only at direct needs.
    fn results(&self, names: &[Value]) -> Vec<Conclusion> {
        let named =
            |job: &&Job| names.is_empty() || names.iter().any(|name| name.to_text().eq_ignore_ascii_case(&job.id));
        let ancestors = self.status.ancestors(self.job);
        ancestors.into_iter().filter(named).filter_map(|job| self.status.result(&job.id)).collect()
    }
}

impl Scope for JobScope<'_> {
    fn context(&self, name: &str) -> Option<Value> {
        Some(match name {
            "github" => self.run.github.clone(),
            "inputs" => self.run.inputs.clone(),
            "vars" => self.run.vars.clone(),
            "needs" => self.needs.clone(),
            "matrix" => self.matrix.clone(),
            "strategy" => self.strategy.clone(),
            _ => return None,
        })
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        let truth = match name {
            "always" => true,
            "cancelled" => self.run.cancelled,
            "success" => {
                !self.run.cancelled && self.results(arguments).into_iter().all(|result| result == Conclusion::Success)
            }
            "failure" => self.results(arguments).contains(&Conclusion::Failure),
            _ => return None,
        };
        Some(Ok(Value::Bool(truth)))
    }
}
