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
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    at: tokio::time::Instant,
    server: Option<(u32, Duration)>,
    own: Duration,
}

impl Moment {
    /// Now; the service's part is left out when its process is not known, or gone, which its callers notice.
    pub(super) fn now(server: Option<u32>) -> anyhow::Result<Self> {
        let of_server = server.and_then(|pid| processor_time(pid).ok().map(|time| (pid, time)));
        Ok(Self { at: tokio::time::Instant::now(), server: of_server, own: processor_time(std::process::id())? })
    }

    pub(super) const fn at(&self) -> tokio::time::Instant {
        self.at
    }

    /// What was used from then to `later`.
    pub(super) fn until(&self, later: &Self) -> Spent {
        let server =
            self.server.zip(later.server).map(|((pid, before), (_, after))| (pid, after.saturating_sub(before)));
        Spent { time: later.at - self.at, server, own: later.own.saturating_sub(self.own) }
    }
}

/// Processor time that was used in a time, by the service and by this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) time: Duration,
    server: Option<(u32, Duration)>,
    own: Duration,
}

impl Spent {
    /// Adds what was used in a time after it.
    pub(super) fn add(&mut self, other: &Self) {
        self.time += other.time;
        self.own += other.own;
        if let (Some((_, used)), Some((_, more))) = (&mut self.server, other.server) {
            *used += more;
        }
    }

    /// What the service cost, over so many operations.
    pub(super) fn server(&self, operations: u64) -> anyhow::Result<Option<ServerCost>> {
        let Some((pid, used)) = self.server else { return Ok(None) };
        let resident = Resident::of(pid)?;
        Ok(Some(ServerCost {
            cpu_us_per_op: per(used, operations),
            cpu_percent: round(100.0 * used.as_secs_f64() / self.time.as_secs_f64().max(1e-6)),
            user_kib: resident.now,
            peak_kib: resident.peak,
            kernel_kib: None,
        }))
    }

    /// Microseconds of the service for each of so many operations.
    pub(super) fn server_each(&self, operations: u64) -> Option<f64> {
        self.server.and_then(|(_, used)| per(used, operations))
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

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            rest.trim().strip_suffix(" kB")?.trim().parse().ok()
        };
        Some(Self { now: field("VmRSS:")?, peak: field("VmHWM:")? })
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
    fn the_slope_leaves_out_what_was_there_before() {
        let warm = Resident { now: 20_000, peak: 20_000 };
        let full = Resident { now: 29_000, peak: 30_000 };
        let slope = Slope::between((100, warm), (1000, full));
        assert!((slope.bytes_per_poll - 10_240.0).abs() < 0.01, "{slope:?}");
    }
}
