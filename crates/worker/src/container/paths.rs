//! Where directories of the host lie in a container.

use std::path::Path;

use crate::workspace::Directories;

/// Pairs of directories, host and container; the first one that holds a path says where it lies on the other side
/// (actions/runner `Runner.Worker/Container/ContainerInfo.cs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathMap {
    pairs: Vec<(String, String)>,
}

/// A directory of the host that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) host: String,
    pub(crate) container: String,
    pub(crate) read_only: bool,
}

const HOME: &str = "/github/home";
const WORKFLOW: &str = "/github/workflow";

/// Where programs of containers expect the engine to listen.
const SOCKET: &str = "/var/run/docker.sock";

/// Where the host's Node.js lies in a job's container.
pub(crate) const NODE: &str = "/__e/node";

impl PathMap {
    /// Those of a job's container.
    pub(crate) fn of_job(directories: &Directories, tools: &Path) -> Self {
        Self::new([
            (&*directories.workflow(), WORKFLOW),
            (&*directories.home(), HOME),
            (&*directories.work, "/__w"),
            (tools, "/__t"),
        ])
    }

    /// Those of an action's container.
    pub(crate) fn of_action(directories: &Directories, tools: &Path) -> Self {
        Self::new([
            (&*directories.workspace, "/github/workspace"),
            (&*directories.file_commands, "/github/file_commands"),
            (&*directories.workflow(), WORKFLOW),
            (&*directories.home(), HOME),
            (&*directories.temp, "/github/runner_temp"),
            (&*directories.work, "/__w"),
            (tools, "/__t"),
        ])
    }

    fn new<'a>(pairs: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Self {
        let pairs =
            pairs.into_iter().map(|(host, container)| (host.to_string_lossy().into_owned(), container.to_owned()));
        Self { pairs: pairs.collect() }
    }

    /// Where a path of the host lies in the container; anything else is answered as it is.
    pub(crate) fn to_container(&self, text: &str) -> String {
        moved(text, self.pairs.iter().map(|(host, container)| (&**host, &**container)))
    }

    /// Where a path of the container lies on the host; anything else is answered as it is.
    pub(crate) fn to_host(&self, text: &str) -> String {
        moved(text, self.pairs.iter().map(|(host, container)| (&**container, &**host)))
    }

    /// Whether a path of the container lies on the host.
    pub(crate) fn is_shared(&self, text: &str) -> bool {
        self.pairs.iter().any(|(_, container)| beyond(text, container).is_some())
    }

    /// What a container mounts so that this map holds: all of it, or only what lies under `/github`.
    pub(crate) fn mounts(&self, all: bool) -> Vec<Mount> {
        let mounted = self.pairs.iter().filter(|(_, container)| all || container.starts_with("/github/"));
        let mut mounts: Vec<Mount> = mounted
            .map(|(host, container)| Mount { host: host.clone(), container: container.clone(), read_only: false })
            .collect();
        if Path::new(SOCKET).exists() {
            mounts.push(Mount { host: SOCKET.to_owned(), container: SOCKET.to_owned(), read_only: false });
        }
        mounts
    }
}

/// The rest of `text` behind the directory `root`.
fn beyond<'t>(text: &'t str, root: &str) -> Option<&'t str> {
    text.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn moved<'p>(text: &str, pairs: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    for (from, to) in pairs {
        if let Some(rest) = beyond(text, from) {
            return format!("{to}{rest}");
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories() -> Directories {
        Directories::of(Path::new("/r/_work"), "demo")
    }

    #[test]
    fn paths_of_a_job_are_found_on_both_sides() {
        let map = PathMap::of_job(&directories(), Path::new("/opt/tools"));
        for (host, container) in [
            ("/r/_work/demo/demo", "/__w/demo/demo"),
            ("/r/_work", "/__w"),
            ("/r/_work/_temp/x.sh", "/__w/_temp/x.sh"),
            ("/r/_work/_temp/_github_workflow/event.json", "/github/workflow/event.json"),
            ("/r/_work/_temp/_github_home", "/github/home"),
            ("/opt/tools/node", "/__t/node"),
        ] {
            assert_eq!(map.to_container(host), container);
            assert_eq!(map.to_host(container), host);
        }
        for elsewhere in ["/r/_workshop", "/opt/toolshed", "relative", "", "see /r/_work"] {
            assert_eq!(map.to_container(elsewhere), elsewhere);
            assert!(!map.is_shared(elsewhere));
        }
        assert!(map.is_shared("/__w/x") && !map.is_shared("/__work"));
    }

    #[test]
    fn an_action_sees_the_workspace_under_github() {
        let map = PathMap::of_action(&directories(), Path::new("/opt/tools"));
        for (host, container) in [
            ("/r/_work/demo/demo/a", "/github/workspace/a"),
            ("/r/_work/_temp/_runner_file_commands/set_env_1", "/github/file_commands/set_env_1"),
            ("/r/_work/_temp/_github_workflow/event.json", "/github/workflow/event.json"),
            ("/r/_work/_temp/file", "/github/runner_temp/file"),
            ("/r/_work/_actions/acme", "/__w/_actions/acme"),
        ] {
            assert_eq!(map.to_container(host), container);
        }
        let mounted: Vec<String> = map.mounts(false).into_iter().map(|mount| mount.container).collect();
        assert!(mounted.iter().all(|path| path.starts_with("/github/") || path == SOCKET), "{mounted:?}");
    }
}
