//! The part of a workflow that is run.

use std::collections::{BTreeMap, HashSet};

use thiserror::Error;

use crate::expression::Value;
use crate::model::{Job, Workflow};

/// The part of a workflow that is run; all of it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only this job and, transitively, what it needs.
    pub job: Option<String>,
    /// Only combinations whose value of each of these keys is among the texts given, compared without case. A key that
    /// a job's matrix does not have does not restrict that job.
    pub matrix: BTreeMap<String, Vec<String>>,
}

/// A selection that names what is not there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no job `{job}` in the workflow; jobs are {known}")]
pub struct SelectionError {
    /// Job named.
    pub job: String,
    /// Jobs there are.
    pub known: String,
}

impl Selection {
    /// Checks that the job it names exists.
    ///
    /// # Errors
    /// If it does not; such a selection selects nothing.
    pub fn check(&self, workflow: &Workflow) -> Result<(), SelectionError> {
        let Some(job) = self.job.as_ref().filter(|job| workflow.job(job).is_none()) else { return Ok(()) };
        let known: Vec<String> = workflow.jobs.iter().map(|job| format!("`{}`", job.id)).collect();
        Err(SelectionError { job: job.clone(), known: known.join(", ") })
    }

    /// The jobs selected, in the order of the file.
    pub(super) fn jobs<'w>(&self, workflow: &'w Workflow) -> Vec<&'w Job> {
        let Some(wanted) = &self.job else { return workflow.jobs.iter().collect() };
        let mut selected: HashSet<&str> = HashSet::new();
        let mut open: Vec<&Job> = workflow.job(wanted).into_iter().collect();
        while let Some(job) = open.pop() {
            if selected.insert(&job.id) {
                open.extend(job.needs.iter().filter_map(|need| workflow.job(need)));
            }
        }
        workflow.jobs.iter().filter(|job| selected.contains(job.id.as_str())).collect()
    }

    /// Which of the combinations are selected.
    pub(super) fn combinations(&self, combinations: &[Value]) -> Vec<bool> {
        let keys = self.matrix.iter().filter(|(key, _)| combinations.iter().any(|values| values.get(key).is_some()));
        let keys: Vec<(&String, &Vec<String>)> = keys.collect();
        let selected = |values: &Value| {
            keys.iter().all(|(key, texts)| {
                let text = values.get(key).map(|value| value.to_text().to_lowercase()).unwrap_or_default();
                texts.iter().any(|wanted| wanted.to_lowercase() == text)
            })
        };
        combinations.iter().map(selected).collect()
    }
}
