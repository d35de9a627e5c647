//! Who did what to which job, and when: latencies, and that each job was done once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::report::{Errors, Latency};

/// How long nothing may happen while jobs are open.
pub(super) const STALL: Duration = Duration::from_secs(60);
/// The same after an error: what is left is given the time of a few requests.
const STALL_AFTER_ERROR: Duration = Duration::from_secs(3);
/// How often it is looked whether something has failed.
const LOOK: Duration = Duration::from_millis(50);
/// Most open jobs that are named at the end.
const MOST_NAMED: usize = 10;

/// What is known of a job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// When it should have been sent.
    pub(super) intended: Option<Instant>,
    /// When the answer of a poll that names it was read.
    pub(super) offered: Option<Instant>,
    /// When its definition was in the runner's hands.
    pub(super) held: Option<Instant>,
    pub(super) completed: Option<Instant>,
}

/// A time in which a runner's poll was open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// What happened to the jobs that were meant for the measured time.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Jobs completed in that time, whenever they were submitted.
    pub(super) completed: u64,
    /// From when a job should have been sent to each step of its way.
    pub(super) to_offered: Latency,
    pub(super) to_held: Latency,
    pub(super) to_completed: Latency,
}

/// The account of all jobs of a load.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    /// A job was completed, or something went wrong.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Books {
    open: HashMap<i64, Entry>,
    /// Jobs that are done, a bit each.
    done: BTreeMap<i64, Box<[u64; 64]>>,
    window: Option<(Instant, Instant)>,
    measured: Measured,
    submitted: u64,
    completed: u64,
    last: Option<Instant>,
    /// From the sending of a poll to its answer, where that names a job.
    polls: Latency,
    /// When runners polled and got nothing yet, where that is kept.
    idle: Option<Vec<Idle>>,
    polling: HashMap<i64, Instant>,
    errors: Errors,
}

impl Books {
    fn is_done(&self, job: i64) -> bool {
        let (place, bit) = place(job);
        self.done.get(&place.0).is_some_and(|bits| bits[place.1] & bit != 0)
    }

    /// Moves a job that was submitted and completed out of the open ones.
    fn settle(&mut self, job: i64) {
        let Some(entry @ Entry { intended: Some(intended), completed: Some(completed), .. }) =
            self.open.get(&job).copied()
        else {
            return;
        };
        self.open.remove(&job);
        let (place, bit) = place(job);
        self.done.entry(place.0).or_insert_with(|| Box::new([0; 64]))[place.1] |= bit;
        if let Some((from, to)) = self.window {
            if (from..to).contains(&completed) {
                self.measured.completed += 1;
            }
            if (from..to).contains(&intended) {
                let since = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(intended));
                for (at, latency) in [
                    (since(entry.offered), &mut self.measured.to_offered),
                    (since(entry.held), &mut self.measured.to_held),
                    (since(entry.completed), &mut self.measured.to_completed),
                ] {
                    if let Some(at) = at {
                        latency.record(at);
                    }
                }
            }
        }
    }

    fn step(&mut self, job: i64, what: &str, at: Instant, of: impl FnOnce(&mut Entry) -> &mut Option<Instant>) {
        if self.is_done(job) {
            return self.errors.add(format!("job {job} was {what} after it was completed"));
        }
        if of(self.open.entry(job).or_default()).replace(at).is_some() {
            self.errors.add(format!("job {job} was {what} twice"));
        }
    }
}

fn place(job: i64) -> ((i64, usize), u64) {
    let word = usize::try_from((job >> 6) & 63).unwrap_or_default();
    ((job >> 12, word), 1 << (job & 63))
}

