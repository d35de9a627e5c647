//! beanstalkd, with a binlog that is synced at each write (`-b DIR -f0`); by default it would be every 50 ms.
//!
//! Its cycle is put (synced, acknowledged), reserve, delete (synced, acknowledged). A reserve is not written: that is one
//! durable step less than a life cycle of ours or of PostgreSQL, which acquire durably.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::{Duration, Instant};

use super::program;
use crate::daemon::Daemon;
use crate::generator::{PAYLOAD, Payload, Put, Queue, Take};
use crate::machine;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server of its own on loopback.
pub(crate) struct Beanstalkd {
    daemon: Daemon,
    address: SocketAddr,
    about: String,
    _data: tempfile::TempDir,
}

impl Beanstalkd {
    /// Starts it, with its data in a temporary directory within `directory`.
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let program = program("beanstalkd").context("no `beanstalkd` (Debian package beanstalkd)")?;
        let version = machine::first_line(&program, &["-v"]).unwrap_or_else(|| "beanstalkd".to_owned());
        let data = tempfile::tempdir_in(directory).context("cannot make a directory for beanstalkd")?;
        // It takes no port of the system's choice, so one that was free a moment ago.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port();
        let mut command = Command::new(program);
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-f0", "-b"]).arg(data.path());
        let mut daemon = Daemon::start(command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            if !daemon.runs() || Instant::now() >= until {
                bail!("beanstalkd did not begin to listen:{}", daemon.words());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { daemon, address, about: format!("{version} with -b -f0 (each write synced)"), _data: data })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.daemon.stop(Signal::SIGTERM).await
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let socket = TcpStream::connect(self.address).await.context("cannot connect to beanstalkd")?;
        socket.set_nodelay(true)?;
        Ok(Client { socket: BufReader::new(socket), line: String::new() })
    }
}

impl Queue for Beanstalkd {
    type Producer = Client;
    type Consumer = Client;

    async fn producer(&self) -> anyhow::Result<Client> {
        self.connect().await
    }

    async fn consumer(&self) -> anyhow::Result<Client> {
        self.connect().await
    }
}

/// A connection, spoken to in lines.
pub(crate) struct Client {
    socket: BufReader<TcpStream>,
    line: String,
}

impl Client {
    async fn ask(&mut self, words: &[u8]) -> anyhow::Result<&str> {
        self.socket.get_mut().write_all(words).await?;
        self.line.clear();
        self.socket.read_line(&mut self.line).await?;
        Ok(self.line.trim_end())
    }
}

impl Put for Client {
    async fn put(&mut self, payload: Payload) -> anyhow::Result<()> {
        let mut words = Vec::with_capacity(PAYLOAD + 32);
        // Priority, no delay, and a minute for who reserves it.
        words.extend_from_slice(format!("put 1024 0 60 {PAYLOAD}\r\n").as_bytes());
        words.extend_from_slice(payload.bytes());
        words.extend_from_slice(b"\r\n");
        match self.ask(&words).await? {
            answer if answer.starts_with("INSERTED ") => Ok(()),
            answer => bail!("beanstalkd answered a put with {answer:?}"),
        }
    }
}

impl Take for Client {
    type Job = u64;

    async fn take(&mut self) -> anyhow::Result<(u64, Vec<u8>)> {
        let answer = self.ask(b"reserve\r\n").await?;
        let reserved = answer.strip_prefix("RESERVED ").and_then(|rest| rest.split_once(' '));
        let Some((job, length)) = reserved else { bail!("beanstalkd answered a reserve with {answer:?}") };
        let (job, length): (u64, usize) = (job.parse()?, length.parse()?);
        let mut payload = vec![0; length + 2];
        self.socket.read_exact(&mut payload).await?;
        payload.truncate(length);
        Ok((job, payload))
    }

    async fn finish(&mut self, job: u64) -> anyhow::Result<()> {
        match self.ask(format!("delete {job}\r\n").as_bytes()).await? {
            "DELETED" => Ok(()),
            answer => bail!("beanstalkd answered a delete with {answer:?}"),
        }
    }
}
