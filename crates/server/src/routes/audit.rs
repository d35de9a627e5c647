//! The audit log, read: page by page, as a whole in one line each, and checked.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use startline_protocol::admin_api::{AuditPage, AuditVerification, AuditView};
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use startline_store::AuditFilter;

use super::extract::Query;
use crate::problem::{ApiError, ApiResult};
use crate::{App, auth};

/// Lines that an export reads at once.
const CHUNK: u32 = 1000;
/// The media type of an export.
const NDJSON: &str = "application/x-ndjson";

#[derive(Deserialize, JsonSchema)]
pub(super) struct Wanted {
    /// `next_cursor` of the page before.
    #[schemars(regex(pattern = r"^[0-9]{1,18}$"))]
    cursor: Option<String>,
    /// At most so many: 1 to 1000, 100 when absent.
    limit: Option<u32>,
    /// What the action begins with.
    action: Option<String>,
    /// Who, with or without the name in parentheses.
    actor: Option<String>,
    /// What the lines concern; the token's own scope when absent.
    scope: Option<Scope>,
}

/// One page, or with `Accept: application/x-ndjson` everything from the cursor on.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: auth::Admin,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    admin.need(Permission::AuditRead)?;
    let scope = admin.within(wanted.scope)?;
    let filter = AuditFilter { action: wanted.action, actor: wanted.actor, scope: Some(scope) };
    let after = match &wanted.cursor {
        None => 0,
        Some(cursor) => cursor.parse().map_err(|_| ApiError::invalid("`cursor` is not one of this listing's"))?,
    };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains(NDJSON) {
        return Ok(export(Export { app, admin, filter, after, done: false }));
    }
    let _turn = app.turn(&admin.token.scope).await?;
    let page = app.store.audit(after, wanted.limit.unwrap_or(100).clamp(1, 1000), filter).await?;
    let next_cursor = page.items.last().filter(|_| page.more).map(|line| line.sequence.to_string());
    Ok(Json(AuditPage { records: page.items.into_iter().map(AuditView::from).collect(), next_cursor }).into_response())
}

struct Export {
    app: Arc<App>,
    admin: auth::Admin,
    filter: AuditFilter,
    after: i64,
    done: bool,
}

/// Lines as they were when they were read; what is written meanwhile follows as long as it is caught up with.
fn export(export: Export) -> Response {
    let body = Body::from_stream(stream::unfold(export, |mut export| async move {
        if export.done {
            return None;
        }
        let lines = match export.next().await {
            Ok(lines) if lines.is_empty() => return None,
            Ok(lines) => Ok(lines),
            // The answer is cut, so that nobody takes a part for the whole.
            Err(error) => {
                export.done = true;
                Err(error)
            }
        };
        Some((lines, export))
    }));
    ([(header::CONTENT_TYPE, NDJSON), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], body).into_response()
}

impl Export {
    async fn next(&mut self) -> Result<Bytes, std::io::Error> {
        if self.app.drain.is_cancelled() {
            return Err(std::io::Error::other("the service stops"));
        }
        if !self.admin.still_stands(&self.app).await {
            return Err(std::io::Error::other("the token was revoked or expired"));
        }
        let page = self.app.store.audit(self.after, CHUNK, self.filter.clone()).await.map_err(std::io::Error::other)?;
        let mut lines = Vec::new();
        for line in page.items {
            self.after = line.sequence;
            serde_json::to_writer(&mut lines, &AuditView::from(line))?;
            lines.push(b'\n');
        }
        self.done = !page.more;
        Ok(lines.into())
    }
}

/// Follows the whole chain; what a token of a smaller scope sees of it are single lines.
pub(super) async fn verify(State(app): State<Arc<App>>, admin: auth::Admin) -> ApiResult<Json<AuditVerification>> {
    admin.need(Permission::AuditRead)?;
    if admin.token.scope != Scope::Instance {
        let title = "the chain belongs to the instance, and the API token to a part of it";
        return Err(ApiError::new(StatusCode::FORBIDDEN, kind::FORBIDDEN, title)
            .detail("use a token of the scope `instance`, or export the log and check it"));
    }
    Ok(Json(app.store.verify_audit().await?))
}
