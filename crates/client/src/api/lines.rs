//! Answers that are one JSON value a line and arrive as they are written.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::error::Error;
use crate::transport::{ResponseBody, Transport};

/// A line of the answer longer than this is not ours: an append is at most a few megabytes.
const LONGEST_LINE: usize = 64 << 20;

/// The lines of one answer.
#[derive(Debug)]
pub(super) struct Lines {
    url: String,
    body: ResponseBody,
    unread: BytesMut,
    /// How far `unread` is known to have no end of a line.
    searched: usize,
}

impl Lines {
    /// Sends `call`, which goes to `url`, once.
    pub(super) async fn open(transport: &Transport, call: Call, url: String) -> Result<Self, Error> {
        let response = call.begin(transport).await?;
        Ok(Self { url, body: response.into_body(), unread: BytesMut::new(), searched: 0 })
    }

    /// The next whole line without its end; `None` where the answer ends in an orderly way. Blank lines keep a quiet
    /// connection open and mean nothing.
    ///
    /// Cancel-safe: a line is handed out whole or not at all.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(end) = self.unread[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(self.searched + end + 1).freeze();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            self.searched = self.unread.len();
            if self.searched > LONGEST_LINE {
                return Err(self.unreadable("a line has no end"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Call::get(&*self.url).broken(&*error)),
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(self.closed()),
            }
        }
    }

    pub(super) fn decode<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(line).map_err(|error| self.unreadable(error))
    }

    /// The answer ended where more was due.
    pub(super) fn closed(&self) -> Error {
        Error::Transport { url: self.url.clone(), cause: "it was closed".to_owned() }
    }

    pub(super) fn unreadable(&self, cause: impl ToString) -> Error {
        Error::Decode { url: self.url.clone(), cause: cause.to_string() }
    }
}
