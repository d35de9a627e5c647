//! Following a job's log over as many connections as it takes.

use http::{HeaderValue, header};
use startline_protocol::ids::JobId;
use startline_protocol::runs_api::LogEvent;

use super::ApiClient;
use super::lines::Lines;
use crate::call::Call;
use crate::error::Error;
use crate::retry::Backoff;

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
    lines: Lines,
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
            other @ (LogEvent::Job { .. } | LogEvent::Console { .. }) => Some(other),
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
        let Some(Connection { lines, .. }) = &mut self.connection else { unreachable!("it was just opened") };
        // The end is an event too: a stream that just stops was cut.
        let line = lines.next().await?.ok_or_else(|| lines.closed())?;
        lines.decode(&line)
    }

    async fn connect(&mut self) -> Result<Connection, Error> {
        let service = &self.client.service;
        let mut url =
            service.url(&format!("/api/v1/jobs/{}/logs?follow=true&console=true&offset={}", self.id, self.offset));
        if let Some(attempt) = self.only {
            url.push_str("&attempt=");
            url.push_str(&attempt.to_string());
        }
        let call = Call::get(&*url)
            .bearer(self.client.token.expose())?
            .header(header::ACCEPT, HeaderValue::from_static("application/x-ndjson"));
        Ok(Connection { lines: Lines::open(&service.transport, call, url).await?, begun: false })
    }
}
