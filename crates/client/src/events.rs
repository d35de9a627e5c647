//! Following live events over as many connections as it takes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, header};
use http_body_util::BodyExt;
use startline_protocol::event::Event;
use startline_protocol::ids::RunId;
use startline_protocol::problem::Problem;

use crate::api::ApiClient;
use crate::call::Call;
use crate::error::Error;
use crate::retry::Backoff;
use crate::transport::ResponseBody;

/// The service shows every 15 s that it lives; a stream that is silent for three times that is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// An event is a few hundred bytes.
const LONGEST_LINE: usize = 1 << 20;

/// Which events are wanted; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventOptions {
    /// Kinds of events: `runner`, `job`, `run`, `log`; all when empty.
    pub types: Vec<String>,
    /// Only those of this run.
    pub run_id: Option<RunId>,
    /// Only those of this repository, `owner/name`.
    pub repository: Option<String>,
    /// The last sequence number seen: begin with what follows it. From now on when absent.
    pub after: Option<u64>,
}

/// Events as they happen. See [`ApiClient::events`].
///
/// When a connection is cut or falls silent, or the service ends it to restart, the next one resumes behind the last
/// event seen. What could not be kept for it is told as [`startline_protocol::event::EventBody::Lagged`]. Tries are as many
/// in a row as the client's [`crate::Retry`] says.
#[derive(Debug)]
pub struct EventFollow {
    client: ApiClient,
    options: EventOptions,
    connection: Option<Connection>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Connection {
    url: String,
    body: ResponseBody,
    unread: BytesMut,
    parser: Parser,
    ready: VecDeque<Said>,
}

/// What the other side said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Everything up to here was seen.
    Position(u64),
    /// An event's JSON.
    Event(String),
    /// The stream ends for this reason: a problem's JSON.
    Refusal(String),
}

/// Server-sent events, line by line (WHATWG HTML, section 9.2.6).
#[derive(Debug, Default)]
struct Parser {
    name: String,
    data: String,
    id: Option<u64>,
}

impl Parser {
    /// Takes one line without its end; gives what a blank line completes.
    fn line(&mut self, line: &str) -> Vec<Said> {
        if line.is_empty() {
            let block = std::mem::take(self);
            let mut said = Vec::new();
            if !block.data.is_empty() {
                said.push(match &*block.name {
                    "" | "message" => Said::Event(block.data),
                    "error" => Said::Refusal(block.data),
                    // Of a later version.
                    _ => return said,
                });
            }
            said.extend(block.id.map(Said::Position));
            return said;
        }
        // A line that begins with a colon is a comment, and so has a field without a name.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" => self.id = value.parse().ok(),
            _ => {}
        }
        Vec::new()
    }
}

impl EventFollow {
    pub(crate) const fn new(client: ApiClient, options: EventOptions) -> Self {
        let backoff = Backoff::new(client.retry());
        Self { client, options, connection: None, backoff }
    }

    /// The sequence number up to which everything was seen, once a connection stood: where another follower could go on.
    #[must_use]
    pub const fn position(&self) -> Option<u64> {
        self.options.after
    }

    /// The next event. There is always another; drop the follower to stop.
    ///
    /// Cancel-safe: an event is handed out whole or not at all.
    ///
    /// # Errors
    /// When the service refuses, as it does when the token is revoked in the middle, or stays away for all tries.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            match self.event().await {
                Ok(Some(event)) => {
                    self.backoff.reset();
                    return Ok(event);
                }
                // A sign of life.
                Ok(None) => self.backoff.reset(),
                Err(error) => {
                    self.connection = None;
                    let delay = if error.is_transient() { self.backoff.next(error.retry_after()) } else { None };
                    let Some(delay) = delay else { return Err(error) };
                    tracing::debug!(%error, ?delay, "the connection of the events is gone, will follow on");
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    async fn event(&mut self) -> Result<Option<Event>, Error> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { unreachable!("it was just opened") };
        match connection.said().await? {
            Said::Position(position) => {
                self.options.after = Some(position);
                Ok(None)
            }
            Said::Event(text) => {
                let event: Event = serde_json::from_str(&text)
                    .map_err(|error| Error::Decode { url: connection.url.clone(), cause: error.to_string() })?;
                self.options.after = Some(event.sequence);
                Ok(Some(event))
            }
            Said::Refusal(text) => {
                let problem: Problem = serde_json::from_str(&text)
                    .map_err(|error| Error::Decode { url: connection.url.clone(), cause: error.to_string() })?;
                let (status, url) = (problem.status, connection.url.clone());
                Err(Error::Problem { status, url, problem: Box::new(problem), retry_after: None })
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let types = (!self.options.types.is_empty()).then(|| self.options.types.join(","));
        let run = self.options.run_id.map(|id| id.to_string());
        let query = crate::api::query(&[
            ("types", types.as_deref()),
            ("run_id", run.as_deref()),
            ("repository", self.options.repository.as_deref()),
        ]);
        let url = self.client.service().url(&format!("/api/v1/events{query}"));
        let mut call = self
            .client
            .authorize(Call::get(&*url))?
            .header(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(after) = self.options.after {
            call = call.header(HeaderName::from_static("last-event-id"), HeaderValue::from(after));
        }
        let response = call.begin(&self.client.service().transport).await?;
        Ok(Connection {
            url,
            body: response.into_body(),
            unread: BytesMut::new(),
            parser: Parser::default(),
            ready: VecDeque::new(),
        })
    }
}

impl Connection {
    async fn said(&mut self) -> Result<Said, Error> {
        loop {
            if let Some(said) = self.ready.pop_front() {
                return Ok(said);
            }
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(end + 1);
                let text = String::from_utf8_lossy(&line);
                self.ready.extend(self.parser.line(text.trim_end_matches(['\n', '\r'])));
            }
            if !self.ready.is_empty() {
                continue;
            }
            if self.unread.len() > LONGEST_LINE {
                return Err(Error::Decode { url: self.url.clone(), cause: "a line has no end".to_owned() });
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| Error::Timeout { url: self.url.clone(), after: SILENCE })?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Call::get(&*self.url).broken(&*error)),
                None => return Err(Error::Transport { url: self.url.clone(), cause: "it was closed".to_owned() }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_the_standard_says() {
        let mut parser = Parser::default();
        let mut read = |text: &str| -> Vec<Said> { text.lines().flat_map(|line| parser.line(line)).collect() };
        assert_eq!(read("retry: 1000\nid: 7\n\n"), [Said::Position(7)]);
        assert_eq!(
            read("id: 8\ndata: {\"a\":\ndata:1}\n\n"),
            [Said::Event("{\"a\":\n1}".to_owned()), Said::Position(8)]
        );
        assert_eq!(read(": ping\n\n"), []);
        assert_eq!(read("event: error\ndata: {}\n\n"), [Said::Refusal("{}".to_owned())]);
        assert_eq!(read("event: novelty\ndata: {}\n\ndata: x\n\n"), [Said::Event("x".to_owned())]);
    }
}
