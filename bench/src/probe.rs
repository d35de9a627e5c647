//! How the machine is in this moment: the disk, a processor, who else is there. Stored beside every result.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use crate::machine::{self, Processors};
use crate::sample::{Latencies, Quantiles};

/// Bytes that are written before each sync: what a small record takes.
const BYTES: usize = 512;

/// The time of day, as it stands in results.
pub(crate) fn time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The machine at one time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// `fdatasync` after 512 B were appended, in microseconds.
    pub(crate) fdatasync_us: Quantiles,
    /// Million rounds a second of a loop that one thread runs.
    pub(crate) loop_mhz: f64,
    /// Share of the time that the host took away meanwhile, in per cent.
    pub(crate) steal_percent: f64,
    /// Load average of the last minute when it began.
    pub(crate) load: f64,
}

impl Probe {
    /// Measures for about `lasting`, writing to a file in `directory`.
    pub(crate) fn take(directory: &Path, lasting: Duration) -> anyhow::Result<Self> {
        let load = machine::load_average();
        let (begun, before) = (Instant::now(), Processors::now());
        let fdatasync_us = syncs(directory, lasting / 2)?;
        let loop_mhz = spin(lasting / 2);
        let stolen = Processors::now().stolen - before.stolen;
        let share = stolen / (begun.elapsed().as_secs_f64() * machine::processors());
        Ok(Self { fdatasync_us, loop_mhz, steal_percent: share * 100.0, load })
    }

    /// One line for people.
    pub(crate) fn text(&self) -> String {
        format!(
            "fdatasync of 512 B p50 {:.0} µs p99 {:.0} µs, loop {:.0} M/s, steal {:.1} %, load average {:.2}",
            self.fdatasync_us.p50, self.fdatasync_us.p99, self.loop_mhz, self.steal_percent, self.load
        )
    }
}

fn syncs(directory: &Path, lasting: Duration) -> anyhow::Result<Quantiles> {
    let mut file: File =
        tempfile::tempfile_in(directory).with_context(|| format!("cannot write to {}", directory.display()))?;
    let mut latencies = Latencies::new();
    let until = Instant::now() + lasting;
    loop {
        file.write_all(&[0x5a; BYTES])?;
        let begun = Instant::now();
        file.sync_data()?;
        latencies.add(begun.elapsed());
        if Instant::now() >= until {
            return latencies.quantiles().context("nothing was synced");
        }
    }
}

fn spin(lasting: Duration) -> f64 {
    const BATCH: u64 = 100_000;
    let begun = Instant::now();
    let mut rounds = 0_u64;
    let mut value = 1_u64;
    while begun.elapsed() < lasting {
        for _ in 0..BATCH {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        rounds += BATCH;
    }
    rounds as f64 / begun.elapsed().as_secs_f64() / 1e6
}

/// Who else used the processors while something was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Company {
    /// Load average before and after.
    pub(crate) load_before: f64,
    pub(crate) load_after: f64,
    /// Processors that others kept busy, on average: neither this process nor one that it started.
    pub(crate) others: f64,
    /// Share of the time that the host took away, in per cent.
    pub(crate) steal_percent: f64,
}

/// Begins to look at who else is there.
pub(crate) struct Watch {
    begun: Instant,
    load: f64,
    machine: Processors,
    ours: Duration,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            load: machine::load_average(),
            machine: Processors::now(),
            ours: machine::tree_time(std::process::id()),
        }
    }

    pub(crate) fn end(&self) -> Company {
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let now = Processors::now();
        let ours = machine::tree_time(std::process::id()).saturating_sub(self.ours).as_secs_f64();
        Company {
            load_before: self.load,
            load_after: machine::load_average(),
            others: ((now.busy - self.machine.busy - ours) / seconds).max(0.0),
            steal_percent: (now.stolen - self.machine.stolen) / (seconds * machine::processors()) * 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_measures_the_disk_and_a_processor() {
        let probe = Probe::take(&std::env::temp_dir(), Duration::from_millis(60)).unwrap();
        assert!(probe.fdatasync_us.p99 >= probe.fdatasync_us.p50 && probe.fdatasync_us.max > 0.0, "{probe:?}");
        assert!(probe.loop_mhz > 1.0, "{probe:?}");
    }
}
