//! The runner's loop: polls while slots are free, and gives every job to a task of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use startline_client::{PollResult, Retry, RunnerClient, RunnerSession, Transport};
use startline_protocol::ids::JobId;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::JobAssignment;
use startline_protocol::state::Conclusion;
use startline_worker::input::Connection;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::capabilities::{Overrides, detect};
use crate::error::Error;
use crate::heartbeat::{self, Jobs};
use crate::job::{self, Ending};
use crate::orders::{Order, Orders};
use crate::registration::Registration;
use crate::shutdown::Shutdown;
use polls::Polls;

mod polls;
mod start;

/// How long giving back an unused ephemeral registration may hold up the end of the runner.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// Polls go on for ever; a service that comes back is found within the cap.
pub(crate) const POLL_RETRY: Retry =
    Retry { min_delay: Duration::from_millis(250), max_delay: Duration::from_secs(15), max_times: None };

/// How a registered runner runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The runner's own directory: registration, jobs under way, diagnostics. One process at a time.
    pub dir: PathBuf,
    /// Where jobs work (`_work`); further slots get a number behind the name.
    pub work_dir: PathBuf,
    /// `runner.tool_cache`, shared by all slots.
    pub tool_cache: PathBuf,
    /// Archives of actions, shared by all slots.
    pub archives: PathBuf,
    /// The program that runs JavaScript actions; none means `node` on the search path.
    pub node: Option<PathBuf>,
    /// The program that runs containers; none means `docker` or `podman` on the search path.
    pub container_cli: Option<PathBuf>,
    /// What to say of the machine instead of what is measured.
    pub overrides: Overrides,
    /// How many jobs at once; at least 1.
    pub max_parallel_jobs: u32,
    /// Program and arguments of a worker; empty means this program with the argument `worker`.
    pub worker_command: Vec<OsString>,
    /// A directory whose files are copied into every empty workspace.
    pub workspace_from: Option<PathBuf>,
    /// Jobs work in that directory itself, and nothing is copied. They may change and delete everything in it.
    pub in_place: bool,
    /// Passed on to workers; the runner itself uses the transport that it is given.
    pub connection: Connection,
    /// End after one job, as an ephemeral runner does.
    pub once: bool,
    /// End after this long without a job.
    pub exit_when_idle: Option<Duration>,
    /// How long a cancelled job may take to end before its worker is killed.
    pub cancel_timeout: Duration,
    /// The same when the runner itself was told to end.
    pub shutdown_timeout: Duration,
}

impl Options {
    /// The defaults for a runner that lives in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        let work_dir = dir.join("_work");
        Self {
            tool_cache: work_dir.join("_tool"),
            work_dir,
            archives: dir.join("_archives"),
            node: None,
            container_cli: None,
            dir,
            overrides: Overrides::default(),
            max_parallel_jobs: 1,
            worker_command: Vec::new(),
            workspace_from: None,
            in_place: false,
            connection: Connection::default(),
            once: false,
            exit_when_idle: None,
            // As `actions/runner` is told by its service: `cancel-timeout-minutes`.
            cancel_timeout: Duration::from_secs(300),
            shutdown_timeout: Duration::from_secs(12),
        }
    }

    /// Where jobs of a slot work.
    pub(crate) fn slot_dir(&self, slot: usize) -> PathBuf {
        let mut work_dir = self.work_dir.clone();
        if slot > 0 {
            let mut name = work_dir.file_name().unwrap_or_default().to_owned();
            name.push(format!("-{slot}"));
            work_dir.set_file_name(name);
        }
        work_dir
    }

    /// Removes the containers of jobs whose workers were killed, for a runner that does not run: not while it does.
    pub async fn remove_leftovers(&self) {
        for slot in 0..self.max_parallel_jobs.max(1) as usize {
            startline_worker::remove_leftovers(&self.slot_dir(slot), self.container_cli.as_deref()).await;
        }
    }
}

/// Why a runner ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to, and every job has ended.
    Stopped,
    /// Its one job has ended.
    JobEnded {
        /// The job.
        job_id: JobId,
        /// How, as far as this runner knows: `None` when the job was taken from it.
        conclusion: Option<Conclusion>,
    },
    /// There was no job for as long as it was to wait.
    Idle,
    /// The service has removed this ephemeral runner.
    Removed,
}

