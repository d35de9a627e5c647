//! Reading an object piece by piece, and going on where a connection was cut.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::body::Incoming;

use super::http::Failure;
use super::remote::Remote;
use crate::blobs::Chunks;

/// The largest piece that is given on.
const PIECE: usize = 256 << 10;
/// How often a read goes on after a cut without having got anything in between.
const CUTS: u32 = 3;

struct Reading {
    remote: Arc<Remote>,
    key: String,
    /// What is to come.
    left: Range<u64>,
    body: Option<Incoming>,
    /// Bytes of the body that are before what is to come.
    before: u64,
    /// Bytes that arrived and were not given on.
    pending: Bytes,
    cuts: u32,
}

/// The bytes of an object in this range, which is not empty, as far as there are any.
pub(super) async fn read(remote: Arc<Remote>, key: String, range: Range<u64>) -> Result<Chunks, Failure> {
    let (body, before) = match remote.open(&key, range.start, range.end).await {
        Ok(opened) => opened,
        Err(Failure::Beyond) => return Ok(stream::empty().boxed()),
        Err(failure) => return Err(failure),
    };
    let reading = Reading { remote, key, left: range, body: Some(body), before, pending: Bytes::new(), cuts: 0 };
    Ok(stream::try_unfold(reading, next).boxed())
}

async fn next(mut reading: Reading) -> io::Result<Option<(Bytes, Reading)>> {
    loop {
        if reading.left.is_empty() {
            return Ok(None);
        }
        if !reading.pending.is_empty() {
            let most = usize::try_from(reading.left.end - reading.left.start).unwrap_or(PIECE).min(PIECE);
            let piece = reading.pending.split_to(reading.pending.len().min(most));
            reading.left.start += piece.len() as u64;
            reading.cuts = 0;
            return Ok(Some((piece, reading)));
        }
        match reading.arrived().await {
            Ok(Some(bytes)) => {
                let skipped = usize::try_from(reading.before).unwrap_or(usize::MAX).min(bytes.len());
                reading.before -= skipped as u64;
                reading.pending = bytes.slice(skipped..);
            }
            // The length of the answer has been checked by its frame.
            Ok(None) => return Ok(None),
            Err(failure) if failure.is_passing() && reading.cuts < CUTS => {
                tracing::debug!(?failure, key = reading.key, "a read goes on after a cut");
                reading.cuts += 1;
                reading.body = None;
            }
            Err(failure) => {
                return Err(io::Error::other(format!("failed to read {}: {}", reading.key, failure.text())));
            }
        }
    }
}

impl Reading {
    async fn arrived(&mut self) -> Result<Option<Bytes>, Failure> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let opened = self.remote.open(&self.key, self.left.start, self.left.end).await;
                let (body, before) = match opened {
                    // It was cut after its last byte.
                    Err(Failure::Beyond) => return Ok(None),
                    opened => opened?,
                };
                self.before = before;
                self.body.insert(body)
            }
        };
        self.remote.http.next(body).await
    }
}
