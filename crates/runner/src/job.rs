//! One job in its slot: a lease to keep, a worker process to watch, an end to report if the worker cannot.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use startline_client::JobClient;
use startline_protocol::job_message::{CANCEL_TIMEOUT, JobMessage};
use startline_protocol::runner_api::JobAssignment;
use startline_protocol::state::Conclusion;
use startline_worker::input::{Control, JobState, STATE_FILE, WorkerInput};
use startline_worker::remove_leftovers;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::capabilities::job_spelling;
use crate::daemon::Context;
use crate::job::salvage::{Failure, report};
use crate::job::worker::{Death, Worker};
use crate::orders::{Order, Orders};

mod lease;
mod orphans;
mod salvage;
mod worker;

/// How long a worker may go on beyond the job's own time limit, which it enforces itself.
const OVERTIME: Duration = Duration::from_secs(330);

/// How long a worker may take to report once it has ended a cancelled job's steps.
const TO_REPORT: Duration = Duration::from_secs(30);

/// How long a report may hold up the end of the runner.
const REPORT_AT_SHUTDOWN: Duration = Duration::from_secs(3);

/// How long a worker that is reporting the job's end may take to hear that it was heard.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How many workers' diagnostics are kept.
const KEPT_DIAGNOSTICS: usize = 50;

/// How a job left its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The worker has reported its end.
    Reported(Option<Conclusion>),
    /// The worker could not; the runner has.
    Salvaged(Conclusion),
    /// The service refuses its reports: it is somebody else's now.
    Stale,
    /// Nobody could report it; its lease will lapse.
    Unreported,
}

impl Ending {
    pub(crate) const fn conclusion(self) -> Option<Conclusion> {
        match self {
            Self::Reported(conclusion) => conclusion,
            Self::Salvaged(conclusion) => Some(conclusion),
            Self::Stale | Self::Unreported => None,
        }
    }
}

/// Runs a job to its end.
pub(crate) async fn run(
    context: &Context,
    slot: usize,
    assignment: JobAssignment,
    orders: &Orders,
    wanted: watch::Receiver<Order>,
) -> Ending {
    let job_id = assignment.job_id;
    let assignment = if assignment.job_token.is_some() {
        assignment
    } else {
        // The service made an offer although it was asked to decide.
        match context.session.acquire(&assignment).await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(%job_id, %error, "the offered job is gone");
                return Ending::Stale;
            }
        }
    };
    let Some(token) = assignment.job_token.clone() else {
        tracing::error!(%job_id, "the service leased a job without a token; is it of another version?");
        return Ending::Unreported;
    };
    tracing::info!(%job_id, attempt = assignment.attempt, run_id = %assignment.workflow_run_id, "job begins");
    let traceparent = assignment.job_definition.as_ref().and_then(|message| message.traceparent());
    let client =
        JobClient::new(context.transport.clone(), assignment.urls.clone(), token).with_traceparent(traceparent);
    let interval = Duration::from_secs(assignment.renew_interval_seconds.clamp(1, 60).into());
    let cancel_within = assignment.job_definition.as_deref().and_then(cancel_within);
    let job = Job { context, slot, client: &client, wanted, cancel_within };
    tokio::select! {
        ending = Box::pin(job.execute(assignment)) => ending,
        never = Box::pin(lease::keep(&client, interval, orders, context.options.cancel_timeout)) => match never {},
    }
}

struct Job<'a> {
    context: &'a Context,
    slot: usize,
    client: &'a JobClient,
    wanted: watch::Receiver<Order>,
    /// How long a cancelled job may take, where it says that itself.
    cancel_within: Option<Duration>,
}

/// How long a job's worker may take after a cancel where its workflow says that: the worker ends the steps itself, and
/// has some time left to report.
fn cancel_within(message: &JobMessage) -> Option<Duration> {
    message.variable(CANCEL_TIMEOUT)?;
    Some(Duration::from_secs(u64::from(message.cancel_timeout_minutes()) * 60) + TO_REPORT)
}

/// Where a job's files are.
struct Places {
    job_dir: PathBuf,
    work_dir: PathBuf,
    diagnostics: PathBuf,
}

