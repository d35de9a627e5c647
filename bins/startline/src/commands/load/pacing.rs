//! When things are sent under open loop: on a schedule that no answer and no late sender stretches.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::link::{Link, Target};

/// After this long without a request a connection is not used again: the service may be closing it.
const STALE: Duration = Duration::from_secs(5);

/// The times at which things should be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) per_second: u32,
}

impl Schedule {
    /// When number `n` should be sent, from 0.
    pub(super) fn at(&self, n: u64) -> Instant {
        let rate = u64::from(self.per_second.max(1));
        let nanos = (n % rate) * 1_000_000_000 / rate;
        self.start + Duration::from_secs(n / rate) + Duration::from_nanos(nanos)
    }

    /// How many there are in so much time.
    pub(super) fn count(&self, time: Duration) -> u64 {
        time.as_secs() * u64::from(self.per_second)
            + u64::from(time.subsec_millis()) * u64::from(self.per_second) / 1000
    }
}

/// A clock that wakes its owner at a time.
#[derive(Debug)]
pub(super) enum Alarm {
    /// The kernel's timer, exact to some microseconds; the runtime's own knows milliseconds only.
    Kernel(AsyncFd<Timer>),
    /// The runtime's, which can be paused.
    #[cfg(test)]
    Runtime,
}

/// A timer of the kernel, as the runtime wants it.
#[derive(Debug)]
pub(super) struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    pub(super) fn new() -> anyhow::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("cannot make a timer")?;
        #[expect(deprecated, reason = "a timer has one descriptor as long as it lives, which is all that is asked")]
        Ok(Self::Kernel(AsyncFd::with_interest(Timer(timer), Interest::READABLE)?))
    }

    /// Waits until then; not at all when it is past.
    pub(super) async fn wait_until(&mut self, then: Instant) -> anyhow::Result<()> {
        match self {
            Self::Kernel(timer) => {
                let left = then.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                let once = Expiration::OneShot(TimeSpec::from_duration(left));
                timer.get_ref().0.set(once, TimerSetTimeFlags::empty()).context("cannot set a timer")?;
                loop {
                    let mut ready = timer.readable().await?;
                    // Reading it makes it unreadable again.
                    let read = ready.try_io(|timer| timer.get_ref().0.wait().map_err(std::io::Error::from));
                    if let Ok(read) = read {
                        return read.context("cannot read a timer");
                    }
                }
            }
            #[cfg(test)]
            Self::Runtime => {
                tokio::time::sleep_until(then).await;
                Ok(())
            }
        }
    }
}

/// Calls `send` for each of `count` things at the time that the schedule says, with that time.
///
/// `send` must not wait for anything. When this comes too late for some of them, it sends them at once and still says
/// when they should have been sent.
pub(super) async fn open_loop(
    schedule: Schedule,
    count: u64,
    alarm: &mut Alarm,
    mut send: impl FnMut(u64, Instant),
) -> anyhow::Result<()> {
    for n in 0..count {
        let intended = schedule.at(n);
        alarm.wait_until(intended).await?;
        send(n, intended);
    }
    Ok(())
}

/// Connections for requests of which any number may be under way: whoever finds none free opens one.
pub(super) struct Pool {
    target: Target,
    tasks: TaskTracker,
    /// Those that wait for use, with the time since when.
    free: Mutex<VecDeque<(Link, Instant)>>,
    places: Semaphore,
    opened: AtomicUsize,
}

impl Pool {
    /// At most `most` connections; further requests wait, and their time counts.
    pub(super) fn new(target: Target, tasks: TaskTracker, most: u32) -> Arc<Self> {
        let places = Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS));
        Arc::new(Self { target, tasks, free: Mutex::default(), places, opened: AtomicUsize::new(0) })
    }

    /// Opens so many connections before they are needed.
    pub(super) async fn fill(&self, links: usize) -> anyhow::Result<()> {
        let links = self.target.connect_many(&self.tasks, links, 1).await?;
        self.opened.fetch_add(links.len(), Ordering::Relaxed);
        let now = Instant::now();
        self.free.lock().await.extend(links.into_iter().map(|link| (link, now)));
        Ok(())
    }

    /// Runs `work` on a connection, which is used again unless `work` fails.
    pub(super) async fn with<T>(&self, work: impl AsyncFnOnce(&mut Link) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let _place = self.places.acquire().await?;
        // In turn, so that none is left alone for long.
        let free = self.free.lock().await.pop_front();
        let mut link = match free {
            Some((link, since)) if since.elapsed() < STALE => link,
            _ => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                self.target.connect(&self.tasks).await?
            }
        };
        let done = work(&mut link).await?;
        self.free.lock().await.push_back((link, Instant::now()));
        Ok(done)
    }

    /// How many connections were opened.
    pub(super) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::super::report::Latency;
    use super::*;

    #[test]
    fn a_schedule_does_not_drift() {
        let start = Instant::now();
        let schedule = Schedule { start, per_second: 3 };
        assert_eq!(schedule.at(0), start);
        assert_eq!(schedule.at(1) - start, Duration::from_nanos(333_333_333));
        assert_eq!(schedule.at(30_000_001) - start, Duration::from_nanos(10_000_000_333_333_333));
        assert_eq!(schedule.count(Duration::from_secs(10)), 30);
        assert_eq!(Schedule { start, per_second: 500 }.count(Duration::from_millis(10)), 5);
    }

    #[tokio::test]
    async fn the_kernels_alarm_is_never_early() {
        let mut alarm = Alarm::new().unwrap();
        for micros in [0, 1, 300, 2500] {
            let then = Instant::now() + Duration::from_micros(micros);
            alarm.wait_until(then).await.unwrap();
            assert!(Instant::now() >= then);
        }
    }

    /// A server that answers at once, but for two seconds in which it does nothing, sees 100 requests a second. One that
    /// waits for each answer before it sends the next would see a single slow one.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_stalls_is_seen_by_all_that_should_have_been_sent_meanwhile() {
        let start = Instant::now();
        let stall = start + Duration::from_secs(1)..start + Duration::from_secs(3);
        let latency = Arc::new(StdMutex::new(Latency::default()));
        let tasks = TaskTracker::new();
        let schedule = Schedule { start, per_second: 100 };
        let send = |_, intended| {
            let (latency, stall) = (Arc::clone(&latency), stall.clone());
            tasks.spawn(async move {
                if stall.contains(&Instant::now()) {
                    tokio::time::sleep_until(stall.end).await;
                }
                latency.lock().unwrap().record(Instant::now() - intended);
            });
        };
        open_loop(schedule, 500, &mut Alarm::Runtime, send).await.unwrap();
        tasks.close();
        tasks.wait().await;
        let seen = latency.lock().unwrap().summary().unwrap();
        // Two of five seconds: the median is quick, and of the rest the waits are spread evenly from 2 s to nothing.
        assert!(seen.p50 <= 2000, "{seen:?}");
        assert!((1_400_000..=1_600_000).contains(&seen.p90), "{seen:?}");
        assert!((1_900_000..=2_010_000).contains(&seen.p99), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_sender_does_not_stretch_the_schedule() {
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        let mut intended = Vec::new();
        let send = |_, then| intended.push((then, Instant::now()));
        open_loop(Schedule { start, per_second: 10 }, 40, &mut Alarm::Runtime, send).await.unwrap();
        assert_eq!(intended.len(), 40);
        assert!(intended[..20].iter().all(|(then, sent)| *sent == start + Duration::from_secs(2) && then < sent));
        assert_eq!(intended[39].0, start + Duration::from_millis(3900));
        assert!(Instant::now() < start + Duration::from_millis(3950));
    }
}
