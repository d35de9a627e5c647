//! Uploads to signed addresses, as Azure's storage takes them: a whole at once, or blocks in order.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use startline_protocol::problem::kind;
use startline_protocol::step::StepRecord;
use uuid::Uuid;

use super::target::{Kind, Target};
use super::{SUMMARY_LIMIT, reports, steps_of_message};
use crate::App;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::{Path, Query};
use crate::routes::work;

/// Largest block of a log. Workers close a block at 2 MiB (actions/runner `Logging.cs`), after the line that reaches it.
const BLOCK_LIMIT: usize = 16 << 20;
/// Largest of the uploads that are not kept.
const DISCARD_LIMIT: u64 = 4 << 30;
/// What begins every block of a log (actions/runner `Logging.cs` opens a page with it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// `PUT`, without `comp` for a whole and with `comp=appendblock` for a block. `seal=true` at the last block needs nothing
/// done: what was answered is in its place.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path((guid, kind, step)): Path<(Uuid, String, Uuid)>,
    Query(query): Query<Vec<(String, String)>>,
    body: Body,
) -> ApiResult<StatusCode> {
    let opened = Target::verify((guid, &kind, step), &query, &app.actions.addresses, app.clock.now());
    let target = opened.map_err(|error| {
        tracing::debug!(%error, "refused an upload");
        app.metrics.auth_failure("address");
        ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, format!("the upload is refused: {error}"))
            .detail("ask for a new address")
    })?;
    work::holds(&app, target.job, target.epoch)?;
    let comp = query.iter().find(|(name, _)| name == "comp").map(|(_, value)| value.as_str());
    let further = match comp {
        None => false,
        Some("appendblock") => true,
        Some("seal") => return Ok(StatusCode::OK),
        Some(other) => {
            return Err(ApiError::invalid(format!("`comp` is `{}`", other.escape_debug()))
                .detail("upload a whole, or blocks with comp=appendblock"));
        }
    };
    match target.kind {
        Kind::StepLog => app.take_block(&target, &read(body, BLOCK_LIMIT).await?).await?,
        Kind::StepSummary => app.take_summary(&target, &read(body, SUMMARY_LIMIT + 3).await?, further).await?,
        // The steps' logs have all of the job's lines; the archive is for GitHub's own support.
        Kind::JobLog | Kind::DiagLog => discard(body).await?,
    }
    Ok(StatusCode::CREATED)
}

async fn read(body: Body, limit: usize) -> ApiResult<Bytes> {
    use http_body_util::{BodyExt as _, LengthLimitError, Limited};
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit as u64)),
        Err(error) => Err(broken_off(&error.to_string())),
    }
}

async fn discard(body: Body) -> ApiResult<()> {
    let (mut stream, mut length) = (body.into_data_stream(), 0);
    while let Some(piece) = stream.next().await {
        length += piece.map_err(|error| broken_off(&error.to_string()))?.len() as u64;
        if length > DISCARD_LIMIT {
            return Err(too_large(DISCARD_LIMIT));
        }
    }
    Ok(())
}

fn too_large(limit: u64) -> ApiError {
    let title = format!("the upload has more than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, kind::TOO_LARGE, title)
}

fn broken_off(error: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, kind::INVALID, format!("the upload broke off: {error}"))
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

impl App {
    /// Adds a block of a step's log to the job's, as one piece behind what is there.
    async fn take_block(&self, target: &Target, block: &[u8]) -> ApiResult<()> {
        let block = without_mark(block);
        if block.is_empty() {
            // The first of many is announced so, and a page may end with its very last line.
            return Ok(());
        }
        let _turn = self.turn_of_job(target.job).await?;
        let reporting = self.reporting(target.job, target.epoch);
        let _reporting = reporting.lock().await;
        let known = self.held(target.job, target.epoch).await?;
        let length = self.logs.length(target.job, target.attempt).await.map_err(|error| self.log_away(&error))?;
        let step = known.steps.iter().find(|step| step.id == Some(target.step));
        if let Some(step) = step
            && self.ends_with(target, step, length, block).await?
        {
            return Ok(());
        }
        let ends_at = step.and_then(|step| step.log_end);
        let mut bytes = Vec::with_capacity(block.len() + 1);
        if ends_at != Some(length) && length > 0 && self.tail(target, length, 1).await? != b"\n" {
            // Another step's last line stays its own.
            bytes.push(b'\n');
        }
        let begins = length + bytes.len() as u64;
        bytes.extend_from_slice(block);
        let mut steps = known.steps.clone();
        reports::extend_log(&mut steps, target.step, begins, block.len() as u64)?;
        // Before the bytes: a reader of the log must know whose they are (decision 007).
        self.write_steps(&known, steps).await?;
        work::append(self, target.run, target.job, target.attempt, length, &bytes).await?;
        Ok(())
    }

    /// Whether the log ends with this very block of the step: the worker did not hear our answer and sends it again.
    /// Lines are stamped with ten millionths of a second, so no two blocks are alike; those without stamps may be.
    async fn ends_with(&self, target: &Target, step: &StepRecord, length: u64, block: &[u8]) -> ApiResult<bool> {
        const GLANCE: usize = 256;
        let begins = length.checked_sub(block.len() as u64);
        let Some(start) = step.log_start.filter(|start| begins.is_some_and(|begins| begins >= *start)) else {
            return Ok(false);
        };
        tracing::trace!(start, length, "looking for a repeated block");
        let stamped = block.get(10) == Some(&b'T') && block.iter().take(40).any(|byte| *byte == b'Z');
        if !stamped {
            return Ok(false);
        }
        let glance = &block[block.len().saturating_sub(GLANCE)..];
        Ok(self.tail(target, length, glance.len()).await? == glance
            && self.tail(target, length, block.len()).await? == block)
    }

    /// The last bytes of the log.
    async fn tail(&self, target: &Target, length: u64, count: usize) -> ApiResult<Vec<u8>> {
        let from = length.saturating_sub(count as u64);
        self.logs.read(target.job, target.attempt, from, count).await.map_err(|error| self.log_away(&error))
    }

    fn log_away(&self, error: &startline_store::logs::LogError) -> ApiError {
        tracing::error!(%error, "a log cannot be read");
        ApiError::unavailable("the log cannot be read now")
    }

    async fn take_summary(&self, target: &Target, text: &[u8], further: bool) -> ApiResult<()> {
        let text = String::from_utf8_lossy(without_mark(text)).into_owned();
        let in_message = steps_of_message(self, target.job).await?.contains(&target.step);
        self.report(target.job, target.epoch, |progress, steps| {
            progress.summarize(steps, target.step, &text, further, in_message)
        })
        .await
    }
}
