//! Files as answers: streamed, in parts where a part is asked for.

use std::io::SeekFrom;
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
    let range = given(header::RANGE).filter(|_| given(header::IF_RANGE).is_none_or(|known| known == tag));
    let part = range.and_then(|range| part(range, size));
    let base =
        [(header::ETAG, tag), (header::CONTENT_TYPE, kind.to_owned()), (header::ACCEPT_RANGES, "bytes".to_owned())];
    match part {
        None => {
            let body = Body::from_stream(ReaderStream::with_capacity(file, PIECE));
            Ok((base, [(header::CONTENT_LENGTH, size.to_string())], body).into_response())
        }
        Some(None) => {
            Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{size}"))])
                .into_response())
        }
        Some(Some((first, last))) => {
            file.seek(SeekFrom::Start(first)).await.map_err(gone)?;
            let length = last - first + 1;
            let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE));
            let more = [
                (header::CONTENT_LENGTH, length.to_string()),
                (header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}")),
            ];
            Ok((StatusCode::PARTIAL_CONTENT, base, more, body).into_response())
        }
    }
}

/// The first and last byte of a `Range`: nothing where it is not one that we take, and none where it is beyond the end.
fn part(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = size.checked_sub(1);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => {
            let count: u64 = last.parse().ok()?;
            Some(end.filter(|_| count > 0).map(|end| (size.saturating_sub(count), end)))
        }
        (false, _) => {
            let first: u64 = first.parse().ok()?;
            let last: u64 = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
            if last < first {
                return None;
            }
            Some(end.filter(|end| first <= *end).map(|end| (first, last.min(end))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn parts_are_cut_at_the_end_and_odd_ones_are_the_whole() {
        assert_eq!(part("bytes=0-3", 10), Some(Some((0, 3))));
        assert_eq!(part("bytes=8-", 10), Some(Some((8, 9))));
        assert_eq!(part("bytes=-4", 10), Some(Some((6, 9))));
        assert_eq!(part("bytes=-40", 10), Some(Some((0, 9))));
        assert_eq!(part("bytes=5-99", 10), Some(Some((5, 9))));
        assert_eq!(part("bytes=10-", 10), Some(None));
        assert_eq!(part("bytes=0-", 0), Some(None));
        for odd in ["bytes=3-1", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a-b"] {
            assert_eq!(part(odd, 10), None, "{odd}");
        }
    }
}
