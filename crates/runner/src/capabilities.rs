//! What this machine can do.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Deserialize;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::SystemInfo;

/// What the configuration says instead of what would be measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// Memory in GiB.
    pub memory_gb: Option<u32>,
    /// Processors.
    pub cpu_cores: Option<u32>,
    /// Free disk in GiB.
    pub disk_space_gb: Option<u32>,
    /// A Docker engine answers.
    pub docker_enabled: Option<bool>,
    /// A Kubernetes cluster answers.
    pub kubernetes_enabled: Option<bool>,
    /// A GPU is present.
    pub gpu_enabled: Option<bool>,
    /// Memory of the largest GPU in GiB; never measured.
    pub gpu_memory_gb: Option<u32>,
    /// Actions held locally, as `owner/name`.
    pub supported_actions: Vec<String>,
}

/// Measures the machine for a runner that works in `work_dir`, and lets `overrides` have the last word.
#[must_use]
pub fn detect(work_dir: &Path, max_parallel_jobs: u32, overrides: &Overrides) -> Capabilities {
    measure(Path::new("/"), work_dir, max_parallel_jobs, overrides)
}

/// The labels that a runner has when none are asked for: `self-hosted`, the system and the architecture.
#[must_use]
pub fn default_labels() -> Vec<String> {
    vec!["self-hosted".to_owned(), operating_system().to_owned(), architecture().to_owned()]
}

/// The name that a runner has when none is asked for: the machine's.
#[must_use]
pub fn default_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = name.as_deref().and_then(|name| name.split('.').next()).filter(|name| !name.is_empty());
    name.unwrap_or("runner").chars().filter(char::is_ascii_graphic).take(64).collect()
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "x64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "x86") {
        "x86"
    } else {
        "arm"
    }
}

const fn operating_system() -> &'static str {
    if cfg!(target_os = "macos") { "macos" } else { "linux" }
}

/// `runner.os` and `runner.arch`, which jobs compare with the spelling of `actions/runner`
/// (`src/Runner.Common/Constants.cs`).
pub(crate) const fn job_spelling() -> (&'static str, &'static str) {
    let os = if cfg!(target_os = "macos") { "macOS" } else { "Linux" };
    let arch = if cfg!(target_arch = "x86_64") {
        "X64"
    } else if cfg!(target_arch = "aarch64") {
        "ARM64"
    } else if cfg!(target_arch = "x86") {
        "X86"
    } else {
        "ARM"
    };
    (os, arch)
}

/// As [`detect`], with the system's files looked for under `root`.
fn measure(root: &Path, work_dir: &Path, max_parallel_jobs: u32, overrides: &Overrides) -> Capabilities {
    let gpu = || root.join("dev/nvidia0").exists() || not_empty(&root.join("proc/driver/nvidia/gpus"));
    // A socket that nobody listens at is left behind by a stopped engine.
    let docker = || UnixStream::connect(root.join("var/run/docker.sock")).is_ok();
    let kubernetes = || root.join("var/run/secrets/kubernetes.io/serviceaccount/token").exists();
    Capabilities {
        architecture: architecture().to_owned(),
        operating_system: operating_system().to_owned(),
        memory_gb: overrides.memory_gb.unwrap_or_else(|| whole_gb(memory(root).map_or(0, |(total, _)| total))),
        cpu_cores: overrides.cpu_cores.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
        }),
        disk_space_gb: overrides
            .disk_space_gb
            .unwrap_or_else(|| whole_gb(disk(work_dir).map_or(0, |(_, available)| available))),
        docker_enabled: overrides.docker_enabled.unwrap_or_else(docker),
        kubernetes_enabled: overrides.kubernetes_enabled.unwrap_or_else(kubernetes),
        gpu_enabled: overrides.gpu_enabled.unwrap_or_else(gpu),
        gpu_memory_gb: overrides.gpu_memory_gb,
        max_parallel_jobs,
        supported_actions: overrides.supported_actions.clone(),
    }
}

/// Whether the service should hear of the change from `old` to `new`: any, except that free disk moves all the time
/// and counts by tenths.
pub(crate) fn differs(old: &Capabilities, new: &Capabilities) -> bool {
    let same_disk = Capabilities { disk_space_gb: old.disk_space_gb, ..new.clone() };
    same_disk != *old || old.disk_space_gb.abs_diff(new.disk_space_gb) > old.disk_space_gb / 10
}

fn whole_gb(bytes: u64) -> u32 {
    u32::try_from(bytes >> 30).unwrap_or(u32::MAX)
}

fn not_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// Total and available memory in bytes: the machine's or, when smaller, that of the control group.
fn memory(root: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:").unwrap_or(0));
    let number = |path: &str| fs::read_to_string(root.join(path)).ok()?.trim().parse::<u64>().ok();
    match number("sys/fs/cgroup/memory.max") {
        Some(limit) if limit < total => {
            let used = number("sys/fs/cgroup/memory.current").unwrap_or(0);
            Some((limit, limit.saturating_sub(used)))
        }
        _ => Some((total, available)),
    }
}

/// Total and available bytes of the file system that `dir` is or will be on.
fn disk(dir: &Path) -> Option<(u64, u64)> {
    let existing = dir.ancestors().find(|path| path.exists())?;
    let stat = nix::sys::statvfs::statvfs(existing).ok()?;
    let unit = stat.fragment_size();
    Some((stat.blocks() * unit, stat.blocks_available() * unit))
}

/// Measures how busy the machine is between one call and the next.
#[derive(Debug, Default)]
pub(crate) struct Load {
    before: Option<(u64, u64)>,
}

impl Load {
    /// The load since the last call; `None` at the first, and where it cannot be measured.
    pub(crate) fn measure(&mut self, work_dir: &Path) -> Option<SystemInfo> {
        let root = Path::new("/");
        let now = fs::read_to_string(root.join("proc/stat")).ok().as_deref().and_then(processor_times);
        let before = std::mem::replace(&mut self.before, now);
        let ((busy, total), (busy_before, total_before)) = (now?, before?);
        let (memory_total, memory_available) = memory(root)?;
        let (disk_total, disk_available) = disk(work_dir)?;
        Some(SystemInfo {
            cpu_usage: per_cent(busy.saturating_sub(busy_before), total.saturating_sub(total_before)),
            memory_usage: per_cent(memory_total.saturating_sub(memory_available), memory_total),
            disk_usage: per_cent(disk_total.saturating_sub(disk_available), disk_total),
        })
    }
}

/// Busy and total ticks of all processors together, of `/proc/stat`.
fn processor_times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; what follows is contained in user and nice.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    let total = ticks.iter().sum();
    Some((u64::saturating_sub(total, idle), total))
}

fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    // Tenths are enough, and keep the sum in whole numbers.
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    f64::from(u32::try_from(tenths.min(1000)).unwrap_or(1000)) / 10.0
}

#[cfg(test)]
mod tests;
