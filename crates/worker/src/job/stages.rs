//! What actions run before and after the steps of a job.
//!
//! An action whose `pre` or `main` begins registers its `post`; those run in the reverse order, each once for a use
//! (actions/runner `ExecutionContext.RegisterPostJobStep`). What composite actions use runs within the record of the
//! job's own step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use startline_protocol::actions::launch::ActionReference;
use startline_workflow::action::Runs;

use super::Job;
use super::action::{Loaded, MAX_DEPTH, Remote};
use super::ahead::Post;
use super::node::Node;
use super::step::{Frame, Stage, Step, Uses};
use crate::environment::Environment;

/// What is known of the actions of a job.
#[derive(Debug, Default)]
pub(super) struct Actions {
    /// Those of other repositories, by what steps name.
    pub(super) remotes: BTreeMap<Remote, Arc<Loaded>>,
    /// Those of the workspace, by their use.
    pub(super) locals: BTreeMap<Vec<usize>, Arc<Loaded>>,
    /// What was unpacked.
    pub(super) fetched: BTreeSet<ActionReference>,
    /// Those that cannot be had and that the worker does itself.
    pub(super) refused: BTreeSet<Remote>,
    /// Checkouts of the worker's own whose credentials are to be taken away.
    pub(super) checkouts: BTreeMap<Vec<usize>, PathBuf>,
    /// What each use has saved for its other stages.
    states: BTreeMap<Vec<usize>, Environment>,
    /// What runs JavaScript, once it was looked for.
    pub(super) node: Option<Node>,
    /// The same for the job's container.
    pub(super) node_inside: Option<Node>,
    /// Uses whose `post` is to run.
    registered: BTreeSet<Vec<usize>>,
    /// What runs after the steps, in the order in which it was registered; the job's own steps each once.
    pub(super) order: Vec<Post>,
    /// How many records there are before the first step's.
    pub(super) ahead: usize,
}

impl Actions {
    pub(super) fn loaded(&self, remote: &Remote) -> Option<Arc<Loaded>> {
        self.remotes.get(remote).cloned()
    }

    /// Whether something of the action runs before the job's steps. Of those in the workspace nothing does.
    pub(super) fn has_pre(&self, uses: &Uses) -> bool {
        self.has_pre_within(uses, MAX_DEPTH)
    }

    fn has_pre_within(&self, uses: &Uses, depth: usize) -> bool {
        let Uses::Remote(remote) = uses else { return false };
        let Some(loaded) = self.remotes.get(remote).filter(|_| depth > 0) else { return false };
        match &loaded.manifest.runs {
            Runs::Node(node) => node.pre.is_some(),
            Runs::Docker(docker) => docker.pre.is_some(),
            Runs::Composite { .. } => loaded.nested().iter().any(|step| self.has_pre_within(&step.uses, depth - 1)),
        }
    }

    /// What the process of an action gets beside what every step has: what its use has saved, and its inputs (actions/runner
    /// `Runner.Worker/Handlers/NodeScriptActionHandler.cs` and `ContainerActionHandler.cs`, in their order).
    pub(super) fn own_environment(
        &self,
        environment: &Environment,
        used: &[usize],
        inputs: &[(String, String)],
    ) -> Environment {
        let mut own = environment.clone();
        if let Some(state) = self.states.get(used) {
            own.extend(state.iter());
        }
        for (name, value) in inputs {
            own.set(format!("INPUT_{}", name.replace(' ', "_").to_uppercase()), value.as_str());
        }
        own
    }

    /// Keeps what a use saved for its later stages.
    pub(super) fn keep_state(&mut self, used: Vec<usize>, saved: Vec<(String, String)>) {
        let state = self.states.entry(used).or_default();
        for (name, value) in saved {
            state.set(format!("STATE_{name}"), value);
        }
    }

    /// Whether something of the use, or of what is used inside, runs after the job's steps.
    pub(super) fn has_post(&self, of: &[usize]) -> bool {
        self.registered.iter().any(|known| known.starts_with(of))
    }
}

impl Job {
    /// The record of one of the job's own steps.
    pub(super) fn record_of(&self, index: usize) -> usize {
        1 + self.actions.ahead + index
    }

    /// Notes that the `post` of an action is to run.
    pub(super) fn register_post(&mut self, frame: &Frame, step: &Step) {
        let of = frame.use_of(step);
        let top = of.first().copied().unwrap_or_default();
        if self.actions.registered.insert(of) && !self.actions.order.contains(&Post::Step(top)) {
            let name = format!("Post {}", self.board.name(self.record_of(top)));
            self.register(Post::Step(top), name);
        }
    }

    /// When what an action runs before or after the steps is to run.
    pub(super) fn stage_condition(&self, frame: &Frame, step: &Step, stage: Stage) -> String {
        let loaded = match &step.uses {
            Uses::Remote(remote) => self.actions.remotes.get(remote),
            _ => self.actions.locals.get(&frame.use_of(step)),
        };
        match loaded.map(|loaded| &loaded.manifest.runs) {
            Some(Runs::Node(node)) if stage == Stage::Pre => node.pre_if.clone(),
            Some(Runs::Node(node)) => node.post_if.clone(),
            Some(Runs::Docker(docker)) if stage == Stage::Pre => docker.pre_if.clone(),
            Some(Runs::Docker(docker)) => docker.post_if.clone(),
            _ => "always()".to_owned(),
        }
    }
}
