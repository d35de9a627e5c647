//! Argument lists for the engine's program.

use std::ffi::OsString;

use super::paths::Mount;
use super::spec::ContainerSpec;
use crate::environment::Environment;

/// The variable that marks what one `exec` has started, so that it can be told to end.
pub(crate) const MARK: &str = "STARTLINE_PROCESS";

/// Sends a signal (`$1`) to every process of a container whose environment has a line (`$2`). Killing the program that
/// executes something in a container does not end what it executes.
const SIGNAL_SCRIPT: &str = "for d in /proc/[0-9]*; do if tr '\\0' '\\n' < \"$d/environ\" | grep -qxF \"$2\"; then \
                             kill -s \"$1\" \"${d#/proc/}\"; fi; done 2>/dev/null";

/// What a container of a job is, beside what the job says of it.
pub(crate) struct Create<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    pub(crate) network: &'a str,
    /// The name that others of the network know it by.
    pub(crate) alias: Option<&'a str>,
    pub(crate) directory: Option<&'a str>,
    pub(crate) mounts: &'a [Mount],
    pub(crate) environment: &'a Environment,
    /// Instead of what the image or the job's text says.
    pub(crate) entrypoint: Option<&'a str>,
    pub(crate) command: &'a [String],
}

/// Arguments, and the variables that the program itself is to have for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// What stands on its standard input.
    pub(crate) input: Option<String>,
}

impl Command {
    /// Arguments alone.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|&text| text.to_owned()).collect(), variables: Vec::new(), input: None }
    }

    /// The same with a variable for the program.
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// As it is shown: words with blanks are quoted.
    pub(crate) fn shown(&self) -> String {
        let quoted = |word: &String| match word.is_empty() || word.contains([' ', '\t', '\n', '"']) {
            true => format!("{word:?}"),
            false => word.clone(),
        };
        self.arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }

    fn add(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|&text| text.to_owned()));
    }

    fn mount(&mut self, mounts: &[Mount]) {
        for Mount { host, container, read_only } in mounts {
            let read_only = if *read_only { ":ro" } else { "" };
            self.add(&["-v", &format!("{host}:{container}{read_only}")]);
        }
    }

    /// Gives variables to a container. Their values go through the program's own environment, where nobody else reads them;
    /// those that would change what the program itself does stand in its arguments.
    fn environment(&mut self, environment: &Environment) {
        for (name, value) in environment.iter() {
            if name.is_empty() || name.contains(['=', '\0']) {
                continue;
            }
            let value = value.replace('\0', "");
            if steers_the_engine(name) {
                self.add(&["-e", &format!("{name}={value}")]);
            } else {
                self.add(&["-e", name]);
                self.variables.push((name.into(), value.into()));
            }
        }
    }

    fn always(&mut self, environment: &Environment) {
        self.add(&["-e", "GITHUB_ACTIONS=true"]);
        if environment.get("CI").is_none() {
            self.add(&["-e", "CI=true"]);
        }
    }
}

/// Whether a variable means something to `docker` or `podman` themselves, or to any program that is started.
fn steers_the_engine(name: &str) -> bool {
    const EXACT: [&str; 27] = [
        "HOME",
        "PATH",
        "USER",
        "TMPDIR",
        "BASH_ENV",
        "ENV",
        "GODEBUG",
        "GOMAXPROCS",
        "RUNNER_TRACKING_ID",
        "STARTLINE_TRACKING_ID",
        "REGISTRY_AUTH_FILE",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "DOCKER_CONTEXT",
        "DOCKER_CERT_PATH",
        "DOCKER_TLS",
        "DOCKER_TLS_VERIFY",
        "DOCKER_API_VERSION",
        "DOCKER_DEFAULT_PLATFORM",
        "DOCKER_CONTENT_TRUST",
        "CONTAINER_HOST",
        "CONTAINER_CONNECTION",
        "CONTAINER_SSHKEY",
        "STORAGE_DRIVER",
        "STORAGE_OPTS",
        "PODMAN_USERNS",
        "PODMAN_CONNECTIONS_CONF",
    ];
    const PREFIXES: [&str; 4] = ["LD_", "XDG_", "CONTAINERS_", "DOCKER_CLI_"];
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Makes a container.
pub(crate) fn create(of: &Create<'_>) -> Command {
    let mut command = Command::new(&["create", "--name", of.name, "--label", of.label]);
    if let Some(directory) = of.directory {
        command.add(&["--workdir", directory]);
    }
    command.add(&["--network", of.network]);
    if let Some(alias) = of.alias {
        command.add(&["--network-alias", alias]);
    }
    for port in &of.spec.ports {
        command.add(&["-p", port]);
    }
    command.arguments.extend(of.spec.options.iter().cloned());
    command.environment(of.environment);
    command.always(of.environment);
    command.mount(of.mounts);
    for volume in &of.spec.volumes {
        command.add(&["-v", volume]);
    }
    if let Some(entrypoint) = of.entrypoint {
        command.add(&["--entrypoint", entrypoint]);
    }
    command.add(&[&of.spec.image]);
    command.arguments.extend(of.command.iter().cloned());
    command
}

/// An action's container, from its beginning to its end.
pub(crate) struct Run<'a> {
    pub(crate) image: &'a str,
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    pub(crate) network: Option<&'a str>,
    pub(crate) mounts: &'a [Mount],
    pub(crate) environment: &'a Environment,
    pub(crate) entrypoint: Option<&'a str>,
    pub(crate) arguments: &'a [String],
}

