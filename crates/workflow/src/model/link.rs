//! A workflow and all that it calls, directly and indirectly.
//!
//! Reading files is the caller's business: [`link`] says which ones it lacks, and is called again with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::call::{self, Call, CallSecrets, Given};
use super::permission::Permissions;
use super::{FileName, Job, Trigger, Workflow, parse, spelling};
use crate::diagnostic::{self, Diagnostic};
use crate::expression::Value;
use crate::span::Span;
use crate::yaml::Literal;

/// Most files in a chain of calls, the first one included (GitHub's limit).
const MAX_LEVELS: usize = 10;
/// Most jobs of a workflow and all that it calls, before matrices are expanded.
const MAX_JOBS: usize = 1000;
/// Most files that one run may call (GitHub's limit).
const MAX_FILES: usize = 50;

/// A finding, and the file in which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: FileName,
    /// What is wrong with it.
    pub diagnostic: Diagnostic,
}

/// What became of a workflow and its calls.
#[derive(Clone, Debug, Default)]
pub struct Linked {
    /// The workflow; absent when any finding is an error. Its calls of files that are missing are not linked.
    pub workflow: Option<Workflow>,
    /// Findings in all files.
    pub findings: Vec<Finding>,
    /// Files that are called and were not given, with the place of the first call.
    pub missing: BTreeMap<FileName, (FileName, Span)>,
}

/// Reads a workflow file, and with it the files that it calls, as far as they are in `files`.
///
/// Checks of every call what can be checked before anything runs: the file can be called; inputs and secrets are those
/// that it declares; it asks for no permission that its caller lacks; no file calls itself; there are at most 10 levels
/// and 50 files.
#[must_use]
pub fn link(source: &str, name: &FileName, files: &BTreeMap<FileName, String>) -> Linked {
    let mut linker = Linker { files, read: HashMap::new(), linked: Linked::default() };
    let workflow = linker.file(name, source, &mut vec![name.clone()]);
    if let Some(workflow) = &workflow
        && linker.size(workflow, name)
    {
        linker.permissions(workflow, name, None);
    }
    let mut linked = linker.linked;
    linked.findings = sorted(linked.findings);
    let usable = !linked.findings.iter().any(|finding| finding.diagnostic.is_error());
    linked.workflow = workflow.filter(|_| usable);
    linked
}

/// What [`link`] does not find: a call of a file that nobody has.
#[must_use]
pub fn absent(file: &FileName, called_from: &FileName, span: Span, why: &str) -> Finding {
    let message = format!("the workflow `{file}` cannot be had: {why}");
    let remedy = match &file.repository {
        None => "correct the path, which begins at the root of the repository, or add the file",
        Some(_) => {
            "correct the name and the ref, or give the service a place that has it: --actions-dir, --actions-mirror"
        }
    };
    Finding { file: called_from.clone(), diagnostic: Diagnostic::error("uses", span, message).remedy(remedy) }
}

struct Linker<'a> {
    files: &'a BTreeMap<FileName, String>,
    /// Files read so far; none for those with mistakes.
    read: HashMap<FileName, Option<Arc<Workflow>>>,
    linked: Linked,
}

