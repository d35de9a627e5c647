//! What happens in the service, as it happens: a bounded memory of events that any number of readers walk through, each
//! at its own pace.
//!
//! Level-triggered where it is fed: whoever changes a run, a job or a runner shows the new state, as often as it
//! likes and in any order; the hub tells each state once and never tells an older one after a newer. Publishing takes a
//! short lock and never waits for a reader: one that is too slow is told that it has missed something.

mod reader;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use startline_daemon::Clock;
use startline_dispatcher::Dispatcher;
use startline_protocol::event::{Event, EventBody};
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_store::{JobOutline, JobRecord, RunRecord};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use reader::{Filter, Reader, Types, Viewer};
use tracked::{Runner, Tracked};

/// The growth of one job's log is told at most this often.
const LOG_INTERVAL: Duration = Duration::from_millis(100);

/// Where events are published and read.
#[derive(Debug)]
pub(crate) struct Hub {
    clock: Clock,
    inner: Mutex<Inner>,
    /// Carries nothing: readers that have reached the end wait for a change.
    published: watch::Sender<()>,
    /// Some log has grown since it was last told.
    grown: Notify,
}

#[derive(Debug)]
struct Inner {
    capacity: usize,
    /// The first sequence number of this process.
    begin: u64,
    /// The next event's.
    next: u64,
    kept: VecDeque<Arc<Kept>>,
    /// False until the state of an earlier process is taken up: that is not news.
    open: bool,
    tracked: Tracked,
}

/// An event, with who may see it.
#[derive(Debug)]
pub(crate) struct Kept {
    event: Event,
    audience: Audience,
    /// As it goes over the wire; written once, for all readers.
    text: OnceLock<Utf8Bytes>,
}

/// Who may see an event.
#[derive(Clone, Debug)]
struct Audience {
    /// Tokens whose scope covers this one.
    scope: Scope,
    /// The runner that it is about or that has the job.
    runner: Option<RunnerId>,
}

impl Audience {
    fn job(repository: &str, runner: Option<RunnerId>) -> Self {
        Self { scope: Scope::repository(repository).unwrap_or_default(), runner }
    }
}

impl Kept {
    fn new(event: Event, audience: Audience) -> Self {
        Self { event, audience, text: OnceLock::new() }
    }

    pub(crate) const fn sequence(&self) -> u64 {
        self.event.sequence
    }

    /// The event as JSON.
    pub(crate) fn text(&self) -> Utf8Bytes {
        self.text.get_or_init(|| serde_json::to_string(&self.event).unwrap_or_default().into()).clone()
    }
}

impl Inner {
    fn publish(&mut self, clock: &Clock, audience: Audience, body: EventBody) {
        if !self.open {
            return;
        }
        let event = Event { sequence: self.next, at: clock.now(), body };
        self.next += 1;
        if self.kept.len() >= self.capacity.max(1) {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::new(Kept::new(event, audience)));
    }

    /// The oldest sequence number that is kept, or the next one's.
    fn oldest(&self) -> u64 {
        self.kept.front().map_or(self.next, |kept| kept.sequence())
    }
}

impl Hub {
    /// Keeps so many events: the default is some minutes of a busy service, and a few megabytes.
    pub(crate) fn new(clock: Clock, capacity: usize) -> Arc<Self> {
        // Microseconds: an earlier process had less than one event in each, so this one's numbers are higher.
        let begin = u64::try_from(clock.now().as_microsecond()).unwrap_or_default().max(1);
        Arc::new(Self {
            clock,
            inner: Mutex::new(Inner {
                capacity,
                begin,
                next: begin,
                kept: VecDeque::new(),
                open: false,
                tracked: Tracked::default(),
            }),
            published: watch::Sender::new(()),
            grown: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, publishes what follows, and wakes the readers if that is anything.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        let before = inner.next;
        change(&mut inner);
        let news = inner.next != before;
        drop(inner);
        if news {
            self.published.send_replace(());
        }
    }

    /// From now on, what is new is published.
    pub(crate) fn open(&self) {
        self.lock().open = true;
    }

    /// Makes a run known, with the jobs that it has. States of runs that are not known are not news: they are over.
    pub(crate) fn begin(&self, run: &RunRecord, jobs: &[JobRecord]) {
        self.change(|inner| {
            inner.begin_run(&self.clock, run);
            for job in jobs {
                inner.see_job(&self.clock, job);
            }
        });
    }

    /// Makes a run known as it was told of before this process, and its jobs by id: that is not news.
    pub(crate) fn recall(&self, run: &RunRecord, jobs: &[JobOutline]) {
        self.lock().tracked.recall(run, jobs);
    }

    /// Shows why a run waits, or that it does no longer.
    pub(crate) fn run_waits(&self, run: &RunRecord) {
        self.change(|inner| inner.see_run(&self.clock, run));
    }

    /// Shows a job's state.
    pub(crate) fn job(&self, job: &JobRecord) {
        self.jobs(std::slice::from_ref(job));
    }

    /// Shows the states of jobs.
    pub(crate) fn jobs(&self, jobs: &[JobRecord]) {
        self.change(|inner| jobs.iter().for_each(|job| inner.see_job(&self.clock, job)));
    }

    /// Tells that a run has its conclusion, after the conclusions of its jobs, and forgets it.
    pub(crate) fn finish(
        &self,
        run: RunId,
        conclusion: startline_protocol::state::Conclusion,
        reason: Option<String>,
        jobs: &[JobRecord],
    ) {
        self.change(|inner| {
            for job in jobs {
                inner.see_job(&self.clock, job);
            }
            inner.finish_run(&self.clock, run, conclusion, reason);
        });
    }

    /// Shows a log's length. Told at most once in 100 ms.
    pub(crate) fn log(&self, run: RunId, job: JobId, attempt: u32, length: u64) {
        let mut later = false;
        self.change(|inner| later = inner.see_log(&self.clock, run, job, attempt, length));
        if later {
            self.grown.notify_one();
        }
    }

    /// Shows the runners that have changed. Call under the dispatcher's lock, which keeps the order.
    pub(crate) fn runners(&self, dispatcher: &Dispatcher, changed: &BTreeSet<RunnerId>) {
        self.change(|inner| {
            for id in changed {
                let now = dispatcher.runner(*id);
                let now = now.map(|runner| Runner { name: runner.name, scope: runner.scope, status: runner.status });
                inner.see_runner(&self.clock, *id, now);
            }
        });
    }

    /// Tells the growth of logs that was held back, until the service stops.
    pub(crate) async fn run(self: Arc<Self>, drain: CancellationToken) {
        loop {
            let mut left = false;
            self.change(|inner| left = inner.tell_logs(&self.clock));
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                () = tokio::time::sleep(LOG_INTERVAL / 2), if left => {}
                () = self.grown.notified(), if !left => {}
            }
        }
    }

    /// A reader from behind `after`, or from now on.
    pub(crate) fn reader(self: &Arc<Self>, after: Option<u64>, filter: Filter) -> Reader {
        Reader::new(self, after, filter)
    }
}
