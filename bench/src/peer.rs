//! The peers: known queues with the settings under which they are best.
//!
//! A peer is a server of its own, started once, and a client of ours in this process. One that the machine does not have
//! is *skipped*; nothing is ever said to be better than a peer that was not there.

pub(crate) mod beanstalkd;
pub(crate) mod postgres;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::figures::Figures;
use crate::generator::{self, Closed, Paced};
use beanstalkd::Beanstalkd;
use postgres::{Form, Postgres};

/// The peers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum PeerName {
    /// beanstalkd with its binlog synced at each write: put, reserve, delete
    Beanstalkd,
    /// PostgreSQL, SKIP LOCKED, one row a statement, polled every 5 ms when empty
    PgPoll,
    /// PostgreSQL, SKIP LOCKED, one row a statement, NOTIFY in the insert
    PgNotify,
    /// PostgreSQL, SKIP LOCKED, up to 100 rows a statement, one listener
    PgBatch,
}

impl PeerName {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Beanstalkd => "beanstalkd",
            Self::PgPoll => "pg-poll",
            Self::PgNotify => "pg-notify",
            Self::PgBatch => "pg-batch",
        }
    }

    const fn form(self) -> Option<Form> {
        match self {
            Self::Beanstalkd => None,
            Self::PgPoll => Some(Form::Poll),
            Self::PgNotify => Some(Form::Notify),
            Self::PgBatch => Some(Form::Batch),
        }
    }
}

/// What is to be done with a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    Closed(Closed),
    Paced(Paced),
}

/// The peers that run; each is started when it is first needed, and stays.
pub(crate) struct Peers {
    directory: PathBuf,
    beanstalkd: Option<Result<Beanstalkd, String>>,
    postgres: Option<Result<Postgres, String>>,
}

impl Peers {
    /// Peers that keep their data in `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), beanstalkd: None, postgres: None }
    }

    /// Puts a peer under load; the inner error says why the peer is not there.
    pub(crate) async fn run(&mut self, name: PeerName, load: Load) -> anyhow::Result<Result<Figures, String>> {
        let mut figures = match name.form() {
            None => match self.beanstalkd().await {
                Err(missing) => return Ok(Err(missing)),
                Ok(server) => match load {
                    Load::Closed(closed) => generator::closed(server, closed, Some(server.pid())).await?,
                    Load::Paced(paced) => generator::paced(server, paced, Some(server.pid())).await?,
                },
            },
            Some(form) => match self.postgres().await {
                Err(missing) => return Ok(Err(missing)),
                Ok(server) => server.run(form, load).await?,
            },
        };
        if let Value::Object(settings) = &mut figures.settings {
            settings.insert("peer".to_owned(), name.name().into());
        }
        Ok(Ok(figures))
    }

    async fn beanstalkd(&mut self) -> Result<&Beanstalkd, String> {
        if self.beanstalkd.is_none() {
            let started = Beanstalkd::start(&self.directory).await.map_err(|error| format!("{error:#}"));
            self.beanstalkd = Some(started);
        }
        self.beanstalkd.as_ref().expect("set above").as_ref().map_err(Clone::clone)
    }

    /// The cluster, which further measurements may want.
    pub(crate) async fn postgres(&mut self) -> Result<&Postgres, String> {
        if self.postgres.is_none() {
            let started = Postgres::start(&self.directory).await.map_err(|error| format!("{error:#}"));
            self.postgres = Some(started);
        }
        self.postgres.as_ref().expect("set above").as_ref().map_err(Clone::clone)
    }

    /// Versions and settings of the peers that were started.
    pub(crate) fn about(&self) -> Vec<String> {
        let beanstalkd = self.beanstalkd.iter().flatten().map(|server| server.about().to_owned());
        beanstalkd.chain(self.postgres.iter().flatten().map(|server| server.about().to_owned())).collect()
    }

    /// Stops them all.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        if let Some(Ok(server)) = self.beanstalkd {
            server.stop().await?;
        }
        if let Some(Ok(server)) = self.postgres {
            server.stop().await?;
        }
        Ok(())
    }
}

/// A program on the `PATH` or where Debian puts what servers need.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.map(|place| place.join(name)).find(|file| file.is_file())
}
