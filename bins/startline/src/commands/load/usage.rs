//! What a process takes of the machine.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::report::round;

/// How the kernel counts processor time for programs, on every machine: in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Processor time that a process has used.
pub(super) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_stat(&text).with_context(|| format!("no times in {path}"))
}

/// The 14th and 15th field; the second is a name in parentheses, which may have blanks and parentheses itself.
fn parse_stat(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// What the service cost while it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServerCost {
    pub(super) cpu_us_per_op: Option<f64>,
    /// Per cent of one core.
    pub(super) cpu_percent: f64,
    pub(super) user_kib: u64,
    pub(super) peak_kib: u64,
    pub(super) kernel_kib: Option<u64>,
}

/// Processor time of the service and of this process at the same moment.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    at: tokio::time::Instant,
    servers: Vec<(u32, Duration)>,
    own: Duration,
}

impl Moment {
    /// Now; a process of the service that is gone is left out, which the callers notice in other ways.
    pub(super) fn now<'a>(servers: impl IntoIterator<Item = &'a u32>) -> anyhow::Result<Self> {
        let times = servers.into_iter().map(|pid| processor_time(*pid).map(|time| (*pid, time)));
        let servers = times.filter_map(Result::ok).collect();
        Ok(Self { at: tokio::time::Instant::now(), servers, own: processor_time(std::process::id())? })
    }

    pub(super) const fn at(&self) -> tokio::time::Instant {
        self.at
    }

    /// What was used from then to `later`.
    pub(super) fn until(&self, later: &Self) -> Spent {
        let before = |wanted: u32| self.servers.iter().find(|(pid, _)| *pid == wanted);
        let used = |(pid, after): &(u32, Duration)| Some((*pid, after.saturating_sub(before(*pid)?.1)));
        let servers = later.servers.iter().filter_map(used).collect();
        Spent { time: later.at - self.at, servers, own: later.own.saturating_sub(self.own) }
    }
}

/// Processor time that was used in a time, by the service and by this process.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    pub(super) time: Duration,
    servers: Vec<(u32, Duration)>,
    own: Duration,
}

impl Spent {
    /// Adds what was used in a time after it.
    pub(super) fn add(&mut self, other: &Self) {
        self.time += other.time;
        self.own += other.own;
        for ((_, used), (_, more)) in self.servers.iter_mut().zip(&other.servers) {
            *used += *more;
        }
    }

    /// What the service cost, over so many operations.
    pub(super) fn server(&self, operations: u64) -> anyhow::Result<Option<ServerCost>> {
        let Some(used) = self.servers_used() else { return Ok(None) };
        let pids: Vec<u32> = self.servers.iter().map(|(pid, _)| *pid).collect();
        let resident = Resident::of_all(&pids)?;
        Ok(Some(ServerCost {
            cpu_us_per_op: per(used, operations),
            cpu_percent: round(100.0 * used.as_secs_f64() / self.time.as_secs_f64().max(1e-6)),
            user_kib: resident.now,
            peak_kib: resident.peak,
            kernel_kib: None,
        }))
    }

    /// What all processes of the service used; `None` when none is known.
    fn servers_used(&self) -> Option<Duration> {
        (!self.servers.is_empty()).then(|| self.servers.iter().map(|(_, used)| *used).sum())
    }

    /// Microseconds of the service for each of so many operations.
    pub(super) fn server_each(&self, operations: u64) -> Option<f64> {
        self.servers_used().and_then(|used| per(used, operations))
    }

    /// Microseconds of this process for each of so many operations.
    pub(super) fn own_each(&self, operations: u64) -> Option<f64> {
        per(self.own, operations)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per(used: Duration, operations: u64) -> Option<f64> {
    (operations > 0).then(|| round(used.as_secs_f64() * 1e6 / operations as f64))
}

/// Resident memory of a process in KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    pub(super) now: u64,
    pub(super) peak: u64,
}

impl Resident {
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("no VmRSS in {path}"))
    }

    /// Of several processes together.
    pub(super) fn of_all(pids: &[u32]) -> anyhow::Result<Self> {
        let all = pids.iter().map(|pid| Self::of(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { now: all.iter().map(|one| one.now).sum(), peak: all.iter().map(|one| one.peak).sum() })
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            rest.trim().strip_suffix(" kB")?.trim().parse().ok()
        };
        Some(Self { now: field("VmRSS:")?, peak: field("VmHWM:")? })
    }
}