impl Ledger {
    /// Also keeps when each runner was idle.
    pub(super) fn watching_runners() -> Self {
        let books = Books { idle: Some(Vec::new()), ..Books::default() };
        Self { books: Mutex::new(books), moved: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures what is meant for this time: known before it for an open loop, cut off after it for a closed one.
    pub(super) fn measure(&self, from: Instant, to: Instant) {
        self.lock().window = Some((from, to));
    }

    /// The service has acknowledged a job that should have been sent at `intended`.
    pub(super) fn submitted(&self, job: i64, intended: Instant) {
        let mut books = self.lock();
        books.submitted += 1;
        books.step(job, "submitted", intended, |entry| &mut entry.intended);
        books.settle(job);
        drop(books);
        self.moved.notify_one();
    }

    /// A runner polls, and has not done so before without getting a job.
    pub(super) fn polling(&self, runner: i64, at: Instant) {
        let mut books = self.lock();
        if books.idle.is_some() {
            books.polling.entry(runner).or_insert(at);
        }
    }

    /// A runner's poll was answered with a job.
    pub(super) fn polled(&self, runner: i64, sent: Instant, at: Instant) {
        let mut books = self.lock();
        books.polls.record(at - sent);
        if let Some(from) = books.polling.remove(&runner)
            && let Some(idle) = &mut books.idle
        {
            idle.push(Idle { from, to: at });
        }
    }

    /// How long polls took that brought a job.
    pub(super) fn polls(&self) -> Latency {
        self.lock().polls.clone()
    }

    /// When runners were idle, where that was watched; those that are so still, until now.
    pub(super) fn idle(&self, now: Instant) -> Vec<Idle> {
        let mut books = self.lock();
        let mut idle = books.idle.take().unwrap_or_default();
        idle.extend(books.polling.values().map(|from| Idle { from: *from, to: now }));
        idle
    }

    pub(super) fn offered(&self, job: i64, at: Instant) {
        self.lock().step(job, "handed out", at, |entry| &mut entry.offered);
    }

    pub(super) fn held(&self, job: i64, at: Instant) {
        self.lock().step(job, "taken", at, |entry| &mut entry.held);
    }

    pub(super) fn completed(&self, job: i64, at: Instant) {
        let mut books = self.lock();
        books.completed += 1;
        books.last = Some(at);
        books.step(job, "completed", at, |entry| &mut entry.completed);
        books.settle(job);
        drop(books);
        self.moved.notify_one();
    }

    pub(super) fn failed(&self, error: String) {
        self.lock().errors.add(error);
        self.moved.notify_one();
    }

    /// Adds what the runners know to an error of the scene.
    pub(super) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match self.lock().errors.first.first() {
            Some(first) => error.context(format!("a runner failed: {first}")),
            None => error,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().errors.count > 0
    }

    /// Waits until then, or until something fails, and gives the time at which it did.
    pub(super) async fn watch_until(&self, then: Instant) -> Instant {
        loop {
            let now = Instant::now();
            if now >= then || self.has_failed() {
                return now.min(then);
            }
            tokio::time::sleep_until(then.min(now + LOOK)).await;
        }
    }

    /// When the last job was completed.
    pub(super) fn last(&self) -> Option<Instant> {
        self.lock().last
    }

    /// Jobs that were completed.
    pub(super) fn completions(&self) -> u64 {
        self.lock().completed
    }

    /// Jobs that the service has acknowledged.
    pub(super) fn submissions(&self) -> u64 {
        self.lock().submitted
    }

    /// Takes out the jobs that are not known to be both submitted and completed.
    pub(super) fn take_open(&self) -> Vec<(i64, Entry)> {
        self.lock().open.drain().collect()
    }

    /// Adds what went wrong elsewhere.
    pub(super) fn join(&self, errors: Errors) {
        self.lock().errors.join(errors);
    }

    /// Waits until so many jobs are completed, whoever submitted them, or nothing moves any more.
    pub(super) async fn until_completed(&self, jobs: u64) {
        self.until(jobs, |books| books.completed).await;
    }

    /// Waits until so many jobs are both acknowledged and completed, or nothing moves any more.
    ///
    /// A job may be completed before its acknowledgement is read.
    pub(super) async fn until_settled(&self, jobs: u64) {
        self.until(jobs, |books| books.completed.min(books.submitted)).await;
    }

    async fn until(&self, jobs: u64, done: impl Fn(&Books) -> u64) {
        loop {
            let (done, stall) = {
                let books = self.lock();
                (done(&books), if books.errors.count > 0 { STALL_AFTER_ERROR } else { STALL })
            };
            if done >= jobs {
                return;
            }
            if tokio::time::timeout(stall, self.moved.notified()).await.is_err() {
                let seconds = stall.as_secs();
                return self.failed(format!("nothing happened for {seconds} s, and {done} of {jobs} jobs were done"));
            }
        }
    }

    /// Takes out what is known of a job that was completed and that nobody here submitted by itself.
    pub(super) fn take(&self, job: i64) -> Option<Entry> {
        self.lock().open.remove(&job)
    }

    /// The account: what was measured, how many jobs were submitted and completed, and all that went wrong.
    pub(super) fn close(&self) -> (Measured, Errors) {
        let mut books = self.lock();
        let mut open: Vec<_> = std::mem::take(&mut books.open).into_iter().collect();
        open.sort_unstable_by_key(|(job, _)| *job);
        for (number, (job, entry)) in open.into_iter().enumerate() {
            let what = match entry {
                Entry { intended: None, .. } => "was handed out and nobody here submitted it",
                Entry { offered: None, .. } => "was submitted and never handed out",
                Entry { held: None, .. } => "was handed out and never taken",
                _ => "was taken and never completed",
            };
            if number < MOST_NAMED {
                books.errors.add(format!("job {job} {what}"));
            } else {
                books.errors.count += 1;
            }
        }
        (std::mem::take(&mut books.measured), std::mem::take(&mut books.errors))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::task::TaskTracker;

    use super::*;

    fn way(ledger: &Ledger, job: i64, start: Instant) {
        let after = |millis| start + Duration::from_millis(millis);
        ledger.offered(job, after(2));
        ledger.held(job, after(3));
        ledger.completed(job, after(4));
    }

    #[test]
    fn latencies_are_of_what_was_meant_for_the_measured_time() {
        let start = Instant::now();
        let ledger = Ledger::default();
        ledger.measure(start, start + Duration::from_secs(1));
        // One before, one whose acknowledgement came last, one that ended behind the time.
        for (job, intended) in [(1, start - Duration::from_millis(1)), (2, start)] {
            way(&ledger, job, intended);
            ledger.submitted(job, intended);
        }
        let late = start + Duration::from_millis(999);
        ledger.submitted(4096, late);
        way(&ledger, 4096, late);
        let (measured, errors) = ledger.close();
        assert_eq!(errors.count, 0, "{errors:?}");
        assert_eq!(measured.completed, 2);
        assert_eq!(measured.to_offered.summary().unwrap().max / 100, 20);
        let whole = measured.to_completed.summary().unwrap();
        assert_eq!((whole.p50 / 100, whole.max / 100), (40, 40));
    }

    #[test]
    fn what_is_done_twice_or_not_at_all_is_an_error() {
        let start = Instant::now();
        let ledger = Ledger::default();
        for job in [1, 2, 3] {
            ledger.submitted(job, start);
        }
        way(&ledger, 1, start);
        ledger.offered(1, start);
        ledger.offered(2, start);
        ledger.offered(2, start);
        ledger.offered(9, start);
        let (_, errors) = ledger.close();
        let expected = [
            "job 1 was handed out after it was completed",
            "job 2 was handed out twice",
            "job 2 was handed out and never taken",
            "job 3 was submitted and never handed out",
            "job 9 was handed out and nobody here submitted it",
        ];
        assert_eq!(errors.first, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_waited_for_until_its_acknowledgement_is_read_too() {
        let start = Instant::now();
        let ledger = Arc::new(Ledger::default());
        way(&ledger, 1, start);
        let reading = Arc::clone(&ledger);
        let acknowledged = TaskTracker::new().spawn(async move {
            tokio::time::sleep(Duration::from_secs(7)).await;
            reading.submitted(1, start);
        });
        ledger.until_completed(1).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        ledger.until_settled(1).await;
        assert_eq!(start.elapsed(), Duration::from_secs(7));
        acknowledged.await.unwrap();
        let (_, errors) = ledger.close();
        assert_eq!(errors.count, 0, "{errors:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_nothing_moves() {
        let ledger = Ledger::default();
        ledger.submitted(1, Instant::now());
        ledger.until_settled(1).await;
        assert!(ledger.has_failed());
        assert!(ledger.close().1.first[0].starts_with("nothing happened for 60 s"));
    }
}
