//! What the process uses, read from /proc at each scrape; names as in Prometheus' own clients.
//!
//! Elsewhere than on Linux there is no /proc, and the metrics are absent rather than wrong.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// /proc counts time in these: `USER_HZ`, which is 100 on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let usage = Usage::read();
        let gauges = [
            ("process_open_fds", "Open file descriptors", usage.open_fds),
            ("process_max_fds", "Most file descriptors that may be open", usage.max_fds),
            ("process_resident_memory_bytes", "Memory in use", usage.resident_bytes),
            ("process_virtual_memory_bytes", "Address space in use", usage.virtual_bytes),
            ("process_threads", "Threads", usage.threads),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, ConstGauge::new(value))?;
            }
        }
        if let Some(started) = usage.started {
            gauge(&mut encoder, "process_start_time_seconds", "Start, since the epoch", ConstGauge::new(started))?;
        }
        if let Some(cpu) = usage.cpu_seconds {
            let counter = ConstCounter::new(cpu);
            let help = "Processor time used, user and system.";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, gauge: impl EncodeMetric) -> fmt::Result {
    gauge.encode(encoder.encode_descriptor(name, &format!("{help}."), None, gauge.metric_type())?)
}

#[derive(Debug, Default)]
struct Usage {
    open_fds: Option<i64>,
    max_fds: Option<i64>,
    resident_bytes: Option<i64>,
    virtual_bytes: Option<i64>,
    threads: Option<i64>,
    cpu_seconds: Option<f64>,
    started: Option<f64>,
}

impl Usage {
    fn read() -> Self {
        // Listing the directory opens it: one descriptor that is not there otherwise.
        let open_fds = fs::read_dir("/proc/self/fd").ok().and_then(|entries| i64::try_from(entries.count()).ok());
        let mut usage = Self { open_fds: open_fds.map(|count| count - 1), ..Self::default() };
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            usage.max_fds = max_fds(&limits);
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            usage.resident_bytes = field(&status, "VmRSS:").map(|kib| kib * 1024);
            usage.virtual_bytes = field(&status, "VmSize:").map(|kib| kib * 1024);
            usage.threads = field(&status, "Threads:");
        }
        if let Some((cpu, start)) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(times) {
            usage.cpu_seconds = Some(cpu);
            let boot = fs::read_to_string("/proc/stat").ok().and_then(|stat| field(&stat, "btime"));
            usage.started = boot.and_then(|boot| i32::try_from(boot).ok()).map(|boot| f64::from(boot) + start);
        }
        usage
    }
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

/// The soft limit of open files; none when it is unlimited.
fn max_fds(limits: &str) -> Option<i64> {
    field(limits, "Max open files")
}

/// Processor seconds used, and seconds from the boot to the start of the process.
fn times(stat: &str) -> Option<(f64, f64)> {
    // The second field is the name in parentheses, which may contain anything; fields are counted from its end.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    // proc_pid_stat(5): utime is field 14, stime 15, starttime 22; the first here is field 3.
    let user: u32 = fields.nth(11)?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    let start: f64 = fields.nth(6)?.parse().ok()?;
    Some(((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND, start / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 12345 0 0";
        assert_eq!(times(stat), Some((3.0, 123.45)));
        assert_eq!(times("7 (short) S 1"), None);
        assert_eq!(times(""), None);
    }

    #[test]
    fn the_limit_of_files_is_the_soft_one() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024    4096    files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds("Max open files   unlimited    unlimited    files\n"), None);
    }

    #[test]
    fn this_process_has_plausible_numbers() {
        let usage = Usage::read();
        assert!(usage.open_fds.unwrap() >= 3, "{usage:?}");
        assert!(usage.resident_bytes.unwrap() > 1 << 20, "{usage:?}");
        assert!(usage.threads.unwrap() >= 1, "{usage:?}");
        let now = jiff::Timestamp::now().as_second();
        let started = usage.started.unwrap();
        assert!((1.6e9..f64::from(i32::try_from(now + 10).unwrap())).contains(&started), "{usage:?}");
        assert!(usage.cpu_seconds.unwrap() >= 0.0, "{usage:?}");
    }
}
