//! Composite actions: steps inside a step.

use std::sync::Arc;

use startline_protocol::state::Conclusion;
use startline_workflow::action::Manifest;

use super::Job;
use super::action::Loaded;
use super::script::texts;
use super::step::{Action, Frame, Left, Ran, Stage, Step};
use crate::environment::Environment;

impl Job {
    pub(super) async fn composite(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        overrides: Environment,
        loaded: Arc<Loaded>,
        inputs: &[(String, String)],
    ) -> Left {
        let mut steps = loaded.nested();
        let action = Action {
            inputs: texts(inputs),
            loaded: Arc::clone(&loaded),
            status: Conclusion::Success,
            depth: frame.depth() + 1,
        };
        let mut inner = Frame::of_action(frame, step, overrides, action);
        match frame.stage {
            Stage::Main => {}
            Stage::Pre => steps.retain(|step| self.actions.has_pre(&step.uses)),
            Stage::Post => {
                steps.retain(|step| self.actions.has_post(&inner.use_of(step)));
                steps.reverse();
            }
        }
        let mut ran = Ran::Success;
        for step in &steps {
            let (_, conclusion) = self.run_step(&mut inner, step).await;
            if self.is_abandoned() {
                return Left { ran: Ran::Cancelled, outputs: Vec::new() };
            }
            if inner.deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now()) {
                return Left { ran: Ran::TimedOut, outputs: Vec::new() };
            }
            let failed = match conclusion {
                Conclusion::Failure => Ran::Failure,
                Conclusion::Cancelled => Ran::Cancelled,
                Conclusion::Success | Conclusion::Skipped => continue,
            };
            if ran != Ran::Cancelled {
                ran = failed;
            }
            if let Some(action) = &mut inner.action {
                action.status = if ran == Ran::Cancelled { Conclusion::Cancelled } else { Conclusion::Failure };
            }
        }
        if frame.stage != Stage::Main {
            return Left { ran, outputs: Vec::new() };
        }
        match self.action_outputs(&inner, environment, &loaded.manifest) {
            Ok(outputs) => Left { ran, outputs },
            Err(error) => {
                self.error(frame.record, &error);
                Left::failed()
            }
        }
    }

    fn action_outputs(
        &self,
        inner: &Frame,
        environment: &Environment,
        manifest: &Manifest,
    ) -> Result<Vec<(String, String)>, String> {
        let view = self.view(inner, environment, None);
        let texts = manifest.outputs.iter().map(|output| {
            let text = view.text(&format!("output `{}` of the action", output.name), &output.value)?;
            Ok((output.name.clone(), text))
        });
        texts.collect()
    }
}
