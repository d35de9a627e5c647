//! What has become of each job so far.

use std::collections::{HashMap, HashSet};

use super::{Conclusion, Instance, InstanceState};
use crate::expression::Value;
use crate::model::{Job, Workflow};
use crate::template::Kind;

/// The instances of a run by job, as the decisions made so far in this call leave them.
pub(super) struct Status<'a> {
    workflow: &'a Workflow,
    by_id: HashMap<&'a str, &'a Job>,
    jobs: HashMap<String, Vec<Instance>>,
}

impl<'a> Status<'a> {
    pub(super) fn new(workflow: &'a Workflow, instances: &[Instance]) -> Self {
        let mut jobs: HashMap<String, Vec<Instance>> = HashMap::new();
        for instance in instances {
            jobs.entry(fold(&instance.key)).or_default().push(instance.clone());
        }
        for instances in jobs.values_mut() {
            instances.sort_by_key(|instance| instance.index);
        }
        let by_id = workflow.jobs.iter().map(|job| (job.id.as_str(), job)).collect();
        Self { workflow, by_id, jobs }
    }

    pub(super) fn workflow(&self) -> &'a Workflow {
        self.workflow
    }

    /// The instances of a job in order; empty before it is decided.
    pub(super) fn instances(&self, key: &str) -> &[Instance] {
        self.jobs.get(&fold(key)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Records that a job has ended without starting.
    pub(super) fn conclude(&mut self, key: &str, conclusion: Conclusion) {
        let instance = Instance::new(key, 0, InstanceState::Done(conclusion));
        self.jobs.insert(fold(key), vec![instance]);
    }

    /// Adds what stands for calls of a job.
    pub(super) fn add(&mut self, instances: Vec<Instance>) {
        for instance in instances {
            self.jobs.entry(fold(&instance.key)).or_default().push(instance);
        }
    }

    /// Puts what stands for the calls of a job in place of what was known of it.
    pub(super) fn replace(&mut self, key: &str, instances: Vec<Instance>) {
        self.jobs.insert(fold(key), instances);
    }

    /// Records what has become of an instance.
    pub(super) fn set(&mut self, key: &str, index: u32, state: InstanceState) {
        let instances = self.jobs.get_mut(&fold(key)).map(Vec::as_mut_slice).unwrap_or_default();
        if let Some(instance) = instances.iter_mut().find(|instance| instance.index == index) {
            instance.state = state;
        }
    }

    /// How a job ended, once all its instances have: failure before cancelled before success. A failure that may be
    /// ignored counts as success.
    pub(super) fn result(&self, key: &str) -> Option<Conclusion> {
        let instances = self.instances(key);
        if instances.is_empty() {
            return None;
        }
        let rank = |conclusion: Conclusion| match conclusion {
            Conclusion::Skipped => 0,
            Conclusion::Success => 1,
            Conclusion::Cancelled => 2,
            Conclusion::Failure => 3,
        };
        let mut worst = Conclusion::Skipped;
        for instance in instances {
            let InstanceState::Done(conclusion) = instance.state else { return None };
            let counted = match conclusion {
                Conclusion::Failure if instance.continue_on_error => Conclusion::Success,
                other => other,
            };
            if rank(counted) > rank(worst) {
                worst = counted;
            }
        }
        Some(worst)
    }

    /// True if all jobs that a job needs have ended.
    pub(super) fn ready(&self, job: &Job) -> bool {
        job.needs.iter().all(|need| self.result(need).is_some())
    }

    /// What a job needs, transitively, each once.
    pub(super) fn ancestors(&self, job: &'a Job) -> Vec<&'a Job> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut found = Vec::new();
        let mut open: Vec<&Job> = vec![job];
        while let Some(job) = open.pop() {
            for need in job.needs.iter().filter_map(|need| self.by_id.get(need.as_str()).copied()) {
                if seen.insert(&need.id) {
                    found.push(need);
                    open.push(need);
                }
            }
        }
        found
    }

    /// The `needs` context of a job: result and outputs of its direct needs.
    pub(super) fn needs(&self, job: &Job) -> Value {
        Value::object(job.needs.iter().map(|need| {
            let result = self.result(need).map_or("", Conclusion::as_str);
            let value = Value::object([("result", Value::string(result)), ("outputs", self.outputs(need))]);
            (need.clone(), value)
        }))
    }

    /// The `jobs` context: result and outputs of all jobs.
    pub(super) fn all(&self) -> Value {
        Value::object(self.workflow.jobs.iter().map(|job| {
            let result = self.result(&job.id).map_or("", Conclusion::as_str);
            let value = Value::object([("result", Value::string(result)), ("outputs", self.outputs(&job.id))]);
            (job.id.clone(), value)
        }))
    }

    /// Declared outputs that were not set are empty; of several instances, the last one to finish wins.
    fn outputs(&self, key: &str) -> Value {
        let mut outputs = crate::expression::Object::new();
        let declared = self.by_id.get(key).and_then(|job| job.outputs.as_ref()).map(|template| &template.kind);
        if let Some(Kind::Mapping(entries)) = declared {
            for name in entries.iter().filter_map(|(name, _)| name.as_str()) {
                outputs.insert(name, Value::string(""));
            }
        }
        let mut finished: Vec<&Instance> = self.instances(key).iter().collect();
        finished.sort_by_key(|instance| (instance.finished, instance.index));
        for (name, text) in finished.into_iter().flat_map(|instance| &instance.outputs) {
            // An instance that leaves an output empty does not take away what another one set.
            if !text.is_empty() || !outputs.contains_key(name) {
                outputs.insert(name.as_str(), Value::string(text.as_str()));
            }
        }
        outputs.into()
    }
}

fn fold(key: &str) -> String {
    key.to_ascii_lowercase()
}
