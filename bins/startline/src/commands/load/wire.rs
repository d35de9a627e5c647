//! One HTTP/1.1 connection, as cheap as it can be: the load shares its machine with the service that it measures.
//!
//! It understands what the service under load answers and nothing else: a known length, one answer a request. Whatever
//! else comes is an error. A connection without an answer under way holds no buffer that was not needed before.

use std::io::{ErrorKind, Write as _};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::link::{ANSWER_LIMIT, Answer, Call};

/// How much is read at once; most answers are smaller.
const READ: usize = 4096;
/// The longest body that is copied behind its head, so that both leave in one segment.
const COPIED: usize = 16 * 1024;
/// Most headers of an answer.
const HEADERS: usize = 32;

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    host: Arc<str>,
    output: Vec<u8>,
    input: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, host: Arc<str>) -> Self {
        Self { stream, host, output: Vec::new(), input: BytesMut::new() }
    }

    /// Sends one request and reads its answer to the end.
    ///
    /// After an error, or when this is dropped before it is done, the connection is in no known state.
    pub(super) async fn send(&mut self, call: Call<'_>) -> anyhow::Result<Answer> {
        self.write_head(&call)?;
        if call.body.len() <= COPIED {
            self.output.extend_from_slice(call.body);
            self.stream.write_all(&self.output).await?;
        } else {
            self.stream.write_all(&self.output).await?;
            self.stream.write_all(call.body).await?;
        }
        loop {
            self.stream.readable().await?;
            self.input.reserve(READ);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => bail!("the service closed the connection"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(answer) = take(&mut self.input)? {
                return Ok(answer);
            }
        }
    }

    fn write_head(&mut self, call: &Call<'_>) -> std::io::Result<()> {
        self.output.clear();
        write!(
            self.output,
            "{} {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: application/json\r\n\
             content-type: application/json\r\nuser-agent: {}\r\ncontent-length: {}\r\n",
            call.method,
            call.path,
            self.host,
            call.bearer,
            super::link::AGENT,
            call.body.len()
        )?;
        if let Some(range) = call.content_range() {
            write!(self.output, "content-range: {range}\r\n")?;
        }
        self.output.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Takes an answer out of what has arrived; `None` as long as it is not whole.
fn take(input: &mut BytesMut) -> anyhow::Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(input).context("what the service answered is not HTTP/1.1")? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => {
            ensure!(input.len() <= ANSWER_LIMIT, "an answer whose head has no end");
            return Ok(None);
        }
    };
    let status = StatusCode::from_u16(response.code.unwrap_or_default())?;
    let mut length = if status == StatusCode::NO_CONTENT { Some(0) } else { None };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = Some(std::str::from_utf8(header.value)?.parse::<usize>().context("a length that is no number")?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("an answer without a known length");
        }
    }
    let length = length.context("an answer without a known length")?;
    ensure!(length <= ANSWER_LIMIT, "an answer of {length} bytes");
    let whole = head + length;
    if input.len() < whole {
        return Ok(None);
    }
    ensure!(input.len() == whole, "more than one answer to one request");
    let answer = input.split_to(whole).freeze();
    Ok(Some(Answer { status, body: answer.slice(head..) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_at_once(text: &str) -> anyhow::Result<Option<Answer>> {
        take(&mut BytesMut::from(text))
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole_and_not_before() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-request-id: 1\r\n\r\nhello";
        for cut in 0..text.len() {
            assert!(all_at_once(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let mut input = BytesMut::from(text);
        let answer = take(&mut input).unwrap().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
        assert!(input.is_empty());
        let empty = all_at_once("HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((empty.status, empty.body.len()), (StatusCode::NO_CONTENT, 0));
    }

    #[test]
    fn what_it_does_not_understand_is_an_error() {
        for text in [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(all_at_once(text).is_err(), "{text}");
        }
    }
}
