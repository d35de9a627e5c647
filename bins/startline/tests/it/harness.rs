//! Verbs for tests that use the binary as a user does: real processes, real sockets.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use startline_client::{ApiClient, Options, Transport};
use startline_protocol::ids::{JobId, RunId};
use startline_protocol::runs_api::{JobView, RunDetail, SubmitRequest};
use startline_protocol::token::ApiToken;
use tokio::time::Instant;

/// The longest that anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The workspace's root, where the examples are.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The binary with an environment of its own.
pub(crate) fn startline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_startline"));
    command.current_dir(root()).stdin(Stdio::null()).env("NO_COLOR", "1");
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    for name in [
        "STARTLINE_URL",
        "STARTLINE_TOKEN",
        "STARTLINE_TOKEN_FILE",
        "STARTLINE_CA_FILE",
        "STARTLINE_RUNNER_DIR",
        "STARTLINE_LOG",
        "STARTLINE_CONFIG",
        "STARTLINE_NODE",
        "STARTLINE_CONTAINER_CLI",
        "ACTIONS_RUNNER_HOOK_JOB_STARTED",
        "ACTIONS_RUNNER_HOOK_JOB_COMPLETED",
        "STARTLINE_ACTIONS_DIR",
        "RUNNER_TOOL_CACHE",
        "RUNNER_TOOLSDIRECTORY",
        "AGENT_TOOLSDIRECTORY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "GITHUB_ACTIONS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_SERVICE_NAME",
        "OTEL_TRACES_SAMPLER_ARG",
        "STARTLINE_BLOBS",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ] {
        command.env_remove(name);
    }
    command
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Said {
    startline().args(arguments).output().unwrap().into()
}

