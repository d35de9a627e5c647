//! The polls that a runner has open: one for each free slot, so that a burst of jobs reaches them all at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use startline_client::{Backoff, Error, PollResult};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::PollRequest;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Context, POLL_RETRY};

/// Most at once. Each is a connection and some memory of the service, and more slots than these fill within a few round
/// trips, as every answer with a job lets the next poll follow at once.
const MOST: usize = 8;

/// How long an early answer that no job is there is waited for, so that a service that does not hold polls is not
/// asked without pause.
const SHORTEST_POLL: Duration = Duration::from_secs(1);

type Poll<'a> = Pin<Box<dyn Future<Output = Polled> + Send + 'a>>;

struct Polled {
    answer: PollResult,
    /// It told the service of the machine.
    told: bool,
}

/// Open polls, and how to open more.
pub(super) struct Polls<'a> {
    context: &'a Arc<Context>,
    timeout_seconds: u32,
    /// What the service is still to be told of the machine, by one poll at a time.
    untold: Option<Capabilities>,
    telling: bool,
    open: FuturesUnordered<Poll<'a>>,
    backoff: Backoff,
    /// The last answer was a failure: one poll at a time finds out when that is over.
    failing: bool,
}

impl<'a> Polls<'a> {
    pub(super) fn new(context: &'a Arc<Context>, timeout_seconds: u32, machine: Capabilities) -> Self {
        Self {
            context,
            timeout_seconds,
            untold: Some(machine),
            telling: false,
            open: FuturesUnordered::new(),
            backoff: Backoff::new(POLL_RETRY),
            failing: false,
        }
    }

    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Opens what is missing for so many free slots. Aborts those that are open only when there is none: what an aborted
    /// poll brings goes to another runner.
    pub(super) fn keep(&mut self, free: usize) {
        if free == 0 {
            self.open.clear();
            self.telling = false;
        }
        while self.open.len() < free.min(if self.failing { 1 } else { MOST }) {
            self.open(None);
        }
    }

    fn open(&mut self, delay: Option<Duration>) {
        let capabilities = if self.telling { None } else { self.untold.clone() };
        let told = capabilities.is_some();
        self.telling |= told;
        let request = PollRequest { timeout_seconds: self.timeout_seconds, capabilities, auto_acquire: true };
        let context = self.context;
        self.open.push(Box::pin(async move {
            let answer = poll(context, request, delay).await;
            Polled { answer, told }
        }));
    }

    /// The next answer; none without open polls. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<PollResult> {
        let Polled { answer, told } = self.open.next().await?;
        if told {
            self.telling = false;
        }
        if matches!(answer, PollResult::JobAssigned(_) | PollResult::NoJobs) {
            self.backoff.reset();
            self.failing = false;
            if told {
                self.untold = None;
            }
        }
        Some(answer)
    }

    /// A poll failed for a reason that may pass. While others are open, one of them will tell when it has; the last one
    /// is repeated after a while.
    pub(super) fn failed(&mut self, error: &Error) {
        self.failing = true;
        if self.are_open() {
            tracing::debug!(%error, "a poll for jobs failed, others are open");
            return;
        }
        let delay = self.backoff.next(error.retry_after());
        tracing::warn!(%error, ?delay, "cannot poll for jobs, will try again");
        self.open(delay);
    }
}

/// One poll, after `delay`; never faster in a row than a service that does not hold polls deserves.
async fn poll(context: &Context, request: PollRequest, delay: Option<Duration>) -> PollResult {
    context.announced.cancelled().await;
    if let Some(delay) = delay {
        sleep(delay).await;
    }
    let begin = Instant::now();
    let answer = context.session.poll_for_job(&request).await;
    if matches!(answer, PollResult::NoJobs) {
        sleep_until(begin + SHORTEST_POLL).await;
    }
    answer
}
