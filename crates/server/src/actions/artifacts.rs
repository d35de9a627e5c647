//! `ArtifactService`: artifacts of one run, by name.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use startline_store::{ArtifactRecord, NewArtifact};

use super::blobs::full;
use super::doors::Doors;
use super::holder::Holder;
use super::json_number::Int64;
use super::storage::{Holding, blob_id};
use crate::App;
use crate::problem::{ApiError, ApiResult};
use crate::routes::Body;

/// Longest name.
const LONGEST_NAME: usize = 255;
/// The wire's versions that are spoken: 4 is `upload-artifact@v4`, 7 the newest.
const VERSIONS: std::ops::RangeInclusive<i32> = 4..=7;

pub(super) fn routes() -> Doors {
    let path = |method: &str| format!("/twirp/github.actions.results.api.v1.ArtifactService/{method}");
    Doors::new()
        .post(&path("CreateArtifact"), create)
        .post(&path("FinalizeArtifact"), finalize)
        .post(&path("ListArtifacts"), list)
        .post(&path("GetSignedArtifactURL"), signed_url)
        .post(&path("DeleteArtifact"), delete)
}

/// Members that all requests have. Clients send the names of the proto file, older ones their lower camel case.
#[derive(Debug, Deserialize)]
struct Of<T> {
    #[serde(default, alias = "workflowRunBackendId")]
    workflow_run_backend_id: String,
    #[serde(flatten)]
    rest: T,
}

impl<T> Of<T> {
    /// The rest of a request that speaks of the bearer's own run.
    fn of(self, holder: &Holder) -> ApiResult<T> {
        let run = holder.claims().plan_id.to_string();
        if self.workflow_run_backend_id.eq_ignore_ascii_case(&run) {
            Ok(self.rest)
        } else {
            Err(ApiError::not_found("such run for this bearer"))
        }
    }
}

