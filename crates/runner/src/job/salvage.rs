//! Reporting the end of a job whose worker died: the rest of its log, its steps as they were left, and why.

use std::io;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use startline_client::{AppendOutcome, Error, JobClient};
use startline_protocol::runner_api::CompleteRequest;
use startline_protocol::state::{Conclusion, StepStatus};
use startline_protocol::step::{Annotation, AnnotationLevel, StepRecord};
use startline_worker::input::{JobState, LOG_FILE};

/// How much of the log is sent at once.
const CHUNK: usize = 512 << 10;

/// How often the service may send the upload back to another place, before it is taken to be confused.
const GAPS: usize = 3;

/// Why the worker could not report the end itself.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) conclusion: Conclusion,
    /// For people; without secrets.
    pub(super) message: String,
}

/// Sends what is missing of the log in `job_dir`, then the end. A conclusion that the worker had come to stands.
pub(super) async fn report(
    client: &JobClient,
    job_dir: &Path,
    state: JobState,
    failure: &Failure,
) -> Result<Conclusion, Error> {
    let now = Timestamp::now();
    let log = job_dir.join(LOG_FILE);
    let mut text = match tokio::task::spawn_blocking(move || std::fs::read(log)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => {
            tracing::warn!(?other, "cannot read the log of a job whose worker died");
            Vec::new()
        }
    };
    if state.completion.is_none() {
        add_line(&mut text, &failure.message, now);
    }
    let end = text.len() as u64;
    upload(client, Bytes::from(text), state.uploaded).await?;
    let completion = match state.completion {
        Some(completion) => completion,
        None => CompleteRequest {
            steps: closed(state.steps, failure.conclusion, now, end),
            annotations: vec![annotation(failure)],
            ..CompleteRequest::new(failure.conclusion)
        },
    };
    client.complete_job(&completion).await?;
    Ok(completion.conclusion)
}

/// Appends a line in the form of the worker's own; see `protocol/job` 4.3.
fn add_line(text: &mut Vec<u8>, message: &str, now: Timestamp) {
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    let time = now.strftime("%Y-%m-%dT%H:%M:%S%.7fZ");
    text.extend_from_slice(format!("{time} ##[error]{message}\n").as_bytes());
}

async fn upload(client: &JobClient, text: Bytes, uploaded: u64) -> Result<(), Error> {
    let mut offset = usize::try_from(uploaded).unwrap_or(usize::MAX).min(text.len());
    let mut gaps = 0;
    while offset < text.len() {
        let piece = whole_lines(text.slice(offset..));
        let next = match client.append_log(offset as u64, piece).await? {
            AppendOutcome::Stored { offset } => offset,
            AppendOutcome::Gap { wanted } => {
                gaps += 1;
                wanted
            }
        };
        let next = usize::try_from(next).unwrap_or(usize::MAX);
        let stuck = next <= offset && gaps == 0;
        if stuck || gaps > GAPS {
            tracing::warn!(offset, next, "the service does not take the rest of a job's log");
            break;
        }
        offset = next;
    }
    Ok(())
}

/// As much of `rest` as is sent at once: up to the end of a line, where there is one.
fn whole_lines(rest: Bytes) -> Bytes {
    if rest.len() <= CHUNK {
        return rest;
    }
    let end = rest[..CHUNK].iter().rposition(|byte| *byte == b'\n').map_or(CHUNK, |at| at + 1);
    rest.slice(..end)
}

/// Steps that did not end, ended: the one that ran like the job, those that waited not at all.
fn closed(mut steps: Vec<StepRecord>, conclusion: Conclusion, now: Timestamp, log_end: u64) -> Vec<StepRecord> {
    for step in &mut steps {
        let end = match step.status {
            StepStatus::Completed => continue,
            StepStatus::Running => {
                step.completed_at = Some(now);
                step.log_end = step.log_start.map(|_| log_end);
                conclusion
            }
            StepStatus::Pending => Conclusion::Skipped,
        };
        step.status = StepStatus::Completed;
        step.conclusion = Some(end);
        step.outcome = Some(end);
    }
    steps
}

fn annotation(failure: &Failure) -> Annotation {
    Annotation {
        level: AnnotationLevel::Failure,
        message: failure.message.clone(),
        title: Some("The worker did not finish".to_owned()),
        path: None,
        start_line: None,
        end_line: None,
        start_column: None,
        end_column: None,
        step_number: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_cut_behind_whole_lines() {
        let mut text = vec![b'a'; CHUNK - 10];
        text.push(b'\n');
        text.extend_from_slice(&[b'b'; 100]);
        assert_eq!(whole_lines(Bytes::from(text)).len(), CHUNK - 9);
        assert_eq!(whole_lines(Bytes::from(vec![b'a'; 2 * CHUNK])).len(), CHUNK);
        assert_eq!(whole_lines(Bytes::from_static(b"a\nb")).len(), 3);
    }

    #[test]
    fn the_last_line_begins_on_a_line_of_its_own() {
        let now: Timestamp = "2026-11-06T08:49:37.1234567Z".parse().unwrap();
        let mut text = b"half".to_vec();
        add_line(&mut text, "It died.", now);
        assert_eq!(String::from_utf8(text).unwrap(), "half\n2026-11-06T08:49:37.1234567Z ##[error]It died.\n");
    }

    #[test]
    fn open_steps_are_closed_and_ended_ones_are_left_alone() {
        let step = |status, conclusion| StepRecord {
            number: 1,
            id: None,
            name: "s".into(),
            status,
            conclusion,
            outcome: conclusion,
            started_at: None,
            completed_at: None,
            log_start: Some(3),
            log_end: None,
            summary: None,
        };
        let steps = closed(
            vec![
                step(StepStatus::Completed, Some(Conclusion::Success)),
                step(StepStatus::Running, None),
                step(StepStatus::Pending, None),
            ],
            Conclusion::Failure,
            Timestamp::UNIX_EPOCH,
            9,
        );
        let ends: Vec<_> = steps.iter().map(|step| step.conclusion.unwrap()).collect();
        assert_eq!(ends, [Conclusion::Success, Conclusion::Failure, Conclusion::Skipped]);
        assert_eq!((steps[0].log_end, steps[1].log_end), (None, Some(9)));
    }
}
