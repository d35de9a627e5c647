//! The older cache service, which clients use when `GITHUB_SERVER_URL` looks like a server of somebody's own, and all
//! that are older than 4.0.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use startline_protocol::problem::kind;
use startline_store::CacheRecord;
use startline_store::blobs::Chunks;

use super::{commit, find, reserve};
use crate::App;
use crate::actions::blobs::{chunks, full};
use crate::actions::doors::Doors;
use crate::actions::holder::Holder;
use crate::actions::storage::{Holding, blob_id};
use crate::problem::{ApiError, ApiResult};
use crate::routes::Body;
use crate::routes::extract::{Path, Query};

/// Most entries of a listing.
const LISTED: u32 = 100;

/// Below the cache server's URL, and below the results URL, which clients take when they were told no other.
pub(in crate::actions) fn routes() -> Doors {
    ["/_cache/_apis/artifactcache", "/_apis/artifactcache"].into_iter().fold(Doors::new(), |router, base| {
        router
            .get(&format!("{base}/cache"), look_up)
            .get(&format!("{base}/caches"), list)
            .post(&format!("{base}/caches"), begin)
            .patch(&format!("{base}/caches/{{id}}"), upload)
            .post(&format!("{base}/caches/{{id}}"), end)
    })
}

#[derive(Debug, Deserialize)]
struct LookUp {
    #[serde(default)]
    keys: String,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Deserialize)]
struct Listing {
    #[serde(default)]
    key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begin {
    key: String,
    version: String,
    #[serde(default)]
    cache_size: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct End {
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    cache_id: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    cache_key: String,
    scope: String,
    cache_version: String,
    creation_time: jiff::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive_location: Option<String>,
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entries {
    total_count: usize,
    artifact_caches: Vec<Entry>,
}

impl Entry {
    fn new(record: CacheRecord, archive_location: Option<String>) -> Self {
        Self {
            cache_key: record.cache.key,
            scope: record.cache.scope,
            cache_version: record.cache.version,
            creation_time: record.cache.created_at,
            archive_location,
            size: record.size,
        }
    }
}

/// Each key is looked for as it is and then as a beginning, in order.
async fn look_up(State(app): State<Arc<App>>, holder: Holder, Query(query): Query<LookUp>) -> ApiResult<Response> {
    let keys: Vec<String> = query.keys.split(',').map(|key| key.trim().to_owned()).collect();
    let first = keys.first().cloned().unwrap_or_default();
    Ok(match find(&app, &holder, first, keys, query.version).await? {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(found) => {
            let location = app.download_url(Holding::Cache, found.id, &found.cache.blob);
            Json(Entry::new(found, Some(location))).into_response()
        }
    })
}

/// What a client shows when it is asked to debug a miss: entries that the job could find.
async fn list(State(app): State<Arc<App>>, holder: Holder, Query(query): Query<Listing>) -> ApiResult<Json<Entries>> {
    let lookup = holder.caches().lookup;
    let mut found = app.store.caches(holder.repository(), query.key, LISTED).await?;
    found.retain(|known| lookup.contains(&(known.cache.scope.clone(), known.cache.trusted)));
    let artifact_caches: Vec<Entry> = found.into_iter().map(|known| Entry::new(known, None)).collect();
    Ok(Json(Entries { total_count: artifact_caches.len(), artifact_caches }))
}

async fn begin(State(app): State<Arc<App>>, holder: Holder, Body(request): Body<Begin>) -> ApiResult<Response> {
    let quota = app.actions.storage.quotas.caches;
    if let Some(size) = request.cache_size
        && size > quota
    {
        // The client shows the text of a 400.
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            kind::TOO_LARGE,
            format!("a cache entry of {size} bytes is more than the {quota} that a repository may have"),
        ));
    }
    match reserve(&app, &holder, request.key.clone(), request.version).await? {
        Some(entry) => Ok((StatusCode::CREATED, Json(Begun { cache_id: entry.id })).into_response()),
        None => Err(ApiError::new(
            StatusCode::CONFLICT,
            kind::NAME_TAKEN,
            format!("the cache entry `{}` is there already, or another job is making it", request.key.escape_debug()),
        )),
    }
}

/// An entry that this job may write: one of its own place.
async fn own(app: &Arc<App>, holder: &Holder, id: i64) -> ApiResult<CacheRecord> {
    let (scope, trusted) = holder.caches().own;
    let known = app.store.cache(id).await?.filter(|known| {
        let cache = &known.cache;
        (&cache.repository, &cache.scope, cache.trusted) == (&holder.run.run.repository, &scope, trusted)
    });
    known.ok_or_else(|| ApiError::not_found(format_args!("cache entry {id}")))
}

async fn upload(
    State(app): State<Arc<App>>,
    holder: Holder,
    Path(id): Path<i64>,
    request: Request,
) -> ApiResult<StatusCode> {
    let entry = own(&app, &holder, id).await?;
    if entry.is_final {
        return Err(ApiError::new(StatusCode::CONFLICT, kind::INVALID, "the cache entry is complete"));
    }
    let (first, length) = part(request.headers())?;
    let storage = &app.actions.storage;
    let repository = holder.repository();
    let blob = blob_id(&entry.cache.blob)?;
    let quota = storage.quotas.caches;
    let admitted = storage.uploads.admit(Holding::Cache, &repository, blob, length, quota);
    let admitted = admitted.ok_or_else(|| full(Holding::Cache, &repository))?;
    let written = storage.blobs.write_at(blob, first, exactly(chunks(request), length), quota).await?;
    if written != length {
        return Err(ApiError::invalid(format!("{written} bytes came, but `Content-Range` says {length}")));
    }
    admitted.keep();
    Ok(StatusCode::NO_CONTENT)
}

async fn end(
    State(app): State<Arc<App>>,
    holder: Holder,
    Path(id): Path<i64>,
    Body(request): Body<End>,
) -> ApiResult<StatusCode> {
    let entry = own(&app, &holder, id).await?;
    commit(&app, entry, request.size).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a part lies and how long it is, from `Content-Range: bytes <first>-<last>/*`. Clients send it without a
/// `Content-Length`.
fn part(headers: &HeaderMap) -> ApiResult<(u64, u64)> {
    let header = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let range = header.and_then(|text| {
        let (first, last) = text.strip_prefix("bytes ")?.split_once('/')?.0.trim().split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some((first, last.checked_sub(first)?.checked_add(1)?))
    });
    range.ok_or_else(|| ApiError::invalid("a part needs a header `Content-Range: bytes <first>-<last>/*`"))
}

/// The same bytes, or an error instead of those beyond `most`, which nobody has counted.
fn exactly(chunks: Chunks, most: u64) -> Chunks {
    Box::pin(chunks.scan(most, |left, chunk| {
        let chunk = chunk.and_then(|bytes| {
            *left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| std::io::Error::other("it is longer than `Content-Range` says"))?;
            Ok(bytes)
        });
        std::future::ready(Some(chunk))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_where_it_lies() {
        let part = |text: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_RANGE, text.parse().unwrap())]);
            part(&headers).ok()
        };
        assert_eq!(part("bytes 0-33554431/*"), Some((0, 33_554_432)));
        assert_eq!(part("bytes 5-5/10"), Some((5, 1)));
        for bad in ["bytes 5-4/*", "5-6/*", "bytes 5/*", "bytes 0-18446744073709551615/*", "bytes a-b/*"] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }
}