impl Job<'_> {
    async fn execute(mut self, assignment: JobAssignment) -> Ending {
        let places = Places::of(self.context, self.slot, &assignment);
        let ending = self.execute_in(&places, assignment).await;
        if let Err(error) = fs::remove_dir_all(&places.job_dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %places.job_dir.display(), "cannot remove a job's directory");
        }
        places.tidy_diagnostics();
        ending
    }

    async fn execute_in(&mut self, places: &Places, assignment: JobAssignment) -> Ending {
        let limit = Duration::from_secs(60) * assignment.timeout_minutes;
        let minutes = assignment.timeout_minutes;
        let started = places.create().and_then(|()| {
            let input = self.input(places, assignment);
            Worker::start(&self.context.options.worker_command, &places.diagnostics, &input)
        });
        let mut worker = match started {
            Ok(worker) => worker,
            Err(error) => {
                let program = self.context.options.worker_command.first().cloned().unwrap_or_default();
                let what = format!("The runner could not start the worker {}: {error}", Path::new(&program).display());
                return self.salvage(places, Conclusion::Failure, what).await;
            }
        };
        let mut kill_at = Instant::now() + limit + OVERTIME;
        let mut cancel = None;
        let death = loop {
            tokio::select! {
                biased;
                status = worker.wait() => break Worker::death(status),
                Ok(()) = self.wanted.changed() => {
                    let order = self.wanted.borrow_and_update().clone();
                    let (reason, within) = match order {
                        Order::Run => continue,
                        Order::Abandon => return self.abandon(places, worker).await,
                        Order::Cancel { reason, within } => (reason, self.cancel_within.unwrap_or(within)),
                        Order::Shutdown { within } => ("the runner is shutting down".to_owned(), within),
                    };
                    worker.control(Control::Cancel { reason });
                    kill_at = kill_at.min(Instant::now() + within);
                    cancel = Some(within);
                }
                () = sleep_until(kill_at) => {
                    self.kill(places, &mut worker).await;
                    let what = match cancel {
                        Some(within) => format!("did not end within {} s of the cancel", within.as_secs_f32()),
                        None => format!("did not end at the job's time limit of {minutes} minutes"),
                    };
                    break Death::Early(format!("{what} and was killed"));
                }
            }
        };
        let what = match death {
            Death::Reported => return Ending::Reported(places.state().completion.map(|end| end.conclusion)),
            Death::Stale => return Ending::Stale,
            Death::Early(what) => what,
        };
        // What the worker had started must not go on beside the next job.
        self.kill(places, &mut worker).await;
        let conclusion = if cancel.is_some() { Conclusion::Cancelled } else { Conclusion::Failure };
        self.salvage(places, conclusion, format!("The worker of this job {what}")).await
    }

    /// Reports the end of a job whose worker no longer can, unless it is somebody else's by now.
    async fn salvage(&mut self, places: &Places, conclusion: Conclusion, what: String) -> Ending {
        let name = &self.context.registration.name;
        let message = format!("{what}; see {} on runner {name}.", places.diagnostics.display());
        tracing::error!(message, job_dir = %places.job_dir.display(), "the job's worker failed");
        let state = places.state();
        let failure = Failure { conclusion, message };
        let report = report(self.client, &places.job_dir, state, &failure);
        // A lost lease needs no order here: the service says so to the report itself, and a lease that ends because
        // the report has arrived must not look like one.
        let given_up = async {
            if self.wanted.wait_for(|order| matches!(order, Order::Shutdown { .. })).await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(REPORT_AT_SHUTDOWN).await;
            Ending::Unreported
        };
        let reported = async {
            match report.await {
                Ok(conclusion) => Ending::Salvaged(conclusion),
                Err(error) if error.is_stale() => Ending::Stale,
                Err(error) => {
                    tracing::error!(%error, "the service does not accept the end of a job");
                    Ending::Unreported
                }
            }
        };
        tokio::select! {
            ending = reported => ending,
            ending = given_up => ending,
        }
    }

    /// Kills a worker with all that it started, on the machine and in containers.
    async fn kill(&self, places: &Places, worker: &mut Worker) {
        worker.kill().await;
        remove_leftovers(&places.work_dir, self.context.options.container_cli.as_deref()).await;
    }

    /// Ends a worker whose lease is over.
    async fn abandon(&self, places: &Places, mut worker: Worker) -> Ending {
        // A lease is also over as soon as the service has the job's end, and the worker may just be about to hear so.
        if places.state().completion.is_some()
            && let Ok(status) = timeout(LAST_WORDS, worker.wait()).await
            && matches!(Worker::death(status), Death::Reported)
        {
            return Ending::Reported(places.state().completion.map(|end| end.conclusion));
        }
        tracing::warn!(job_dir = %places.job_dir.display(), "the job is no longer this runner's; its worker is killed");
        self.kill(places, &mut worker).await;
        Ending::Stale
    }

    fn input(&self, places: &Places, assignment: JobAssignment) -> WorkerInput {
        let options = &self.context.options;
        let (runner_os, runner_arch) = job_spelling();
        WorkerInput {
            assignment,
            job_dir: places.job_dir.clone(),
            work_dir: places.work_dir.clone(),
            runner_name: self.context.registration.name.clone(),
            runner_os: runner_os.to_owned(),
            runner_arch: runner_arch.to_owned(),
            environment: "self-hosted".to_owned(),
            tool_cache: options.tool_cache.clone(),
            archives: options.archives.clone(),
            node: options.node.clone(),
            container_cli: options.container_cli.clone(),
            workspace_from: options.workspace_from.clone(),
            in_place: options.in_place,
            connection: options.connection.clone(),
        }
    }
}

impl Places {
    fn of(context: &Context, slot: usize, assignment: &JobAssignment) -> Self {
        let options = &context.options;
        let JobAssignment { job_id, attempt, epoch, .. } = assignment;
        Self {
            job_dir: options.dir.join(format!("jobs/{job_id}-{attempt}-{epoch}")),
            work_dir: options.slot_dir(slot),
            diagnostics: options.dir.join(format!("_diag/worker-{job_id}-{attempt}-{epoch}.log")),
        }
    }

    fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.work_dir)?;
        fs::DirBuilder::new().mode(0o700).create(&self.job_dir)
    }

    /// What the worker left behind; as good as nothing when it left nothing readable.
    fn state(&self) -> JobState {
        let text = fs::read(self.job_dir.join(STATE_FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Keeps the newest diagnostics that say anything.
    fn tidy_diagnostics(&self) {
        if fs::metadata(&self.diagnostics).is_ok_and(|file| file.len() == 0) {
            let _ = fs::remove_file(&self.diagnostics);
        }
        let Some(Ok(entries)) = self.diagnostics.parent().map(fs::read_dir) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(KEPT_DIAGNOSTICS);
        for (_, path) in files.drain(..surplus) {
            let _ = fs::remove_file(path);
        }
    }
}
