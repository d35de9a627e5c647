//! What parked polls cost a server process.

use anyhow::Context;
use serde::Serialize;

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
    fn the_slope_leaves_out_what_was_there_before() {
        let warm = Resident { now: 20_000, peak: 20_000 };
        let full = Resident { now: 29_000, peak: 30_000 };
        let slope = Slope::between((100, warm), (1000, full));
        assert!((slope.bytes_per_poll - 10_240.0).abs() < 0.01, "{slope:?}");
    }
}