#[derive(Debug, Deserialize)]
struct Create {
    #[serde(default)]
    name: String,
    #[serde(default, alias = "expiresAt")]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    version: i32,
    #[serde(default, alias = "mimeType")]
    mime_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Finalize {
    #[serde(default)]
    name: String,
    #[serde(default)]
    size: Int64,
    #[serde(default)]
    hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Filter {
    #[serde(default, alias = "nameFilter")]
    name_filter: Option<String>,
    #[serde(default, alias = "idFilter")]
    id_filter: Option<Int64>,
}

#[derive(Debug, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Serialize)]
struct Created {
    ok: bool,
    signed_upload_url: String,
}

#[derive(Debug, Serialize)]
struct Done {
    ok: bool,
    artifact_id: Int64,
}

#[derive(Debug, Serialize)]
struct List {
    artifacts: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    workflow_run_backend_id: String,
    workflow_job_run_backend_id: String,
    database_id: Int64,
    name: String,
    size: Int64,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

#[derive(Debug, Serialize)]
struct Signed {
    signed_url: String,
}

async fn create(
    State(app): State<Arc<App>>,
    holder: Holder,
    Body(request): Body<Of<Create>>,
) -> ApiResult<Json<Created>> {
    let request = request.of(&holder)?;
    check_name(&request.name)?;
    if !VERSIONS.contains(&request.version) {
        return Err(ApiError::invalid(format!("`version` is {}; it must be 4 to 7", request.version)));
    }
    if let Some(kind) = &request.mime_type
        && (kind.len() > LONGEST_NAME || !kind.contains('/') || HeaderValue::from_str(kind).is_err())
    {
        return Err(ApiError::invalid("`mime_type` is not a media type"));
    }
    let now = app.clock.now();
    let expires_at = expiry(now, request.expires_at, app.actions.storage.quotas.artifact_retention)?;
    let repository = holder.repository();
    let blob = app.actions.storage.blobs.create().await?;
    let created = app.store.create_artifact(NewArtifact {
        run: holder.run.id,
        job: holder.claims().job,
        repository: repository.clone(),
        name: request.name,
        mime_type: request.mime_type.filter(|kind| !kind.is_empty()),
        blob: blob.to_string(),
        created_at: now,
        expires_at,
    });
    let created = match created.await {
        Ok(created) => created,
        Err(error) => {
            app.drop_blob(Holding::Artifact, &repository, &blob.to_string()).await;
            return Err(error.into());
        }
    };
    if let Some(replaced) = created.replaced {
        app.drop_blob(Holding::Artifact, &repository, &replaced.artifact.blob).await;
    }
    let signed_upload_url = app.upload_url(Holding::Artifact, created.artifact.id, &blob.to_string());
    Ok(Json(Created { ok: true, signed_upload_url }))
}

/// Until when an artifact is kept: as asked, but not longer than `most`.
fn expiry(now: Timestamp, asked: Option<Timestamp>, most: SignedDuration) -> ApiResult<Timestamp> {
    let last = now.saturating_add(most).unwrap_or(Timestamp::MAX);
    match asked {
        Some(asked) if asked <= now => Err(ApiError::invalid(format!("`expires_at` is {asked}, which is over"))),
        Some(asked) => Ok(asked.min(last)),
        None => Ok(last),
    }
}

async fn finalize(
    State(app): State<Arc<App>>,
    holder: Holder,
    Body(request): Body<Of<Finalize>>,
) -> ApiResult<Json<Done>> {
    let request = request.of(&holder)?;
    let missing = || ApiError::not_found(format_args!("artifact `{}` in this run", request.name.escape_debug()));
    let known = app.store.artifact_named(holder.run.id, request.name.clone()).await?.ok_or_else(missing)?;
    let size = request.size.unsigned().ok_or_else(|| ApiError::invalid("`size` is negative"))?;
    let blob = blob_id(&known.artifact.blob)?;
    let repository = &known.artifact.repository;
    let present = app.actions.storage.blobs.size(blob).await?;
    if present != size {
        let title = format!("{present} bytes of artifact `{}` have arrived, not {size}", request.name);
        return Err(ApiError::invalid(title).detail("upload it again"));
    }
    if !known.is_final {
        let used = app.store.artifact_usage(repository.clone()).await?;
        if used.saturating_add(size) > app.actions.storage.quotas.artifacts {
            return Err(full(Holding::Artifact, repository));
        }
    }
    app.actions.storage.blobs.seal(blob).await?;
    let digest = request.hash.filter(|digest| !digest.is_empty());
    let done = app.store.finalize_artifact(holder.run.id, request.name.clone(), size, digest).await?;
    let done = done.ok_or_else(missing)?;
    app.actions.storage.uploads.end(Holding::Artifact, repository, blob);
    tracing::info!(run.id = %holder.run.id, artifact = request.name, size, "artifact uploaded");
    Ok(Json(Done { ok: true, artifact_id: Int64(done.id) }))
}

async fn list(State(app): State<Arc<App>>, holder: Holder, Body(request): Body<Of<Filter>>) -> ApiResult<Json<List>> {
    let filter = request.of(&holder)?;
    let now = app.clock.now();
    let mut artifacts = app.store.artifacts_of_run(holder.run.id).await?;
    artifacts.retain(|known| {
        known.artifact.expires_at > now
            && filter.name_filter.as_ref().is_none_or(|name| *name == known.artifact.name)
            && filter.id_filter.is_none_or(|id| id.0 == known.id)
    });
    let run = holder.claims().plan_id.to_string();
    let entry = |known: ArtifactRecord| Entry {
        workflow_run_backend_id: run.clone(),
        // Whoever of the run asks; clients send it back with the next request.
        workflow_job_run_backend_id: holder.claims().job_guid.to_string(),
        database_id: Int64(known.id),
        name: known.artifact.name,
        size: Int64::from(known.size),
        created_at: known.artifact.created_at,
        digest: known.digest,
    };
    Ok(Json(List { artifacts: artifacts.into_iter().map(entry).collect() }))
}

async fn signed_url(
    State(app): State<Arc<App>>,
    holder: Holder,
    Body(request): Body<Of<Named>>,
) -> ApiResult<Json<Signed>> {
    let name = request.of(&holder)?.name;
    let known = app.store.artifact_named(holder.run.id, name.clone()).await?;
    let known = known
        .filter(|known| known.is_final && known.artifact.expires_at > app.clock.now())
        .ok_or_else(|| ApiError::not_found(format_args!("artifact `{}` in this run", name.escape_debug())))?;
    Ok(Json(Signed { signed_url: app.download_url(Holding::Artifact, known.id, &known.artifact.blob) }))
}

async fn delete(State(app): State<Arc<App>>, holder: Holder, Body(request): Body<Of<Named>>) -> ApiResult<Json<Done>> {
    let name = request.of(&holder)?.name;
    let mut record = app.audit(&holder.bearer, "artifact.delete", format_args!("artifact:{}", name.escape_debug()));
    record.repository(&holder.run.run.repository);
    let result = async {
        let gone = app.store.delete_artifact(holder.run.id, name.clone()).await?;
        let gone =
            gone.ok_or_else(|| ApiError::not_found(format_args!("artifact `{}` in this run", name.escape_debug())))?;
        app.drop_blob(Holding::Artifact, &gone.artifact.repository, &gone.artifact.blob).await;
        Ok(Json(Done { ok: true, artifact_id: Int64(gone.id) }))
    }
    .await;
    record.conclude(result).await
}

/// What the official client refuses too, for the sake of those who unpack it (actions/toolkit
/// `packages/artifact/src/internal/upload/path-and-artifact-name-validation.ts`).
fn check_name(name: &str) -> ApiResult<()> {
    let bad = |c: char| c.is_control() || "\":<>|*?\\/".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(bad) {
        return Err(ApiError::invalid(format!("`{}` cannot be the name of an artifact", name.escape_debug())).detail(
            format!("use 1 to {LONGEST_NAME} bytes without control characters and none of \" : < > | * ? \\ /"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_both_casings_and_without_their_defaults() {
        let old = r#"{"workflowRunBackendId": "r", "nameFilter": "dist", "idFilter": "7", "unknown": 1}"#;
        let old: Of<Filter> = serde_json::from_str(old).unwrap();
        assert_eq!(old.workflow_run_backend_id, "r");
        assert_eq!((old.rest.name_filter.as_deref(), old.rest.id_filter), (Some("dist"), Some(Int64(7))));
        let new = r#"{"workflow_run_backend_id": "r", "name": "dist", "mime_type": "text/plain", "version": 7}"#;
        let new: Of<Create> = serde_json::from_str(new).unwrap();
        assert_eq!((new.rest.version, new.rest.mime_type.as_deref()), (7, Some("text/plain")));
        let empty: Of<Finalize> = serde_json::from_str(r#"{"name": "dist"}"#).unwrap();
        assert_eq!(empty.rest.size, Int64(0), "a zero is left out");
    }

    #[test]
    fn an_artifact_is_kept_as_long_as_asked_but_no_longer_than_the_service_keeps_any() {
        let now = Timestamp::UNIX_EPOCH;
        let day = SignedDuration::from_hours(24);
        let of = |asked: Option<i64>| expiry(now, asked.map(|days| now + day * i32::try_from(days).unwrap()), day * 10);
        assert_eq!(of(None).unwrap(), now + day * 10);
        assert_eq!(of(Some(3)).unwrap(), now + day * 3);
        assert_eq!(of(Some(30)).unwrap(), now + day * 10);
        assert!(of(Some(0)).is_err());
    }

    #[test]
    fn a_name_is_a_plain_file_name() {
        for good in ["dist", "a b.zip", "..", "ünï"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a\\b", "a\nb", "a:b", &"a".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
