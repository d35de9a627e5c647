//! Which contexts and functions an expression may use where.
//!
//! Source: the `context` lists of actions/runner `Sdk/WorkflowParser/workflow-v1.0.json` and, for actions,
//! `Runner.Worker/action_yaml.json`.

use crate::expression::Allowed;

/// A place of a file in which expressions are evaluated.
pub(crate) type Place = Allowed<'static>;

const fn place(contexts: &'static [&'static str], functions: &'static [&'static str]) -> Place {
    Allowed { contexts, functions }
}

/// Evaluated by the server when a run is made: `run-name`, the workflow's `concurrency`.
pub(crate) const RUN: Place = place(&["github", "inputs", "vars"], &[]);
/// The workflow's `env`.
pub(crate) const WORKFLOW_ENV: Place = place(&["github", "inputs", "vars", "secrets"], &[]);
/// A job's `if`.
pub(crate) const JOB_IF: Place = place(
    &["github", "inputs", "vars", "needs"],
    &["always(0,0)", "failure(0,MAX)", "cancelled(0,0)", "success(0,MAX)"],
);
/// `strategy`.
pub(crate) const STRATEGY: Place = place(&["github", "inputs", "vars", "needs"], &[]);
/// What the server evaluates for each job of a matrix: `name`, `runs-on`, `timeout-minutes`, `continue-on-error`,
/// `environment`.
pub(crate) const JOB: Place = place(&["github", "inputs", "vars", "needs", "strategy", "matrix"], &[]);
/// A job's `env`.
pub(crate) const JOB_ENV: Place = place(&["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets"], &[]);
/// The value of an output of a called workflow.
pub(crate) const CALL_OUTPUT: Place = place(&["github", "inputs", "vars", "jobs"], &[]);
/// A job's `defaults.run`.
pub(crate) const JOB_DEFAULTS: Place = place(&["github", "inputs", "vars", "needs", "strategy", "matrix", "env"], &[]);
/// The `url` of a job's `environment`.
pub(crate) const ENVIRONMENT_URL: Place =
    place(&["github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env"], &[]);
/// A job's `outputs`.
pub(crate) const OUTPUTS: Place = place(
    &["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner", "env"],
    &[],
);
/// `env` of a container.
pub(crate) const CONTAINER_ENV: Place = OUTPUTS;
/// `credentials` of a container.
pub(crate) const CREDENTIALS: Place =
    place(&["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "env"], &[]);
/// A step's `if`.
pub(crate) const STEP_IF: Place = place(
    &["github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env"],
    &["always(0,0)", "failure(0,0)", "cancelled(0,0)", "success(0,0)", "hashFiles(1,255)"],
);
/// The rest of a step.
pub(crate) const STEP: Place = place(
    &["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner", "env"],
    &["hashFiles(1,255)"],
);
/// The default of an action's input.
pub(crate) const ACTION_INPUT: Place = place(&["github", "strategy", "matrix", "job", "runner"], &["hashFiles(1,255)"]);
/// The value of an action's output.
pub(crate) const ACTION_OUTPUT: Place =
    place(&["github", "strategy", "matrix", "steps", "inputs", "job", "runner", "env"], &[]);
/// `args` and `env` of an action that runs in a container.
pub(crate) const ACTION_CONTAINER: Place = place(&["inputs"], &[]);
/// `if` of a step of a composite action.
pub(crate) const ACTION_STEP_IF: Place = place(
    &["github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"],
    &["always(0,0)", "failure(0,0)", "cancelled(0,0)", "success(0,0)", "hashFiles(1,255)"],
);
/// The rest of a step of a composite action.
pub(crate) const ACTION_STEP: Place =
    place(&["github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"], &["hashFiles(1,255)"]);
