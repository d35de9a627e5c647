//! The polls themselves, and those who wait with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::link::{Link, Target, Wire};
use crate::sample::{Latencies, Quantiles};

const POLL: &str = "/api/v1/runners/jobs/poll";
/// Shorter than the service's own limit; nobody measures that long.
const BODY: &str = r#"{"timeout_seconds":60}"#;
/// Connections from one address of loopback: far from all ports of it.
const PER_SOURCE: usize = 8000;
/// Connections that are being opened at once.
const CONNECTING: usize = 128;
/// Polls that share a connection of HTTP/2.
pub(super) const STREAMS: u32 = 100;
/// Largest answer that is understood.
const ANSWER: usize = 8 * 1024;
/// How long one woken poll may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a poll shows.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) token: Arc<str>,
    /// Bytes of another header, for heads of the same length with bearers of different lengths.
    pub(crate) filling: usize,
}

/// Woken polls, by those who wait for them.
#[derive(Debug)]
struct Shared {
    /// Woken polls are counted here.
    woken: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    latencies: Latencies,
    sent: Instant,
    failure: Option<String>,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, status: StatusCode) -> anyhow::Result<()> {
        match status {
            StatusCode::OK => {
                let mut state = self.lock();
                let latency = state.sent.elapsed();
                state.latencies.add(latency);
                drop(state);
                self.woken.add_permits(1);
                Ok(())
            }
            // Its time was over.
            StatusCode::NO_CONTENT => Ok(()),
            other => bail!("answered {other}"),
        }
    }
}

/// Many polls.
pub(super) struct Crowd {
    target: Target,
    tasks: JoinSet<()>,
    opened: usize,
    shared: Arc<Shared>,
    /// A connection that has room for further polls.
    spare: Option<(Link, u32)>,
}

impl Crowd {
    pub(super) fn new(target: Target) -> Self {
        let state = Mutex::new(State { latencies: Latencies::new(), sent: Instant::now(), failure: None });
        let shared = Arc::new(Shared { woken: Semaphore::new(0), state });
        Self { target, tasks: JoinSet::new(), opened: 0, shared, spare: None }
    }

    /// Why a poll failed, if one did.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.lock().failure.clone()
    }

    /// Sends a poll for each bearer.
    pub(super) async fn park(&mut self, bearers: &[Bearer]) -> anyhow::Result<()> {
        if self.target.http2 {
            for bearer in bearers {
                let link = match self.spare.take() {
                    Some((link, left)) => {
                        let share = link.share().context("a connection that cannot be shared")?;
                        self.spare = (left > 1).then_some((link, left - 1));
                        share
                    }
                    None => {
                        let link = Link::open(&self.target).await?;
                        let share = link.share().context("a connection that cannot be shared")?;
                        self.spare = Some((link, STREAMS - 1));
                        share
                    }
                };
                let (bearer, shared) = (bearer.clone(), Arc::clone(&self.shared));
                self.tasks.spawn(async move { end(&shared, poll_http2(link, &bearer, &shared).await) });
            }
            return Ok(());
        }
        let mut connecting: JoinSet<anyhow::Result<Box<dyn Wire>>> = JoinSet::new();
        let mut waiting = bearers.iter();
        loop {
            while connecting.len() < CONNECTING && connecting.len() < waiting.len() {
                let source = Ipv4Addr::from(0x7f00_0002 + u32::try_from(self.opened / PER_SOURCE)?);
                self.opened += 1;
                let target = self.target.clone();
                connecting.spawn(async move { target.wire(source).await });
            }
            let Some(socket) = connecting.join_next().await else { return Ok(()) };
            let (socket, bearer) = (socket??, waiting.next().context("more connections than polls")?.clone());
            let (address, shared) = (self.target.address, Arc::clone(&self.shared));
            self.tasks.spawn(async move { end(&shared, poll_http1(socket, address, &bearer, &shared).await) });
        }
    }

    /// Wakes polls one after the other; each polls again.
    pub(super) async fn wake(&mut self, link: &mut Link, wakes: u32) -> anyhow::Result<Option<Quantiles>> {
        for _ in 0..wakes {
            self.shared.lock().sent = Instant::now();
            let (status, _) = link.post("/wake", None, Bytes::from_static(&[b'x'; 512])).await?;
            ensure!(status == StatusCode::OK, "nobody was woken: {status}");
            let woken = tokio::time::timeout(PATIENCE, self.shared.woken.acquire()).await;
            woken.context("a poll was woken and did not answer")??.forget();
        }
        Ok(self.shared.lock().latencies.quantiles())
    }

    /// Closes all connections.
    pub(super) async fn leave(mut self) {
        self.tasks.shutdown().await;
    }
}

