//! Processes that outlive the worker that started them.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often the process table is read: a process may start another one while it is being looked for.
const PASSES: usize = 5;

/// Kills every process that has `mark`, a `NAME=value`, in the environment that it was started with, and gives how
/// many there were. As `actions/runner` does with `RUNNER_TRACKING_ID` (`src/Runner.Worker/JobExtension.cs`).
///
/// Reads `/proc`; where there is none, nothing is found.
pub(super) fn kill_marked(mark: &str) -> usize {
    let mut killed = 0;
    for _ in 0..PASSES {
        let found = marked(Path::new("/proc"), mark.as_bytes());
        if found.is_empty() {
            break;
        }
        killed += found.into_iter().filter(|pid| kill(*pid, Signal::SIGKILL).is_ok()).count();
    }
    killed
}

fn marked(proc: &Path, mark: &[u8]) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let has_mark = |path: &Path| {
        // Unreadable: somebody else's, and not started by a worker of ours. A zombie's is empty.
        fs::read(path.join("environ")).is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|v| v == mark))
    };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, path)| has_mark(path))
        .map(|(pid, _)| Pid::from_raw(pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that runs until it is killed. It has answered: just after its start its environment is empty still.
    fn marked_process(mark: &str) -> Child {
        let mut command = Command::new("cat");
        command.env("MARK_OF_THE_TEST", mark).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        process.stdin.as_mut().unwrap().write_all(b".").unwrap();
        process.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        process
    }

    #[test]
    fn a_marked_process_is_killed_and_its_neighbour_is_not() {
        let (mut ours, mut other) = (marked_process("ours"), marked_process("ours-not"));
        assert!(kill_marked("MARK_OF_THE_TEST=ours") >= 1);
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
