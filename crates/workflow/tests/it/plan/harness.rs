//! A run that is played by hand: decisions are applied as their documentation says.

use std::collections::BTreeMap;

use serde_json::json;
use startline_workflow::Workflow;
use startline_workflow::expression::Value;
use startline_workflow::model::{FileName, link};
use startline_workflow::plan::{
    ClaimState, Conclusion, Decision, Instance, InstanceState, JobInstance, RunContext, advance, awaited, conclusion,
    pending,
};

pub(crate) struct Run {
    pub(crate) workflow: Workflow,
    pub(crate) context: RunContext,
    pub(crate) instances: Vec<Instance>,
    clock: u64,
}

impl Run {
    pub(crate) fn new(source: &str) -> Self {
        Self::calling(source, &[])
    }

    /// A run of a workflow that calls these files.
    pub(crate) fn calling(source: &str, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| (FileName::local(*path), (*text).to_owned())).collect();
        let linked = link(source, &FileName::local("ci.yml"), &files);
        assert!(linked.missing.is_empty(), "{:?}", linked.missing);
        let workflow = linked.workflow.unwrap_or_else(|| panic!("{:#?}", linked.findings));
        let context = RunContext {
            github: Value::from_json(&json!({"ref": "refs/heads/main", "actor": "mona"})),
            inputs: Value::from_json(&json!({})),
            vars: Value::from_json(&json!({})),
            ..RunContext::default()
        };
        Self { workflow, context, instances: Vec::new(), clock: 0 }
    }

    /// The decisions, not applied.
    pub(crate) fn decide(&self) -> Vec<Decision> {
        advance(&self.workflow, &self.context, &self.instances)
    }

    /// How many jobs end before anything follows, if all succeed.
    pub(crate) fn awaited(&self) -> Option<usize> {
        awaited(&self.workflow, &self.context, &self.instances)
    }

    /// Decides, applies, and says what was decided, one line each.
    pub(crate) fn advance(&mut self) -> Vec<String> {
        let decisions = self.decide();
        let lines = decisions.iter().map(line).collect();
        for decision in decisions {
            self.apply(decision);
        }
        lines
    }

    /// Decides, applies, and gives the instances of a job that must have been expanded.
    pub(crate) fn expanded(&mut self, wanted: &str) -> Vec<JobInstance> {
        let decisions = self.decide();
        let found = decisions.iter().find_map(|decision| match decision {
            Decision::Expand { key, jobs } if key == wanted => Some(jobs.clone()),
            _ => None,
        });
        let found = found.unwrap_or_else(|| panic!("{wanted} is not expanded: {decisions:?}"));
        for decision in decisions {
            self.apply(decision);
        }
        found
    }

    pub(crate) fn apply(&mut self, decision: Decision) {
        match decision {
            Decision::Skip { key, .. } => self.add(&key, 0, InstanceState::Done(Conclusion::Skipped), false),
            Decision::Fail { key, .. } => self.add(&key, 0, InstanceState::Done(Conclusion::Failure), false),
            Decision::Drop { key, index, .. } => {
                self.add(&key, index, InstanceState::Done(Conclusion::Cancelled), false);
            }
            Decision::Expand { key, jobs } => {
                assert!(!jobs.is_empty());
                for job in jobs {
                    assert_eq!(job.key, key);
                    let state = if job.held { InstanceState::Waiting } else { InstanceState::Active };
                    self.add(&key, job.index, state, job.continue_on_error);
                }
            }
            Decision::Claim { place, claim } => {
                assert!(!claim.group.is_empty());
                assert_eq!(self.context.claims.insert(place, ClaimState::Waiting), None, "claimed twice");
            }
            Decision::Leave { place } => assert!(self.context.claims.remove(&place).is_some(), "{place} left twice"),
            Decision::Release { key, index } => {
                let instance = self.instance(&key, index);
                assert_eq!(instance.state, InstanceState::Waiting);
                instance.state = InstanceState::Active;
            }
            Decision::Cancel { key, index, .. } => {
                let instance = self.instance(&key, index);
                instance.state = match instance.state {
                    InstanceState::Waiting => InstanceState::Done(Conclusion::Cancelled),
                    InstanceState::Active => InstanceState::Cancelling,
                    other => panic!("{key} {index} cannot be cancelled: {other:?}"),
                };
            }
        }
    }

    fn add(&mut self, key: &str, index: u32, state: InstanceState, continue_on_error: bool) {
        assert!(!self.instances.iter().any(|known| known.key == key && known.index == index), "{key} {index} twice");
        self.instances.push(Instance {
            key: key.to_owned(),
            index,
            state,
            continue_on_error,
            outputs: BTreeMap::new(),
            finished: 0,
        });
    }

    fn instance(&mut self, key: &str, index: u32) -> &mut Instance {
        let found = self.instances.iter_mut().find(|known| known.key == key && known.index == index);
        found.unwrap_or_else(|| panic!("no instance {key} {index}"))
    }

    pub(crate) fn finish(&mut self, key: &str, index: u32, conclusion: Conclusion) {
        self.finish_with(key, index, conclusion, &[]);
    }

    pub(crate) fn finish_with(&mut self, key: &str, index: u32, conclusion: Conclusion, outputs: &[(&str, &str)]) {
        self.clock += 1;
        let finished = self.clock;
        let instance = self.instance(key, index);
        assert!(
            matches!(instance.state, InstanceState::Active | InstanceState::Cancelling),
            "{key} {index} is not running"
        );
        instance.state = InstanceState::Done(conclusion);
        instance.finished = finished;
        instance.outputs = outputs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    }

    /// Says how a claim stands from now on.
    pub(crate) fn settle(&mut self, place: &str, state: ClaimState) {
        let known = self.context.claims.get_mut(place).unwrap_or_else(|| panic!("no claim {place}"));
        *known = state;
    }

    pub(crate) fn pending(&self) -> Vec<String> {
        pending(&self.workflow, &self.context, &self.instances)
    }

    pub(crate) fn conclusion(&self) -> Option<Conclusion> {
        conclusion(&self.workflow, &self.context, &self.instances)
    }
}

fn line(decision: &Decision) -> String {
    match decision {
        Decision::Skip { key, reason, .. } => format!("skip {key}: {reason}"),
        Decision::Fail { key, message, .. } => format!("fail {key}: {message}"),
        Decision::Expand { key, jobs } => format!("expand {key} {}", jobs.len()),
        Decision::Drop { key, index, reason, .. } => format!("drop {key} {index}: {reason}"),
        Decision::Claim { place, claim } => format!("claim {place} {}", claim.group),
        Decision::Leave { place } => format!("leave {place}"),
        Decision::Release { key, index } => format!("release {key} {index}"),
        Decision::Cancel { key, index, reason } => format!("cancel {key} {index}: {reason}"),
    }
}
