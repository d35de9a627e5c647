//! The blobs themselves, by signed address, as clients of Azure's blob storage write and read them.
//!
//! Whoever has the address needs no bearer. Uploads come at once, as blocks in any order with a list at the end, or piece
//! by piece; each success is answered 201, because the official client takes a 200 for a fault (`@azure/storage-blob`).

mod block_list;
mod download;

use std::io;
use std::sync::Arc;

use axum::extract::{Request, State};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use startline_crypto::UrlAccess;
use startline_protocol::problem::kind;
use startline_store::blobs::{BlobId, BlockName, Chunks};

use super::doors::Doors;
use super::storage::{self, Admitted, Holding, blob_id};
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::{Path, Query};
use crate::{App, routes};

pub(super) fn routes() -> Doors {
    Doors::new().get("/_blob/{holding}/{id}/{blob}", download::read).put("/_blob/{holding}/{id}/{blob}", write)
}

/// Parameters in their order, decoded.
type Pairs = Vec<(String, String)>;

/// What an address opens.
struct Opened {
    holding: Holding,
    blob: BlobId,
    repository: String,
    /// What a download is called.
    name: String,
    mime_type: Option<String>,
    is_final: bool,
}

/// Checks the signature, then looks for the record.
async fn open(app: &App, place: (String, i64, String), query: &Pairs, access: UrlAccess) -> ApiResult<Opened> {
    let (word, id, blob) = place;
    let nothing = || ApiError::not_found("such blob");
    let holding = Holding::parse(&word).ok_or_else(nothing)?;
    let path = storage::path(holding, id, &blob);
    let pairs = query.iter().map(|(name, value)| (name, value));
    app.actions.addresses.verify(access, &path, pairs, app.clock.now()).map_err(|error| {
        app.metrics.auth_failure("signature");
        ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, error.to_string())
    })?;
    let (known, repository, name, mime_type, is_final) = match holding {
        Holding::Artifact => {
            let record = app.store.artifact(id).await?.ok_or_else(nothing)?;
            let artifact = record.artifact;
            (artifact.blob, artifact.repository, artifact.name, artifact.mime_type, record.is_final)
        }
        Holding::Cache => {
            let record = app.store.cache(id).await?.ok_or_else(nothing)?;
            (record.cache.blob, record.cache.repository, "cache".to_owned(), None, record.is_final)
        }
    };
    if known != blob {
        return Err(nothing());
    }
    Ok(Opened { holding, blob: blob_id(&known)?, repository, name, mime_type, is_final })
}

async fn write(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, i64, String)>,
    Query(query): Query<Pairs>,
    request: Request,
) -> ApiResult<StatusCode> {
    let opened = open(&app, place, &query, UrlAccess::Write).await?;
    let parameter = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let blobs = &app.actions.storage.blobs;
    let uploads = &app.actions.storage.uploads;
    if opened.is_final {
        return Err(ApiError::new(StatusCode::CONFLICT, kind::INVALID, "the upload is complete and cannot be changed"));
    }
    let limit = room(&app, &opened).await?;
    let blob = opened.blob;
    match parameter("comp") {
        None => {
            let length = length(request.headers())?;
            let admitted = admit(&app, &opened, length, limit)?;
            blobs.put_whole(blob, chunks(request), limit).await?;
            admitted.keep();
            uploads.set(opened.holding, &opened.repository, blob, length);
        }
        Some("block") => {
            let name = parameter("blockid").unwrap_or_default();
            let block = BlockName::new(name).map_err(|error| ApiError::invalid(format!("`blockid`: {error}")))?;
            let admitted = admit(&app, &opened, length(request.headers())?, limit)?;
            blobs.put_block(blob, block, chunks(request), limit).await?;
            admitted.keep();
        }
        Some("blocklist") => {
            let list = block_list::parse(&routes::bytes(request, &()).await?)?;
            let size = blobs.commit_blocks(blob, list, limit).await?;
            uploads.set(opened.holding, &opened.repository, blob, size);
        }
        Some("appendblock") => {
            let bytes = routes::bytes(request, &()).await?;
            let admitted = admit(&app, &opened, bytes.len() as u64, limit)?;
            let end = blobs.size(blob).await?;
            blobs.append(blob, end, bytes, limit).await?;
            admitted.keep();
        }
        Some(other) => return Err(ApiError::invalid(format!("`comp` cannot be `{}`", other.escape_debug()))),
    }
    Ok(StatusCode::CREATED)
}

/// How many bytes the open uploads of the repository may have.
async fn room(app: &App, opened: &Opened) -> ApiResult<u64> {
    let quotas = &app.actions.storage.quotas;
    match opened.holding {
        Holding::Artifact => {
            let used = app.store.artifact_usage(opened.repository.clone()).await?;
            Ok(quotas.artifacts.saturating_sub(used))
        }
        // Final entries give way, those that were not used for longest first.
        Holding::Cache => Ok(quotas.caches),
    }
}

fn admit<'a>(app: &'a App, opened: &Opened, bytes: u64, most: u64) -> ApiResult<Admitted<'a>> {
    let admitted = app.actions.storage.uploads.admit(opened.holding, &opened.repository, opened.blob, bytes, most);
    admitted.ok_or_else(|| full(opened.holding, &opened.repository))
}

/// The repository's room is used up.
pub(super) fn full(holding: Holding, repository: &str) -> ApiError {
    let title = format!("the {} of {repository} would take more room than they have", holding.word());
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, title)
        .detail("delete some, keep them for a shorter time, or raise the quota of the service")
}

/// What is about to come. Bytes are counted before they are kept, so their number must be known.
fn length(headers: &HeaderMap) -> ApiResult<u64> {
    let header = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    header.ok_or_else(|| ApiError::new(StatusCode::LENGTH_REQUIRED, kind::INVALID, "an upload needs a Content-Length"))
}

/// The body, piece by piece.
pub(super) fn chunks(request: Request) -> Chunks {
    Box::pin(request.into_body().into_data_stream().map(|piece| piece.map_err(io::Error::other)))
}
