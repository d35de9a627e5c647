//! What a job does before its first step and after its last one, beside what actions have for these times: hooks of the
//! runner, images of actions, containers.
//!
//! Order: actions/runner `Runner.Worker/JobExtension.cs`.

use jiff::Timestamp;
use startline_protocol::state::Conclusion;

use super::Job;
use super::hooks::Hook;
use super::images::Wanted;
use super::step::{Frame, Stage, Step};

/// Something that runs before the first step, with a record of its own.
pub(super) enum Ahead {
    Hook(Hook),
    Image(Wanted),
    Containers,
    /// What the action of this step has for this time.
    Step(usize),
}

/// Something that runs after the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Post {
    /// What the actions of this step have registered.
    Step(usize),
    Containers,
    Hook(Hook),
}

/// When something runs that is no step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Success,
    Always,
    /// Also when nothing may run any more: it takes away what the job has made.
    CleanUp,
}

impl Job {
    /// Puts records on the board for all that runs before the first step.
    pub(super) fn announce_ahead(&mut self, steps: &[Step]) -> Vec<Ahead> {
        let mut all = Vec::new();
        if self.hook(Hook::Started).is_some() {
            all.push((Hook::Started.name().to_owned(), Ahead::Hook(Hook::Started)));
        }
        for wanted in self.wanted_images(steps) {
            all.push((wanted.title(), Ahead::Image(wanted)));
        }
        if self.containers.any_wanted() {
            all.push(("Initialize containers".to_owned(), Ahead::Containers));
        }
        for (place, (name, _)) in (1..).zip(&all) {
            self.board.insert(place, name.clone());
        }
        for step in steps.iter().filter(|step| self.actions.has_pre(&step.uses)) {
            let name = format!("Pre {}", self.board.name(1 + all.len() + step.index));
            self.board.insert(1 + all.len(), name.clone());
            all.push((name, Ahead::Step(step.index)));
        }
        self.actions.ahead = all.len();
        // Registered first, so that it runs last.
        if self.hook(Hook::Completed).is_some() {
            self.register(Post::Hook(Hook::Completed), Hook::Completed.name().to_owned());
        }
        all.into_iter().map(|(_, ahead)| ahead).collect()
    }

    /// Notes what is to run after the steps, before all that was noted earlier.
    pub(super) fn register(&mut self, post: Post, name: String) {
        self.actions.order.push(post);
        let place = self.record_of(self.message.steps.len());
        self.board.insert(place, name);
    }

    pub(super) async fn run_ahead(&mut self, frame: &mut Frame, ahead: Ahead, steps: &[Step]) {
        match ahead {
            Ahead::Step(index) => {
                if let Some(step) = steps.get(index) {
                    self.run_top(frame, step).await;
                }
            }
            Ahead::Hook(hook) => {
                if self.enter(frame, When::Always) {
                    let ran = self.run_hook(frame, hook).await;
                    self.leave(frame, ran);
                }
            }
            Ahead::Image(wanted) => {
                if self.enter(frame, When::Success) {
                    let made = self.prepare_image(frame, &wanted).await;
                    self.leave(frame, made);
                }
            }
            Ahead::Containers => {
                if self.enter(frame, When::Success) {
                    let started = self.initialize_containers(frame).await;
                    self.leave(frame, started);
                }
            }
        }
    }

    /// Runs what was registered.
    pub(super) async fn run_posts(&mut self, frame: &mut Frame, steps: &[Step]) {
        frame.stage = Stage::Post;
        frame.record = self.record_of(steps.len());
        while let Some(post) = self.actions.order.pop() {
            if self.is_abandoned() {
                return;
            }
            match post {
                Post::Step(index) => {
                    if let Some(step) = steps.get(index) {
                        self.run_top(frame, step).await;
                    }
                }
                Post::Containers => {
                    if self.enter(frame, When::CleanUp) {
                        self.stop_containers(frame).await;
                        self.leave(frame, Ok(()));
                    }
                }
                Post::Hook(hook) => {
                    if self.enter(frame, When::Always) {
                        let ran = self.run_hook(frame, hook).await;
                        self.leave(frame, ran);
                    }
                }
            }
            frame.record += 1;
        }
    }

    /// Begins a record of the worker's own; false when it is skipped.
    fn enter(&mut self, frame: &Frame, when: When) -> bool {
        let record = frame.record;
        self.begin(record);
        let start = self.console.offset();
        self.observe_stop(record);
        let runs = match when {
            When::CleanUp => true,
            When::Always => !self.stop.borrow().is_final(),
            When::Success => self.status == Conclusion::Success,
        };
        if !runs {
            if self.console.offset() == start {
                self.board.end(record, Timestamp::now(), start, Conclusion::Skipped, Conclusion::Skipped);
            } else {
                self.end(record, Conclusion::Skipped, Conclusion::Skipped);
            }
        }
        runs
    }

    fn leave(&mut self, frame: &Frame, result: Result<(), String>) {
        let record = frame.record;
        let conclusion = match result {
            Ok(()) => Conclusion::Success,
            Err(_) if self.stop.borrow().is_cancelled() => {
                self.observe_stop(record);
                self.error(record, "The operation was canceled.");
                Conclusion::Cancelled
            }
            Err(error) => {
                self.error(record, &error);
                self.fail();
                Conclusion::Failure
            }
        };
        self.end(record, conclusion, conclusion);
    }
}
