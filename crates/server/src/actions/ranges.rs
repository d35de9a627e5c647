//! Parts of things that are asked for, and files as answers: streamed, in parts where a part is asked for.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::problem::{ApiError, ApiResult};

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// The file at `path`, which never changes under its `name`.
pub(super) async fn answer(path: &Path, kind: &'static str, name: &str, headers: &HeaderMap) -> ApiResult<Response> {
    let gone = |error: std::io::Error| {
        tracing::warn!(path = %path.display(), %error, "a file cannot be read");
        ApiError::unavailable("the file cannot be read now")
    };
    let mut file = tokio::fs::File::open(path).await.map_err(gone)?;
    let size = file.metadata().await.map_err(gone)?.len();
    let tag = format!("\"{name}-{size}\"");
    let given = |header| headers.get(header).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if given(header::IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    // A part of another state than the one that the caller has begins anew.
    let asked = given(header::RANGE).filter(|_| given(header::IF_RANGE).is_none_or(|known| known == tag));
    let base =
        [(header::ETAG, tag), (header::CONTENT_TYPE, kind.to_owned()), (header::ACCEPT_RANGES, "bytes".to_owned())];
    match asked.map_or(Asked::All, |header| range(header, size)) {
        Asked::All => {
            let body = Body::from_stream(ReaderStream::with_capacity(file, PIECE));
            Ok((base, [(header::CONTENT_LENGTH, size.to_string())], body).into_response())
        }
        Asked::Nothing => {
            Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{size}"))])
                .into_response())
        }
        Asked::Part(bytes) => {
            file.seek(SeekFrom::Start(bytes.start)).await.map_err(gone)?;
            let length = bytes.end - bytes.start;
            let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE));
            let more = [
                (header::CONTENT_LENGTH, length.to_string()),
                (header::CONTENT_RANGE, format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1)),
            ];
            Ok((StatusCode::PARTIAL_CONTENT, base, more, body).into_response())
        }
    }
}

/// What a request asks of a thing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The whole.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// What lies behind its end.
    Nothing,
}

/// What a `Range` header asks of `size` bytes. One that is not understood asks for all, as RFC 9110 has it; of several
/// ranges too.
pub(super) fn range(header: &str, size: u64) -> Asked {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|spec| spec.trim().split_once('-')) else {
        return Asked::All;
    };
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    let bytes = match (first.is_empty(), last.is_empty(), number(first), number(last)) {
        (true, false, None, Some(suffix)) => size.saturating_sub(suffix)..size,
        (false, true, Some(first), None) => first..size,
        (false, false, Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        _ => return Asked::All,
    };
    if bytes.start >= bytes.end { Asked::Nothing } else { Asked::Part(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_and_what_is_not_understood_asks_for_all() {
        for (header, asked) in [
            ("bytes=0-4", Asked::Part(0..5)),
            ("bytes=5-", Asked::Part(5..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-30", Asked::Part(0..10)),
            ("bytes=8-99", Asked::Part(8..10)),
            ("bytes=0-18446744073709551615", Asked::Part(0..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-4", Asked::All),
            ("bytes=0-1,3-4", Asked::All),
            ("bytes=a-b", Asked::All),
            ("lines=0-4", Asked::All),
        ] {
            assert_eq!(range(header, 10), asked, "{header}");
        }
        assert_eq!(range("bytes=0-", 0), Asked::Nothing);
    }
}
