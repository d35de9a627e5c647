//! A real engine for one test: podman, with storage of its own and an image made of one static program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::Said;

/// The containers that the machine's limits allow, and networks whose containers know each other by name.
const CONFIGURATION: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\nlog_driver = \
                             \"k8s-file\"\n[engine]\nevents_logger = \"file\"\n[network]\nnetwork_backend = \"netavark\"\n";

/// Podman that runs, until the test is over.
pub(super) struct Podman {
    folder: tempfile::TempDir,
    /// Keeps the mount namespace in which it runs.
    holder: Child,
}

impl Podman {
    /// None, and a line that says why, where no container can be run on this machine.
    pub(super) fn start() -> Option<Self> {
        match Self::try_start() {
            Ok(podman) => Some(podman),
            Err(why) => {
                anstream::eprintln!("skipped: containers cannot be run on this machine: {why}");
                None
            }
        }
    }

    fn try_start() -> Result<Self, String> {
        let busybox = Path::new("/bin/busybox");
        if !busybox.is_file() {
            return Err("there is no /bin/busybox; ./test installs busybox-static".to_owned());
        }
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let networks = format!("network_config_dir = \"{}/networks\"\n", at.display());
        fs::write(at.join("containers.conf"), format!("{CONFIGURATION}{networks}")).unwrap();
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n", at.display());
        fs::write(at.join("storage.conf"), storage).unwrap();
        // Where version 1 of control groups is mounted beside version 2, runtimes take it for version 1 and fail.
        let hold = "umount /sys/fs/cgroup/unified 2>/dev/null; echo held; exec cat";
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", hold])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut said = [0; 5];
        let held = std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said);
        let podman = Self { folder, holder };
        held.map_err(|_| "a mount namespace cannot be made".to_owned())?;
        let script = format!(
            "#!/bin/sh\nexport CONTAINERS_CONF={0}/containers.conf CONTAINERS_STORAGE_CONF={0}/storage.conf\nexec nsenter --mount --target {1} \
             --wd=\"$PWD\" podman \"$@\"\n",
            podman.folder.path().display(),
            podman.holder.id()
        );
        fs::write(podman.program(), script).unwrap();
        fs::set_permissions(podman.program(), fs::Permissions::from_mode(0o755)).unwrap();
        podman.import(busybox)?;
        podman.must(&["run", "--rm", "localhost/busy:1", "true"])?;
        Ok(podman)
    }

    /// Makes an image that has a shell and what goes with it.
    fn import(&self, busybox: &Path) -> Result<(), String> {
        let bin = self.folder.path().join("root/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(self.folder.path().join("root/tmp")).unwrap();
        fs::copy(busybox, bin.join("busybox")).unwrap();
        let list = Command::new(busybox).arg("--list").output().unwrap();
        for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        let archive = self.folder.path().join("busy.tar");
        let packed = Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(self.folder.path().join("root"))
            .arg(".")
            .status();
        assert!(packed.unwrap().success());
        self.must(&["import", "--quiet", archive.to_str().unwrap(), "localhost/busy:1"]).map(drop)
    }

    /// What is to be named as the engine's program.
    pub(super) fn program(&self) -> PathBuf {
        self.folder.path().join("podman")
    }

    fn must(&self, arguments: &[&str]) -> Result<String, String> {
        let said = Command::new(self.program()).args(arguments).stdin(Stdio::null()).output();
        let said: Said = said.map_err(|error| error.to_string())?.into();
        if said.code == Some(0) {
            Ok(said.out)
        } else {
            Err(format!("podman {}: {}", arguments.join(" "), said.err.trim()))
        }
    }

    /// All containers that there are.
    pub(super) fn containers(&self) -> Vec<String> {
        let said = self.must(&["ps", "--all", "--quiet"]).unwrap();
        said.lines().map(str::to_owned).collect()
    }

    /// Containers, and networks that jobs have made.
    pub(super) fn left(&self) -> Vec<String> {
        let networks = self.must(&["network", "ls", "--quiet", "--filter", "label=startline.instance"]).unwrap();
        self.containers().into_iter().chain(networks.lines().map(str::to_owned)).collect()
    }

    pub(super) fn has_nothing_left(&self) {
        assert_eq!(self.left(), Vec::<String>::new());
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // They would outlive the namespace.
        let _ = self.must(&["rm", "--all", "--force", "--time", "0"]);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
