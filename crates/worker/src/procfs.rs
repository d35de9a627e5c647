//! Which processes there are, from `/proc`. Elsewhere than on Linux the answers are empty.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What `/proc/<pid>/stat` says.
struct Stat {
    pid: i32,
    parent: i32,
    group: i32,
    state: char,
}

fn stats() -> Vec<Stat> {
    pids()
        .into_iter()
        .filter_map(|pid| stat(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

fn pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The name in parentheses may hold anything, so the fields are counted from its end.
fn stat(pid: i32, text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Stat { pid, parent, group, state })
}

/// Whether a process of `group` still runs. A zombie does not.
pub(crate) fn group_runs(group: Pid) -> bool {
    stats().iter().any(|stat| stat.group == group.as_raw() && !matches!(stat.state, 'Z' | 'X'))
}

/// Kills every descendant of `root`, wherever it moved itself, but not `root`.
pub(crate) fn kill_descendants(root: Pid) {
    let stats = stats();
    let mut found = vec![root.as_raw()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(stats.iter().filter(|stat| stat.parent == parent && stat.pid != parent).map(|stat| stat.pid));
        next += 1;
    }
    for pid in &found[1..] {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// Kills every process whose environment holds `variable`, and says which: id and name.
pub(crate) fn kill_marked(variable: &str) -> Vec<(i32, String)> {
    let own = std::process::id();
    let mut killed = Vec::new();
    for pid in pids() {
        if u32::try_from(pid) == Ok(own) {
            continue;
        }
        let folder = Path::new("/proc").join(pid.to_string());
        let Ok(environment) = std::fs::read(folder.join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()) {
            let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default().trim_end().to_owned();
            if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                killed.push((pid, name));
            }
        }
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = stat(7, "7 (a) b (c)) S 1 5 5 0 -1").unwrap();
        assert_eq!((stat.pid, stat.state, stat.parent, stat.group), (7, 'S', 1, 5));
    }

    #[test]
    fn marked_processes_are_killed_and_named() {
        let mark = format!("STARTLINE_TEST_MARK={}", uuid::Uuid::new_v4());
        let (name, value) = mark.split_once('=').unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").env(name, value).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Between fork and exec the child still has the environment and the name of this process.
        let environ = format!("/proc/{pid}/environ");
        while !String::from_utf8_lossy(&std::fs::read(&environ).unwrap()).contains(&mark) {
            std::thread::yield_now();
        }
        assert_eq!(kill_marked(&mark), [(pid, "sleep".to_owned())]);
        assert!(!child.wait().unwrap().success());
    }
}
