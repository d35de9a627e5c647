//! A workflow file as this system understands it.

use std::sync::Arc;

use crate::diagnostic::{self, Diagnostic};
use crate::span::Span;
use crate::template::Template;
use crate::yaml;

mod call;
pub(crate) mod concurrency;
pub(crate) mod condition;
mod container;
mod cron;
mod environment;
mod event;
mod fields;
mod file_name;
mod filter;
mod id;
mod input;
mod job;
mod link;
mod needs;
mod occasion;
mod pattern;
mod permission;
pub(crate) mod place;
pub(crate) mod reader;
mod spelling;
pub(crate) mod step;
mod strategy;
mod trigger;
mod workflow;

pub use call::{Call, CallSecrets, DeclaredSecret};
pub use concurrency::{Concurrency, Queue};
pub use environment::Environment;
pub(crate) use fields::Fields;
pub use file_name::{FileName, RepositoryRef};
pub use input::{Input, InputError, InputKind, resolve_inputs};
pub use link::{Finding, Linked, absent, link};
pub use occasion::Occasion;
pub use permission::{Access, Permissions};
pub use step::{CompiledStep, Reference};
pub use trigger::{Patterns, Trigger, Triggers};

pub(crate) use reader::Reader;

/// A workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow {
    /// `name`.
    pub name: Option<String>,
    /// `run-name`; evaluated with `github`, `inputs` and `vars`.
    pub run_name: Option<Template>,
    /// `on`.
    pub on: Triggers,
    /// `env`.
    pub env: Option<Template>,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `permissions`.
    pub permissions: Option<Permissions>,
    /// `concurrency`; evaluated with `github`, `inputs` and `vars`.
    pub concurrency: Option<Concurrency>,
    /// `jobs`, in the order of the file.
    pub jobs: Vec<Job>,
}

impl Workflow {
    /// The job with an id, compared without case.
    #[must_use]
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.eq_ignore_ascii_case(id))
    }
}

/// `defaults.run`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// `shell`.
    pub shell: Option<Template>,
    /// `working-directory`.
    pub working_directory: Option<Template>,
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its key under `jobs`.
    pub id: String,
    /// Where the key stands.
    pub span: Span,
    /// `name`.
    pub name: Option<Template>,
    /// `needs`, spelled as under `jobs`, each once.
    pub needs: Vec<String>,
    /// `if` as expression text; never empty.
    pub condition: String,
    /// `strategy`, unevaluated.
    pub strategy: Option<Template>,
    /// The workflow it calls; then it has neither `runs-on` nor `steps`.
    pub call: Option<Call>,
    /// `runs-on`, unevaluated.
    pub runs_on: Template,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Template>,
    /// `cancel-timeout-minutes`.
    pub cancel_timeout_minutes: Option<Template>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// `environment`.
    pub environment: Option<Environment>,
    /// `permissions`; replaces the workflow's.
    pub permissions: Option<Permissions>,
    /// `env`.
    pub env: Option<Template>,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `outputs`, a mapping.
    pub outputs: Option<Template>,
    /// `container`: text or a mapping, unevaluated.
    pub container: Option<Template>,
    /// `services`: a mapping by name, unevaluated.
    pub services: Option<Template>,
    /// `steps`; never empty unless it calls a workflow.
    pub steps: Arc<[CompiledStep]>,
}

/// Reads a workflow file.
///
/// The workflow is absent when any finding is an error; warnings alone leave it usable. Findings are sorted by place
/// and capped at 100, the last one saying how many are left out.
#[must_use]
pub fn parse(source: &str) -> (Option<Workflow>, Vec<Diagnostic>) {
    let (node, findings) = yaml::parse(source);
    let mut reader = Reader::new(source, findings);
    let workflow = node.and_then(|node| workflow::read(&mut reader, &node));
    let findings = diagnostic::finish(reader.findings);
    let usable = !findings.iter().any(Diagnostic::is_error);
    (workflow.filter(|_| usable), findings)
}