/// Writes a workflow into a fresh directory of its own.
pub(crate) fn workflow(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("workflow.yml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

/// Polls until `probe` gives something; fails the test when it never does.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < until, "did not happen in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The processes that this one has started and that run still.
pub(crate) fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(|pid| runs(*pid) == Some(parent)).collect()
}

/// Who has started a process, when it runs still; one that is dead and that nobody has waited for does not.
pub(crate) fn runs(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then(|| Pid::from_raw(parent))
}

/// A child process that is killed when the test is over.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Lines of its standard output.
    lines: std::sync::Mutex<mpsc::Receiver<String>>,
    /// All of its standard error so far.
    errors: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let errors = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (mut stderr, kept) = (child.stderr.take().unwrap(), errors.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = stderr.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, lines: lines.into(), errors }
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.id(), signal).unwrap();
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub(crate) fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The next line of standard output that begins with `prefix`, without it.
    pub(crate) fn line(&self, prefix: &str) -> String {
        let lines = self.lines.lock().unwrap();
        loop {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return rest.to_owned();
                    }
                }
                Err(_) => panic!("no line `{prefix}…`; standard error:\n{}", self.errors()),
            }
        }
    }

    /// The next line of standard output that holds `text`.
    pub(crate) fn line_with(&self, text: &str) -> String {
        let lines = self.lines.lock().unwrap();
        loop {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("no line with `{text}`; standard error:\n{}", self.errors()),
            }
        }
    }

    /// What has come on standard output and was not asked for yet.
    pub(crate) fn said(&self) -> String {
        self.lines.lock().unwrap().try_iter().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    /// Waits for its end; fails the test when it takes longer than `limit`.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running after {limit:?}; standard error:\n{}", self.errors());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A service with a data directory that outlives its processes.
pub(crate) struct Service {
    pub data: tempfile::TempDir,
    /// The certificate of its own authority, where it speaks TLS.
    pub ca: Option<PathBuf>,
    /// Environment of its runners and of commands that speak to it.
    pub env: Vec<(&'static str, String)>,
    pub process: Process,
    pub url: String,
    pub token: String,
    pub client: ApiClient,
    flags: Vec<String>,
}

impl Service {
    /// Starts a service with short times, so that what it does after a time can be seen.
    pub(crate) fn start(flags: &[&str]) -> Self {
        startline_crypto::install_provider();
        let data = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let process = Self::launch(data.path(), "127.0.0.1:0", &flags);
        let token = process.line("admin token: ");
        let ca =
            flags.iter().any(|flag| flag == "--tls-self-signed").then(|| PathBuf::from(process.line("authority: ")));
        let url = process.line("API: ").trim_end_matches("/api/v1").to_owned();
        let client = Self::client(&url, &token, ca.clone());
        let env = ca.iter().map(|path| ("STARTLINE_CA_FILE", path.display().to_string())).collect();
        Self { data, ca, env, process, url, token, client, flags }
    }

    /// Starts a service over the data of an earlier one, whose admin token is known.
    pub(crate) fn over(data: tempfile::TempDir, token: &str, flags: &[&str]) -> Self {
        startline_crypto::install_provider();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let process = Self::launch(data.path(), "127.0.0.1:0", &flags);
        let url = process.line("API: ").trim_end_matches("/api/v1").to_owned();
        let (client, token) = (Self::client(&url, token, None), token.to_owned());
        Self { data, ca: None, env: Vec::new(), process, url, token, client, flags }
    }

    /// A service that is no process of its own; `process` is none of its.
    pub(crate) fn elsewhere(data: tempfile::TempDir, url: &str, token: &str) -> Self {
        let process = Process::spawn(&mut Command::new("true"));
        let client = Self::client(url, token, None);
        let (url, token) = (url.to_owned(), token.to_owned());
        Self { data, ca: None, env: Vec::new(), process, url, token, client, flags: Vec::new() }
    }

    fn launch(data: &Path, listen: &str, flags: &[String]) -> Process {
        let mut command = startline();
        command.args(["server", "--listen", listen]).arg("--data-dir").arg(data).args(flags);
        Process::spawn(&mut command)
    }

    fn client(url: &str, token: &str, extra_ca: Option<PathBuf>) -> ApiClient {
        let transport = Transport::new(&Options { extra_ca, ..Options::default() }).unwrap();
        ApiClient::new(transport, url, ApiToken::parse(token).unwrap()).unwrap()
    }

    /// Starts again on the same port and data, after the process has ended.
    pub(crate) fn restart(&mut self) {
        let listen = self.url.trim_start_matches("http://").to_owned();
        self.process = Self::launch(self.data.path(), &listen, &self.flags);
        self.process.line("API: ");
        // Connections to the process before are of no use any more.
        self.client = Self::client(&self.url, &self.token, self.ca.clone());
    }

    /// What a command of the admin says.
    pub(crate) fn says(&self, arguments: &[&str]) -> Said {
        let mut command = startline();
        command.args(arguments).env("STARTLINE_URL", &self.url).env("STARTLINE_TOKEN", &self.token);
        command.envs(self.env.iter().cloned()).output().unwrap().into()
    }

    /// A registered runner's process.
    pub(crate) fn runner(&self, name: &str, flags: &[&str]) -> Runner {
        let dir = tempfile::tempdir().unwrap();
        let registered: Said = startline()
            .args(["runner", "register", "--url", &self.url, "--name", name, "--label", "ubuntu-latest"])
            .args(flags)
            .env("STARTLINE_TOKEN", &self.token)
            .envs(self.env.iter().cloned())
            .arg("--dir")
            .arg(dir.path())
            .output()
            .unwrap()
            .into();
        assert_eq!(registered.code, Some(0), "{registered:?}");
        let mut runner = Runner { dir, env: self.env.clone(), process: None };
        runner.start();
        runner
    }

    /// Submits a workflow.
    pub(crate) async fn submit(&self, text: &str) -> RunId {
        self.submit_with(SubmitRequest { workflow: text.to_owned(), ..SubmitRequest::default() }).await
    }

    pub(crate) async fn submit_with(&self, request: SubmitRequest) -> RunId {
        self.client.submit_run(&request).await.unwrap().run.id
    }

    /// The run once it has ended.
    pub(crate) async fn ended(&self, run: RunId) -> RunDetail {
        eventually("the run ends", async || {
            let detail = self.client.run(run, None, Duration::ZERO).await.ok()?;
            detail.run.conclusion.is_some().then_some(detail)
        })
        .await
    }

    /// The run's only job, once `probe` is true of it.
    pub(crate) async fn job(&self, run: RunId, what: &str, probe: impl Fn(&JobView) -> bool) -> JobView {
        eventually(what, async || {
            let detail = self.client.run(run, None, Duration::ZERO).await.ok()?;
            detail.jobs.into_iter().find(|job| probe(job))
        })
        .await
    }

    pub(crate) async fn log(&self, job: JobId) -> String {
        self.client.job_log_text(job, None).await.unwrap()
    }
}

/// A runner that can be started again.
pub(crate) struct Runner {
    pub dir: tempfile::TempDir,
    env: Vec<(&'static str, String)>,
    pub process: Option<Process>,
}

impl Runner {
    pub(crate) fn start(&mut self) {
        let mut command = startline();
        command.args(["runner", "start"]).arg("--dir").arg(self.dir.path()).envs(self.env.iter().cloned());
        self.process = Some(Process::spawn(&mut command));
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Ends the runner and everything that it started, as a loss of the machine would.
    pub(crate) fn crash(&mut self) {
        self.process().crash();
    }
}