/// What the kernel holds for sockets, on the whole machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Kernel {
    /// All of its small objects (`Slab` in `/proc/meminfo`), and the buffers of TCP (`/proc/net/sockstat`), in KiB.
    slab_kib: u64,
    tcp_kib: u64,
    how: &'static str,
}

impl Kernel {
    /// Now; nothing where the kernel does not say.
    pub(super) fn now() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/meminfo"), &read("/proc/net/sockstat"))
    }

    fn parse(memory: &str, sockets: &str) -> Self {
        let slab = memory.lines().find_map(|line| line.strip_prefix("Slab:")?.trim().strip_suffix(" kB"));
        let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:")?.split(" mem ").nth(1));
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or_default();
        // Pages of four KiB.
        let how = "slab and TCP buffers of the machine; half of it is the service's, as both ends are here";
        Self { slab_kib: number(slab), tcp_kib: 4 * number(tcp), how }
    }

    /// How much more it is than before.
    pub(super) const fn since(&self, before: &Self) -> Self {
        let slab_kib = self.slab_kib.saturating_sub(before.slab_kib);
        Self { slab_kib, tcp_kib: self.tcp_kib.saturating_sub(before.tcp_kib), how: self.how }
    }

    /// The service's part.
    pub(super) const fn half_kib(&self) -> u64 {
        (self.slab_kib + self.tcp_kib) / 2
    }
}

/// Memory at two points of the same process: the slope is free of what the process needs anyway.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Slope {
    /// Polls at the first point, and resident KiB.
    pub(super) warm_polls: u32,
    pub(super) warm_kib: u64,
    /// Polls at the second, and resident KiB.
    pub(super) polls: u32,
    pub(super) kib: u64,
    /// Most that was ever resident.
    pub(super) peak_kib: u64,
    /// The slope.
    pub(super) bytes_per_poll: f64,
}

impl Slope {
    pub(super) fn between(warm: (u32, Resident), full: (u32, Resident)) -> Self {
        let polls = f64::from(full.0.saturating_sub(warm.0).max(1));
        // Below 2^52 KiB, so exact.
        #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
        let grown = full.1.now as f64 - warm.1.now as f64;
        Self {
            warm_polls: warm.0,
            warm_kib: warm.1.now,
            polls: full.0,
            kib: full.1.now,
            peak_kib: full.1.peak,
            bytes_per_poll: grown * 1024.0 / polls,
        }
    }
}

/// How many polls to open before the first measurement: enough to have touched everything once.
pub(super) const fn warm(polls: u32) -> u32 {
    polls.div_ceil(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        let text = "Name:\tstartline\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nRssAnon:\t 8000 kB\n";
        let resident = Resident::parse(text).unwrap();
        assert_eq!((resident.now, resident.peak), (10_240, 20_480));
        assert!(Resident::parse("VmRSS: lots").is_none());
    }

    #[test]
    fn processor_time_is_read_behind_a_name_with_blanks() {
        let text = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 123 77 0 0 20 0 1 0 1 1 1";
        assert_eq!(parse_stat(text), Some(Duration::from_secs(2)));
        assert_eq!(parse_stat("7 (a"), None);
        assert!(processor_time(std::process::id()).is_ok());
    }

    #[test]
    fn memory_of_sockets_is_read_from_the_kernels_words() {
        let memory = |slab: u32| format!("MemFree: 7 kB\nSlab:   {slab} kB\nSReclaimable: 9 kB\n");
        let sockets = |pages: u32| format!("sockets: used 9\nTCP: inuse 5 alloc 5 mem {pages}\nUDP: inuse 1 mem 99\n");
        let before = Kernel::parse(&memory(1000), &sockets(3));
        let grown = Kernel::parse(&memory(1600), &sockets(28)).since(&before);
        assert_eq!((grown.slab_kib, grown.tcp_kib, grown.half_kib()), (600, 100, 350));
        assert_eq!(Kernel::parse("", "").half_kib(), 0);
    }

    #[test]
    fn the_slope_leaves_out_what_was_there_before() {
        let warm = Resident { now: 20_000, peak: 20_000 };
        let full = Resident { now: 29_000, peak: 30_000 };
        let slope = Slope::between((100, warm), (1000, full));
        assert!((slope.bytes_per_poll - 10_240.0).abs() < 0.01, "{slope:?}");
    }
}