fn end(shared: &Shared, result: anyhow::Result<()>) {
    if let Err(error) = result {
        shared.lock().failure.get_or_insert_with(|| format!("{error:#}"));
    }
}

async fn poll_http2(mut link: Link, bearer: &Bearer, shared: &Shared) -> anyhow::Result<()> {
    loop {
        let filling = "f".repeat(bearer.filling);
        let headers = [("x-filling", filling.as_str())];
        let headers = if filling.is_empty() { &[][..] } else { &headers[..] };
        let body = Bytes::from_static(BODY.as_bytes());
        let (status, _) = link.send(Method::POST, POLL, headers, Some(&bearer.token), body).await?;
        shared.answered(status)?;
    }
}

async fn poll_http1(
    mut socket: Box<dyn Wire>,
    address: SocketAddr,
    bearer: &Bearer,
    shared: &Shared,
) -> anyhow::Result<()> {
    loop {
        {
            let request = head(address, bearer) + BODY;
            socket.write_all(request.as_bytes()).await?;
        }
        let status = std::future::poll_fn(|context| poll_read(&mut socket, context)).await?;
        shared.answered(status)?;
    }
}

/// The head that every poll of HTTP/1.1 sends: about what a real runner sends, with a long bearer.
fn head(address: SocketAddr, bearer: &Bearer) -> String {
    let filling = "f".repeat(bearer.filling);
    let filling = if filling.is_empty() { filling } else { format!("x-filling: {filling}\r\n") };
    format!(
        "POST {POLL} HTTP/1.1\r\nhost: {address}\r\nuser-agent: startline-bench (linux; x64) a runner that polls for a \
         job, of this and that version, with these and those capabilities, on a machine of some name, and says at some length what it is and where it runs\r\naccept: application/json\r\naccept-encoding: \
         identity\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{filling}authorization: Bearer {}\r\n\r\n",
        BODY.len(),
        bearer.token
    )
}

/// Reads an answer into an array on the stack: nothing is held for a poll that waits.
///
/// The answers here are small and come whole; one that is cut is an error, not a wait.
fn poll_read(socket: &mut Box<dyn Wire>, context: &mut Context<'_>) -> Poll<anyhow::Result<StatusCode>> {
    let mut buffer = [0; ANSWER];
    let mut buffer = ReadBuf::new(&mut buffer);
    ready!(Pin::new(socket).poll_read(context, &mut buffer))?;
    Poll::Ready(status(buffer.filled()))
}

/// The status of an answer that is whole.
fn status(answer: &[u8]) -> anyhow::Result<StatusCode> {
    ensure!(!answer.is_empty(), "the connection was closed");
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").context("an answer came in pieces")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Ok(0), |(_, length)| length.parse())?;
    ensure!(body.len() == length, "an answer came in pieces");
    Ok(StatusCode::from_bytes(status.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_as_long_with_a_short_bearer_as_with_a_long_one() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7070));
        let long = Bearer { token: "t".repeat(1000).into(), filling: 0 };
        let short = Bearer { token: "t".repeat(53).into(), filling: 1000 - 53 };
        let (long, short) = (head(address, &long).len(), head(address, &short).len());
        assert!(short.abs_diff(long) <= 16, "{short} {long}");
        assert!((1350..1500).contains(&long), "{long}");
    }

    #[test]
    fn only_whole_answers_are_understood() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nword";
        assert_eq!(status(answer).unwrap(), StatusCode::OK);
        assert!(status(&answer[..answer.len() - 1]).is_err());
        assert!(status(b"HTTP/1.1 200").is_err());
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), StatusCode::NO_CONTENT);
    }
}
