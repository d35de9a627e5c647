//! Reading a blob, whole or a range of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use startline_crypto::UrlAccess;
use startline_protocol::problem::kind;

use super::{Opened, Pairs, open};
use crate::App;
use crate::actions::ranges::{Asked, range};
use crate::actions::storage::Holding;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::{Path, Query};

const ZIP: &str = "application/zip";

pub(super) async fn read(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, i64, String)>,
    Query(query): Query<Pairs>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let opened = open(&app, place, &query, UrlAccess::Read).await?;
    if !opened.is_final {
        return Err(ApiError::not_found("such blob yet"));
    }
    let blobs = &app.actions.storage.blobs;
    let size = blobs.size(opened.blob).await?;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, bytes) = match asked.map_or(Asked::All, |header| range(header, size)) {
        Asked::All => (StatusCode::OK, 0..size),
        Asked::Part(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
        Asked::Nothing => {
            let title = format!("the blob has {size} bytes");
            return Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, kind::INVALID, title));
        }
    };
    let body = Body::from_stream(blobs.read(opened.blob, bytes.clone()).await?);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.end - bytes.start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
        headers.extend(HeaderValue::try_from(part).ok().map(|value| (header::CONTENT_RANGE, value)));
    }
    let (kind, disposition) = described(&opened);
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    // What jobs upload is never shown or run under the service's own name.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    Ok(response)
}

/// Type and file name. A client unpacks what is said to be a zip, and takes the file's name from here otherwise
/// (actions/toolkit `packages/artifact/src/internal/download/download-artifact.ts`).
fn described(opened: &Opened) -> (HeaderValue, HeaderValue) {
    let kind = match (opened.holding, opened.mime_type.as_deref()) {
        (Holding::Artifact, None) => ZIP,
        (Holding::Artifact, Some(kind)) => kind,
        (Holding::Cache, _) => "application/octet-stream",
    };
    let suffix = if kind == ZIP && !opened.name.ends_with(".zip") { ".zip" } else { "" };
    let name = format!("{}{suffix}", opened.name);
    // Whoever does not know the second form takes the first; every byte that is not plain is escaped in the second.
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut escaped = String::new();
    for byte in name.bytes() {
        if is_plain(char::from(byte)) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    let disposition = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{escaped}");
    (
        HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static("application/octet-stream")),
        HeaderValue::from_str(&disposition).unwrap_or(HeaderValue::from_static("attachment")),
    )
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        let opened = |name: &str, mime_type: Option<&str>| Opened {
            holding: Holding::Artifact,
            blob: "00000000000000000000000000000000".parse().unwrap(),
            repository: "acme/demo".to_owned(),
            name: name.to_owned(),
            mime_type: mime_type.map(str::to_owned),
            is_final: true,
        };
        let (kind, disposition) = described(&opened("a\"; b/ü", None));
        assert_eq!(kind, ZIP);
        let expected = "attachment; filename=\"a___b__.zip\"; filename*=UTF-8''a%22%3B%20b%2F%C3%BC.zip";
        assert_eq!(disposition, expected);
        let (kind, disposition) = described(&opened("report.html", Some("text/html")));
        assert_eq!(
            (kind, disposition.to_str().unwrap().contains("filename=\"report.html\"")),
            ("text/html".parse().unwrap(), true)
        );
    }
}
