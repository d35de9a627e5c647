//! Events over a WebSocket (RFC 6455): each text message is one event.

use std::pin::pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use http::request::Parts;
use tokio::time::Instant;

use super::{PING, Stream};
use crate::problem::{ApiError, ApiResult};

/// Pings that may be unanswered; one more, and the peer counts as gone.
const MOST_UNANSWERED: u32 = 2;
/// How long a close may take.
const CLOSING: Duration = Duration::from_secs(1);
/// The reader has nothing to say but pongs and a close.
const MOST_BYTES: usize = 4096;

/// The service goes away; RFC 6455, section 7.4.1.
const GOING_AWAY: u16 = 1001;
/// A message that is not understood.
const UNSUPPORTED: u16 = 1003;
/// The bearer is no longer good: 4000 to 4999 are ours to define, and this one looks like HTTP's 401.
const REVOKED: u16 = 4401;

pub(super) async fn answer(parts: &mut Parts, stream: Stream) -> ApiResult<Response> {
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
        .await
        .map_err(|error| ApiError::invalid(format!("this is no request for a WebSocket: {}", error.body_text())))?;
    let token = stream.app.tasks.token();
    Ok(upgrade.max_message_size(MOST_BYTES).max_frame_size(MOST_BYTES).on_upgrade(async move |socket| {
        Box::pin(run(socket, stream)).await;
        drop(token);
    }))
}

/// Why a stream ends.
enum End {
    /// The peer is gone, or does not answer: there is nobody to tell.
    Gone,
    /// The peer is told with this code and text.
    Close(u16, String),
}

async fn run(mut socket: WebSocket, mut stream: Stream) {
    match serve(&mut socket, &mut stream).await {
        End::Gone => tracing::debug!("a stream of events was cut or left"),
        End::Close(code, reason) => {
            tracing::debug!(code, reason, "a stream of events is closed");
            let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            // The peer's own close is awaited, or what it sent meanwhile would reset the connection under ours.
            let farewell = async {
                if socket.send(close).await.is_ok() {
                    while let Some(Ok(_)) = socket.recv().await {}
                }
            };
            drop(tokio::time::timeout(CLOSING, farewell).await);
        }
    }
}

async fn serve(socket: &mut WebSocket, stream: &mut Stream) -> End {
    let mut unanswered = 0;
    loop {
        let outgoing = tokio::select! {
            biased;
            () = stream.app.drain.cancelled() => return going_away(),
            _ = stream.recheck.tick() => match refused(stream).await {
                Some(end) => return end,
                None => continue,
            },
            _ = stream.ping.tick() => {
                if unanswered >= MOST_UNANSWERED {
                    return End::Gone;
                }
                unanswered += 1;
                vec![Message::Ping(Bytes::new())]
            }
            incoming = socket.recv() => match incoming {
                Some(Ok(Message::Pong(_))) => {
                    unanswered = 0;
                    continue;
                }
                Some(Ok(Message::Ping(_))) => continue,
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    return End::Close(UNSUPPORTED, "this stream goes one way".to_owned());
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
            },
            events = stream.reader.next() => events.iter().map(|event| Message::Text(event.text())).collect(),
        };
        for message in outgoing {
            if let Err(end) = send(socket, stream, message).await {
                return end;
            }
        }
    }
}

/// Sends one message; a peer that does not take it for as long as it may leave pings unanswered is gone.
async fn send(socket: &mut WebSocket, stream: &mut Stream, message: Message) -> Result<(), End> {
    let deadline = Instant::now() + PING * MOST_UNANSWERED;
    let mut sending = pin!(socket.send(message));
    loop {
        tokio::select! {
            biased;
            sent = &mut sending => return sent.map_err(|_| End::Gone),
            () = stream.app.drain.cancelled() => return Err(End::Gone),
            _ = stream.recheck.tick() => {
                // What lies before it cannot be overtaken by a close.
                if refused(stream).await.is_some() {
                    return Err(End::Gone);
                }
            }
            () = tokio::time::sleep_until(deadline) => return Err(End::Gone),
        }
    }
}

async fn refused(stream: &mut Stream) -> Option<End> {
    let refusal = stream.standing.refusal(&stream.app).await?;
    // A close frame has room for 123 bytes.
    let reason: String = refusal.problem().title.chars().filter(char::is_ascii).take(120).collect();
    Some(End::Close(REVOKED, reason))
}

fn going_away() -> End {
    End::Close(GOING_AWAY, "the service is shutting down".to_owned())
}
