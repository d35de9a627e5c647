//! Caches: entries by key and version, found from other runs of the repository.
//!
//! The newer clients speak Twirp, the older ones REST; what both do is here.

mod rest;
mod twirp;

use std::sync::Arc;

use http::StatusCode;
use startline_protocol::problem::kind;
use startline_store::{CacheRecord, NewCache};

use super::holder::Holder;
use super::storage::{Holding, blob_id};
use crate::App;
use crate::problem::{ApiError, ApiResult};

pub(super) use rest::routes as rest_routes;
pub(super) use twirp::routes as twirp_routes;

/// Longest key, and longest version (actions/toolkit `packages/cache/src/cache.ts`, `checkKey`).
const LONGEST_KEY: usize = 512;
/// Most keys of one look-up (the same).
const MOST_KEYS: usize = 10;
/// How many entries one commit may drive out.
const EVICTED: u32 = 1000;

fn check(keys: &[&str], version: &str) -> ApiResult<()> {
    for key in keys {
        if key.is_empty() || key.len() > LONGEST_KEY || key.contains(',') || key.contains(char::is_control) {
            return Err(ApiError::invalid(format!("`{}` cannot be a key", key.escape_debug()))
                .detail(format!("a key has 1 to {LONGEST_KEY} bytes, no comma and no control characters")));
        }
    }
    if version.is_empty() || version.len() > LONGEST_KEY {
        return Err(ApiError::invalid(format!("`version` has 1 to {LONGEST_KEY} bytes")));
    }
    Ok(())
}

/// Reserves the place of an entry for the job; `None` when it is taken.
async fn reserve(app: &Arc<App>, holder: &Holder, key: String, version: String) -> ApiResult<Option<CacheRecord>> {
    check(&[&key], &version)?;
    let repository = holder.repository();
    let (scope, trusted) = holder.caches().own;
    let blob = app.actions.storage.blobs.create().await?.to_string();
    let created_at = app.clock.now();
    let cache =
        NewCache { repository: repository.clone(), scope, trusted, key, version, blob: blob.clone(), created_at };
    let reserved = app.store.reserve_cache(cache).await;
    if !matches!(reserved, Ok(Some(_))) {
        app.drop_blob(Holding::Cache, &repository, &blob).await;
    }
    Ok(reserved?)
}

/// Makes an entry final; its content must have this size. The repository's other entries give way when there is no room.
async fn commit(app: &Arc<App>, cache: CacheRecord, size: u64) -> ApiResult<CacheRecord> {
    let storage = &app.actions.storage;
    let repository = &cache.cache.repository;
    let blob = blob_id(&cache.cache.blob)?;
    let present = storage.blobs.size(blob).await?;
    if present != size {
        return Err(ApiError::invalid(format!("{present} bytes of the cache entry have arrived, not {size}")));
    }
    storage.blobs.seal(blob).await?;
    let committed = app.store.commit_cache(cache.id, size, app.clock.now()).await?;
    let committed = committed.ok_or_else(|| {
        let title = format!("the cache entry `{}` is not there any more, or has another size", cache.cache.key);
        ApiError::new(StatusCode::CONFLICT, kind::INVALID, title)
    })?;
    storage.uploads.end(Holding::Cache, repository, blob);
    for evicted in app.store.evict_caches(repository.clone(), storage.quotas.caches, EVICTED).await? {
        tracing::info!(repository, key = evicted.cache.key, "a cache entry gave way");
        app.drop_blob(Holding::Cache, repository, &evicted.cache.blob).await;
    }
    Ok(committed)
}

/// The entry that fits, looked for where the job may look.
async fn find(
    app: &Arc<App>,
    holder: &Holder,
    key: String,
    restore_keys: Vec<String>,
    version: String,
) -> ApiResult<Option<CacheRecord>> {
    let all: Vec<&str> = std::iter::once(&key).chain(&restore_keys).map(String::as_str).collect();
    check(&all, &version)?;
    if restore_keys.len() > MOST_KEYS {
        let title = format!("there are {} keys; at most {MOST_KEYS} are looked for", restore_keys.len());
        return Err(ApiError::invalid(title));
    }
    let lookup = holder.caches().lookup;
    Ok(app.store.find_cache(holder.repository(), lookup, version, key, restore_keys, app.clock.now()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded_in_length_and_characters() {
        check(&["linux-node-ab12"], "v").unwrap();
        for keys in [&[""][..], &["a,b"], &["a\nb"], &[&*"a".repeat(513)]] {
            assert!(check(keys, "v").is_err(), "{keys:?}");
        }
        assert!(check(&["a"], "").is_err());
    }
}
