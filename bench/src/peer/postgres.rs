//! PostgreSQL as a queue: a cluster of its own, and three ways of `FOR UPDATE SKIP LOCKED` over the same table.
//!
//! All three are the best known form of their kind:
//! * A claim goes over a partial index of what is queued, which holds nothing else and in which the head of the queue is
//!   found at once, and it takes the row by its id.
//! * What is queued is told by one column, which alone is in that index; a start writes another one, so that the new
//!   version of the row needs no entry in any index (heap-only), for which pages are left a fifth empty.
//! * An end deletes the row, which makes the table no larger than the work.
//! * Statements are prepared once, plans are generic, and the planner is kept from reading the table from end to end
//!   when it believes it to be small.

mod batch;
mod rows;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Statement};

use super::{Load, program};
use crate::daemon::Daemon;
use crate::figures::Figures;
use crate::{generator, machine};
use batch::Batch;
use rows::Rows;

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the server is told. Everything that weakens durability keeps its default.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "max_connections=600",
    "shared_buffers=512MB",
    "synchronous_commit=on",
    "autovacuum=on",
    // A queue's table is rewritten all the time, so it is looked at more often than once a minute.
    "autovacuum_naptime=5s",
    // No replica: less is written to the log.
    "wal_level=minimal",
    "max_wal_senders=0",
    // No checkpoint in the middle of a round.
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "jit=off",
];
const SCHEMA: &str = "
    CREATE TABLE job (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue integer NOT NULL DEFAULT 0,
        queued boolean NOT NULL DEFAULT true,
        started_at timestamptz,
        payload bytea NOT NULL
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
    CREATE INDEX job_queued ON job (queue, id) WHERE queued;";
/// What each connection is told.
const SESSION: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off";
/// What a listener listens to.
const CHANNEL: &str = "job";

/// How jobs are inserted and claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Poll,
    Notify,
    Batch,
}

/// A cluster of its own, in a temporary directory, on a socket in it.
pub(crate) struct Postgres {
    daemon: Daemon,
    about: String,
    data: tempfile::TempDir,
}

impl Postgres {
    /// Makes the cluster in a temporary directory within `directory` and starts it.
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let (initdb, server) = programs().context("no `initdb` and `postgres` (Debian package postgresql)")?;
        let data = tempfile::tempdir_in(directory).context("cannot make a directory for PostgreSQL")?;
        // The server refuses to be root.
        let user = if Uid::effective().is_root() {
            let user =
                User::from_name("postgres")?.context("PostgreSQL refuses to be root, and there is no user postgres")?;
            chown(data.path(), Some(user.uid), Some(user.gid))?;
            Some(user)
        } else {
            None
        };
        std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755))?;
        let as_user = |program: &Path| {
            let mut command = Command::new(program);
            if let Some(user) = &user {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            }
            command.current_dir(data.path()).env("LC_ALL", "C");
            command
        };
        let cluster = data.path().join("cluster");
        let mut initdb = as_user(&initdb);
        initdb
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&cluster);
        let made = initdb.output().await.context("cannot start initdb")?;
        if !made.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        let version = machine::first_line(&server, &["--version"]).unwrap_or_else(|| "PostgreSQL".to_owned());
        let mut command = as_user(&server);
        command.arg("-D").arg(&cluster).arg("-c").arg(format!("unix_socket_directories={}", data.path().display()));
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let daemon = Daemon::start(command)?;
        let about = format!("{version} with {}", SETTINGS[1..].join(", "));
        let mut postgres = Self { daemon, about, data };
        let until = Instant::now() + PATIENCE;
        let link = loop {
            match postgres.connect().await {
                Ok(link) => break link,
                Err(error) if !postgres.daemon.runs() || Instant::now() >= until => {
                    return Err(error.context(format!("PostgreSQL did not start:{}", postgres.daemon.words())));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        link.client.batch_execute(SCHEMA).await.context("the table cannot be made")?;
        Ok(postgres)
    }

    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        // Fast: open transactions are rolled back.
        self.daemon.stop(Signal::SIGINT).await
    }

    /// Puts the table under load in one of its forms, and leaves it empty.
    pub(crate) async fn run(&self, form: Form, load: Load) -> anyhow::Result<Figures> {
        let pid = Some(self.daemon.pid());
        let figures = match form {
            Form::Poll | Form::Notify => {
                let rows = Rows::new(self, form);
                match load {
                    Load::Closed(closed) => generator::closed(&rows, closed, pid).await,
                    Load::Paced(paced) => generator::paced(&rows, paced, pid).await,
                }
            }
            Form::Batch => {
                let batch = Batch::open(self).await?;
                match load {
                    Load::Closed(closed) => generator::closed(&batch, closed, pid).await,
                    Load::Paced(paced) => generator::paced(&batch, paced, pid).await,
                }
            }
        };
        self.clear().await?;
        let mut figures = figures?;
        if let Value::Object(settings) = &mut figures.settings {
            settings.insert("synchronous_commit".to_owned(), "on".into());
        }
        Ok(figures)
    }

    /// Empties the table and puts `deep` jobs into other queues, all older than what comes.
    pub(crate) async fn fill(&self, deep: i64) -> anyhow::Result<()> {
        let link = self.connect().await?;
        link.client.batch_execute("TRUNCATE job").await?;
        let insert = "INSERT INTO job (queue, payload) \
                      SELECT 1 + number % 64, repeat('x', 512)::bytea FROM generate_series(1, $1::bigint) AS number";
        link.client.execute(insert, &[&deep]).await?;
        link.client.batch_execute("VACUUM ANALYZE job").await?;
        Ok(())
    }

    async fn clear(&self) -> anyhow::Result<()> {
        let link = self.connect().await?;
        link.client.batch_execute("DELETE FROM job WHERE queue = 0").await?;
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<Link> {
        let mut config = Config::new();
        config.host_path(self.data.path()).user("postgres").dbname("postgres");
        let (client, mut connection) = config.connect(NoTls).await.context("cannot connect to PostgreSQL")?;
        let (sender, notices) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its end is seen by who asks.
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    // Nobody may listen.
                    let _ = sender.send(());
                }
            }
        });
        client.batch_execute(SESSION).await?;
        Ok(Link { client, notices, _connection: tasks })
    }
}

/// A connection with what it is notified of.
struct Link {
    client: Client,
    notices: mpsc::UnboundedReceiver<()>,
    _connection: JoinSet<()>,
}

impl Link {
    async fn prepare(&self, statement: &str) -> anyhow::Result<Statement> {
        self.client.prepare(statement).await.with_context(|| format!("cannot prepare {statement}"))
    }

    /// Waits until something was notified since it was last asked, at most for `patience`.
    async fn notified(&mut self, patience: Duration) {
        // Late is as good as told: who asked looks again.
        drop(tokio::time::timeout(patience, self.notices.recv()).await);
        while self.notices.try_recv().is_ok() {}
    }
}

/// `initdb` and `postgres` of the newest version that is installed.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, place)| place.join("initdb").is_file() && place.join("postgres").is_file())
        .collect();
    found.sort();
    match found.pop() {
        Some((_, place)) => Some((place.join("initdb"), place.join("postgres"))),
        None => Some((program("initdb")?, program("postgres")?)),
    }
}
