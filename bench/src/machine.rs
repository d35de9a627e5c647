//! What the kernel says of this machine and of processes on it.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};
use tokio::time::Duration;

/// Open files that a process has beside the connections that are counted.
const RESERVE: u64 = 64;

/// Raises the limit of open files as far as this process may, and says how far that is.
pub(crate) fn raise_descriptors() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Refuses more connections than a process on this machine may have. `remedy` says what to ask for instead.
pub(crate) fn check_descriptors(sockets: u32, remedy: &str) -> anyhow::Result<()> {
    let limit = raise_descriptors().context("cannot raise the limit of open files")?;
    anyhow::ensure!(
        u64::from(sockets) + RESERVE <= limit,
        "{sockets} connections need more open files than this system allows a process ({limit}, `ulimit -Hn`); {remedy}"
    );
    Ok(())
}

/// Number of processors.
pub(crate) fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64
}

/// Load average of the last minute.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// Processor time of the whole machine since it was started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Processors {
    /// Seconds in which a processor worked for anybody.
    pub(crate) busy: f64,
    /// Seconds that the host took away.
    pub(crate) stolen: f64,
}

impl Processors {
    pub(crate) fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&text, ticks_per_second()).unwrap_or(Self { busy: f64::NAN, stolen: f64::NAN })
    }

    fn parse(text: &str, ticks: f64) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal
        let [user, nice, system, _, _, irq, softirq, stolen, ..] = fields[..] else { return None };
        Some(Self { busy: (user + nice + system + irq + softirq) / ticks, stolen: stolen / ticks })
    }
}

/// Fields of `/proc/PID/stat` behind the name, which may contain anything.
fn stat(text: &str) -> Option<Vec<i64>> {
    let rest = text.get(text.rfind(')')? + 1..)?;
    Some(rest.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect())
}

/// Processor time of a process and of all that it started, dead or alive.
pub(crate) fn tree_time(pid: u32) -> Duration {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else { continue };
        let text = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // ppid is the 4th field, utime, stime, cutime and cstime the 14th to 17th.
        if let Some(fields) = stat(&text)
            && let (Some(parent), Some(times)) = (fields.first(), fields.get(10..14))
        {
            parents.push((number, *parent, times.iter().sum::<i64>()));
        }
    }
    let mut family = HashSet::from([i64::from(pid)]);
    loop {
        let before = family.len();
        family.extend(
            parents.iter().filter(|(_, parent, _)| family.contains(parent)).map(|(pid, ..)| *pid).collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    let ticks: i64 = parents.iter().filter(|(pid, ..)| family.contains(pid)).map(|(.., ticks)| ticks).sum();
    Duration::from_secs_f64(ticks.max(0) as f64 / ticks_per_second())
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("no VmRSS in {path}"))
    }

    fn parse(status: &str) -> Option<Self> {
        Some(Self { resident: kib(status, "VmRSS:")?, peak: kib(status, "VmHWM:")? })
    }
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Slab memory of the kernel in KiB: where sockets live.
pub(crate) fn slab() -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/meminfo").ok()?, "Slab:")
}

/// The first line that a command prints, such as a version.
pub(crate) fn first_line(program: impl AsRef<Path>, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program.as_ref()).args(arguments).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_from_the_kernels_words() {
        let found = Processors::parse("cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 2\n", 100.0).unwrap();
        assert!((found.busy - 1.63).abs() < 1e-9 && (found.stolen - 0.08).abs() < 1e-9, "{found:?}");
        assert_eq!(Processors::parse("intr 1", 100.0), None);
    }

    #[test]
    fn a_name_with_brackets_and_spaces_hides_no_field() {
        assert_eq!(stat("12 (a) b) S 7 8 9").unwrap(), [7, 8, 9]);
    }

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        let text = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(Memory::parse(text), Some(Memory { resident: 10_240, peak: 20_480 }));
        assert_eq!(Memory::parse("VmRSS: lots"), None);
    }

    #[test]
    fn this_process_has_used_some_time_and_memory() {
        let begun = tree_time(std::process::id());
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while tree_time(std::process::id()) <= begun {
            assert!(tokio::time::Instant::now() < until, "no time is counted");
        }
        assert!(Memory::of(std::process::id()).unwrap().resident > 100);
    }
}
