//! Following a job's log over as many connections as it takes.

use bytes::BytesMut;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use startline_protocol::ids::JobId;
use startline_protocol::runs_api::LogEvent;

use super::ApiClient;
use crate::call::Call;
use crate::error::Error;
use crate::retry::Backoff;
use crate::transport::ResponseBody;

/// A line of the answer longer than this is not ours: an append is at most a few megabytes.
const LONGEST_LINE: usize = 64 << 20;

/// A job's log as it grows. See [`ApiClient::follow_job_log`].
///
/// When a connection is cut, or the service ends it to restart, the next one asks for what follows the last whole
/// event; text that comes twice is handed out once. Unless an attempt is named, a later attempt at the job is followed
/// from its beginning. Tries are as many in a row as the client's [`crate::Retry`] says.
#[derive(Debug)]
pub struct LogFollow {
    client: ApiClient,
    id: JobId,
    /// The attempt that the caller named.
    only: Option<u32>,
    offset: u64,
    /// Whose log `offset` is a place in, once that is known.
    attempt: Option<u32>,
    connection: Option<Connection>,
    backoff: Backoff,
    ended: bool,
}

#[derive(Debug)]
struct Connection {
    call: String,
    body: ResponseBody,
    unread: BytesMut,
    /// The job was told once.
    begun: bool,
}

impl LogFollow {
    pub(super) const fn new(client: ApiClient, id: JobId, offset: u64, attempt: Option<u32>) -> Self {
        let backoff = Backoff::new(client.retry);
        Self { client, id, only: attempt, offset, attempt, connection: None, backoff, ended: false }
    }

    /// The next event; `None` after [`LogEvent::End`].
    ///
    /// Cancel-safe: an event is handed out whole or not at all.
    ///
    /// # Errors
    /// When the service refuses, or stays away for all tries. Nothing follows an error.
    pub async fn next(&mut self) -> Result<Option<LogEvent>, Error> {
        while !self.ended {
            match self.event().await {
                Ok(event) => {
                    self.backoff.reset();
                    if let Some(event) = self.take(event) {
                        return Ok(Some(event));
                    }
                }
                Err(error) => {
                    self.connection = None;
                    let delay = if error.is_transient() { self.backoff.next(error.retry_after()) } else { None };
                    let Some(delay) = delay else {
                        self.ended = true;
                        return Err(error);
                    };
                    tracing::debug!(%error, ?delay, "the log's connection is gone, will follow on");
                    tokio::time::sleep(delay).await;
                }
            }
        }
        Ok(None)
    }

    /// Notes how far the log has come; gives nothing when the event brings nothing new.
    fn take(&mut self, event: LogEvent) -> Option<LogEvent> {
        match event {
            LogEvent::Log { mut offset, attempt, mut text } => {
                if self.attempt == Some(attempt) && offset < self.offset {
                    let known = usize::try_from(self.offset - offset).ok().filter(|known| *known < text.len())?;
                    // Appends end with whole lines, so this is a character boundary; if it is not, show it again.
                    if text.is_char_boundary(known) {
                        text.drain(..known);
                        offset = self.offset;
                    }
                }
                self.attempt = Some(attempt);
                self.offset = offset + text.len() as u64;
                Some(LogEvent::Log { offset, attempt, text })
            }
            // The first event of a connection. The place that was asked for is one in the log of an attempt that was
            // over before; the service takes it for one in the log of this attempt.
            LogEvent::Job { job } if self.is_resumed_behind(job.attempt) => {
                self.offset = 0;
                self.attempt = Some(job.attempt);
                self.connection = None;
                None
            }
            LogEvent::End => {
                self.ended = true;
                self.connection = None;
                Some(LogEvent::End)
            }
            job @ LogEvent::Job { .. } => Some(job),
        }
    }

    fn is_resumed_behind(&mut self, attempt: u32) -> bool {
        let first = self.connection.as_mut().is_some_and(|connection| !std::mem::replace(&mut connection.begun, true));
        first && self.only.is_none() && self.offset > 0 && self.attempt.is_some_and(|known| known < attempt)
    }

    async fn event(&mut self) -> Result<LogEvent, Error> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { unreachable!("it was just opened") };
        connection.event().await
    }

    async fn connect(&mut self) -> Result<Connection, Error> {
        let service = &self.client.service;
        let mut url = service.url(&format!("/api/v1/jobs/{}/logs?follow=true&offset={}", self.id, self.offset));
        if let Some(attempt) = self.only {
            url.push_str("&attempt=");
            url.push_str(&attempt.to_string());
        }
        let call = Call::get(&*url)
            .bearer(self.client.token.expose())?
            .header(header::ACCEPT, HeaderValue::from_static("application/x-ndjson"));
        let response = call.begin(&service.transport).await?;
        Ok(Connection { call: url, body: response.into_body(), unread: BytesMut::new(), begun: false })
    }
}

impl Connection {
    /// The next whole line as an event. Blank lines keep a quiet connection open and mean nothing.
    async fn event(&mut self) -> Result<LogEvent, Error> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.unread[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(searched + end + 1);
                searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map_err(|error| Error::Decode { url: self.call.clone(), cause: error.to_string() });
            }
            searched = self.unread.len();
            if searched > LONGEST_LINE {
                return Err(Error::Decode { url: self.call.clone(), cause: "a line has no end".to_owned() });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Call::get(&*self.call).broken(&*error)),
                None => return Err(Error::Transport { url: self.call.clone(), cause: "it was closed".to_owned() }),
            }
        }
    }
}