impl Linker<'_> {
    fn report(&mut self, file: &FileName, diagnostic: Diagnostic) {
        self.linked.findings.push(Finding { file: file.clone(), diagnostic });
    }

    fn file(&mut self, name: &FileName, source: &str, chain: &mut Vec<FileName>) -> Option<Workflow> {
        let (workflow, findings) = parse(source);
        for finding in findings {
            self.report(name, finding);
        }
        let mut workflow = workflow?;
        for job in &mut workflow.jobs {
            let Some(call) = &mut job.call else { continue };
            call.file = call.file.seen_from(name);
            call.workflow = self.called(call, name, chain);
            if let Some(called) = call.workflow.clone() {
                self.agreement(call, &called, name);
            }
        }
        Some(workflow)
    }

    fn called(&mut self, call: &Call, caller: &FileName, chain: &mut Vec<FileName>) -> Option<Arc<Workflow>> {
        let file = &call.file;
        if let Some(start) = chain.iter().position(|known| known == file) {
            let names: Vec<String> = chain[start..].iter().chain([file]).map(|name| format!("`{name}`")).collect();
            let message = format!("a workflow cannot call itself: {}", names.join(" calls "));
            self.report(caller, Diagnostic::error("uses", call.span, message).remedy("remove one of the calls"));
            return None;
        }
        if chain.len() >= MAX_LEVELS {
            let message = format!("workflows call each other more than {MAX_LEVELS} levels deep");
            self.report(caller, Diagnostic::error("uses", call.span, message).remedy("call fewer levels"));
            return None;
        }
        if let Some(read) = self.read.get(file) {
            return read.clone();
        }
        let files = self.files;
        let Some(source) = files.get(file) else {
            self.linked.missing.entry(file.clone()).or_insert_with(|| (caller.clone(), call.span));
            return None;
        };
        if self.read.len() >= MAX_FILES {
            let message = format!("the workflow calls more than {MAX_FILES} files");
            self.report(caller, Diagnostic::error("uses", call.span, message).remedy("join some of the files"));
            return None;
        }
        chain.push(file.clone());
        let workflow = self.file(file, source, chain).map(Arc::new);
        chain.pop();
        // A file that calls one of this chain is judged anew from elsewhere: the cycle is reported where it is closed.
        self.read.insert(file.clone(), workflow.clone());
        workflow
    }

    /// Checks a call against what the file that is called declares.
    fn agreement(&mut self, call: &Call, called: &Workflow, caller: &FileName) {
        let Some(trigger) = called.on.get("workflow_call") else {
            let message = format!("`{}` is not made to be called", call.file);
            let remedy = "add `workflow_call:` under its `on`";
            self.report(caller, Diagnostic::error("uses", call.span, message).remedy(remedy));
            return;
        };
        self.inputs(call, trigger, caller);
        self.secrets(call, trigger, caller);
    }

    fn inputs(&mut self, call: &Call, trigger: &Trigger, caller: &FileName) {
        for given in &call.given {
            let Some(input) = trigger.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(&given.name)) else {
                let known = trigger.inputs.iter().map(|input| input.name.as_str());
                self.unknown("input", given, &call.file, known, caller);
                continue;
            };
            let value = match given.literal {
                Some(Literal::Bool(value)) => Value::Bool(value),
                Some(Literal::Number(value)) => Value::Number(value),
                Some(Literal::String) => Value::string(""),
                Some(Literal::Null) | None => continue,
            };
            if let Err(reason) = input.accept(&value) {
                let message = format!("the input `{}` of `{}` cannot be this: {reason}", input.name, call.file);
                self.report(caller, Diagnostic::error("value", given.value, message));
            }
        }
        if call::is_open(call.with.as_ref()) {
            return;
        }
        let lacks = |name: &str| !call.given.iter().any(|given| given.name.eq_ignore_ascii_case(name));
        for input in trigger.inputs.iter().filter(|input| input.required && input.default.is_none()) {
            if lacks(&input.name) {
                let message = format!("the call of `{}` lacks the input `{}`", call.file, input.name);
                let remedy = format!("add `{}: …` under `with`", input.name);
                self.report(caller, Diagnostic::error("missing-key", call.span, message).remedy(remedy));
            }
        }
    }

    fn secrets(&mut self, call: &Call, trigger: &Trigger, caller: &FileName) {
        if call.secrets == CallSecrets::Inherit {
            return;
        }
        for given in &call.given_secrets {
            if !trigger.secrets.iter().any(|secret| secret.name.eq_ignore_ascii_case(&given.name)) {
                let known = trigger.secrets.iter().map(|secret| secret.name.as_str());
                self.unknown("secret", given, &call.file, known, caller);
            }
        }
        if matches!(&call.secrets, CallSecrets::Mapping(template) if call::is_open(Some(template))) {
            return;
        }
        for secret in trigger.secrets.iter().filter(|secret| secret.required) {
            if !call.given_secrets.iter().any(|given| given.name.eq_ignore_ascii_case(&secret.name)) {
                let message = format!("the call of `{}` lacks the secret `{}`", call.file, secret.name);
                let remedy =
                    format!("add `{0}: ${{{{ secrets.{0} }}}}` under `secrets`, or `secrets: inherit`", secret.name);
                self.report(caller, Diagnostic::error("missing-key", call.span, message).remedy(remedy));
            }
        }
    }

    fn unknown<'n>(
        &mut self,
        what: &str,
        given: &Given,
        file: &FileName,
        known: impl Iterator<Item = &'n str> + Clone,
        caller: &FileName,
    ) {
        let message = format!("`{file}` has no {what} `{}`", given.name);
        let remedy = spelling::remedy(&given.name, known, &format!("{what}s"));
        self.report(caller, Diagnostic::error("unknown-key", given.key, message).remedy(remedy));
    }

    /// Checks how large the workflow is with all that it calls. What is too large must not even be walked.
    fn size(&mut self, workflow: &Workflow, name: &FileName) -> bool {
        let size = extent(workflow, &mut HashMap::new());
        let first = workflow.jobs.iter().find_map(|job| job.call.as_ref());
        let (Some(call), true) = (first, size.jobs > MAX_JOBS || size.levels > MAX_LEVELS) else { return true };
        let message = if size.levels > MAX_LEVELS {
            format!("workflows call each other more than {MAX_LEVELS} levels deep")
        } else {
            format!("the workflow has {} jobs with those that it calls; the limit is {MAX_JOBS}", size.jobs)
        };
        self.report(name, Diagnostic::error("uses", call.span, message).remedy("call fewer workflows"));
        false
    }

    /// Checks that no job that is called asks for more than its caller may: `most`, where that is said.
    fn permissions(&mut self, workflow: &Workflow, name: &FileName, most: Option<&Permissions>) {
        for job in &workflow.jobs {
            let own = job.permissions.as_ref().or(workflow.permissions.as_ref());
            let Some(Call { file, span, workflow: Some(called), .. }) = &job.call else { continue };
            let allowed = own.or(most);
            if let Some(allowed) = allowed {
                for (nested, scope) in excess(called, allowed) {
                    let message = format!(
                        "the job `{}` of `{file}` asks for the permission `{scope}: {}`, and its caller has `{}`",
                        nested.id,
                        asked(called, nested).of(scope).as_str(),
                        allowed.of(scope).as_str()
                    );
                    let remedy = format!("give the job `{}` that permission, or take it from `{file}`", job.id);
                    self.report(name, Diagnostic::error("permissions", *span, message).remedy(remedy));
                }
            }
            let (file, called) = (file.clone(), Arc::clone(called));
            self.permissions(&called, &file, allowed);
        }
    }
}

