//! Compiled workflows, one for all active runs of the same files. A repository's runs are of a few files, and what they
//! compile to may be large: a matrix of 256 jobs takes some 25 KB.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use startline_workflow::model::Workflow;

use crate::submission::Submission;

/// So many are remembered before it is looked whose runs have all ended.
const FEW: usize = 64;

/// The workflows of active runs, by a hash of their files.
#[derive(Debug, Default)]
pub(crate) struct Workflows {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<[u8; 32], Weak<Workflow>>,
    /// How many there may be before the next look.
    enough: usize,
}

impl Workflows {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the submission's files compile to: what an active run of the same files has, or what `compile` makes.
    pub(crate) fn compiled<E>(
        &self,
        submission: &Submission,
        compile: impl FnOnce(&str, &str, &BTreeMap<String, String>) -> Result<Workflow, E>,
    ) -> Result<Arc<Workflow>, E> {
        let Submission { workflow, path, files, .. } = submission;
        // Texts and maps of texts can be written; if they could not, equal ones would still be told from others.
        let hash = startline_crypto::sha256(&serde_json::to_vec(&(workflow, path, files)).unwrap_or_default());
        if let Some(known) = self.lock().known.get(&hash).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let compiled = Arc::new(compile(workflow, path, files)?);
        let mut inner = self.lock();
        if inner.known.len() >= inner.enough.max(FEW) {
            inner.known.retain(|_, workflow| workflow.strong_count() > 0);
            inner.enough = 2 * inner.known.len();
        }
        inner.known.insert(hash, Arc::downgrade(&compiled));
        Ok(compiled)
    }

    /// The same for what is compiled already.
    pub(crate) fn shared(&self, submission: &Submission, workflow: Workflow) -> Arc<Workflow> {
        // Each of these is of one run.
        if submission.single {
            return Arc::new(workflow);
        }
        let Ok(workflow) = self.compiled(submission, |_, _, _| Ok::<_, Infallible>(workflow));
        workflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission;

    fn submission(name: &str, path: &str) -> Submission {
        let workflow =
            format!("name: {name}\non: push\njobs:\n  build:\n    runs-on: linux\n    steps:\n      - run: 'true'\n");
        let text = serde_json::json!({
            "workflow": workflow, "path": path, "repository": "a/b", "event_name": "push", "event": {}, "git_ref": "",
            "sha": "", "actor": "", "inputs": {}, "variables": {}, "env": {}, "job": null, "matrix": {},
        });
        serde_json::from_value(text).unwrap()
    }

    fn compiled(workflows: &Workflows, name: &str, path: &str) -> Arc<Workflow> {
        let submission = submission(name, path);
        workflows.compiled(&submission, submission::compile).unwrap_or_else(|_| panic!("it compiles"))
    }

    #[test]
    fn runs_of_the_same_files_share_what_they_compile_to() {
        let workflows = Workflows::default();
        let first = compiled(&workflows, "a", "ci.yml");
        assert!(Arc::ptr_eq(&first, &compiled(&workflows, "a", "ci.yml")));
        assert!(!Arc::ptr_eq(&first, &compiled(&workflows, "b", "ci.yml")));
        // Diagnostics and contexts name the path.
        assert!(!Arc::ptr_eq(&first, &compiled(&workflows, "a", "other.yml")));
        let again = submission("a", "ci.yml");
        let workflow = submission::compile(&again.workflow, &again.path, &again.files).unwrap_or_else(|_| panic!());
        assert!(Arc::ptr_eq(&first, &workflows.shared(&again, workflow)));
    }

    #[test]
    fn a_workflow_whose_runs_have_ended_is_forgotten() {
        let workflows = Workflows::default();
        let kept = compiled(&workflows, "kept", "ci.yml");
        for number in 0..10 * FEW {
            compiled(&workflows, &format!("w{number}"), "ci.yml");
            assert!(workflows.lock().known.len() <= FEW + 1);
        }
        assert!(Arc::ptr_eq(&kept, &compiled(&workflows, "kept", "ci.yml")));
    }
}
