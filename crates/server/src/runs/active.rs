//! Runs that have no conclusion yet, and which of them are to be looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use startline_protocol::ids::RunId;
use startline_workflow::model::Workflow;

use crate::submission::Submission;

/// Runs that have no conclusion yet.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    active: Mutex<HashMap<RunId, Active>>,
}

#[derive(Debug)]
struct Active {
    compiled: Arc<Compiled>,
    /// A pass is under way.
    busy: bool,
    /// Something changed since the pass under way read the state.
    dirty: bool,
    /// Jobs that succeeded since the last pass began.
    succeeded: usize,
    /// How many it takes until something follows, as the last pass found; `None` when that is not known.
    awaited: Option<usize>,
}

impl Active {
    /// Whether something may follow of the jobs that succeeded. Some of them may have been seen by the pass itself: then the
    /// next one comes early, and never too late.
    fn is_due(&self) -> bool {
        self.succeeded > 0 && self.awaited.is_none_or(|awaited| self.succeeded >= awaited)
    }
}

/// A run's workflow and submission, kept while it is active.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// One for all runs of the same files.
    pub workflow: Arc<Workflow>,
    pub submission: Submission,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, run: RunId, deed: impl FnOnce(&mut Active) -> T) -> Option<T> {
        self.lock().get_mut(&run).map(deed)
    }

    pub(crate) fn begin(&self, run: RunId, compiled: Arc<Compiled>) {
        let active = Active { compiled, busy: false, dirty: false, succeeded: 0, awaited: None };
        self.lock().insert(run, active);
    }

    pub(crate) fn get(&self, run: RunId) -> Option<Arc<Compiled>> {
        self.with(run, |active| Arc::clone(&active.compiled))
    }

    pub(super) fn is_busy(&self, run: RunId) -> bool {
        self.with(run, |active| active.busy).unwrap_or(false)
    }

    pub(super) fn end(&self, run: RunId) {
        self.lock().remove(&run);
    }

    /// The run is to be looked at; whether the caller is to see to that, since nobody does.
    pub(super) fn change(&self, run: RunId) -> bool {
        let change = |active: &mut Active| {
            active.dirty = true;
            !std::mem::replace(&mut active.busy, true)
        };
        self.with(run, change).unwrap_or(false)
    }

    /// A job succeeded; whether the run is to be looked at for that. During a pass it is only counted: whoever makes that asks
    /// for the next one.
    pub(super) fn succeeded(&self, run: RunId) -> bool {
        let count = |active: &mut Active| {
            active.succeeded += 1;
            !active.busy && active.is_due()
        };
        self.with(run, count).unwrap_or(false)
    }

    /// What the next pass needs; `None` when nothing changed, and whoever comes next sees to it.
    pub(super) fn begin_pass(&self, run: RunId) -> Option<Arc<Compiled>> {
        let begin = |active: &mut Active| {
            if !std::mem::take(&mut active.dirty) && !active.is_due() {
                active.busy = false;
                return None;
            }
            (active.succeeded, active.awaited) = (0, None);
            Some(Arc::clone(&active.compiled))
        };
        self.with(run, begin).flatten()
    }

    /// A pass found nothing more to do, and so many jobs that are to succeed before anything follows.
    pub(super) fn end_pass(&self, run: RunId, awaited: Option<usize>) {
        self.with(run, |active| active.awaited = awaited);
    }

    /// Nobody looks at the run until something changes.
    pub(super) fn give_up(&self, run: RunId) {
        self.with(run, |active| active.busy = false);
    }
}

#[cfg(test)]
mod tests {
    use startline_protocol::runs_api::SubmitRequest;

    use super::*;

    const RUN: RunId = RunId(7);

    fn runs() -> Runs {
        let text = "on: push\njobs: {a: {runs-on: x, steps: [{run: a}]}}";
        let workflow = startline_workflow::parse(text).0.unwrap();
        let submission =
            Submission::new(SubmitRequest { workflow: text.to_owned(), ..SubmitRequest::default() }, &workflow);
        let compiled = Compiled { workflow: Arc::new(workflow), submission: submission.unwrap() };
        let runs = Runs::default();
        runs.begin(RUN, Arc::new(compiled));
        runs
    }

    /// A pass that nobody disturbs.
    fn pass(runs: &Runs, awaited: Option<usize>) {
        assert!(runs.change(RUN) && runs.begin_pass(RUN).is_some());
        runs.end_pass(RUN, awaited);
        assert!(runs.begin_pass(RUN).is_none() && !runs.is_busy(RUN));
    }

    #[test]
    fn a_change_is_looked_at_by_one_and_again_if_it_comes_meanwhile() {
        let runs = runs();
        assert!(runs.change(RUN) && !runs.change(RUN));
        assert!(runs.begin_pass(RUN).is_some());
        assert!(!runs.change(RUN));
        runs.end_pass(RUN, None);
        assert!(runs.begin_pass(RUN).is_some());
        runs.end_pass(RUN, None);
        assert!(runs.begin_pass(RUN).is_none());
        assert!(runs.change(RUN), "nobody looks any more");
    }

    #[test]
    fn successes_are_counted_down_to_the_last() {
        let runs = runs();
        assert!(runs.succeeded(RUN), "nothing is known yet");
        pass(&runs, Some(3));
        assert_eq!([(); 4].map(|()| runs.succeeded(RUN)), [false, false, true, true]);
        pass(&runs, None);
        assert!(runs.succeeded(RUN));
        pass(&runs, Some(1));
        assert!(runs.succeeded(RUN));
    }

    #[test]
    fn successes_during_a_pass_count_and_bring_another_when_they_are_enough() {
        let runs = runs();
        let disturbed = |awaited| {
            assert!(runs.begin_pass(RUN).is_some());
            assert!(!runs.succeeded(RUN));
            runs.end_pass(RUN, awaited);
            // Nobody has asked for the next pass yet.
            assert!(!runs.succeeded(RUN));
        };
        assert!(runs.change(RUN));
        disturbed(None);
        disturbed(Some(2));
        disturbed(Some(4));
        assert!(runs.begin_pass(RUN).is_none(), "two more are awaited");
        assert_eq!([runs.succeeded(RUN), runs.succeeded(RUN)], [false, true]);
    }

    #[test]
    fn a_run_that_is_unknown_or_was_given_up_is_no_trouble() {
        let runs = runs();
        assert!(!runs.change(RunId(8)) && !runs.succeeded(RunId(8)));
        assert!(runs.change(RUN) && runs.begin_pass(RUN).is_some());
        runs.give_up(RUN);
        assert!(runs.succeeded(RUN) && runs.change(RUN));
    }
}