/// How large a workflow is with all that it calls.
#[derive(Clone, Copy)]
struct Extent {
    jobs: usize,
    levels: usize,
}

fn extent(workflow: &Workflow, known: &mut HashMap<*const Workflow, Extent>) -> Extent {
    let mut size = Extent { jobs: workflow.jobs.len(), levels: 1 };
    for called in workflow.jobs.iter().filter_map(|job| job.call.as_ref()?.workflow.as_ref()) {
        let within = match known.get(&Arc::as_ptr(called)) {
            Some(within) => *within,
            None => {
                let within = extent(called, known);
                known.insert(Arc::as_ptr(called), within);
                within
            }
        };
        size.jobs = size.jobs.saturating_add(within.jobs);
        size.levels = size.levels.max(within.levels + 1);
    }
    size
}

fn asked(workflow: &Workflow, job: &Job) -> Permissions {
    job.permissions.as_ref().or(workflow.permissions.as_ref()).cloned().unwrap_or(Permissions::Scopes(Vec::new()))
}

/// The jobs that ask for more than is allowed, and of which scope, the first for each.
fn excess<'w>(workflow: &'w Workflow, allowed: &Permissions) -> Vec<(&'w Job, &'static str)> {
    let mut found = Vec::new();
    for job in &workflow.jobs {
        let asked = asked(workflow, job);
        let too_much = Permissions::scopes().find(|scope| asked.of(scope) > allowed.of(scope));
        found.extend(too_much.map(|scope| (job, scope)));
    }
    found
}

/// Findings file by file, each file's as [`diagnostic::finish`] leaves them.
fn sorted(findings: Vec<Finding>) -> Vec<Finding> {
    let mut order: Vec<FileName> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut by_file: HashMap<FileName, Vec<Diagnostic>> = HashMap::new();
    for Finding { file, diagnostic } in findings {
        if seen.insert(file.clone()) {
            order.push(file.clone());
        }
        by_file.entry(file).or_default().push(diagnostic);
    }
    let finished = |file: FileName| {
        let diagnostics = diagnostic::finish(by_file.remove(&file).unwrap_or_default());
        diagnostics.into_iter().map(move |diagnostic| Finding { file: file.clone(), diagnostic })
    };
    order.into_iter().flat_map(finished).collect()
}
