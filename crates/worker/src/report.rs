//! What the service is told: step states, the log, the end. In that order, never twice, never out of order.
//!
//! The job runs ahead and never waits for the service: it writes its log to the spool and its steps to a board; the
//! reporter follows both at its own pace and survives any outage. A step is reported as running before any byte
//! behind its `log_start` is sent, because the job puts steps on the board before it writes their lines, and the
//! reporter reads the log's length before it looks at the board.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use startline_client::{AppendOutcome, Error, JobClient};
use startline_protocol::runner_api::{CompleteRequest, StatusRequest};
use startline_protocol::step::{Annotation, AnnotationLevel, StepRecord};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::input::{Exit, JobState, STATE_FILE};

/// Between two rounds while there is always something new.
const PACE: Duration = Duration::from_millis(100);

/// The most of the log sent at once.
const PIECE: usize = 512 * 1024;

/// How often something that the service refuses for good is tried again, since a proxy may have spoken for it.
const REFUSALS: u32 = 3;

/// Between such tries, and when the service and the worker disagree on where the log stands.
const PAUSE: Duration = Duration::from_secs(1);

/// What the reporter follows.
pub(crate) struct Sources {
    /// Bytes in the log.
    pub(crate) length: watch::Receiver<u64>,
    /// All steps as they stand.
    pub(crate) board: watch::Receiver<Arc<Vec<StepRecord>>>,
    /// How the job ended.
    pub(crate) completion: oneshot::Receiver<CompleteRequest>,
}

/// Carries one job's reports to the service.
pub(crate) struct Reporter {
    client: JobClient,
    sources: Sources,
    log: File,
    state_path: PathBuf,
    state: JobState,
    /// The steps as last reported.
    reported: Option<Arc<Vec<StepRecord>>>,
    refusals: u32,
    /// Why the rest of the log is not sent any more.
    log_refused: Option<String>,
}

/// Why a round ended early.
enum Failure {
    Stale,
    /// Not for want of trying.
    Refused(Report, Error),
}

/// What was refused.
#[derive(Clone, Copy, Debug)]
enum Report {
    Steps,
    Log,
    Completion,
}

impl Reporter {
    /// A reporter of the log at `log`, with its state beside it.
    pub(crate) fn new(client: JobClient, sources: Sources, log: &Path) -> io::Result<Self> {
        Ok(Self {
            client,
            sources,
            state_path: log.with_file_name(STATE_FILE),
            log: File::open(log)?,
            state: JobState::default(),
            reported: None,
            refusals: 0,
            log_refused: None,
        })
    }

    /// Reports until the service has acknowledged the completion, or does not want to hear more.
    pub(crate) async fn run(mut self) -> Exit {
        loop {
            let round = Instant::now();
            match self.round().await {
                Ok(true) => return Exit::Reported,
                Ok(false) => {}
                Err(Failure::Stale) => return Exit::Stale,
                Err(Failure::Refused(report, error)) => {
                    self.refusals += 1;
                    tracing::warn!(%error, ?report, refusals = self.refusals, "the service refused a report");
                    if self.refusals < REFUSALS {
                        sleep(PAUSE).await;
                        continue;
                    }
                    match report {
                        // The completion carries all steps again.
                        Report::Steps => self.reported = Some(self.sources.board.borrow().clone()),
                        // Better an end with part of the log than none.
                        Report::Log => self.log_refused = Some(error.to_string()),
                        Report::Completion => return Exit::Failed,
                    }
                }
            }
            self.refusals = 0;
            if self.behind() {
                continue;
            }
            if self.state.completion.is_none() {
                let Sources { length, board, completion } = &mut self.sources;
                let ended = tokio::select! {
                    biased;
                    ended = completion => Some(ended),
                    () = news(length, board, round + PACE) => None,
                };
                match ended {
                    Some(Ok(completion)) => {
                        self.state.completion = Some(completion);
                        // Whoever finds the directory can finish what this process no longer does.
                        self.save();
                    }
                    // The job was abandoned.
                    Some(Err(_)) => return Exit::Failed,
                    None => {}
                }
            }
        }
    }

    fn behind(&self) -> bool {
        let length = *self.sources.length.borrow();
        self.log_refused.is_none() && self.state.uploaded < length
    }

