//! A registered runner with a shell script for a worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use startline_client::Transport;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::token::RegistrationToken;
use startline_runner::{Error, Options, Outcome, RegisterOptions, Registration, Shutdown, register};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::service::Service;

const PATIENCE: Duration = Duration::from_secs(30);

/// What every worker of the tests begins with: the input is read, and `$job` is the job's directory, `$stage` a
/// place to talk to the test.
const PROLOGUE: &str = r#"
IFS= read -r input
job=$(sed -n 's/.*"job_dir":"\([^"]*\)".*/\1/p' <<<"$input")
await() { until [ -e "$stage/$1" ]; do sleep 0.02; done; }
"#;

pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) options: Options,
    pub(crate) shutdown: Shutdown,
    dir: tempfile::TempDir,
    ephemeral: bool,
}

impl Stage {
    /// A runner whose worker executes `script`.
    pub(crate) async fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.sh");
        let text = format!("stage={}\n{PROLOGUE}\n{script}", dir.path().display());
        fs::write(&path, text).unwrap();
        let options =
            Options { worker_command: vec!["bash".into(), path.into()], ..Options::new(dir.path().join("runner")) };
        Self { service: Service::start(), options, shutdown: Shutdown::new(), dir, ephemeral: false }
    }

    pub(crate) fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    pub(crate) fn once(mut self) -> Self {
        self.options.once = true;
        self
    }

    pub(crate) async fn register(&self) -> Result<Registration, Error> {
        let options = RegisterOptions {
            url: self.service.url(),
            token: RegistrationToken::parse("slr_x").unwrap(),
            name: "box".into(),
            labels: vec!["linux".into()],
            capabilities: Capabilities::default(),
            ephemeral: self.ephemeral,
            replace: false,
            durable: true,
        };
        register(transport(), &options, &self.options.dir).await
    }

    /// Registers and begins to run.
    pub(crate) async fn start(&self) -> Running {
        let registration = self.register().await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(startline_runner::run(self.options.clone(), registration, transport(), self.shutdown.clone()));
        Running(task)
    }

    /// Somewhere that the worker knows as `$stage/name`.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn touch(&self, name: &str) {
        fs::write(self.place(name), "").unwrap();
    }

    /// What the worker has written to `$stage/name`, as soon as it ends with a line break.
    pub(crate) async fn read(&self, name: &str) -> String {
        let path = self.place(name);
        wait_until(name, || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))).await;
        fs::read_to_string(&path).unwrap()
    }
}

pub(crate) struct Running(JoinSet<Result<Outcome, Error>>);

impl Running {
    pub(crate) async fn end(mut self) -> Result<Outcome, Error> {
        let ended = timeout(PATIENCE, self.0.join_next()).await;
        ended.expect("the runner should have ended").unwrap().unwrap()
    }
}

/// Looks again and again until `done`, up to a deadline.
pub(crate) async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the process whose number `text` is still runs; a zombie does not.
pub(crate) fn runs(text: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(text.trim()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn transport() -> Transport {
    Transport::new(&startline_client::Options::default()).unwrap()
}
