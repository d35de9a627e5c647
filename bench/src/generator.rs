//! The load on a peer: the same for all of them, and the same payload as ours.
//!
//! For throughput producers and consumers go round as fast as they are answered (closed loop), with a bound on the jobs
//! between them, so that whole cycles are counted and no queue grows instead. For latency jobs come by a timetable
//! (open loop): each carries the time at which it was *meant* to be sent, and waiting for a slow answer is part of the
//! latency of those behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::figures::{Errors, Figures, ServerCost};
use crate::machine;
use crate::sample::Latencies;

/// Bytes of a job's payload, here as in `startline load`.
pub(crate) const PAYLOAD: usize = 512;
/// Load that is not counted, at first.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long jobs that are under way at the end may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a job carries: the time at which it was meant to be sent, and filling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload([u8; PAYLOAD]);

impl Payload {
    fn new(clock: Instant, intended: Instant) -> Self {
        let mut bytes = [b'x'; PAYLOAD];
        let nanos = u64::try_from(intended.saturating_duration_since(clock).as_nanos()).unwrap_or(u64::MAX);
        // In hexadecimal, as some peers have lines.
        bytes[..16].copy_from_slice(format!("{nanos:016x}").as_bytes());
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// When a job with this payload was meant to be sent.
    fn intended(clock: Instant, bytes: &[u8]) -> anyhow::Result<Instant> {
        if bytes.len() != PAYLOAD {
            bail!("a payload of {PAYLOAD} bytes came back with {}", bytes.len());
        }
        let stamp = std::str::from_utf8(&bytes[..16]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        let nanos = stamp.context("a payload came back changed")?;
        Ok(clock + Duration::from_nanos(nanos))
    }
}

/// A queue of a peer, which hands out connections to itself.
pub(crate) trait Queue: Send + Sync {
    type Producer: Put;
    type Consumer: Take;

    fn producer(&self) -> impl Future<Output = anyhow::Result<Self::Producer>> + Send;
    fn consumer(&self) -> impl Future<Output = anyhow::Result<Self::Consumer>> + Send;
}

/// One who puts jobs.
pub(crate) trait Put: Send + 'static {
    /// Returns when the peer has said that the job is kept.
    fn put(&mut self, payload: Payload) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// One who takes jobs.
pub(crate) trait Take: Send + 'static {
    /// What the peer knows a job by.
    type Job: Send;

    /// Waits for a job; must not lose one when it is dropped before there is any.
    fn take(&mut self) -> impl Future<Output = anyhow::Result<(Self::Job, Vec<u8>)>> + Send;

    /// Everything from the start of the job to its end.
    fn finish(&mut self, job: Self::Job) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// As fast as it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    pub(crate) lasting: Duration,
}

/// By a timetable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paced {
    /// Jobs a second.
    pub(crate) rate: f64,
    /// Consumers that wait.
    pub(crate) waiting: usize,
    pub(crate) producers: usize,
    pub(crate) lasting: Duration,
}

/// What all consumers add up to.
#[derive(Default)]
struct Tally {
    underway: AtomicU64,
    taken: AtomicU64,
    finished: AtomicU64,
}

/// What the load of one round found.
struct Outcome {
    counted: u64,
    seconds: f64,
    latencies: Latencies,
    cpu: Duration,
    errors: Errors,
}

impl Outcome {
    fn figures(self, scenario: &str, settings: serde_json::Value, pid: Option<u32>) -> Figures {
        let micros = self.cpu.as_secs_f64() * 1e6;
        let memory = pid.and_then(|pid| machine::Memory::of(pid).ok());
        let server = pid.map(|_| ServerCost {
            cpu_us_per_op: (self.counted > 0).then(|| micros / self.counted as f64),
            user_kib: memory.map(|memory| memory.resident as f64),
            peak_kib: memory.map(|memory| memory.peak as f64),
            kernel_kib: None,
        });
        Figures {
            scenario: scenario.to_owned(),
            settings,
            seconds: self.seconds,
            count: self.counted,
            per_second: self.counted as f64 / self.seconds,
            latency_us: self.latencies.quantiles(),
            server,
            errors: self.errors,
            more: serde_json::Map::new(),
        }
    }
}

/// Consumers at work, until they are told to stop.
struct Crew {
    tasks: JoinSet<anyhow::Result<Latencies>>,
    stop: CancellationToken,
    tally: Arc<Tally>,
    bound: Arc<Semaphore>,
    counting: CancellationToken,
}

