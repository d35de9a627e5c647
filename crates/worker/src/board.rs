//! The steps of a job as others see them.

use std::sync::Arc;

use jiff::Timestamp;
use startline_protocol::state::{Conclusion, StepStatus};
use startline_protocol::step::StepRecord;
use tokio::sync::watch;

/// All summaries of a job together, as JSON writes them: every report carries all of them.
const MOST_SUMMARY_BYTES: usize = 768 * 1024;

/// The list of steps, published at every change.
pub(crate) struct Board {
    steps: Vec<StepRecord>,
    summary_bytes: usize,
    publish: watch::Sender<Arc<Vec<StepRecord>>>,
}

/// The summary does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SummaryTooLarge {
    pub(crate) limit: usize,
    pub(crate) size: usize,
}

impl Board {
    /// A board of pending steps with these names.
    pub(crate) fn new(names: Vec<String>) -> (Self, watch::Receiver<Arc<Vec<StepRecord>>>) {
        let steps: Vec<StepRecord> = (1..).zip(names).map(|(number, name)| StepRecord::pending(number, name)).collect();
        let (publish, follow) = watch::channel(Arc::new(steps.clone()));
        (Self { steps, summary_bytes: 0, publish }, follow)
    }

    pub(crate) fn steps(&self) -> &[StepRecord] {
        &self.steps
    }

    /// The number that `step` is shown with.
    pub(crate) fn number(&self, step: usize) -> u32 {
        self.steps[step].number
    }

    pub(crate) fn name(&self, step: usize) -> &str {
        &self.steps[step].name
    }

    /// Puts a pending step at `step`; those behind it, which must not have begun, get the next numbers.
    pub(crate) fn insert(&mut self, step: usize, name: String) {
        self.steps.insert(step, StepRecord::pending(0, name));
        for (number, record) in (1..).zip(&mut self.steps) {
            record.number = number;
        }
        self.show();
    }

    pub(crate) fn rename(&mut self, step: usize, name: String) {
        if self.steps[step].name != name {
            self.steps[step].name = name;
            self.show();
        }
    }

    /// The step runs now. To be called before any of its lines are written.
    pub(crate) fn begin(&mut self, step: usize, now: Timestamp, log_start: u64) {
        let record = &mut self.steps[step];
        record.status = StepStatus::Running;
        record.started_at = Some(now);
        record.log_start = Some(log_start);
        self.show();
    }

    /// The step has ended; `log_end` only if it wrote anything.
    pub(crate) fn end(
        &mut self,
        step: usize,
        now: Timestamp,
        log_end: u64,
        outcome: Conclusion,
        conclusion: Conclusion,
    ) {
        let record = &mut self.steps[step];
        record.status = StepStatus::Completed;
        record.outcome = Some(outcome);
        record.conclusion = Some(conclusion);
        record.started_at.get_or_insert(now);
        record.completed_at = Some(now);
        record.log_end = record.log_start.map(|_| log_end);
        self.show();
    }

    /// Adds masked Markdown to a step's summary.
    pub(crate) fn summarize(&mut self, step: usize, text: &str) -> Result<(), SummaryTooLarge> {
        let size = serde_json::to_string(text).map_or(text.len(), |json| json.len());
        if self.summary_bytes + size > MOST_SUMMARY_BYTES {
            return Err(SummaryTooLarge { limit: MOST_SUMMARY_BYTES, size });
        }
        self.summary_bytes += size;
        self.steps[step].summary.get_or_insert_default().push_str(text);
        self.show();
        Ok(())
    }

    fn show(&self) {
        self.publish.send_replace(Arc::new(self.steps.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_from_pending_over_running_to_completed() {
        let (mut board, follow) = Board::new(vec!["a".into(), "b".into()]);
        board.begin(1, Timestamp::UNIX_EPOCH, 7);
        assert_eq!(follow.borrow()[1].status, StepStatus::Running);
        assert_eq!(follow.borrow()[1].log_start, Some(7));
        board.end(1, Timestamp::UNIX_EPOCH, 9, Conclusion::Failure, Conclusion::Success);
        board.end(0, Timestamp::UNIX_EPOCH, 9, Conclusion::Skipped, Conclusion::Skipped);
        let steps = follow.borrow().clone();
        assert_eq!((steps[1].number, steps[1].log_end, steps[1].conclusion), (2, Some(9), Some(Conclusion::Success)));
        assert_eq!(steps[0].log_end, None, "a step that was skipped has no log");
    }

    #[test]
    fn a_step_that_is_put_in_moves_the_pending_ones() {
        let (mut board, follow) = Board::new(vec!["a".into(), "b".into()]);
        board.begin(0, Timestamp::UNIX_EPOCH, 0);
        board.insert(1, "new".into());
        let shown: Vec<(u32, String)> = follow.borrow().iter().map(|step| (step.number, step.name.clone())).collect();
        assert_eq!(shown, [(1, "a".into()), (2, "new".into()), (3, "b".into())]);
    }

    #[test]
    fn summaries_are_bounded_in_all() {
        let (mut board, _follow) = Board::new(vec!["a".into(), "b".into()]);
        let large = "x".repeat(500 * 1024);
        board.summarize(0, &large).unwrap();
        assert!(board.summarize(1, &large).is_err());
        board.summarize(1, "small").unwrap();
        assert_eq!(board.steps()[1].summary.as_deref(), Some("small"));
    }
}
