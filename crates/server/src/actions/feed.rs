//! The live console: a WebSocket on which a worker sends lines as they are written (actions/runner `ResultsServer.cs`).
//!
//! Lossy, and never the log: nothing that comes here is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use startline_crypto::job_token::Claims;
use startline_protocol::actions::results::FeedLines;
use uuid::Uuid;

use super::doors::Doors;
use super::urls;
use crate::App;
use crate::auth::JobBearer;
use crate::console::Lines;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::Path;
use crate::routes::work;

/// Largest message: a worker sends at most 100 lines of 1024 characters at once (actions/runner `JobServerQueue.cs`).
const MOST_BYTES: usize = 1 << 20;
/// How often it is asked whether the job is still the worker's.
const RECHECK: Duration = Duration::from_secs(15);
/// The service goes away; RFC 6455, section 7.4.1.
const GOING_AWAY: u16 = 1001;
/// The job has ended, or is somebody else's.
const OVER: u16 = 4409;

pub(super) fn routes() -> Doors {
    Doors::new().get(urls::FEED, feed)
}

async fn feed(
    State(app): State<Arc<App>>,
    JobBearer { claims, .. }: JobBearer,
    Path(guid): Path<Uuid>,
    request: Request,
) -> ApiResult<Response> {
    if guid != claims.job_guid {
        return Err(ApiError::not_found(format_args!("job {guid} for this bearer")));
    }
    work::holds(&app, claims.job, claims.epoch)?;
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|error| ApiError::invalid(format!("this is no request for a WebSocket: {}", error.body_text())))?;
    let token = app.tasks.token();
    Ok(upgrade.max_message_size(MOST_BYTES).max_frame_size(MOST_BYTES).on_upgrade(async move |socket| {
        Box::pin(listen(&app, &claims, socket)).await;
        drop(token);
    }))
}

async fn listen(app: &App, claims: &Claims, mut socket: WebSocket) {
    let speaker = app.consoles.speaker(claims.job);
    let mut recheck = tokio::time::interval(RECHECK);
    recheck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let code = loop {
        let message = tokio::select! {
            biased;
            () = app.drain.cancelled() => break GOING_AWAY,
            _ = recheck.tick() => match work::holds(app, claims.job, claims.epoch) {
                Ok(()) => continue,
                Err(_) => break OVER,
            },
            message = socket.recv() => message,
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                if let Some(lines) = read(&text, claims.attempt) {
                    speaker.say(lines);
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
        }
    };
    let close = Message::Close(Some(CloseFrame { code, reason: "".into() }));
    // The worker never reads; it finds out when it sends.
    drop(tokio::time::timeout(Duration::from_secs(1), socket.send(close)).await);
}

/// The lines of a message; what cannot be read is passed over, as it would be by any console. A value may have several
/// lines.
fn read(text: &str, attempt: u32) -> Option<Lines> {
    let sent: FeedLines = serde_json::from_str(text)
        .inspect_err(|error| tracing::debug!(%error, "a message of a live console cannot be read"))
        .ok()?;
    let split = |value: &String| -> Vec<String> {
        value.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned()).collect()
    };
    let lines = sent.value.iter().flat_map(split).collect();
    Some(Lines { attempt, step_id: sent.step_id, first_line: sent.start_line, lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_have_several_lines() {
        let read = read(r#"{"count": 2, "value": ["a\r\nb", ""], "startLine": 7}"#, 1).unwrap();
        assert_eq!((read.lines, read.first_line), (vec!["a".to_owned(), "b".to_owned(), String::new()], Some(7)));
        assert!(super::read("nothing", 1).is_none());
    }
}
