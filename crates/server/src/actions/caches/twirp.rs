//! `CacheService`: what `@actions/cache` speaks when `ACTIONS_CACHE_SERVICE_V2` is set.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{commit, find, reserve};
use crate::App;
use crate::actions::doors::Doors;
use crate::actions::holder::Holder;
use crate::actions::json_number::Int64;
use crate::actions::storage::Holding;
use crate::problem::{ApiError, ApiResult};
use crate::routes::Body;

pub(in crate::actions) fn routes() -> Doors {
    let path = |method: &str| format!("/twirp/github.actions.results.api.v1.CacheService/{method}");
    Doors::new()
        .post(&path("CreateCacheEntry"), create)
        .post(&path("FinalizeCacheEntryUpload"), finalize)
        .post(&path("GetCacheEntryDownloadURL"), download_url)
}

#[derive(Debug, Deserialize)]
struct Create {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Deserialize)]
struct Finalize {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
    #[serde(default, alias = "sizeBytes")]
    size_bytes: Int64,
}

#[derive(Debug, Deserialize)]
struct Find {
    #[serde(default)]
    key: String,
    #[serde(default, alias = "restoreKeys")]
    restore_keys: Vec<String>,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Default, Serialize)]
struct Created {
    ok: bool,
    signed_upload_url: String,
}

#[derive(Debug, Serialize)]
struct Finalized {
    ok: bool,
    entry_id: Int64,
}

#[derive(Debug, Default, Serialize)]
struct Found {
    ok: bool,
    signed_download_url: String,
    matched_key: String,
}

/// A place that is taken is no error, and without a message no warning either: it is the common case of two jobs that
/// save the same (`cache.ts`, `saveCacheV2`).
async fn create(State(app): State<Arc<App>>, holder: Holder, Body(request): Body<Create>) -> ApiResult<Json<Created>> {
    let reserved = reserve(&app, &holder, request.key, request.version).await?;
    Ok(Json(reserved.map_or_else(Created::default, |entry| Created {
        ok: true,
        signed_upload_url: app.upload_url(Holding::Cache, entry.id, &entry.cache.blob),
    })))
}

async fn finalize(
    State(app): State<Arc<App>>,
    holder: Holder,
    Body(request): Body<Finalize>,
) -> ApiResult<Json<Finalized>> {
    let (scope, trusted) = holder.caches().own;
    let known = app.store.cache_at(holder.repository(), scope, trusted, request.version, request.key.clone()).await?;
    let known =
        known.ok_or_else(|| ApiError::not_found(format_args!("cache entry `{}`", request.key.escape_debug())))?;
    let size = request.size_bytes.unsigned().ok_or_else(|| ApiError::invalid("`size_bytes` is negative"))?;
    let entry = commit(&app, known, size).await?;
    Ok(Json(Finalized { ok: true, entry_id: Int64(entry.id) }))
}

async fn download_url(
    State(app): State<Arc<App>>,
    holder: Holder,
    Body(request): Body<Find>,
) -> ApiResult<Json<Found>> {
    let found = find(&app, &holder, request.key, request.restore_keys, request.version).await?;
    Ok(Json(found.map_or_else(Found::default, |entry| Found {
        ok: true,
        signed_download_url: app.download_url(Holding::Cache, entry.id, &entry.cache.blob),
        matched_key: entry.cache.key,
    })))
}
