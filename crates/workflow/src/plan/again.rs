//! Which jobs of a run that has ended run again when only those that failed shall.

use std::collections::BTreeSet;

use super::call::Children;
use super::{Conclusion, Instance, InstanceState};
use crate::model::Workflow;

/// Keys of the jobs that failed or were cancelled (all combinations of a matrix when one did), and of those that need
/// them. Of a workflow that was called, only those.
#[must_use]
pub fn again(workflow: &Workflow, instances: &[Instance]) -> BTreeSet<String> {
    let (own, children) = Children::part(instances);
    let failed = |instance: &&Instance| {
        matches!(instance.state, InstanceState::Done(Conclusion::Failure | Conclusion::Cancelled))
    };
    let mut keys: BTreeSet<String> = own.iter().filter(failed).map(|instance| instance.key.clone()).collect();
    // Jobs of this workflow whose result may become another one.
    let mut touched: BTreeSet<&str> =
        workflow.jobs.iter().map(|job| job.id.as_str()).filter(|id| keys.contains(*id)).collect();
    for job in &workflow.jobs {
        let Some(called) = job.call.as_ref().and_then(|call| call.workflow.as_deref()) else { continue };
        for (prefix, jobs) in children.calls(&job.id) {
            let within = again(called, jobs);
            if !within.is_empty() {
                touched.insert(&job.id);
            }
            keys.extend(within.into_iter().map(|key| format!("{prefix}.{key}")));
        }
    }
    // What needs one of them begins anew, with all that it called.
    let mut anew: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = anew.len();
        for job in &workflow.jobs {
            let needs = |id: &String| touched.contains(id.as_str()) || anew.contains(id.as_str());
            if job.needs.iter().any(needs) {
                anew.insert(&job.id);
            }
        }
        if anew.len() == before {
            break;
        }
    }
    for id in anew {
        keys.insert(id.to_owned());
        for (prefix, jobs) in children.calls(id) {
            keys.extend(jobs.iter().map(|job| format!("{prefix}.{}", job.key)));
        }
    }
    keys
}
