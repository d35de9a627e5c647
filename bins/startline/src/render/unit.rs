//! Units for systemd: a service that starts with the machine, restarts after a fault and may do little else.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What a unit is made for.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// What follows `Startline`, such as `runner build-1`.
    pub what: String,
    /// Who it runs as.
    pub user: String,
    /// This program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The one directory that it writes to.
    pub directory: PathBuf,
    /// A certificate authority that it trusts besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The file with further environment; need not exist.
    pub environment_file: &'static str,
}

/// What neither a service nor jobs need. Jobs do need namespaces, and memory that is written and executed (browsers,
/// JavaScript).
const SHARED: &str = "\
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictSUIDSGID=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RestrictRealtime=yes
";

impl Unit {
    /// The unit of a runner. `ephemeral` ones end with their job and must not be started again.
    pub(crate) fn runner(&self, ephemeral: bool, gpu: bool) -> String {
        let restart =
            if ephemeral { "# It takes one job and is gone.\nRestart=no\n" } else { "Restart=always\nRestartSec=5\n" };
        let devices = if gpu { "" } else { "PrivateDevices=yes\n" };
        self.text(&format!(
            "{restart}\
             # The first signal: take no more jobs, finish those that run. What still runs after this time is killed.\n\
             KillMode=mixed\n\
             TimeoutStopSec=1h\n\
             # A job that needs too much memory ends alone.\n\
             OOMPolicy=continue\n\
             # What follows takes away what it does not need. Jobs cannot become root: if yours must, take out\n\
             # NoNewPrivileges, RestrictSUIDSGID and CapabilityBoundingSet, and every job owns the machine.\n\
             {SHARED}{devices}"
        ))
    }

    /// The unit of the service.
    pub(crate) fn server(&self) -> String {
        self.text(&format!(
            "Restart=always\n\
             RestartSec=1\n\
             # Open requests are answered first (--drain-timeout).\n\
             TimeoutStopSec=90\n\
             # Each poll that waits is an open socket.\n\
             LimitNOFILE=524288\n\
             # What follows takes away what it does not need. For a port below 1024 add CAP_NET_BIND_SERVICE to both\n\
             # CapabilityBoundingSet and AmbientCapabilities.\n\
             {SHARED}\
             PrivateDevices=yes\n\
             MemoryDenyWriteExecute=yes\n\
             RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
             RestrictNamespaces=yes\n\
             SystemCallArchitectures=native\n\
             SystemCallFilter=@system-service\n\
             UMask=0077\n"
        ))
    }

    fn text(&self, service: &str) -> String {
        let mut text = format!(
            "[Unit]\n\
             Description=Startline {}\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             \n\
             [Service]\n\
             Type=exec\n\
             User={}\n\
             ExecStart={}",
            specifiers(&self.what),
            self.user,
            quoted(&self.program.display().to_string()),
        );
        for argument in &self.arguments {
            let _ = write!(text, " {}", quoted(argument));
        }
        let _ = writeln!(text, "\nEnvironmentFile=-{}", self.environment_file);
        if let Some(path) = &self.ca_file {
            let _ = writeln!(text, "Environment={}", quoted(&format!("STARTLINE_CA_FILE={}", path.display())));
        }
        text.push_str(service);
        let lives_at_home = [&self.directory, &self.program].into_iter().any(|path| is_in_a_home(path));
        let _ = writeln!(text, "ProtectHome={}", if lives_at_home { "read-only" } else { "yes" });
        let _ = writeln!(text, "ReadWritePaths={}", quoted(&self.directory.display().to_string()));
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
        text
    }
}

fn is_in_a_home(path: &Path) -> bool {
    ["/home", "/root", "/run/user"].iter().any(|home| path.starts_with(home))
}

/// Text in which systemd sees no specifiers and no second line.
fn specifiers(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().replace('%', "%%")
}

/// One word of a command line, as systemd reads it (systemd.service(5), "Command lines").
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for c in specifiers(word).chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '$' => text.push_str("$$"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit {
        Unit {
            what: "runner 100% a\nb".to_owned(),
            user: "ci".to_owned(),
            program: PathBuf::from("/usr/local/bin/startline"),
            arguments: ["runner", "start", "--dir", "/srv/my \"$HOME\" 5%"].map(str::to_owned).to_vec(),
            directory: PathBuf::from("/srv/my \"$HOME\" 5%"),
            ca_file: Some(PathBuf::from("/etc/ca.pem")),
            environment_file: "/etc/startline/runner.env",
        }
    }

    #[test]
    fn every_line_is_a_section_a_setting_or_a_comment_and_settings_stand_once() {
        for text in [unit().runner(false, false), unit().runner(true, true), unit().server()] {
            let mut keys = std::collections::BTreeSet::new();
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                if line.starts_with('[') {
                    assert!(["[Unit]", "[Service]", "[Install]"].contains(&line), "{line}");
                    continue;
                }
                let (key, _) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
                assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "{line}");
                assert!(keys.insert(key.to_owned()), "{line} is the second of its kind");
            }
            for wanted in ["ExecStart", "User", "NoNewPrivileges", "ProtectSystem", "ReadWritePaths", "WantedBy"] {
                assert!(keys.contains(wanted), "{wanted} in {text}");
            }
        }
    }

    #[test]
    fn names_and_paths_cannot_mean_anything_else_to_systemd() {
        let text = unit().runner(false, false);
        assert!(text.contains("Description=Startline runner 100%% ab\n"), "{text}");
        let word = r#""/srv/my \"$$HOME\" 5%%""#;
        assert!(text.contains(&format!("ExecStart=/usr/local/bin/startline runner start --dir {word}\n")), "{text}");
        assert!(text.contains("Environment=STARTLINE_CA_FILE=/etc/ca.pem\n"), "{text}");
        assert!(text.contains("ProtectHome=yes\n"), "{text}");
        let home = Unit { directory: PathBuf::from("/home/ci/runner"), ..unit() };
        assert!(home.runner(false, false).contains("ProtectHome=read-only\n"));
    }

    #[test]
    fn an_ephemeral_runner_is_not_started_again_and_a_gpu_stays_visible() {
        assert!(unit().runner(true, false).contains("\nRestart=no\n"));
        assert!(unit().runner(false, false).contains("\nRestart=always\n"));
        assert!(unit().runner(false, false).contains("PrivateDevices=yes"));
        assert!(!unit().runner(false, true).contains("PrivateDevices"));
    }
}