/// What every part of a running runner looks at.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) registration: Registration,
    pub(crate) transport: Transport,
    pub(crate) session: RunnerSession,
    pub(crate) shutdown: Shutdown,
    /// Cancelled as soon as the service has heard what this runner does; polls begin then. A runner that said goodbye
    /// before is given nothing until it says otherwise.
    pub(crate) announced: CancellationToken,
}

impl Context {
    pub(crate) fn slots(&self) -> usize {
        usize::try_from(self.options.max_parallel_jobs).unwrap_or(usize::MAX)
    }

    fn single(&self) -> bool {
        self.registration.ephemeral || self.options.once
    }
}

/// Runs the runner that is registered in `options.dir` until it is asked to stop or has nothing more to do.
///
/// # Errors
/// When the directory is in use or cannot be written, the worker does not exist, or the service no longer knows the
/// runner. Jobs under way are finished first.
pub async fn run(
    mut options: Options,
    registration: Registration,
    transport: Transport,
    shutdown: Shutdown,
) -> Result<Outcome, Error> {
    options.max_parallel_jobs = if registration.ephemeral { 1 } else { options.max_parallel_jobs.max(1) };
    options.worker_command = start::worker_command(options.worker_command)?;
    let _lock = start::prepare(&mut options)?;
    // Of a runner that was killed with its workers.
    options.remove_leftovers().await;
    let client = RunnerClient::new(transport.clone(), &registration.url)?.with_retry(Retry::BRIEF);
    let session = client.session(registration.credentials());
    let (kept, dir) = (registration.clone(), options.dir.clone());
    session.on_renewed(move |credentials| {
        // The new token is used all the same; a restart would need the file.
        if let Err(error) = kept.with(credentials).save(&dir) {
            tracing::error!(%error, "cannot keep the renewed token");
        }
    });
    let announced = CancellationToken::new();
    let context = Arc::new(Context { options, registration, transport, session, shutdown, announced });
    let jobs = Jobs::default();
    let capabilities = detect(&context.options.work_dir, context.options.max_parallel_jobs, &context.options.overrides);
    let timeout_seconds = context.registration.poll_timeout_seconds.clamp(1, 60);
    let polls = Polls::new(&context, timeout_seconds, capabilities.clone());
    tracing::info!(
        runner_id = %context.registration.runner_id,
        name = %context.registration.name,
        url = %context.registration.url,
        "runner is listening for jobs"
    );
    let outcome = tokio::select! {
        outcome = Box::pin(Daemon::new(&context, &jobs, polls).run()) => outcome,
        never = Box::pin(heartbeat::beat(&context, &jobs, capabilities)) => match never {},
    };
    conclude(&context, &outcome).await;
    outcome
}

/// Leaves the service and the directory as they should be once no job is left.
async fn conclude(context: &Context, outcome: &Result<Outcome, Error>) {
    if !context.registration.ephemeral {
        if outcome.is_ok() {
            heartbeat::farewell(context).await;
        }
        return;
    }
    match outcome {
        Ok(Outcome::JobEnded { .. } | Outcome::Removed) => {}
        // Unused: nobody else should be offered to it. The service would also find out by itself.
        _ => {
            if !matches!(timeout(GIVE_BACK, context.session.deregister(false)).await, Ok(Ok(()))) {
                tracing::debug!("could not give the unused registration back");
            }
        }
    }
    if let Err(error) = Registration::forget(&context.options.dir) {
        tracing::warn!(%error, "cannot remove a registration that is used up");
    }
}

/// The loop and what it owns.
struct Daemon<'a> {
    context: &'a Arc<Context>,
    jobs: &'a Jobs,
    polls: Polls<'a>,
    slots: Vec<bool>,
    running: JoinSet<Done>,
    idle_since: Instant,
    /// Why no more jobs are taken.
    closing: Option<Result<Outcome, Error>>,
}

/// A job that has left its slot.
struct Done {
    slot: usize,
    orders: Orders,
    ending: Ending,
}

impl<'a> Daemon<'a> {
    fn new(context: &'a Arc<Context>, jobs: &'a Jobs, polls: Polls<'a>) -> Self {
        Self {
            context,
            jobs,
            polls,
            slots: vec![false; context.slots()],
            running: JoinSet::new(),
            idle_since: Instant::now(),
            closing: None,
        }
    }