    /// Tells what is new, at most one piece of the log. True when all is said.
    async fn round(&mut self) -> Result<bool, Failure> {
        // First the length, then the board: see above.
        let length = *self.sources.length.borrow_and_update();
        let steps = self.sources.board.borrow_and_update().clone();
        if self.reported.as_ref() != Some(&steps) {
            self.state.steps = steps.to_vec();
            self.save();
            let request = StatusRequest { steps: self.state.steps.clone() };
            self.client.update_job_status(&request).await.map_err(|error| failure(Report::Steps, error))?;
            self.reported = Some(steps);
        }
        if self.log_refused.is_none() && self.state.uploaded < length {
            self.append(length).await?;
            self.save();
        }
        let Some(completion) = self.state.completion.clone() else { return Ok(false) };
        if self.behind() {
            return Ok(false);
        }
        self.complete(completion).await?;
        Ok(true)
    }

    async fn append(&mut self, length: u64) -> Result<(), Failure> {
        let start = self.state.uploaded;
        let piece = match piece(&self.log, start, length) {
            Ok(piece) => piece,
            Err(error) => {
                tracing::error!(%error, "cannot read the job's log");
                self.log_refused = Some(format!("cannot read the log: {error}"));
                return Ok(());
            }
        };
        let sent = start + piece.len() as u64;
        let next = match self.client.append_log(start, piece).await.map_err(|error| failure(Report::Log, error))? {
            AppendOutcome::Stored { offset } => offset,
            AppendOutcome::Gap { wanted } => wanted,
        };
        if next > length {
            self.log_refused = Some(format!("the service holds {next} bytes of a log of {length}"));
        }
        if next != sent {
            tracing::warn!(start, sent, next, "the service wants the log from elsewhere");
            sleep(PAUSE).await;
        }
        self.state.uploaded = next;
        Ok(())
    }

    async fn complete(&mut self, mut completion: CompleteRequest) -> Result<(), Failure> {
        if let Some(reason) = &self.log_refused {
            completion.annotations.push(Annotation {
                level: AnnotationLevel::Warning,
                message: format!("The log is not complete: {reason}"),
                title: None,
                path: None,
                start_line: None,
                end_line: None,
                start_column: None,
                end_column: None,
                step_number: None,
            });
        }
        self.save();
        self.client.complete_job(&completion).await.map_err(|error| failure(Report::Completion, error))?;
        self.state.completed = true;
        self.save();
        Ok(())
    }

    /// Leaves the state for whoever looks; not worth ending a job for.
    fn save(&self) {
        let written = serde_json::to_vec(&self.state).map_err(io::Error::other).and_then(|text| {
            let new = self.state_path.with_extension("json.new");
            std::fs::write(&new, text)?;
            std::fs::rename(&new, &self.state_path)
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.state_path.display(), "cannot save the job's state");
        }
    }
}

/// Waits until there is something new, but not shorter than until `earliest`. Cancel-safe.
async fn news(length: &mut watch::Receiver<u64>, board: &mut watch::Receiver<Arc<Vec<StepRecord>>>, earliest: Instant) {
    sleep_until(earliest).await;
    // A closed source says nothing new; then the completion is about to come.
    tokio::select! {
        Ok(()) = length.changed() => {}
        Ok(()) = board.changed() => {}
        else => std::future::pending().await,
    }
}

fn failure(report: Report, error: Error) -> Failure {
    if error.is_stale() {
        tracing::warn!(%error, "the job is no longer this worker's");
        Failure::Stale
    } else {
        Failure::Refused(report, error)
    }
}

/// The log from `start`, up to `length`: whole lines as long as lines are shorter than a piece.
fn piece(log: &File, start: u64, length: u64) -> io::Result<Bytes> {
    let size = usize::try_from(length - start).map_or(PIECE, |size| size.min(PIECE));
    let mut piece = vec![0; size];
    log.read_exact_at(&mut piece, start)?;
    if start + (size as u64) < length
        && let Some(end) = piece.iter().rposition(|byte| *byte == b'\n')
    {
        piece.truncate(end + 1);
    }
    Ok(piece.into())
}
