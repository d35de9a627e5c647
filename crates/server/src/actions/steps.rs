//! What official runners say of steps, in the words of the Runner API.

use startline_protocol::actions::run_service::{Annotation as SentAnnotation, StepResult, TaskResult};
use startline_protocol::state::{Conclusion, StepStatus};
use startline_protocol::step::{Annotation, AnnotationLevel, StepRecord};

/// A job's or step's end. The service decides what a failure means for the run; the runner says how it was.
pub(super) const fn conclusion(result: TaskResult) -> Conclusion {
    match result {
        TaskResult::Succeeded | TaskResult::SucceededWithIssues => Conclusion::Success,
        TaskResult::Failed | TaskResult::Abandoned => Conclusion::Failure,
        TaskResult::Canceled => Conclusion::Cancelled,
        TaskResult::Skipped => Conclusion::Skipped,
    }
}

/// The list of steps at the end of a job: what is known of each from its reports, and how it ended. A step that nobody
/// ended was cut short with the job.
pub(super) fn ended(known: Vec<StepRecord>, results: &[StepResult], job: Conclusion) -> Vec<StepRecord> {
    let mut steps = known;
    for result in results {
        let Some(number) = result.number.and_then(|number| u32::try_from(number).ok()) else { continue };
        let by_id = result.external_id.and_then(|id| steps.iter().position(|step| step.id == Some(id)));
        let at = by_id.or_else(|| {
            // Numbers of steps that are known by their id are not trusted to be final before this.
            let may_be = |step: &StepRecord| step.id.is_none() || result.external_id.is_none();
            steps.iter().position(|step| step.number == number && may_be(step))
        });
        let step = match at {
            Some(at) => &mut steps[at],
            None => {
                steps.push(blank(number));
                let last = steps.len() - 1;
                &mut steps[last]
            }
        };
        step.number = number;
        step.id = result.external_id.or(step.id);
        if let Some(name) = result.name.as_ref().filter(|name| !name.is_empty()) {
            step.name.clone_from(name);
        }
        step.status = StepStatus::Completed;
        step.conclusion = Some(result.conclusion.map_or(Conclusion::Skipped, conclusion));
        step.outcome = step.outcome.or(step.conclusion);
        step.started_at = result.started_at.or(step.started_at);
        step.completed_at = result.completed_at.or(step.completed_at);
    }
    for step in &mut steps {
        if step.conclusion.is_none() {
            let begun = step.status != StepStatus::Pending;
            step.conclusion = Some(match job {
                _ if !begun => Conclusion::Skipped,
                Conclusion::Success => Conclusion::Success,
                Conclusion::Cancelled => Conclusion::Cancelled,
                _ => Conclusion::Failure,
            });
            step.status = StepStatus::Completed;
        }
    }
    steps.sort_by_key(|step| step.number);
    steps
}

/// A step of which nothing is known yet.
pub(super) const fn blank(number: u32) -> StepRecord {
    StepRecord::pending(number, String::new())
}

/// All annotations, those of steps first. The runner drops those without text, and so does this.
pub(super) fn annotations(results: &[StepResult], job: &[SentAnnotation]) -> Vec<Annotation> {
    let of_steps = results.iter().flat_map(|step| step.annotations.iter().map(move |sent| (step.number, sent)));
    let of_job = job.iter().map(|sent| (None, sent));
    of_steps.chain(of_job).filter_map(|(number, sent)| annotation(number, sent)).collect()
}

fn annotation(step: Option<i64>, sent: &SentAnnotation) -> Option<Annotation> {
    let message = sent.message.clone().filter(|message| !message.trim().is_empty())?;
    let level = match sent.level.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("failure") => AnnotationLevel::Failure,
        Some("warning") => AnnotationLevel::Warning,
        _ => AnnotationLevel::Notice,
    };
    // Zero is what .NET leaves out or writes for none.
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0);
    let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let path = text(&sent.path);
    // Without a file the lines are those of the step's log.
    let of_file = |value: Option<i64>| path.as_ref().and_then(|_| number(value));
    Some(Annotation {
        level,
        message,
        title: text(&sent.title),
        start_line: of_file(sent.start_line),
        end_line: of_file(sent.end_line),
        start_column: of_file(sent.start_column),
        end_column: of_file(sent.end_column),
        step_number: number(sent.step_number).or_else(|| number(step)),
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_nobody_ended_ends_with_its_job() {
        let known = vec![
            StepRecord { name: "Set up job".to_owned(), status: StepStatus::Running, ..blank(1) },
            StepRecord { name: "build".to_owned(), status: StepStatus::Running, ..blank(2) },
            blank(3),
        ];
        let result =
            StepResult { number: Some(1), conclusion: Some(TaskResult::SucceededWithIssues), ..StepResult::default() };
        let steps = ended(known, &[result], Conclusion::Cancelled);
        let ends: Vec<_> = steps.iter().map(|step| step.conclusion.unwrap()).collect();
        assert_eq!(ends, [Conclusion::Success, Conclusion::Cancelled, Conclusion::Skipped]);
        assert_eq!(steps[0].name, "Set up job", "a name that was not sent again stays");
    }

    #[test]
    fn lines_of_a_log_are_not_taken_for_lines_of_a_file() {
        let sent = SentAnnotation {
            level: Some("Failure".to_owned()),
            message: Some("exit code 2".to_owned()),
            start_line: Some(12),
            ..SentAnnotation::default()
        };
        let made = annotation(Some(4), &sent).unwrap();
        assert_eq!((made.level, made.start_line, made.step_number), (AnnotationLevel::Failure, None, Some(4)));
        assert!(annotation(None, &SentAnnotation { message: Some("  ".to_owned()), ..sent }).is_none());
    }
}