impl Crew {
    async fn hire<Q: Queue>(queue: &Q, consumers: usize, bound: usize, clock: Instant) -> anyhow::Result<Self> {
        let mut crew = Self {
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            tally: Arc::new(Tally::default()),
            bound: Arc::new(Semaphore::new(bound)),
            counting: CancellationToken::new(),
        };
        for _ in 0..consumers {
            let mut consumer = queue.consumer().await?;
            let (stop, tally, bound) = (crew.stop.clone(), Arc::clone(&crew.tally), Arc::clone(&crew.bound));
            let counting = crew.counting.clone();
            crew.tasks.spawn(async move {
                let mut latencies = Latencies::new();
                loop {
                    let (job, payload) = tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ok(latencies),
                        taken = consumer.take() => taken?,
                    };
                    let intended = Payload::intended(clock, &payload)?;
                    tally.taken.fetch_add(1, Ordering::Relaxed);
                    if counting.is_cancelled() {
                        latencies.add(intended.elapsed());
                    }
                    consumer.finish(job).await?;
                    tally.finished.fetch_add(1, Ordering::Relaxed);
                    tally.underway.fetch_sub(1, Ordering::Relaxed);
                    bound.add_permits(1);
                }
            });
        }
        Ok(crew)
    }

    /// Waits for the jobs that are under way, and for the consumers.
    async fn dismiss(mut self, errors: &mut Errors) -> Latencies {
        let until = Instant::now() + PATIENCE;
        while self.tally.underway.load(Ordering::Relaxed) > 0 && !self.tasks.is_empty() && Instant::now() < until {
            while let Some(ended) = self.tasks.try_join_next() {
                note(errors, ended.map_err(Into::into).flatten().map(drop));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let lost = self.tally.underway.load(Ordering::Relaxed);
        if lost > 0 {
            errors.add(format!("{lost} jobs did not come back"));
        }
        self.stop.cancel();
        let mut all = Latencies::new();
        while let Some(ended) = self.tasks.join_next().await {
            match ended.map_err(Into::into).flatten() {
                Ok(latencies) => all.merge(&latencies),
                Err(error) => note(errors, Err(error)),
            }
        }
        all
    }
}

fn note(errors: &mut Errors, result: anyhow::Result<()>) {
    if let Err(error) = result {
        errors.add(format!("{error:#}"));
    }
}

/// Runs the closed loop. `pid` is the peer's process, whose children count too.
pub(crate) async fn closed<Q: Queue>(queue: &Q, load: Closed, pid: Option<u32>) -> anyhow::Result<Figures> {
    let clock = Instant::now();
    // As many again as can be worked on: enough that nobody waits for a job, few enough that none waits for long.
    let bound = 2 * (load.producers + load.consumers);
    let crew = Crew::hire(queue, load.consumers, bound, clock).await?;
    let stop = CancellationToken::new();
    let mut producers = JoinSet::new();
    for _ in 0..load.producers {
        let mut producer = queue.producer().await?;
        let (stop, tally, bound) = (stop.clone(), Arc::clone(&crew.tally), Arc::clone(&crew.bound));
        producers.spawn(async move {
            loop {
                let permit = tokio::select! {
                    biased;
                    () = stop.cancelled() => return anyhow::Ok(()),
                    permit = bound.acquire() => permit?,
                };
                permit.forget();
                tally.underway.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = producer.put(Payload::new(clock, Instant::now())).await {
                    tally.underway.fetch_sub(1, Ordering::Relaxed);
                    return Err(error);
                }
            }
        });
    }
    tokio::time::sleep(WARM_UP).await;
    crew.counting.cancel();
    let (begun, before, cpu) =
        (Instant::now(), crew.tally.finished.load(Ordering::Relaxed), pid.map(machine::tree_time));
    tokio::time::sleep(load.lasting).await;
    let counted = crew.tally.finished.load(Ordering::Relaxed) - before;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = pid.map(machine::tree_time).unwrap_or_default().saturating_sub(cpu.unwrap_or_default());
    stop.cancel();
    let mut errors = Errors::default();
    while let Some(ended) = producers.join_next().await {
        note(&mut errors, ended?);
    }
    let latencies = crew.dismiss(&mut errors).await;
    let settings = json!({
        "producers": load.producers, "consumers": load.consumers, "payload_bytes": PAYLOAD, "underway_at_most": bound,
    });
    Ok(Outcome { counted, seconds, latencies, cpu, errors }.figures("lifecycle", settings, pid))
}

/// Runs the open loop.
pub(crate) async fn paced<Q: Queue>(queue: &Q, load: Paced, pid: Option<u32>) -> anyhow::Result<Figures> {
    let clock = Instant::now();
    let crew = Crew::hire(queue, load.waiting, Semaphore::MAX_PERMITS / 2, clock).await?;
    let mut senders = Vec::new();
    let mut producers = JoinSet::new();
    for _ in 0..load.producers {
        let mut producer = queue.producer().await?;
        let (sender, mut due) = mpsc::unbounded_channel::<Instant>();
        senders.push(sender);
        let tally = Arc::clone(&crew.tally);
        producers.spawn(async move {
            while let Some(intended) = due.recv().await {
                tally.underway.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = producer.put(Payload::new(clock, intended)).await {
                    tally.underway.fetch_sub(1, Ordering::Relaxed);
                    return Err(error);
                }
            }
            anyhow::Ok(())
        });
    }
    // Consumers that have just connected are to wait already when the first job comes.
    tokio::time::sleep(WARM_UP).await;
    crew.counting.cancel();
    let cpu = pid.map(machine::tree_time);
    let begun = Instant::now();
    #[expect(clippy::cast_possible_truncation, reason = "saturates, at more than anybody waits for")]
    let total = (load.rate * load.lasting.as_secs_f64()).ceil() as u32;
    // A thread, since the runtime's own timers are no finer than a millisecond.
    let pacer = std::thread::spawn(move || {
        // Whoever may not set it wakes 50 µs later.
        let _ = nix::sys::prctl::set_timerslack(1);
        for (number, sender) in (0..total).zip(senders.iter().cycle()) {
            let intended = begun + Duration::from_secs_f64(f64::from(number) / load.rate);
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            // A producer that has failed tells why itself.
            let _ = sender.send(intended);
        }
    });
    let mut errors = Errors::default();
    while let Some(ended) = producers.join_next().await {
        note(&mut errors, ended?);
    }
    pacer.join().map_err(|_| anyhow::anyhow!("the timetable was not kept"))?;
    let tally = Arc::clone(&crew.tally);
    let latencies = crew.dismiss(&mut errors).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = pid.map(machine::tree_time).unwrap_or_default().saturating_sub(cpu.unwrap_or_default());
    let counted = tally.finished.load(Ordering::Relaxed);
    let settings = json!({
        "rate": load.rate, "waiting": load.waiting, "producers": load.producers, "payload_bytes": PAYLOAD,
    });
    Ok(Outcome { counted, seconds, latencies, cpu, errors }.figures("dispatch", settings, pid))
}

#[cfg(test)]
mod tests {
    use tokio::sync::Mutex;

    use super::*;

    /// A queue within the process; it can be slow to take a job in.
    struct Channel {
        sender: mpsc::UnboundedSender<Payload>,
        receiver: Arc<Mutex<mpsc::UnboundedReceiver<Payload>>>,
        stall: Duration,
    }

    impl Channel {
        fn new(stall: Duration) -> Self {
            let (sender, receiver) = mpsc::unbounded_channel();
            Self { sender, receiver: Arc::new(Mutex::new(receiver)), stall }
        }
    }

    struct Producer(mpsc::UnboundedSender<Payload>, Duration);
    struct Consumer(Arc<Mutex<mpsc::UnboundedReceiver<Payload>>>);

    impl Queue for Channel {
        type Producer = Producer;
        type Consumer = Consumer;

        async fn producer(&self) -> anyhow::Result<Producer> {
            Ok(Producer(self.sender.clone(), self.stall))
        }

        async fn consumer(&self) -> anyhow::Result<Consumer> {
            Ok(Consumer(Arc::clone(&self.receiver)))
        }
    }

    impl Put for Producer {
        async fn put(&mut self, payload: Payload) -> anyhow::Result<()> {
            tokio::time::sleep(self.1).await;
            self.0.send(payload)?;
            Ok(())
        }
    }

    impl Take for Consumer {
        type Job = ();

        async fn take(&mut self) -> anyhow::Result<((), Vec<u8>)> {
            let payload = self.0.lock().await.recv().await.context("closed")?;
            Ok(((), payload.bytes().to_vec()))
        }

        async fn finish(&mut self, (): ()) -> anyhow::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn whole_cycles_are_counted_and_none_is_left() {
        let queue = Channel::new(Duration::from_millis(1));
        let load = Closed { producers: 4, consumers: 4, lasting: Duration::from_millis(200) };
        let figures = closed(&queue, load, None).await.unwrap();
        assert_eq!(figures.errors.count, 0, "{:?}", figures.errors);
        assert!(figures.count > 4 && figures.per_second > 0.0, "{figures:?}");
        assert!(queue.receiver.lock().await.try_recv().is_err());
    }

    #[tokio::test]
    async fn latency_counts_from_the_time_that_was_meant() {
        // One producer that takes 20 ms for each job, and a job every 5 ms: the last of 20 waits for those before it.
        let queue = Channel::new(Duration::from_millis(20));
        let load = Paced { rate: 200.0, waiting: 2, producers: 1, lasting: Duration::from_millis(100) };
        let figures = paced(&queue, load, None).await.unwrap();
        assert_eq!((figures.count, figures.errors.count), (20, 0), "{:?}", figures.errors);
        // 20 jobs of 20 ms end 400 ms after the first was meant; the last was meant after 95 ms.
        assert!(figures.latency_us.unwrap().max >= 290_000.0, "{figures:?}");
    }

    #[test]
    fn a_payload_that_was_changed_is_noticed() {
        let clock = Instant::now();
        let intended = clock + Duration::from_millis(5);
        let payload = Payload::new(clock, intended);
        assert_eq!(Payload::intended(clock, payload.bytes()).unwrap(), intended);
        assert!(Payload::intended(clock, &payload.bytes()[1..]).is_err());
        assert!(Payload::intended(clock, &[b'x'; PAYLOAD]).is_err());
    }
}