/// Runs an action.
pub(crate) fn run(of: &Run<'_>) -> Command {
    let mut command =
        Command::new(&["run", "--name", of.name, "--label", of.label, "--workdir", "/github/workspace", "--rm"]);
    command.environment(of.environment);
    command.always(of.environment);
    if let Some(entrypoint) = of.entrypoint {
        command.add(&["--entrypoint", entrypoint]);
    }
    if let Some(network) = of.network {
        command.add(&["--network", network]);
    }
    command.mount(of.mounts);
    command.add(&[of.image]);
    command.arguments.extend(of.arguments.iter().cloned());
    command
}

/// Runs a program in a container that runs.
pub(crate) fn execute(container: &str, directory: &str, environment: &Environment, program: &[String]) -> Command {
    let mut command = Command::new(&["exec", "-i", "--workdir", directory]);
    command.environment(environment);
    command.add(&[container]);
    command.arguments.extend(program.iter().cloned());
    command
}

/// Sends a signal to what [`execute`] has started under `mark`.
pub(crate) fn signal(container: &str, signal: &str, mark: &str) -> Command {
    Command::new(&["exec", container, "sh", "-c", SIGNAL_SCRIPT, "sh", signal, &format!("{MARK}={mark}")])
}

/// A name for a container, which tells where it comes from.
pub(crate) fn name(image: &str, unique: &str) -> String {
    let plain: String = image.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(100).collect();
    format!("startline_{plain}_{unique}")
}

/// Ports of `port`'s answer: those of the container, and where they are on the host
/// (actions/runner `DockerUtil.cs`, `ParseDockerPort`).
pub(crate) fn ports(lines: &[String]) -> Vec<(String, String)> {
    let port = |line: &String| {
        let (container, host) = line.split_once(" -> ")?;
        let (port, _) = container.split_once('/')?;
        let (_, host) = host.trim().rsplit_once(':')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(port) && digits(host)).then(|| (port.to_owned(), host.to_owned()))
    };
    lines.iter().filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &[(&str, &str)]) -> Environment {
        let mut all = Environment::default();
        all.extend(entries.iter().copied());
        all
    }

    #[test]
    fn a_container_is_made_with_all_that_the_job_says() {
        let spec = ContainerSpec {
            image: "db:1".to_owned(),
            ports: vec!["5432".to_owned()],
            volumes: vec!["data:/data".to_owned()],
            options: vec!["--cpus".to_owned(), "1".to_owned()],
            ..ContainerSpec::default()
        };
        let mounts = [Mount { host: "/w".into(), container: "/__w".into(), read_only: false }];
        let made = create(&Create {
            spec: &spec,
            name: "n",
            label: "l=1",
            network: "net",
            alias: Some("db"),
            directory: Some("/__w/a"),
            mounts: &mounts,
            environment: &environment(&[("SECRET", "hush"), ("HOME", "/github/home")]),
            entrypoint: Some("tail"),
            command: &["-f".to_owned(), "/dev/null".to_owned()],
        });
        assert_eq!(
            made.arguments.join(" "),
            "create --name n --label l=1 --workdir /__w/a --network net --network-alias db -p 5432 --cpus 1 -e SECRET -e \
             HOME=/github/home -e GITHUB_ACTIONS=true -e CI=true -v /w:/__w -v data:/data --entrypoint tail db:1 -f /dev/null"
        );
        assert_eq!(made.variables, [("SECRET".into(), "hush".into())] as [(OsString, OsString); 1]);
    }

    #[test]
    fn values_reach_a_container_without_standing_in_arguments() {
        let given = environment(&[
            ("TOKEN", "hush"),
            ("DOCKER_PASSWORD", "hush"),
            ("DOCKER_HOST", "tcp://x"),
            ("", "no"),
            ("PATH", "/a:/bin"),
            ("CI", "1"),
        ]);
        let command = execute("c1", "/__w", &given, &["sh".to_owned(), "x".to_owned()]);
        assert_eq!(
            command.arguments.join(" "),
            "exec -i --workdir /__w -e TOKEN -e DOCKER_PASSWORD -e DOCKER_HOST=tcp://x -e PATH=/a:/bin -e CI c1 sh x"
        );
        assert!(!command.variables.iter().any(|(name, _)| name == "DOCKER_HOST"));
        let run = run(&Run {
            image: "i",
            name: "n",
            label: "l",
            network: Some("net"),
            mounts: &[],
            environment: &given,
            entrypoint: Some("/e"),
            arguments: &["a b".to_owned()],
        });
        assert!(!run.arguments.iter().any(|argument| argument.contains("hush") || argument == "CI=true"));
        assert_eq!(run.arguments[run.arguments.len() - 6..], ["--entrypoint", "/e", "--network", "net", "i", "a b"]);
    }

    #[test]
    fn ports_are_read_from_what_engines_say() {
        let lines = ["80/tcp -> 0.0.0.0:49153", "80/tcp -> [::]:49154", "53/udp -> 127.0.0.1:9", "nonsense"];
        let lines = lines.map(str::to_owned);
        let expected = [("80", "49153"), ("80", "49154"), ("53", "9")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(ports(&lines), expected);
    }

    #[test]
    fn names_are_plain() {
        assert_eq!(name("ghcr.io/acme/db:1", "abc"), "startline_ghcr_io_acme_db_1_abc");
    }
}