    async fn run(mut self) -> Result<Outcome, Error> {
        let context = self.context;
        let mut cancelled = false;
        loop {
            let free = self.free_slots();
            self.polls.keep(free);
            if free == 0 && self.running.is_empty() {
                return self.closing.unwrap_or(Ok(Outcome::Stopped));
            }
            let idle_until = match context.options.exit_when_idle {
                Some(limit) if self.running.is_empty() && self.closing.is_none() => Some(self.idle_since + limit),
                _ => None,
            };
            tokio::select! {
                // An answer that is there must be looked at before anything that would drop it: it may hold a job.
                biased;
                Some(answer) = self.polls.next(), if self.polls.are_open() => self.take(answer),
                Some(done) = self.running.join_next(), if !self.running.is_empty() => match done {
                    Ok(done) => self.finish(done),
                    // Its slot stays taken: what became of the worker is unknown.
                    Err(error) => tracing::error!(%error, "a job's task broke off"),
                },
                () = context.shutdown.cancelling().cancelled(), if !cancelled => {
                    cancelled = true;
                    self.closing.get_or_insert(Ok(Outcome::Stopped));
                    for orders in self.jobs.all() {
                        orders.give(Order::Shutdown { within: context.options.shutdown_timeout });
                    }
                }
                () = context.shutdown.draining().cancelled(), if self.closing.is_none() => {
                    tracing::info!(jobs = self.running.len(), "runner takes no more jobs and ends with its last one");
                    self.closing = Some(Ok(Outcome::Stopped));
                }
                () = sleep_until(idle_until.unwrap_or_else(Instant::now)), if idle_until.is_some() => {
                    self.closing = Some(Ok(Outcome::Idle));
                }
            }
        }
    }

    /// Slots that may be given a job; none once the runner is closing.
    fn free_slots(&self) -> usize {
        if self.closing.is_some() {
            return 0;
        }
        let free = self.slots.iter().filter(|taken| !**taken).count();
        if self.context.single() { free.min(1) } else { free }
    }

    /// Acts on a poll's answer.
    fn take(&mut self, answer: PollResult) {
        match answer {
            PollResult::JobAssigned(assignment) => self.start(*assignment),
            PollResult::NoJobs => {}
            PollResult::RunnerOffline => self.close_gone(),
            PollResult::ServerError(error) => {
                let refused = error.status() == Some(401) || error.kind() == Some(kind::FORBIDDEN);
                if refused {
                    tracing::error!(%error, "the service refuses this runner");
                    self.close_gone();
                } else {
                    // Everything else may pass: a proxy's page while the service restarts looks like anything.
                    self.polls.failed(&error);
                }
            }
        }
    }

    fn close_gone(&mut self) {
        let Registration { runner_id, url, ephemeral, .. } = &self.context.registration;
        self.closing.get_or_insert_with(|| {
            if *ephemeral {
                Ok(Outcome::Removed)
            } else {
                Err(Error::RegistrationGone { runner_id: *runner_id, url: url.clone() })
            }
        });
    }

    fn start(&mut self, assignment: JobAssignment) {
        let job_id = assignment.job_id;
        let Some(slot) = self.slots.iter().position(|taken| !taken) else {
            tracing::error!(%job_id, "a job came without a free slot; its lease will lapse");
            return;
        };
        if self.context.single() {
            self.closing.get_or_insert(Ok(Outcome::JobEnded { job_id, conclusion: None }));
        }
        self.slots[slot] = true;
        let (orders, wanted) = Orders::new(job_id);
        self.jobs.add(orders.clone());
        if self.context.shutdown.cancelling().is_cancelled() {
            orders.give(Order::Shutdown { within: self.context.options.shutdown_timeout });
        }
        let context = Arc::clone(self.context);
        self.running.spawn(async move {
            let ending = Box::pin(job::run(&context, slot, assignment, &orders, wanted)).await;
            Done { slot, orders, ending }
        });
    }

    fn finish(&mut self, done: Done) {
        let Done { slot, orders, ending } = done;
        tracing::info!(job_id = %orders.job_id, ?ending, "job has left its slot");
        self.jobs.remove(&orders);
        self.slots[slot] = false;
        self.idle_since = Instant::now();
        if let Some(Ok(Outcome::JobEnded { job_id, conclusion })) = &mut self.closing
            && *job_id == orders.job_id
        {
            *conclusion = ending.conclusion();
        }
    }
}
